"""Deploy check: error rates within the policy's confidence, and no claim beyond the evidence."""

import json
import pickle
import re
from collections import Counter, defaultdict
from dataclasses import replace
from math import lgamma, log

import numpy as np
import pandas as pd
import pytest
import sample_rows

from prune_core import PruneError, plots
from prune_core.analysis import bounded_metrics, prediction_evidence, slices
from prune_core.analysis.calibration import signed_root, squared_calibration_error
from prune_core.analysis.criteria import INCONCLUSIVE, MET, VIOLATED, Verdict
from prune_core.analysis.evidence import Evidence
from prune_core.cli.arguments import main
from prune_core.deployment import deployment_check, policy
from prune_core.deployment.policy import Policy
from prune_core.measures import MEASURES
from prune_core.models.inference import queueing
from prune_core.statistics import paired_bounds, proportion_bounds, quantile_bounds
from prune_core.store.job import Job
from prune_core.store.store import Store
from prune_core.tasks import METRICS, TASK_TYPES
from prune_core.views import CRITERIA, VIEWS

REPETITIONS = 1000
TEXTS = [f"a film of {'many ' * (i % 30)}words" for i in range(2000)]
EMPTY = pd.DataFrame()


def job(**facts) -> Job:
    plan = {
        "method": {"name": "magnitude", "options": {"sparsity": 0.5}, "removes": "weights"},
        "source": {"task": "demo"},
        "seed": 0,
    }
    known = {"kind": "classification", "label_names": ["no", "yes"], **facts}
    return Job(
        1,
        "S",
        "Magnitude 50%",
        key="k",
        experiment=plan,
        device="cpu",
        status="done",
        progress=1.0,
        message="",
        stage="",
        done=(),
        seconds={},
        versions={},
        facts=known,
        error="",
        cancel=False,
        created=0.0,
        started=0.0,
        finished=0.0,
        estimate_left=0.0,
        worker="",
        deferred=False,
    )


def evidence(predictions=None, metric="accuracy", **tables) -> Evidence:
    n = 0 if predictions is None else len(predictions)
    measured = defaultdict(pd.DataFrame)
    if predictions is not None:
        measured |= {
            "prediction": predictions,
            "accuracy": pd.DataFrame([{"metric": metric, "n": n}]),
        }
    dense_tables = {"attack_example": tables.pop("dense_attacks", EMPTY)}
    return Evidence(job(), None, measured | tables, dense_tables=dense_tables)


def predictions(
    labels: np.ndarray, dense_correct: np.ndarray, pruned_correct: np.ndarray
) -> pd.DataFrame:
    """Return rows of two labels from labels and from whether each model is correct."""
    n = len(labels)
    sides = {
        "dense": np.where(dense_correct, labels, 1 - labels),
        "pruned": np.where(pruned_correct, labels, 1 - labels),
    }
    return pd.DataFrame(
        {"example": range(n), "text": TEXTS[:n], "pair": None, "label": labels, **sides}
    )


def sampled(rng, n: int, broken: float, fixed: float) -> pd.DataFrame:
    """Dense is correct on 90%; pruning breaks and fixes these fractions of all examples."""
    outcome = rng.choice(4, size=n, p=[0.9 - broken, broken, fixed, 0.1 - fixed])
    return predictions(rng.integers(0, 2, n), outcome <= 1, (outcome == 0) | (outcome == 2))


