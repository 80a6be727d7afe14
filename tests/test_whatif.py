"""What if: the curve of a block, sums of blocks, shares that lose least, and the page that plans and queues with them."""

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
from prune_core.data.metrics import METRICS, metric_for
from prune_core.data.tasks import Task
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report
from prune_core.queue import jobs
from prune_core.store.store import Store


def curve(scale: float, weights: int = 100, moves: tuple[float, float] = (1.0, 3.0)) -> Curve:
    """Error = scale · sparsity², at 50 and 70%; one example of two labels moves away from the first."""
    found = np.array([[[-move, move]] for move in moves])
    return Curve(weights, np.array([0.5, 0.7]), scale * np.array([0.25, 0.49]), moves=found)


def curves(*blocks: Curve, kind: str = "classification") -> Curves:
    return Curves(blocks, kind, "accuracy", dense=np.array([[2.0, -2.0]]), right=[0], base=1)


def test_a_power_law_is_met_between_and_below_its_points() -> None:
    block = curve(2.0)
    for sparsity in (0.0, 0.1, 0.5, 0.6, 0.7):
        assert block.error(sparsity) == pytest.approx(2.0 * sparsity**2)
    assert (
        block.moved(0.5).tolist() == [[-1.0, 1.0]]
        and block.moved(0.7).tolist() == [[-3.0, 3.0]]
        and not block.moved(0.0).any()
    )
    assert block.moved(0.25)[0, 1] == pytest.approx(0.25), (
        "in proportion to the error: a quarter of that at 50%"
    )
    middle = (2 * 0.6**2 - 0.5) / (0.98 - 0.5)
    assert block.moved(0.6)[0, 1] == pytest.approx(1 + 2 * middle)


def test_errors_add_as_squares_and_log_odds_as_they_are() -> None:
    two = curves(curve(3.0), curve(4.0))
    found = whatif.predict(two, [0.5, 0.5])
    assert found.error == pytest.approx(5 * 0.25) and found.n == 1
    assert found.score == 1.0 and found.agreement == 1.0, (
        "log-odds are 2 - 2, a tie that the first label wins as argmax does"
    )
    gone = whatif.predict(two, [0.5, 0.6])
    assert gone.score == 0.0 and gone.agreement == 0.0
    assert whatif.predict(two, [0.0, 0.0]).error == 0.0


def test_shares_that_lose_least_are_those_of_the_calculus() -> None:
    """Of errors a·s², squares are a²s⁴: with equal sizes the sum is least where a²s³ is the same."""
    two = curves(curve(1.0), curve(2.0))
    first, second = whatif.lowest_error(two, 0.4)
    assert (first + second) / 2 == pytest.approx(
        0.4, abs=0.006
    ) and first / second == pytest.approx(4 ** (1 / 3), abs=0.06)
    assert whatif.lowest_error(two, 0.69) == pytest.approx([0.7, 0.68], abs=0.02), (
        "no block beyond what was run"
    )
    sizes = curves(curve(1.0, weights=300), curve(1.0, weights=100))
    shares = whatif.lowest_error(sizes, 0.5)
    assert sizes.overall(shares) == pytest.approx(0.5, abs=0.01) and shares[0] > shares[1], (
        "a large block loses less a weight"
    )


def test_scores_and_labels_that_hold_independently() -> None:
    assert whatif._said(np.array([[1.5], [2.5]]), "regression") == [1.5, 2.5]
    odds = whatif._odds([[0.9, 0.2]], "multilabel")
    assert whatif._said(odds, "multilabel") == [[1, 0]] and odds[0, 0] == pytest.approx(np.log(9))


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    store = Store()
    sample_rows.fill(store, 60)
    return store


def of_akr(store: Store) -> tuple:
    found = store.jobs()
    ids = [job.id for job in found]
    rows, examples = store.rows("sensitivity", ids), store.rows("sensitivity_example", ids)
    own = [
        job
        for job in found
        if whatif.can_be_planned(job) and job.experiment["method"]["name"] == "akr"
    ]
    return (
        own,
        rows,
        examples,
        [model for model in models_of(found) if model.job in [job.id for job in own]],
    )


