"""Detection at a threshold: exact values, held-out rows, error rates of its limits, and the CLI."""

import json
from dataclasses import replace
from math import lgamma, log

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import binomtest
from sklearn import metrics as sklearn
from test_deploy import REPETITIONS, count_decisions, evidence
from test_pages import open_page

from prune_core import PruneError
from prune_core.analysis import detection, detection_slices, slices
from prune_core.cli.arguments import main
from prune_core.data.examples import BINARY, Examples
from prune_core.deployment import deployment_check
from prune_core.deployment.policy import Policy
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report
from prune_core.statistics import paired_bounds
from prune_core.store.store import Store
from prune_core.tasks.task_data import Task

RNG = np.random.default_rng(0)
TRUTH = RNG.random(300) < 0.1
SCORES = np.round(RNG.beta(2, 5, 300) + 0.3 * TRUTH, 2).clip(0, 1)  # with ties


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("safe", "jailbreak"), 1),
        (("toxic", "non-toxic"), 0),
        (("negative", "positive"), 1),
        (("LABEL_0", "LABEL_1"), 1),
        (BINARY, 1),
        (("INJECTION", "SAFE"), 0),
        (("left", "right"), 1),
    ],
)
def test_the_label_to_detect_is_not_the_harmless_one(names, positive):
    assert detection.default_positive(names) == positive


def test_metrics_match_scikit_learn():
    row = detection.compare(
        TRUTH,
        {"dense": SCORES, "pruned": SCORES**2},
        {"dense": 0.5, "pruned": 0.3},
        beta=2.0,
        weight=1.0,
        resamples=100,
        seed=0,
    )
    for prefix, scores, limit in (("dense_", SCORES, 0.5), ("", SCORES**2, 0.3)):
        detected = scores >= limit
        (passed, false_alarms), (missed, hits) = sklearn.confusion_matrix(TRUTH, detected)
        counts = [
            row[f"{prefix}{name}"]
            for name in ("true_negatives", "false_positives", "false_negatives", "true_positives")
        ]
        assert counts == [passed, false_alarms, missed, hits]
        expected = {
            "recall": sklearn.recall_score(TRUTH, detected),
            "precision": sklearn.precision_score(TRUTH, detected),
            "f_beta": sklearn.fbeta_score(TRUTH, detected, beta=2.0),
            "average_precision": sklearn.average_precision_score(TRUTH, scores),
            "roc_auc": sklearn.roc_auc_score(TRUTH, scores),
            "false_positive_rate": false_alarms / (false_alarms + passed),
        }
        false_positive_rates, recalls, _ = sklearn.roc_curve(TRUTH, scores)
        for name, limit_rate in detection.FALSE_POSITIVE_RATES.items():
            expected[name] = recalls[false_positive_rates <= limit_rate].max()
        assert {name: row[f"{prefix}{name}"] for name in expected} == pytest.approx(expected)
        exact = binomtest(int(hits), int(hits + missed)).proportion_ci(0.95, method="exact")
        assert (row[f"{prefix}recall_low"], row[f"{prefix}recall_high"]) == pytest.approx(
            (exact.low, exact.high)
        )
        for name in detection.RANKING:
            low, value, high = (row[f"{prefix}{name}{end}"] for end in ("_low", "", "_high"))
            assert 0 <= low <= value <= high <= 1 and low < high
    difference = row["recall"] - row["dense_recall"]
    assert row["recall_difference"] == pytest.approx(difference)
    assert row["recall_difference_low"] < difference < row["recall_difference_high"]


def test_held_out_negatives_do_not_raise_precision():
    """Precision, F-beta and average precision are those of data with every negative twice."""
    rows = np.concatenate([np.flatnonzero(TRUTH), *[np.flatnonzero(~TRUTH)] * 2])
    sides, limits = {"dense": SCORES, "pruned": SCORES**2}, {"dense": 0.5, "pruned": 0.3}
    options = {"beta": 2.0, "resamples": 100, "seed": 0}
    once = detection.compare(TRUTH, sides, limits, weight=2.0, **options)
    doubled = {side: scores[rows] for side, scores in sides.items()}
    twice = detection.compare(TRUTH[rows], doubled, limits, weight=1.0, **options)
    for name in ("recall", "false_positive_rate", "precision", "f_beta", *detection.RANKING):
        assert once[name] == pytest.approx(twice[name])
    assert once["precision_low"] < once["precision"] < once["precision_high"]
    tables = measure(guard_pair(LABELS), rate=10.0)
    assert tables["threshold"].iloc[0]["negative_weight"] == 2.0