def count_decisions(limits_policy: Policy, items) -> Counter[str]:
    """Count the decisions, without the number of examples needed, which none depends on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment_check, "_needed", lambda *_, **__: None)
        return Counter(
            deployment_check.decision(deployment_check.check(item, limits_policy)) for item in items
        )


def count_shipped(limits_policy: Policy, items) -> int:
    return count_decisions(limits_policy, items)[deployment_check.SHIP]


def attacks(outcomes: np.ndarray) -> pd.DataFrame:
    outcome = np.where(outcomes, "success", "failed")
    return pd.DataFrame(
        {
            "recipe": "DeepWordBug",
            "example": range(len(outcome)),
            "text": TEXTS[: len(outcome)],
            "outcome": outcome,
        }
    )


def at_accuracy_limit(rng):
    """Accuracy loss exactly at its limit, everything else far within."""
    return evidence(sampled(rng, 800, 0.025, fixed=0.015))


def at_agreement_limit(rng):
    return evidence(sampled(rng, 800, 0.02, fixed=0.01))


def at_slice_limit(rng):
    """Loss of the label yes exactly at the limit of a slice."""
    labels = rng.integers(0, 2, 300)
    dense_correct = rng.random(300) < 0.9
    return evidence(
        predictions(
            labels, dense_correct, dense_correct & ~((rng.random(300) < 0.1 / 0.9) & (labels == 1))
        )
    )


def at_attack_limit(rng):
    outcome = rng.choice(4, size=200, p=[0.5, 0.08, 0.05, 0.37])
    return evidence(
        attack_example=attacks((outcome == 0) | (outcome == 1)),
        dense_attacks=attacks((outcome == 0) | (outcome == 2)),
    )


def timed(rng, pruned: np.ndarray, dense: np.ndarray) -> Evidence:
    rows = [
        {"model": name, "turn": i, "seconds": s}
        for name, times in (("dense", dense), ("pruned", pruned))
        for i, s in enumerate(times)
    ]
    cost = pd.DataFrame(
        {
            "model": ["dense", "pruned"],
            "latency_p95": [np.quantile(dense, 0.95), np.quantile(pruned, 0.95)],
            "bytes": 5e7,
        }
    )
    return evidence(cost=cost, timing=pd.DataFrame(rows))


def at_latency_limit(rng):
    """Lognormal times whose 95th percentile is exactly 50 ms."""
    seconds = 0.05 * np.exp(0.2 * (rng.normal(size=80) - 1.6448536))
    return timed(rng, seconds, seconds)


def at_speed_limit(rng):
    dense = 0.05 * np.exp(0.1 * rng.normal(size=60))
    return timed(rng, dense / 1.5 * np.exp(0.05 * rng.normal(size=60)), dense)


def under_load(service: np.ndarray, rate: float, **cost) -> Evidence:
    """The tables of a pruned model with these service times in seconds."""
    rows = {"model": "pruned", "turn": range(len(service)), "seconds": service}
    totals = pd.DataFrame([{"model": "pruned", "arrivals": rate, **cost}])
    return evidence(cost=totals, service_time=pd.DataFrame(rows))


@pytest.mark.parametrize("rate", [5.0, 30.0, 60.0])  # requests/s: utilization 0.05, 0.3, 0.6
@pytest.mark.parametrize("q", [50, 99])
def test_false_ship_rate_of_response_times_is_at_most_alpha(monkeypatch, q, rate):
    """The true percentile under load is exactly at the limit; times are skewed, as of machines."""
    rng = np.random.default_rng(0)

    def service(n: int) -> np.ndarray:
        return 0.01 * np.exp(0.3 * rng.normal(size=n) - 0.045)

    monkeypatch.setattr(queueing, "SIMULATED", 20_000)
    limit = 1000 * queueing.percentile(service(1_000_000), rate, q, seed=0)
    limits = Policy({f"response_p{q}": limit})
    decisions = count_decisions(limits, (under_load(service(400), rate) for _ in range(300)))
    assert decisions[deployment_check.SHIP] <= 15, decisions
    assert decisions[deployment_check.STOP] <= 15, decisions
    for factor, decision in ((1.5, deployment_check.SHIP), (0.6, deployment_check.STOP)):
        policy_at = Policy({f"response_p{q}": factor * limit})
        assert count_decisions(policy_at, [under_load(service(400), rate)])[decision]


def test_a_response_time_names_the_rate_or_what_is_missing():
    limits = Policy({"response_p99": 100})
    (verdict,) = deployment_check.check(under_load(np.full(400, 0.02), 10.0), limits)
    assert verdict.title == "Response time p99 under load · 10 requests/s"
    assert verdict.result == MET and 20 < verdict.value < 100
    (verdict,) = deployment_check.check(under_load(np.full(40, 0.02), 10.0), limits)
    assert verdict.result == INCONCLUSIVE and "40 timed requests are too few" in verdict.detail
    (verdict,) = deployment_check.check(under_load(np.full(400, 0.2), 10.0), limits)
    assert verdict.result == VIOLATED and "arrive faster" in verdict.detail
    busy = under_load(np.full(400, 0.02), 10.0, other_load=0.9)
    assert deployment_check.check(busy, limits)[0].result == INCONCLUSIVE
    (verdict,) = deployment_check.check(evidence(cost=pd.DataFrame([{"bytes": 1}])), limits)
    assert "--set cost.arrivals=RATE" in verdict.detail


LIMITS = {
    at_accuracy_limit: {"accuracy_loss": 1, "agreement": 80},
    at_agreement_limit: {"accuracy_loss": 30, "agreement": 97},
    at_slice_limit: {"accuracy_loss": 20, "agreement": 50, "slice_loss": 10},
    at_attack_limit: {"attack_success": 3},
    at_latency_limit: {"latency_p95": 50, "size": 60},
    at_speed_limit: {"speedup": 1.5, "size": 60},
}


@pytest.mark.parametrize("case", LIMITS, ids=lambda case: case.__name__)
def test_false_ship_and_false_stop_rates_are_at_most_alpha(case):
    rng = np.random.default_rng(0)
    limits_policy = Policy(LIMITS[case])
    repetitions = (
        4 * REPETITIONS if case is at_speed_limit else REPETITIONS
    )  # the true rate is 4.6%: 1,000 repetitions are too few to confirm it
    decisions = count_decisions(limits_policy, (case(rng) for _ in range(repetitions)))
    assert decisions[deployment_check.SHIP] <= repetitions // 20, decisions
    if case in (at_accuracy_limit, at_attack_limit):
        assert decisions[deployment_check.STOP] <= repetitions // 20, decisions


def test_false_ship_rate_of_calibration_limit_is_at_most_alpha(monkeypatch):
    monkeypatch.setattr(bounded_metrics, "RESAMPLES", 120)
    rng, shipped = np.random.default_rng(0), 0
    for _ in range(REPETITIONS):
        confidence = rng.uniform(0.55, 0.9, 300)
        labels = (rng.random(300) < confidence).astype(
            int
        )  # dense is calibrated; pruned is overconfident by six points
        confidences = {"dense": confidence, "pruned": confidence + 0.06}
        rows = predictions(labels, labels == 1, labels == 1).assign(
            **{
                f"{side}_probabilities": [[1 - p, p] for p in values]
                for side, values in confidences.items()
            }
        )
        shipped += count_shipped(Policy({"calibration_error": 6}), [evidence(rows)])
    assert shipped <= REPETITIONS // 20, f"{shipped} of {REPETITIONS}"


@pytest.mark.parametrize("n", [20, 60, 150])
@pytest.mark.parametrize("margin", [0.01, 0.03, 0.1])
def test_paired_bound_has_exact_coverage(n, margin):
    """Computed over every possible sample, without simulation."""
    for fixed in (0.0, 0.01, 0.05, 0.2):
        broken, error_rate = fixed + margin, 0.0
        for b in range(n + 1):
            for x in range(n - b + 1):
                if fixed == 0 and x:
                    continue
                log_probability = (
                    lgamma(n + 1)
                    - lgamma(b + 1)
                    - lgamma(x + 1)
                    - lgamma(n - b - x + 1)
                    + b * log(broken)
                )
                log_probability += (x * log(fixed) if x else 0) + (n - b - x) * log(
                    1 - fixed - broken
                )
                if log_probability > -14 and paired_bounds(b, x, n, alpha=0.05)[0] > -margin:
                    error_rate += np.exp(log_probability)
        assert error_rate <= 0.05


def test_bounds_of_proportions_and_quantiles_match_references():
    assert proportion_bounds(0, 59, 0.05)[1] == pytest.approx(0.0495, abs=1e-4)  # the rule of three
    assert proportion_bounds(7, 7, 0.05) == pytest.approx((0.05 ** (1 / 7), 1.0))
    assert quantile_bounds(np.arange(59.0), 0.95, 0.05)[1] == 58
    assert quantile_bounds(np.arange(58.0), 0.95, 0.05)[1] == np.inf
    assert quantile_bounds(np.arange(10.0), 0.5, 0.05) == (1.0, 8.0)


def test_needed_sample_size_gives_a_decision_in_most_samples():
    rng = np.random.default_rng(2)
    limits_policy = Policy({"accuracy_loss": 2})
    index = np.arange(200)
    first = deployment_check.check(
        evidence(predictions(np.zeros(200, int), index < 180, (index < 179) | (index > 198))),
        limits_policy,
    )
    needs = first[0].examples_needed
    assert first[0].result == INCONCLUSIVE
    assert 200 < needs < 2000
    assert f"about {needs:,}".replace(",", "\u2009") in first[0].detail
    decided = sum(
        deployment_check.decision(
            deployment_check.check(evidence(sampled(rng, needs, 0.005, fixed=0.005)), limits_policy)
        )
        == deployment_check.SHIP
        for _ in range(200)
    )  # with the rates of the first sample: one broken, one fixed
    assert decided >= 140


def test_unlabelled_data_is_tested_by_changed_predictions():
    unchanged = predictions(np.zeros(500, int), np.ones(500, bool), np.ones(500, bool)).assign(
        label=None
    )
    measured = evidence(unchanged, metric="same_label")
    assert (
        deployment_check.decision(
            deployment_check.check(measured, Policy({"accuracy_loss": 1, "agreement": 97}))
        )
        == deployment_check.SHIP
    )
    changed = evidence(unchanged.assign(pruned=1 - unchanged["dense"]), metric="same_label")
    loss, agreement = deployment_check.check(changed, Policy({"accuracy_loss": 1, "agreement": 97}))
    assert loss.result == INCONCLUSIVE
    assert "no labels" in loss.detail
    assert agreement.result == VIOLATED
    assert set(prediction_evidence.flipped_predictions(changed)["what"]) == {"changed"}
    assert prediction_evidence.slice_table(changed).empty


def test_missing_measurements_are_inconclusive():
    measured = evidence()
    verdicts = deployment_check.check(
        measured, Policy({name: criterion.default for name, criterion in CRITERIA.items()})
    )
    assert {verdict.result for verdict in verdicts} == {INCONCLUSIVE}
    assert all("run it with the measure" in verdict.detail for verdict in verdicts)
    times = timed(np.random.default_rng(0), np.full(10, 0.02), np.full(10, 0.04))
    latency, speed = deployment_check.check(times, Policy({"latency_p95": 50, "speedup": 1.5}))
    assert latency.result == INCONCLUSIVE and speed.result == MET
    assert "(python -m prune_core remeasure 1 cost --set cost.repeats=60)" in latency.detail
    without_timing = deployment_check.check(
        replace(times, tables=times.tables | {"timing": EMPTY}), Policy({"speedup": 1.5})
    )
    assert "measure again (python -m prune_core remeasure 1 cost)" in without_timing[0].detail


def test_attacks_with_different_settings_are_not_compared():
    measured = at_attack_limit(np.random.default_rng(0))
    plans = [
        {
            **measured.job.experiment,
            "measures": [{"name": "attack", "options": {"query_budget": budget, "examples": n}}],
        }
        for budget, n in ((500, 40), (500, 80), (100, 40))
    ]

    def with_plan(plan):
        return replace(measured.job, experiment=plan)

    comparable, different = (
        replace(measured, job=with_plan(plans[0]), dense=with_plan(plan)) for plan in plans[1:]
    )
    limits_policy = Policy({"attack_success": 3})
    assert deployment_check.check(comparable, limits_policy)[0].n == 200
    assert "different settings" in deployment_check.check(different, limits_policy)[0].detail


@pytest.mark.parametrize(
    ("kind", "metric", "label", "dense", "pruned"),
    [
        ("classification", "matthews", [0, 1] * 50, [0, 1] * 50, [0, 1] * 49 + [1, 0]),
        (
            "regression",
            "spearman",
            list(np.linspace(0, 5, 100)),
            list(np.linspace(0, 5, 100)),
            list(np.linspace(0, 5, 100) ** 0.9),
        ),
        ("multilabel", "micro_f1", [[1, 0]] * 100, [[1, 0]] * 100, [[1, 0]] * 99 + [[1, 1]]),
        (
            "token",
            "entity_f1",
            [["B-A", "O"]] * 100,
            [["B-A", "O"]] * 100,
            [["B-A", "O"]] * 99 + [["O", "O"]],
        ),
        ("span", "answer_f1", [["a cat"]] * 100, ["a cat"] * 100, ["a cat"] * 99 + ["dog"]),
    ],
)
def test_every_task_type_uses_its_metric(monkeypatch, kind, metric, label, dense, pruned):
    monkeypatch.setattr(bounded_metrics, "RESAMPLES", 100)
    rows = pd.DataFrame(
        {"text": TEXTS[:100], "pair": None, "label": label, "dense": dense, "pruned": pruned}
    )
    if kind == "span":
        rows = rows.assign(dense_f1=1.0, pruned_f1=[1.0] * 99 + [0.0])
    accuracy = pd.DataFrame([{"metric": metric, "dense_score": 1.0, "score": 0.99}])
    measured = replace(evidence(rows, metric), job=job(kind=kind))
    measured = replace(measured, tables=measured.tables | {"accuracy": accuracy})
    loose, tight = (
        deployment_check.check(measured, Policy({"accuracy_loss": limit}))[0] for limit in (20, 0.1)
    )
    assert loose.result == MET
    assert tight.result == INCONCLUSIVE
    assert loose.bound > loose.value >= 0
    message = deployment_check.summary_sentence([tight], Policy({"accuracy_loss": 0.1}))
    assert loose.title == f"{METRICS[metric].title} loss"
    assert message.startswith("Inconclusive: with n = 100, the limit can be neither met")
    assert f"This sample rules out {tight.rules_out}; the limit is 0.1 points" in message
    flipped = prediction_evidence.flipped_predictions(measured)
    assert flipped.empty if kind == "regression" else len(flipped) in (1, 2)


def test_slices_by_keyword_label_and_column(tmp_path):
    file = tmp_path / "own.csv"
    text = [f"{'not ' * (i % 3 == 0)}a film number {i}" for i in range(60)]
    pd.DataFrame(
        {"text": text, "label": [i % 2 for i in range(60)], "source": ["web", "print"] * 30}
    ).to_csv(file, index=False)
    rows = predictions(np.arange(60) % 2, np.ones(60, bool), np.arange(60) % 3 > 0).assign(
        text=text
    )
    masks = slices.slice_masks(
        rows,
        ["length", "label", "keyword:not", "column:source"],
        TASK_TYPES["classification"],
        names=["no", "yes"],
        source={"task": str(file)},
    )
    assert masks["with “not”"].sum() == 20
    assert masks["source web"].sum() == 30
    assert masks["label yes"].sum() == 30
    table = slices.slice_verdicts(
        masks, np.ones(60, bool), np.arange(60) % 3 > 0, alpha=0.05
    ).set_index("slice")
    assert table.loc["with “not”", "pruned"] == 0 and table.loc["with “not”", "p_holm"] < 0.001
    with pytest.raises(
        PruneError, match="no column 'sorce' to slice by; it has text, label, source"
    ):
        slices.column_values({"task": str(file)}, text, "sorce")
    with pytest.raises(PruneError, match="No evaluation text contains the word 'nobody'"):
        slices.slice_masks(
            rows,
            ["keyword:nobody"],
            TASK_TYPES["classification"],
            names=["no", "yes"],
            source={"task": str(file)},
        )
    pd.concat(
        [pd.read_csv(file), pd.DataFrame({"text": text[:1], "label": [0], "source": ["print"]})]
    ).to_csv(file, index=False)
    assert (
        slices.column_values({"task": str(file)}, text, "source").isna().tolist()
        == [True] + [False] * 59
    ), "the first text has two sources"
    with pytest.raises(PruneError, match="no evaluation text has a unique value"):
        slices.column_values({"task": str(file)}, ["another"], "source")
    assert list(slices.holm(np.array([0.01, 0.04, 0.03]))) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # by hand


def test_calibration_error_of_small_cases():
    confidence = np.array([[0.2, 0.8]] * 2)
    assert squared_calibration_error(np.array([1, 1]), confidence) == pytest.approx(
        0.04
    )  # both gaps are 0.2, without noise
    assert squared_calibration_error(np.array([1, 0]), confidence) == pytest.approx(
        0.3**2 - 0.25
    )  # gaps .2 and -.8: mean -.3, noise .25
    assert squared_calibration_error(np.ones(30, int), np.array([[0.0, 1.0]] * 30)) == 0
    assert signed_root(-0.04) == -0.2
    assert signed_root(0.09) == pytest.approx(0.3)


def test_criteria_are_declared_in_the_view_of_their_measure():
    declared = [(name, each) for name, view in VIEWS.items() for each in view.criteria]
    assert len(declared) == len(CRITERIA), "keys are unique"
    for measure, criterion in declared:
        assert criterion.measure == measure and measure in MEASURES
        assert criterion.table in VIEWS[measure].tables
        Policy({criterion.key: criterion.default})
        assert pickle.loads(pickle.dumps(criterion)) == criterion, "pages cache verdicts"


def test_default_policy_fits_the_task_type():
    assert set(policy.default_policy("regression").limits) == {"accuracy_loss"}
    assert set(policy.default_policy("token").limits) == {
        "accuracy_loss",
        "agreement",
        "slice_loss",
    }


def test_policy_file_round_trip_and_errors(tmp_path):
    limits_policy = Policy({"accuracy_loss": 1.5, "agreement": 97}, ("length", "keyword:être"), 90)
    assert policy.parse(limits_policy.as_yaml(), "p") == limits_policy
    for text, message in (
        ("accuracy_los: 1", "Did you mean 'accuracy_loss'"),
        ("agreement: 970", "between 0 and 100"),
        ("agreement: many", "must be a number"),
        ("slices: [length]", "has no limit"),
        ("- 1", "contains no policy"),
        ("a: [", "not readable as YAML"),
        ("agreement: 9\nslices: length", "must be a list"),
        ("agreement: 9\nslices: [word]", "is not a slice"),
        ("agreement: 9\nconfidence: 5", "between 50 and 100"),
    ):
        with pytest.raises(PruneError, match=message):
            policy.parse(text, "p")
    with pytest.raises(PruneError, match="no such file or preset"):
        policy.load(tmp_path / "none.yaml")


def test_check_command_exit_status(home, tmp_path, capsys):
    sample_rows.fill(Store(home), 400)
    file = tmp_path / "policy.yaml"
    for limits, status, message in (
        (
            {"accuracy_loss": 10.0, "agreement": 85.0, "size": 100.0},
            0,
            "Ship: all 3 limits are met with 95% confidence.",
        ),
        (
            {"accuracy_loss": 10.0, "agreement": 85.0, "size": 50.0},
            1,
            "Do not ship: size on disk violates its limit with 95% confidence.",
        ),
        (
            {"accuracy_loss": 3.0},
            3,
            "Inconclusive: with n = 400, the limit can be neither met nor violated",
        ),
    ):
        file.write_text(Policy(limits).as_yaml())
        assert (
            main(["check", "7", "--policy", str(file), "--json", str(tmp_path / "out.json")])
            == status
        )
        assert message in capsys.readouterr().out
        record = json.loads((tmp_path / "out.json").read_text())
        assert record["decision"] == {0: "ship", 1: "do not ship", 3: "inconclusive"}[status]
        assert message in record["summary"] == record["told"]
        for verdict in record["verdicts"]:
            assert verdict["group"] == verdict["of"] and verdict["detail"] == verdict["told"]
            assert verdict["result"] == verdict["answer"]
            assert verdict["examples_needed"] == verdict["needs"]
    assert main(["check", "3"]) == 1, "the default policy is used"
    assert main(["check", "1"]) == 2 and "is the dense model" in capsys.readouterr().err


@pytest.mark.parametrize(
    "other_load, answer",
    [
        (0.04, MET),
        (np.nan, MET),
        (0.4, INCONCLUSIVE),
    ],
)
def test_disturbed_times_are_inconclusive(other_load, answer):
    times = timed(np.random.default_rng(0), np.full(60, 0.02), np.full(60, 0.04))
    cost = times.tables["cost"].assign(other_load=other_load)
    measured = replace(times, tables=times.tables | {"cost": cost})
    limits_policy = Policy({"latency_p95": 50, "speedup": 1.5})
    verdicts = deployment_check.check(measured, limits_policy)
    assert [verdict.result for verdict in verdicts] == [answer] * 2
    if answer == INCONCLUSIVE:
        for verdict in verdicts:
            assert verdict.detail.startswith(
                "other processes took 40% of a core from the timed passes; measure again on an "
                "idle machine"
            )
            assert "(python -m prune_core remeasure 1 cost)" in verdict.detail
            assert verdict.excluded == ""
            assert verdict.examples_needed is None
        assert "2 of 2 limits can be" in (
            message := deployment_check.summary_sentence(verdicts, limits_policy)
        )
        assert verdicts[0].detail in message
        plots.limit_usage(verdicts)
        assert (
            deployment_check.to_record(verdicts, measured, limits_policy)["verdicts"][0]["bound"]
            is None
        )


def test_inconclusive_limit_states_what_is_ruled_out():
    index = np.arange(440)
    measured = evidence(predictions(np.zeros(440, int), index < 397, (index < 390) | (index > 436)))
    limits_policy = Policy({"accuracy_loss": 1, "agreement": 97})
    loss, agreement = verdicts = deployment_check.check(measured, limits_policy)
    assert (
        loss.rules_out == f"an accuracy loss of more than {np.ceil(10 * loss.bound) / 10:g} points"
    )
    assert loss.bound > 1
    assert agreement.excluded == f"less than {np.floor(10 * agreement.bound) / 10:g}%"
    assert agreement.bound < 97
    message = deployment_check.summary_sentence(verdicts, limits_policy)
    assert message.startswith(
        "Inconclusive: with n = 440, 2 of 2 limits can be neither met nor violated with 95% "
        "confidence. This sample"
    )
    assert f"rules out {loss.rules_out}; the limit is 1 point, which takes about " in message
    assert message.endswith(" to decide.")
    assert (
        deployment_check.to_record(verdicts, measured, limits_policy)["verdicts"][0]["rules_out"]
        == loss.rules_out
    )
    assert (
        deployment_check.check(
            measured,
            replace(limits_policy, limits={"accuracy_loss": np.ceil(10 * loss.bound) / 10}),
        )[0].result
        == MET
    )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", CRITERIA)
def test_titles_keep_case_of_names(name, metric):
    verdict = Verdict(
        CRITERIA[name],
        "TextFooler",
        1.0,
        value=2.0,
        bound=2.0,
        result=VIOLATED,
        n=9,
        examples_needed=None,
        detail="",
        metric=metric,
    )
    message = deployment_check.summary_sentence(
        [verdict, replace(verdict, criterion=CRITERIA["agreement"])], Policy({name: 1.0})
    )
    for word in ("F1", "Matthews", "Spearman", "Pearson"):
        assert (word in verdict.title) == (word in verdict.inline_title)
        assert word.lower() not in message
    assert re.match(
        r"Do not ship: ([a-z]|F1|9|Matthews|Spearman|Pearson|nDCG@10|MRR@10)[^A-Z]*F?1?[^A-Z]* "
        r"\(TextFooler\) and agreement with dense",
        message,
    )
    assert verdict.rules_out == "" or re.match(r"an? ", verdict.rules_out)


def test_remeasure_with_other_options(home, monkeypatch, capsys):
    cheap = [
        "--measure",
        "cost",
        "--set",
        "cost.repeats=3",
        "--set",
        "cost.length=16",
        "--calibration-size",
        "8",
    ]
    assert (
        main(
            ["run", "--method", "magnitude", "--sparsity", "0.5", "--evaluation-size", "8", *cheap]
        )
        == 0
    )
    store = Store(home)
    before = store.job(1)
    assert main(["remeasure", "1", "cost", "--set", "cost.repeats=4"]) == 0
    after = store.job(1)
    assert after.status == "done"
    assert set(after.done) == {"prune", "cost"}
    assert len(store.jobs()) == 1
    assert len(store.rows("timing", [1])) == 8
    assert main(["check", "1"]) == 3, "accuracy was not measured"
    assert store.rows("cost", [1])["passes"].tolist() == [
        4,
        4,
    ]
    assert after.experiment["measures"][0]["options"]["length"] == 16 and after.key != before.key
    assert "measured cost again" in set(store.events()["what"])
    capsys.readouterr()
    for arguments, message in (
        (["1", "cost", "--set", "repeats=4"], "write measure.option=value for one of cost"),
        (["1", "cots"], "cost"),
        (["1", "cost", "--set", "cost.repeats=1"], "repeats"),
        (["9", "cost"], "There is no job 9"),
    ):
        assert main(["remeasure", *arguments]) == 2 and message in capsys.readouterr().err
    store.update(1, status="failed")
    assert main(["remeasure", "1", "cost"]) == 2
    assert "only a finished job" in capsys.readouterr().err
