"""What-if predictions: curves of layers, their sums, the lowest error, and the page."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import sample_rows
import tiny
from streamlit.testing.v1 import AppTest
from test_pages import APP

from prune_core.analysis import whatif
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.whatif import Curve, Curves
from prune_core.data.examples import AnswerSpans
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report
from prune_core.queue import jobs
from prune_core.store.store import Store
from prune_core.tasks import METRICS, TASK_TYPES, metric_for
from prune_core.tasks.task_data import Task


def curve(scale: float, weights: int = 100, moves: tuple[float, float] = (1.0, 3.0)) -> Curve:
    """Error = scale · sparsity² at 50% and 70%; one example with two labels moves to the second."""
    changes = np.array([[[-move, move]] for move in moves])
    return Curve(weights, np.array([0.5, 0.7]), scale * np.array([0.25, 0.49]), moves=changes)


def curves(*blocks: Curve, kind: str = "classification") -> Curves:
    return Curves(blocks, kind, "accuracy", dense=np.array([[2.0, -2.0]]), labels=[0], base=1)


def test_curve_follows_power_law() -> None:
    block = curve(2.0)
    for sparsity in (0.0, 0.1, 0.5, 0.6, 0.7):
        assert block.error(sparsity) == pytest.approx(2.0 * sparsity**2)
    assert block.moved(0.5).tolist() == [[-1.0, 1.0]]
    assert block.moved(0.7).tolist() == [[-3.0, 3.0]]
    assert not block.moved(0.0).any()
    assert block.moved(0.25)[0, 1] == pytest.approx(0.25), (
        "proportional to the error: a quarter of the change at 50%"
    )
    middle = (2 * 0.6**2 - 0.5) / (0.98 - 0.5)
    assert block.moved(0.6)[0, 1] == pytest.approx(1 + 2 * middle)


def test_errors_add_as_squares_and_log_odds_linearly() -> None:
    both = curves(curve(3.0), curve(4.0))
    outcome = whatif.predict(both, [0.5, 0.5])
    assert outcome.error == pytest.approx(5 * 0.25) and outcome.n == 1
    assert outcome.score == 1.0 and outcome.agreement == 1.0, (
        "log-odds are 2 - 2, a tie that argmax resolves to the first label"
    )
    changed = whatif.predict(both, [0.5, 0.6])
    assert changed.score == 0.0 and changed.agreement == 0.0
    assert whatif.predict(both, [0.0, 0.0]).error == 0.0


def test_lowest_error_matches_analytic_optimum() -> None:
    """With errors a·s² and equal sizes, the sum of squares a²s⁴ is lowest for equal a²s³."""
    both = curves(curve(1.0), curve(2.0))
    first, second = whatif.lowest_error(both, 0.4)
    assert (first + second) / 2 == pytest.approx(0.4, abs=0.006)
    assert first / second == pytest.approx(4 ** (1 / 3), abs=0.06)
    assert whatif.lowest_error(both, 0.69) == pytest.approx([0.7, 0.68], abs=0.02), (
        "no layer exceeds the measured range"
    )
    sizes = curves(curve(1.0, weights=300), curve(1.0, weights=100))
    sparsities = whatif.lowest_error(sizes, 0.5)
    assert (
        sizes.overall(sparsities) == pytest.approx(0.5, abs=0.01) and sparsities[0] > sparsities[1]
    ), "a large layer loses less per weight"


def test_scores_and_multilabel_predictions() -> None:
    assert TASK_TYPES["regression"].from_odds(np.array([[1.5], [2.5]])) == [1.5, 2.5]
    odds = whatif._odds([[0.9, 0.2]], "multilabel")
    assert TASK_TYPES["multilabel"].from_odds(odds) == [[1, 0]]
    assert odds[0, 0] == pytest.approx(np.log(9))


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    store = Store()
    sample_rows.fill(store, 60)
    return store


def akr_runs(store: Store) -> tuple:
    all_jobs = store.jobs()
    ids = [job.id for job in all_jobs]
    rows, examples = store.rows("sensitivity", ids), store.rows("sensitivity_example", ids)
    akr = [
        job
        for job in all_jobs
        if whatif.can_be_planned(job) and job.experiment["method"]["name"] == "akr"
    ]
    return (
        akr,
        rows,
        examples,
        [model for model in models_of(all_jobs) if model.job in [job.id for job in akr]],
    )


def test_predictions_are_exact_for_independent_layers(store: Store) -> None:
    akr, rows, examples, models = akr_runs(store)
    fitted = whatif.curves_of(akr, rows, examples)
    assert fitted is not None
    assert fitted.most == 0.7
    assert fitted.base == akr[0].id
    assert len(fitted.dense) == 60
    for check in whatif.prediction_checks(
        fitted, models, {job.id: job for job in akr}, rows=rows, examples=examples
    ):
        assert check.predicted.error == pytest.approx(check.measured.error) and not check.is_custom
        assert check.predicted.score == check.measured.score
        assert check.predicted.agreement == check.measured.agreement
    assert whatif.curves_of(akr[:1], rows, examples) is None, "a curve needs two sparsities"
    other = replace(akr[1], experiment={**akr[1].experiment, "evaluation_size": 30})
    assert whatif.setup(akr[0]) == whatif.setup(akr[1]) != whatif.setup(other), (
        "another sample needs another curve"
    )
    without_examples = whatif.curves_of(akr, rows, examples.iloc[:0])
    outcome = whatif.predict(without_examples, [0.6] * 6)
    assert outcome.error > 0 and np.isnan(outcome.score) and outcome.n == 0, (
        "without examples, only the error is predicted"
    )


def test_page_queues_planned_run(store: Store) -> None:
    at = AppTest.from_file(APP, default_timeout=30)
    at.query_params["layers-section"] = "what-if"
    at.run()
    at.switch_page("pages/layers.py").run()
    assert not at.exception
    before = {metric.label: metric.value for metric in at.metric}
    assert set(before) == {
        "Predicted error",
        "Predicted accuracy",
        "Predicted agreement",
        "Encoder in a sparse format",
    }
    base = akr_runs(store)[0][0].id
    at.slider(key=f"sparsity-{base}-5").set_value(20).run()
    assert float(at.metric[0].value) < float(before["Predicted error"])
    at.slider(key=f"sparsity-{base}-all").set_value(55).run()
    at.button(key="plan-minimum-error").click().run()
    sparsities = [at.slider(key=f"sparsity-{base}-{index}").value for index in range(6)]
    assert sum(sparsities) / 6 == pytest.approx(55, abs=0.5) and sparsities[0] > sparsities[-1], (
        "the last layer costs most"
    )
    at.button(key="plan-run").click().run()
    assert not at.exception and not at.error
    queued = store.jobs()[-1].experiment
    assert queued["method"]["name"] == "akr" and queued["study"] == "Demo"
    assert [
        round(100 * float(sparsity))
        for sparsity in queued["method"]["options"]["allocation"].split(",")
    ] == sparsities
    assert queued["method"]["options"]["sparsity"] == pytest.approx(sum(sparsities) / 600)


def test_page_explains_missing_sparsities(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    sample_rows.fill(Store(), 40, runs=(("dense", 0.0), ("magnitude", 0.5), ("akr", 0.5)))
    at = AppTest.from_file(APP, default_timeout=30)
    at.query_params["layers-section"] = "what-if"
    at.run()
    at.switch_page("pages/layers.py").run()
    assert not at.exception and "at least two sparsities" in at.info[0].value


def test_many_sparsities_use_a_slider(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    sample_rows.fill(
        Store(), 40, runs=(("dense", 0.0), ("akr", 0.3), ("akr", 0.5), ("akr", 0.6), ("akr", 0.7))
    )
    for level in ("60%", "30%"):
        at = AppTest.from_file(APP, default_timeout=30)
        at.query_params["sparsity"] = level
        at.run()
        slider = at.select_slider(key="choice-sparsity")
        assert not at.exception
        assert slider.value == level
        assert slider.options == ["all", "30%", "50%", "60%", "70%"]
        assert [model.label for model in at.session_state["view"].models] == [
            "Dense",
            f"AKR {level}",
        ]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "span", "token"])
def test_prediction_of_one_layer_is_exact_for_every_task_type(
    home, kind: str, labelled: bool
) -> None:
    """At measured sparsities, the prediction for one layer is exact, with and without labels."""
    sample, store, dense = tiny.examples(2, kind), Store(), tiny.model(kind=kind)
    if kind == "span":
        sample = replace(
            sample,
            pairs=sample.texts,
            labels=[AnswerSpans([text.split()[0]], [0]) for text in sample.texts],
        )
    sample = sample if labelled else replace(sample, labels=None)
    metric = metric_for(kind, 2, labelled=labelled)
    for sparsity in (0.4, 0.8):
        pruned = copy.deepcopy(dense)
        build(METHODS, "magnitude", {"sparsity": sparsity}).prune(pruned, [], no_report)
        task = Task(
            "t",
            tiny.TAGS if kind == "token" else ("a", "b"),
            sample,
            evaluation=sample,
            metric=metric,
        )
        rows = build(MEASURES, "sensitivity").measure(
            Pair(dense, pruned, tiny.tokenizer(), task=task), no_report
        )
        options = {"sparsity": sparsity, "pattern": "", "allocation": "uniform"}
        plan = {
            "checkpoint": "c",
            "method": {"name": "wanda", "options": options},
            "measures": [],
            "seed": 0,
        }
        id = store.submit(plan, f"W {sparsity}", f"{sparsity}", "S", "cpu", worker="w")
        store.add_rows(id, rows, "sensitivity", seconds=1.0, facts={"kind": kind, "metric": metric})
    all_jobs, ids = store.jobs(), [job.id for job in store.jobs()]
    examples = store.rows("sensitivity_example", ids)
    curves = whatif.curves_of(all_jobs, store.rows("sensitivity", ids), examples)
    assert curves is not None
    outcome = whatif.predict(curves, [0.0, curves.blocks[1].sparsities[-1]])
    assert outcome.error == pytest.approx(curves.blocks[1].errors[-1])
    if kind in ("span", "token"):
        assert outcome.n == 0 and np.isnan(outcome.score)
        return
    predictions = examples[examples["job"] == ids[-1]]
    odds = whatif._odds([blocks[1] for blocks in predictions["block_outputs"]], kind)
    measured = METRICS[metric].compute(curves.labels, TASK_TYPES[kind].from_odds(odds))
    assert outcome.n == len(sample) and outcome.score == pytest.approx(measured, abs=1e-6)