def test_bootstrap_weights_equal_repeated_examples():
    counts = np.random.default_rng(1).integers(0, 4, (2, len(TRUTH)))
    weighted = detection.ranking_metrics(*detection.curve(TRUTH, SCORES, counts)[1:])
    for index, times in enumerate(counts):
        truth, scores = np.repeat(TRUTH, times), np.repeat(SCORES, times)
        assert weighted["roc_auc"][index] == pytest.approx(sklearn.roc_auc_score(truth, scores))
        assert weighted["average_precision"][index] == pytest.approx(
            sklearn.average_precision_score(truth, scores)
        )


@pytest.mark.parametrize("rate", [0.0, 0.004, 0.01, 0.1, 0.5, 1.0])
def test_threshold_at_a_rate_is_the_lowest_within_it(rate):
    negatives = SCORES[~TRUTH]
    limit = detection.threshold_at_rate(negatives, rate)
    assert (negatives >= limit).mean() <= rate
    lower = negatives[negatives < limit]
    assert rate == 1.0 or (negatives >= lower.max()).mean() > rate


def test_saturated_scores_are_not_detected_at_a_rate_of_zero():
    assert detection.threshold_at_rate(np.array([0.2, 1.0]), 0.0) > 1.0


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_fitted_f_beta_is_the_highest(beta):
    limit = detection.threshold_of_f_beta(TRUTH, SCORES, beta)
    best = max(sklearn.fbeta_score(TRUTH, each <= SCORES, beta=beta) for each in set(SCORES))
    assert sklearn.fbeta_score(TRUTH, limit <= SCORES, beta=beta) == pytest.approx(best)


def guard_pair(labels: list, kind: str = "classification", names=("safe", "attack")) -> Pair:
    """A tiny dense and a pruned model on these labels."""
    texts = [f"{text} {i}" for i, text in enumerate(tiny.SENTENCES * 10)][: len(labels)]
    examples = Examples(texts, labels=labels, kind=kind, binary=kind == "regression")
    dense, pruned = tiny.model(kind=kind), tiny.model(kind=kind)
    build(METHODS, "magnitude", {"sparsity": 0.5}).prune(pruned, [], no_report)
    task = Task("tiny", names, examples, evaluation=examples)
    return Pair(dense, pruned, tiny.tokenizer(), task=task, max_length=64)


LABELS = [int(i % 6 == 0) for i in range(60)]


def measure(pair: Pair, **options) -> dict[str, pd.DataFrame]:
    return build(MEASURES, "threshold", {"resamples": 100, **options}).measure(pair, no_report)


def test_rows_that_fit_the_threshold_are_not_evaluated():
    pair = guard_pair(LABELS)
    tables = measure(pair, rate=10.0)
    row, rows = tables["threshold"].iloc[0], tables["threshold_example"]
    assert row["positive"] == "attack" and row["positives"] == 10, "negatives alone fit a rate"
    assert (row["fitted_positives"], row["fitted_negatives"], row["negatives"]) == (0, 25, 25)
    fitted = rows[rows["fitted"]]
    assert not fitted["truth"].any() and (fitted["dense"] >= row["dense_threshold"]).sum() == 2
    assert row["threshold"] == row["dense_threshold"]
    found = detection.evaluated(rows, tables["threshold"])
    assert found[found["truth"]]["detected"].sum() == row["true_positives"]
    assert found[~found["truth"]]["dense_detected"].sum() == row["dense_false_positives"]
    both = measure(pair, target="f_beta")["threshold"].iloc[0]
    assert (both["fitted_positives"], both["positives"]) == (5, 5)
    refitted = measure(pair, rate=10.0, refit=True)
    row, rows = refitted["threshold"].iloc[0], refitted["threshold_example"]
    assert row["threshold"] != row["dense_threshold"]
    assert (rows[rows["fitted"]]["pruned"] >= row["threshold"]).sum() == 2


def test_a_given_threshold_evaluates_every_example():
    row = measure(guard_pair(LABELS), threshold=0.5)["threshold"].iloc[0]
    assert (row["positives"], row["negatives"], row["fitted_negatives"]) == (10, 50, 0)
    assert row["threshold"] == row["dense_threshold"] == 0.5