def test_curves_are_read_from_a_study_and_hold_where_blocks_are_independent(store: Store) -> None:
    own, rows, examples, models = of_akr(store)
    found = whatif.curves_of(own, rows, examples)
    assert (
        found is not None
        and found.most == 0.7
        and found.base == own[0].id
        and len(found.dense) == 60
    )
    for each in whatif.prediction_checks(
        found, models, {job.id: job for job in own}, rows=rows, examples=examples
    ):
        assert each.predicted.error == pytest.approx(each.measured.error) and not each.own_shares
        assert (
            each.predicted.score == each.measured.score
            and each.predicted.agreement == each.measured.agreement
        )
    assert whatif.curves_of(own[:1], rows, examples) is None, "one sparsity is no curve"
    other = replace(own[1], experiment={**own[1].experiment, "evaluation": 30})
    assert whatif.setup(own[0]) == whatif.setup(own[1]) != whatif.setup(other), (
        "another sample is another curve"
    )
    alone = whatif.curves_of(own, rows, examples.iloc[:0])
    outcome = whatif.predict(alone, [0.6] * 6)
    assert outcome.error > 0 and np.isnan(outcome.score) and outcome.n == 0, (
        "of answers that are no labels, the error alone"
    )


def test_the_page_plans_shares_and_queues_the_run(store: Store) -> None:
    at = AppTest.from_file(APP, default_timeout=30)
    at.query_params["layers-part"] = "whatif"
    at.run()
    at.switch_page("pages/layers.py").run()
    assert not at.exception
    before = {metric.label: metric.value for metric in at.metric}
    assert set(before) == {
        "Predicted error",
        "Predicted accuracy",
        "Predicted agreement",
        "Encoder, kept sparse",
    }
    base = of_akr(store)[0][0].id
    at.slider(key=f"share-{base}-5").set_value(20).run()
    assert float(at.metric[0].value) < float(before["Predicted error"])
    at.slider(key=f"share-{base}-all").set_value(55).run()
    at.button(key="plan-least").click().run()
    shares = [at.slider(key=f"share-{base}-{index}").value for index in range(6)]
    assert sum(shares) / 6 == pytest.approx(55, abs=0.5) and shares[0] > shares[-1], (
        "the last block costs most"
    )
    at.button(key="plan-run").click().run()
    assert not at.exception and not at.error
    queued = store.jobs()[-1].experiment
    assert queued["method"]["name"] == "akr" and queued["study"] == "Demo"
    assert [
        round(100 * float(share)) for share in queued["method"]["options"]["allocation"].split(",")
    ] == shares
    assert queued["method"]["options"]["sparsity"] == pytest.approx(sum(shares) / 600)


def test_without_two_sparsities_the_page_says_what_to_add(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    sample_rows.fill(Store(), 40, runs=(("dense", 0.0), ("magnitude", 0.5), ("akr", 0.5)))
    at = AppTest.from_file(APP, default_timeout=30)
    at.query_params["layers-part"] = "whatif"
    at.run()
    at.switch_page("pages/layers.py").run()
    assert not at.exception and "two sparsities or more" in at.info[0].value


def test_of_many_sparsities_a_slider_flips_through_the_views(tmp_path, monkeypatch) -> None:
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
        assert (
            not at.exception
            and slider.value == level
            and slider.options == ["all", "30%", "50%", "60%", "70%"]
        )
        assert [model.label for model in at.session_state["view"].models] == [
            "Dense",
            f"AKR {level}",
        ]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel", "span", "token"])
def test_every_kind_of_answer_is_predicted_as_it_is_measured(
    home, kind: str, labelled: bool
) -> None:
    """Through the store: at the sparsities that were run a prediction of one block alone is exact, labels or none."""
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
    found, ids = store.jobs(), [job.id for job in store.jobs()]
    examples = store.rows("sensitivity_example", ids)
    curves = whatif.curves_of(found, store.rows("sensitivity", ids), examples)
    assert curves is not None
    outcome = whatif.predict(curves, [0.0, curves.blocks[1].sparsities[-1]])
    assert outcome.error == pytest.approx(curves.blocks[1].errors[-1])
    if kind in ("span", "token"):
        assert outcome.n == 0 and np.isnan(outcome.score)
        return
    own = examples[examples["job"] == ids[-1]]
    odds = whatif._odds([blocks[1] for blocks in own["said_blocks"]], kind)
    measured = METRICS[metric].compute(curves.right, whatif._said(odds, kind))
    assert outcome.n == len(sample) and outcome.score == pytest.approx(measured, abs=1e-6)
