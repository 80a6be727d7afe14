"""Policies with several test sets, presets, relative limits, and what a sample can decide."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from test_deploy import evidence, predictions, sampled

from prune_core import PruneError
from prune_core.analysis import bounded_metrics, prediction_evidence
from prune_core.analysis.bounded_metrics import exact, paired_loss, relative_loss, weighted_mean
from prune_core.analysis.criteria import INCONCLUSIVE, MET
from prune_core.cli.arguments import main
from prune_core.data.examples import DataSource
from prune_core.deployment import combined_check, deployment_check, policy
from prune_core.deployment.deployment_check import SHIP, STOP
from prune_core.deployment.policy import EvaluationSet, Policy
from prune_core.store.store import Store

REPETITIONS = 1000
NAMES = ("german", "french", "polish")


def sets(*names: str, **values) -> tuple[EvaluationSet, ...]:
    return tuple(EvaluationSet(name, DataSource(f"{name}.csv"), **values) for name in names)


def limits(combine: str, names=NAMES, **values) -> Policy:
    return Policy({"accuracy_loss": 2.0}, test_sets=sets(*names), combine=combine, **values)


def decisions(of_policy: Policy, losses, n: int = 400) -> Counter[str]:
    """Count the decisions on samples of sets with these true losses, with changes both ways."""
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deployment_check, "_needed", lambda *_, **__: None)
        return Counter(
            combined_check.check_sets(
                {
                    each.name: evidence(sampled(rng, n, 0.01 + loss, fixed=0.01))
                    for each, loss in zip(of_policy.test_sets, losses, strict=True)
                },
                of_policy,
            ).decision
            for _ in range(REPETITIONS)
        )


@pytest.mark.parametrize(
    ("combine", "losses"),
    [
        ("all", (0.02, 0.0, 0.0)),  # one set exactly at its limit
        ("all", (0.02, 0.02, 0.02)),
        ("mean", (0.06, 0.0, 0.0)),  # the mean exactly at its limit
        ("mean", (0.02, 0.02, 0.02)),
        ("at most 1 fail", (0.02, 0.02, 0.0)),  # one set too many at its limit
        ("at most 1 fail", (0.02, 0.02, 0.02)),
        ("at most 2 fail", (0.02, 0.02, 0.02)),
    ],
)
def test_false_ship_rate_of_every_combination_is_at_most_alpha(combine, losses):
    counts = decisions(limits(combine), losses)
    assert counts[SHIP] <= REPETITIONS // 20, counts


@pytest.mark.parametrize(
    ("combine", "losses"),
    [
        ("all", (0.02, 0.02, 0.02)),
        ("mean", (0.02, 0.02, 0.02)),
        ("at most 1 fail", (0.15, 0.02, 0.02)),
    ],
)
def test_false_stop_rate_of_every_combination_is_at_most_alpha(combine, losses):
    counts = decisions(limits(combine), losses)
    assert counts[STOP] <= REPETITIONS // 20, counts


@pytest.mark.parametrize(
    ("combine", "losses", "decision"),
    [
        ("all", (-0.005, -0.005, -0.005), SHIP),
        ("all", (0.2, 0.0, 0.0), STOP),
        ("mean", (0.0, 0.0, 0.0), SHIP),
        ("at most 1 fail", (0.2, -0.005, -0.005), SHIP),
        ("at most 1 fail", (0.2, 0.2, 0.0), STOP),
    ],
)
def test_every_combination_decides_clear_cases(combine, losses, decision):
    assert decisions(limits(combine), losses, n=1500)[decision] > 0.9 * REPETITIONS


def test_relative_loss_is_wrong_at_most_as_often_as_alpha():
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(4 * REPETITIONS):
        # dense 80%, pruned 79.2%: exactly 99% of it
        outcome = rng.choice(4, size=500, p=[0.772, 0.028, 0.02, 0.18])
        broken, fixed = (outcome == 1).sum(), (outcome == 2).sum()
        loss = relative_loss(int(broken), int(fixed), correct=int((outcome <= 1).sum()), n=500)
        wrong += loss.bounds(0.05)[1] <= 0.01
    assert wrong <= 4 * REPETITIONS // 20


def test_small_cases_of_relative_loss_and_weighted_mean():
    assert relative_loss(10, 0, correct=80, n=100).value == pytest.approx(0.125)
    assert relative_loss(0, 0, correct=0, n=10).value == 0
    mean = weighted_mean([exact(0.1), exact(0.4)], [2, 1])
    assert mean.bounds(0.05) == pytest.approx((0.2, 0.2))
    # the mean of two equal samples has bounds narrower by the root of two
    one = paired_loss(8, 8, 400)
    low, high = weighted_mean([one, one], [1, 1]).bounds(0.05)
    assert high == pytest.approx(one.bounds(0.05)[1] / np.sqrt(2))
    assert low == -high


def test_a_set_without_measurements_is_inconclusive_and_named():
    rng = np.random.default_rng(0)
    measured = {name: evidence(sampled(rng, 2000, 0.0, fixed=0.0)) for name in NAMES}
    measured["french"] = evidence()
    for combine in ("all", "mean"):
        result = combined_check.check_sets(measured, limits(combine))
        assert result.decision == INCONCLUSIVE
        assert "french" in result.summary
        assert "not measured" in result.summary
    assert combined_check.check_sets(measured, limits("at most 1 fail")).decision == SHIP


def test_limits_and_weights_of_a_set():
    rows = predictions(np.zeros(1000, int), np.arange(1000) < 900, np.arange(1000) < 870)
    measured = {"german": evidence(rows), "french": evidence(rows)}
    loose = EvaluationSet("french", DataSource("french.csv"), limits={"accuracy_loss": 5})
    of_policy = Policy({"accuracy_loss": 1}, test_sets=(*sets("german"), loose))
    result = combined_check.check_sets(measured, of_policy)
    assert result.verdicts["french"][0].result == MET
    assert result.decision == STOP
    assert "Accuracy loss · german" in result.verdicts["german"][0].title
    record = combined_check.to_record(result, measured)
    assert record["test_sets"]["french"] == {"decision": SHIP, "job": 1}
    assert [each["test_set"] for each in record["verdicts"]] == ["german", "french"]


def test_test_sets_of_one_name_are_refused():
    """They would replace each other in files, studies and decisions."""
    with pytest.raises(PruneError, match="two test sets have the name 'german'"):
        Policy({"accuracy_loss": 1}, test_sets=sets("german", "german"))


def test_policy_file_with_test_sets_round_trip(tmp_path):
    text = (
        "accuracy_loss: 1\ncombine: at most 1 fail\ntest_sets:\n"
        "  german: {task: german.csv, label: Stimmung, limits: {agreement: 95}, weight: 2}\n"
        "  french: {task: french.csv}\n"
    )
    parsed = policy.parse(text, "policy.yaml")
    assert [each.source.task for each in parsed.test_sets] == ["german.csv", "french.csv"]
    assert parsed.test_sets[0].source.label == "Stimmung"
    assert parsed.of_set(parsed.test_sets[0]).limits == {"accuracy_loss": 1, "agreement": 95}
    assert policy.parse(parsed.as_yaml(), "again") == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("test_sets: {german: german.csv}", "each of test_sets must be a name with its data"),
        ("test_sets: {german: {task: a.csv, labl: x}}", "has no 'labl'. Did you mean 'label'?"),
        ("test_sets: {german: {task: a.csv, weight: 0}}", "the weight of german is 0"),
        ("combine: most", "combine is 'most'; write all, mean, or at most K fail"),
        (
            "combine: at most 1 fail\ntest_sets: {a: {task: a.csv}}",
            "below the number of test sets, which is 1",
        ),
        (
            "combine: mean\ntest_sets: {a: {task: a.csv, limits: {agreement: 9}}}",
            "limits cannot differ between test sets",
        ),
        ("test_sets: {a: {task: a.csv, limits: {agrement: 9}}}", "is not a criterion"),
    ],
)
def test_mistakes_in_test_sets_are_explained(text, message):
    with pytest.raises(PruneError) as error:
        policy.parse(f"accuracy_loss: 1\n{text}", "policy.yaml")
    assert message in str(error.value)


@pytest.mark.parametrize("name", policy.presets())
def test_presets_are_policies(name):
    assert policy.load(Path(name)).limits


def test_unknown_policy_names_the_presets():
    with pytest.raises(PruneError, match="mlperf-99"):
        policy.load(Path("mlperf"))


def test_default_limits_can_be_decided_by_the_sample(monkeypatch):
    """A model that changes 3% of the predictions and loses nothing meets them in most samples."""
    monkeypatch.setattr(bounded_metrics, "RESAMPLES", 100)
    rng, met, n = np.random.default_rng(0), Counter[str](), 440
    usual = policy.default_policy("classification", "accuracy")
    for _ in range(100):
        rows = sampled(rng, n, 0.015, fixed=0.015)
        confidence = rng.uniform(0.8, 1, n)
        for side in ("dense", "pruned"):
            first = np.where(rows[side] == 0, confidence, 1 - confidence)
            rows[f"{side}_probabilities"] = [[p, 1 - p] for p in first]
        measured = evidence(rows)
        relaxed = usual.relaxed(measured)
        assert relaxed.limits["accuracy_loss"] > usual.limits["accuracy_loss"]
        assert relaxed.limits["agreement"] < usual.limits["agreement"]
        verdicts = deployment_check.check(measured, relaxed)
        met.update(each.criterion.key for each in verdicts if each.result == MET)
    assert min(met[key] for key in usual.limits if key != "attack_success") >= 50, met


def test_power_sentence():
    sentence = prediction_evidence.power_sentence(440, "accuracy")
    assert sentence.startswith("440 examples can rule out a loss of more than 1.6 points")
    assert not prediction_evidence.power_sentence(440, "spearman")


def test_check_measures_a_job_on_several_test_sets(home, tmp_path, capsys):
    """The same pruned weights on two files, from the command to the exit status."""
    run = ["run", "--method", "magnitude", "--sparsity", "0.3", "--measure", "accuracy"]
    assert main([*run, "--evaluation-size", "40"]) == 0
    for name, text in (("good", "a wonderful film"), ("bad", "a dull and boring film")):
        rows = [
            f"{text} number {i},{'positive' if name == 'good' else 'negative'}" for i in range(60)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]))
    file = tmp_path / "policy.yaml"
    file.write_text(
        f"accuracy_loss: 30\ntest_sets:\n  good: {{task: {tmp_path / 'good.csv'}}}\n"
        f"  bad: {{task: {tmp_path / 'bad.csv'}}}\n"
    )
    capsys.readouterr()
    assert main(["check", "1", "--policy", str(file), "--json", str(tmp_path / "out.json")]) == 0
    output = capsys.readouterr().out
    assert "Ship: both limits are met with 95% confidence" in output
    assert "Accuracy loss · good" in output
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record["test_sets"]) == {"good", "bad"}
    jobs = Store().jobs("Command line · good")
    assert sorted(job.label for job in jobs) == ["Dense", "Magnitude 30%"]
    # the same weights: nothing is measured again
    main(["check", "1", "--policy", str(file)])
    assert len(Store().jobs("Command line · good")) == 2
    file.write_text(file.read_text().replace("accuracy_loss: 30", "accuracy_loss: 0.01"))
    assert main(["check", "1", "--policy", str(file)]) == 3