def test_every_label_of_a_multilabel_model_has_its_own_threshold():
    labels = [[int(i % 3 == 0), int(i % 4 == 0)] for i in range(60)]
    pair = guard_pair(labels, "multilabel", ("insult", "threat"))
    tables = measure(pair, rate=10.0)
    table = tables["threshold"].set_index("positive")
    assert table["positives"].to_dict() == {"insult": 20, "threat": 15}
    assert table["threshold"].nunique() == 2 and len(tables["threshold_example"]) == 120
    assert list(measure(pair, positive="threat")["threshold"]["positive"]) == ["threat"]
    criteria = detection.recall_loss(evidence(**tables))
    assert {name: metric.n for name, metric in criteria.items()} == {"insult": 20, "threat": 15}
    absent = measure(guard_pair([[1 - i % 2, 0] for i in range(60)], "multilabel"))
    found = detection.recall_loss(evidence(**absent))
    assert found["attack"] == "no evaluation example has this label"
    assert np.isnan(absent["threshold"].set_index("positive").loc["attack", "recall"])


def test_a_binary_classifier_with_one_output_detects_label_1():
    row = measure(guard_pair(LABELS, "regression", BINARY))["threshold"].iloc[0]
    assert (row["positive"], row["positives"]) == ("label 1", 10)


@pytest.mark.parametrize(
    ("pair", "options", "message"),
    [
        (guard_pair(LABELS), {"positive": "spam"}, "the labels of the model are safe, attack"),
        (guard_pair([0] * 60), {}, "0 of 60 evaluation examples have the label 'attack'"),
        (guard_pair([1, *[0] * 59]), {"target": "f_beta"}, "1 of 60 .* are with the label"),
        (guard_pair(LABELS, names=("a", "b", "c")), {}, "has 3 labels; set the option positive"),
    ],
)
def test_errors_state_what_to_change(pair, options, message):
    with pytest.raises(PruneError, match=message):
        measure(pair, **options)


def test_detection_needs_labels_of_0_and_1():
    pair = guard_pair(LABELS)
    task = replace(pair.task, evaluation=replace(pair.task.evaluation, labels=None))
    with pytest.raises(PruneError, match="have no labels"):
        measure(replace(pair, task=task))
    scores = tiny.pair(tiny.model(kind="regression"), tiny.model(kind="regression"))
    task = replace(scores.task, evaluation=tiny.examples(kind="regression"))
    with pytest.raises(PruneError, match="labels are not 0 and 1"):
        measure(replace(scores, task=task))


def detections(truth: np.ndarray, dense: np.ndarray, pruned: np.ndarray) -> dict:
    """The tables of one label, in which scores are 0 or 1."""
    rows = {"positive": "attack", "truth": truth, "fitted": False, "dense": dense, "pruned": pruned}
    limits = {"positive": ["attack"], "threshold": [0.5], "dense_threshold": [0.5]}
    limits |= {"tpr_at_fpr_1": [1.0], "recall": [0.3], "recall_high": [0.6]}
    return {
        "threshold": pd.DataFrame(limits),
        "threshold_example": pd.DataFrame(rows),
    }


@pytest.mark.parametrize("positives", [30, 60, 100])
@pytest.mark.parametrize("fixed", [0.0, 0.05])
def test_false_ship_rate_of_recall_at_rare_positives_is_at_most_alpha(positives, fixed):
    """The true loss of recall is exactly at the limit of 10 points; only positives count."""
    rng, n = np.random.default_rng(positives), positives + 100
    truth = np.arange(n) < positives

    def sample():
        outcome = rng.choice(4, size=n, p=[0.8 - fixed, 0.1 + fixed, fixed, 0.1 - fixed])
        detected = [np.isin(outcome, kinds).astype(float) for kinds in ((0, 1), (0, 2))]
        quiet = np.where(truth, detected, 0.0)  # negatives are never detected
        return evidence(**detections(truth, *quiet))

    limits = Policy({"recall_loss": 10, "false_positive_increase": 1})
    decisions = count_decisions(limits, (sample() for _ in range(REPETITIONS)))
    assert decisions[deployment_check.SHIP] <= REPETITIONS // 20, decisions
    assert decisions[deployment_check.STOP] <= REPETITIONS // 20, decisions


@pytest.mark.parametrize("negatives", [400, 1500])
def test_false_ship_rate_of_false_positives_is_at_most_alpha(negatives):
    """The true increase of the false-positive rate is exactly at the limit of one point."""
    rng, truth = np.random.default_rng(negatives), np.arange(negatives + 40) < 40

    def sample():
        outcome = rng.choice(4, size=len(truth), p=[0.008, 0.002, 0.012, 0.978])
        sides = [np.isin(outcome, kinds).astype(float) for kinds in ((0, 1), (0, 2))]
        return evidence(**detections(truth, *np.where(truth, 1.0, sides)))

    limits = Policy({"false_positive_increase": 1})
    decisions = count_decisions(limits, (sample() for _ in range(REPETITIONS)))
    assert decisions[deployment_check.SHIP] <= REPETITIONS // 20, decisions
    assert decisions[deployment_check.STOP] <= REPETITIONS // 20, decisions


@pytest.mark.parametrize("criterion", ["slice_recall_loss", "slice_false_positive_increase"])
@pytest.mark.parametrize("losses", [(0.1, 0.0, 0.0), (0.1, 0.1, 0.1)])
def test_false_ship_rate_of_limits_in_every_slice_is_at_most_alpha(criterion, losses, tmp_path):
    """One slice, or all, have a true cost exactly at the limit of 10 points."""
    rng, n = np.random.default_rng(0), 80
    languages = np.repeat(["de", "en", "pl"], n)
    texts = [f"text {i}" for i in range(3 * n)]
    file = tmp_path / "guard.csv"
    table = pd.DataFrame({"text": texts, "label": "attack", "language": languages})
    table.to_csv(file, index=False)
    is_recall = criterion == "slice_recall_loss"
    truth = np.full(3 * n, is_recall)

    def sample(columns: tuple[float, ...]):
        worse = rng.random(3 * n) < np.repeat(0.02 + np.array(columns), n)
        better = ~worse & (rng.random(3 * n) < 0.02 / 0.88)
        sides = np.array([worse, better]) if is_recall else np.array([better, worse])
        tables = detections(truth, *sides.astype(float))
        rows = tables["threshold_example"].assign(text=texts, pair=None)
        measured = evidence(**{**tables, "threshold_example": rows})
        measured.job.experiment["source"] = {"task": str(file)}
        return measured

    limits = Policy({criterion: 10}, slices=("column:language",))
    with pytest.MonkeyPatch.context() as patch:
        values = slices.column_values({"task": str(file)}, texts, "language")
        patch.setattr(slices, "column_values", lambda *_: values)  # read once
        decisions = count_decisions(limits, (sample(losses) for _ in range(REPETITIONS)))
    assert decisions[deployment_check.SHIP] <= REPETITIONS // 20, decisions
    assert decisions[deployment_check.STOP] <= REPETITIONS // 20, decisions
    verdicts = deployment_check.check(sample((0.0, 0.0, 0.6)), limits)
    assert [each.group for each in verdicts] == ["language de", "language en", "language pl"]
    assert [each.result for each in verdicts][2] == "violated"


def test_a_limit_per_slice_needs_slices_with_examples():
    truth = np.arange(60) < 5
    tables = detections(truth, truth.astype(float), truth.astype(float))
    rows = tables["threshold_example"].assign(text=[f"w{i} a" for i in range(60)], pair=None)
    measured = evidence(**{**tables, "threshold_example": rows})
    limits = Policy({"slice_recall_loss": 5}, slices=("label",))
    (verdict,) = deployment_check.check(measured, limits)
    assert verdict.result == "inconclusive" and "names no slice" in verdict.detail
    limits = Policy({"slice_recall_loss": 60}, slices=("keyword:w1", "keyword:w59"))
    first, last = deployment_check.check(measured, limits)
    assert first.n == 1 and last.detail == "no evaluation example has this label"


@pytest.mark.parametrize("n", [300, 1000])
@pytest.mark.parametrize("margin", [0.002, 0.005, 0.01])
def test_paired_bound_has_exact_coverage_for_rare_false_positives(n, margin):
    """Computed over every likely sample, without simulation."""
    for lost in (0.0, 0.001, 0.005, 0.01):
        gained, error_rate = lost + margin, 0.0
        for more in range(int(n * gained + 12 * (n * gained) ** 0.5) + 2):
            for fewer in range(1 if lost == 0 else int(n * lost + 8 * (n * lost) ** 0.5) + 2):
                error_rate += _error(more, fewer, n, gained=gained, lost=lost)
        assert error_rate <= 0.05


def _error(more: int, fewer: int, n: int, *, gained: float, lost: float) -> float:
    """The probability of this sample if its upper bound is below the true increase, else 0."""
    if paired_bounds(fewer, more, n, alpha=0.05)[1] > gained - lost:
        return 0.0
    same = n - more - fewer
    value = lgamma(n + 1) - lgamma(more + 1) - lgamma(fewer + 1) - lgamma(same + 1)
    value += more * log(gained) + (fewer * log(lost) if fewer else 0.0)
    return float(np.exp(value + same * log(1 - gained - lost)))


GOOD = ("a delight", "warm and funny", "a quiet triumph", "sharp and tender", "a pleasure")
BAD = ("a chore", "dull and noisy", "flat as a table", "a waste of time", "clumsy and loud")


@pytest.fixture
def guard_file(tmp_path):
    """A CSV of 500 texts in two languages by name, of which 2% have the label to detect."""
    lines = ["text,label,language"]
    for i in range(500):
        is_positive = i % 50 == 0
        words = GOOD[i // 50 % 5] if is_positive else BAD[i % 5]
        label, language = ("negative", "positive")[is_positive], ("en", "de")[i % 3 > 0]
        lines.append(f"Film {i} is {words} from start to end,{label},{language}")
    file = tmp_path / "guard.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_from_a_file_of_2_percent_positives_to_an_exit_code(guard_file, tmp_path, capsys):
    command = ["run", "--task", str(guard_file), "--device", "cpu", "--calibration", "demo"]
    command += ["--measure", "accuracy", "--measure", "threshold", "--calibration-size", "32"]
    assert main(command) == 0, capsys.readouterr().err
    assert main([*command, "--method", "magnitude", "--sparsity", "0.2"]) == 0
    policy, checked = tmp_path / "policy.yaml", tmp_path / "check.json"

    def check(text: str) -> tuple[int, dict]:
        policy.write_text(f"{text}\nslices: [column:language]\n")
        capsys.readouterr()
        status = main(["check", "2", "--policy", str(policy), "--json", str(checked)])
        return status, json.loads(checked.read_text())

    status, record = check("recall_loss: 5")
    assert status == 3 and "10 examples" not in record["summary"]
    assert "a recall loss at the threshold of more than" in record["summary"]
    assert "examples with the label to decide" in record["summary"] or status == 3
    assert [each["n"] for each in record["verdicts"]] == [10]
    status, record = check("recall_loss: 60\nfalse_positive_increase: 40")
    assert status == 0 and record["decision"] == "ship"
    rows = Store().rows("threshold", [2]).iloc[0]
    assert (rows["positive"], rows["positives"], rows["negatives"]) == ("positive", 10, 245)
    main(["show", "2"])
    shown = capsys.readouterr().out
    for title in ("Recall at the threshold", "False-positive rate", "ROC AUC"):
        assert title in shown
    assert main([*command, "--method", "magnitude", "--sparsity", "0.95"]) == 0
    policy.write_text("recall_loss: 5\n")
    assert main(["check", "3", "--policy", str(policy)]) in (1, 3)
    page = open_page("compare", **{"compare-section": "detection"})
    assert any("detects" in each.value and "of 10 examples" in each.value for each in page.markdown)
    measured = matrices(page)
    page.select_slider(key="choice-detection-threshold").set_value(0.001).run()
    assert not page.exception and len(measured) == 3
    moved = matrices(page)
    assert moved[:2] != measured[:2] and all(each[0] == [10, 0] for each in moved)
    page.text_input(key="detection-slices").set_value("column:language").run()
    assert not page.exception and not page.error
    page.text_input(key="detection-slices").set_value("column:lingo").run()
    assert "there is no column 'lingo'" in page.error[0].value


def matrices(page) -> list[list[list[int]]]:
    """The counts of every confusion matrix on the page."""
    (chart,) = (each for each in page.get("plotly_chart") if "chart-confusion" in each.proto.id)
    heat_maps = json.loads(chart.proto.spec)["data"]
    return [
        [[int(cell.split("<br>")[0].replace("\u2009", "")) for cell in row] for row in each["text"]]
        for each in heat_maps
    ]


def test_slices_by_column_have_their_own_counts(guard_file):
    texts = pd.read_csv(guard_file)
    truth = (texts["label"] == "positive").to_numpy()
    missed = truth & (texts["language"] == "de").to_numpy()
    tables = detections(truth, truth.astype(float), (truth & ~missed).astype(float))
    rows = tables["threshold_example"].assign(text=texts["text"], pair=None)
    measured = evidence(**{**tables, "threshold_example": rows})
    measured.job.experiment["source"] = {"task": str(guard_file)}
    measured = replace(measured, slices=("column:language",))
    table = detection_slices.rates(measured).set_index("slice")
    assert table.loc["language de", "recall"] == 0 and table.loc["language en", "recall"] == 1
    assert table["positives"].sum() == 10 and table["negatives"].sum() == 490
    policy = Policy({"recall_loss": 5}, measured.slices)
    (sentence,) = deployment_check.advice(measured, policy)
    assert "drops most in the slice “language de”: 0 of " in sentence
    refit = (
        "a threshold fitted to the pruned model would detect 100.0% at a false-positive rate of 1%"
    )
    assert sentence.startswith(f"The scores of 'attack' shifted: {refit}")
    refitted = tables["threshold"].assign(threshold=0.4)
    measured = replace(measured, tables=measured.tables | {"threshold": refitted})
    assert "shifted" not in deployment_check.advice(measured, policy)[0]
