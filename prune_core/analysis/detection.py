"""Detection of one label at a threshold: rates with intervals, ranking metrics, costs, slices.

A score is a probability of the label; an example is detected if its score is at least the
threshold. Arrays and tables in, tables out. Independent of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..statistics import BATCH, paired_difference, proportion_bounds
from .bounded_metrics import BoundedMetric, paired_loss
from .evidence import Evidence

# names of labels that mean "nothing to detect", in lower case with spaces
NEGATIVE_NAMES = {
    *("0", "label 0", "false", "no", "none", "o", "ok", "other"),
    *("safe", "benign", "harmless", "negative", "normal", "clean", "ham", "legit", "neutral"),
}
NEGATIONS = ("not ", "non ", "no ", "un")  # not toxic, non-toxic, no injection, unharmful
FALSE_POSITIVE_RATES = {"tpr_at_fpr_1": 0.01, "tpr_at_fpr_01": 0.001}
RANKING = ("average_precision", "roc_auc", *FALSE_POSITIVE_RATES)
TAIL = 0.025  # of a 95% interval
# false-positive rates on a logarithmic axis, and thresholds of the slider
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
THRESHOLDS = (*STEPS, *(step / 10 for step in range(1, 10)), *(1 - step for step in STEPS[::-1]))


def default_positive(names: Sequence[str]) -> int:
    """Return which of two labels to detect: the one without a negative name, else label 1."""
    plain = [name.lower().replace("_", " ").replace("-", " ") for name in names]
    is_negative = [name in NEGATIVE_NAMES or name.startswith(NEGATIONS) for name in plain]
    return 0 if is_negative == [False, True] else 1


# -- thresholds ------------------------------------------------------------------------------------


def threshold_at_rate(negatives: np.ndarray, rate: float) -> float:
    """Return the lowest threshold that detects at most a fraction `rate` of negative scores."""
    ordered = np.sort(negatives)[::-1]
    allowed = int(rate * len(ordered) + 1e-9)
    if allowed >= len(ordered):
        return 0.0
    boundary = ordered[allowed]  # the highest score that must not be detected
    above = ordered[ordered > boundary]
    return _between(boundary, above[-1] if len(above) else max(1.0, boundary))


def threshold_of_f_beta(truth: np.ndarray, scores: np.ndarray, beta: float) -> float:
    """Return the threshold with the highest F-beta."""
    levels, hits, false_alarms = curve(truth, scores)
    best = int(np.argmax(f_beta(hits, false_alarms, hits[-1] - hits, beta)))
    return _between(levels[best + 1] if best + 1 < len(levels) else 0.0, levels[best])


def _between(low: float, high: float) -> float:
    """Return a threshold above `low` and, if a number lies between them, at most `high`."""
    return float(max((low + high) / 2, np.nextafter(low, np.inf)))


def fitting_rows(truth: np.ndarray, fraction: float, seed: int, with_positives: bool) -> np.ndarray:
    """Return a Boolean mask (examples,) of the held-out rows that fit the threshold.

    It selects a seeded fraction of each class, but never the whole class. A false-positive rate
    depends on negatives only, so no positives are held out for it.
    """
    rng, chosen = np.random.default_rng(seed), np.zeros(len(truth), dtype=bool)
    for is_positive in (False, True) if with_positives else (False,):
        rows = rng.permutation(np.flatnonzero(truth == is_positive))
        chosen[rows[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
    return chosen


# -- metrics ---------------------------------------------------------------------------------------


class DetectionCurve(NamedTuple):
    """Detections with each distinct score as the threshold, highest first; (thresholds,)."""

    threshold: np.ndarray
    hits: np.ndarray  # true positives
    false_alarms: np.ndarray  # false positives


def curve(
    truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> DetectionCurve:
    """Count detections at every threshold.

    `weights` (resamples, examples) is the number of times that each resample contains an example;
    the counts are then (resamples, thresholds).
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.append(ordered[:-1] != ordered[1:], True))  # last of equal scores
    counts = np.ones(len(scores), dtype=int) if weights is None else weights
    hits, false_alarms = (
        np.cumsum((counts * side)[..., order], axis=-1)[..., ends] for side in (truth, ~truth)
    )
    return DetectionCurve(ordered[ends], hits, false_alarms)


def ranking_metrics(
    hits: np.ndarray, false_alarms: np.ndarray, weight: float = 1.0
) -> dict[str, np.ndarray]:
    """Return the metrics of RANKING from the counts of a curve, (..., thresholds).

    `weight` is the weight of each negative, see `compare`.
    """
    recall, rate = hits / hits[..., -1:], false_alarms / false_alarms[..., -1:]
    steps = np.diff(recall, prepend=0.0)
    return {
        "average_precision": (steps * precision(hits, false_alarms, weight)).sum(-1),
        "roc_auc": (np.diff(rate, prepend=0.0) * (recall - steps / 2)).sum(-1),
        **{
            name: np.where(rate <= limit, recall, 0.0).max(-1)
            for name, limit in FALSE_POSITIVE_RATES.items()
        },
    }


def precision(hits: Any, false_alarms: Any, weight: float = 1.0) -> Any:
    """Return the fraction of detections that have the label; 0 if nothing is detected."""
    return hits / np.maximum(1e-12, hits + weight * false_alarms)


def f_beta(hits: Any, false_alarms: Any, missed: Any, beta: float) -> Any:
    """Return F-beta from counts; recall is weighted `beta` times as much as precision."""
    weighted = (1 + beta**2) * hits
    return weighted / np.maximum(1e-12, weighted + beta**2 * missed + false_alarms)


def compare(
    truth: np.ndarray,
    scores: Mapping[str, np.ndarray],
    thresholds: Mapping[str, float],
    *,
    beta: float,
    weight: float,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Return the metrics of the dense and the pruned model on the same examples.

    `scores` and `thresholds` have the keys "dense" and "pruned"; columns of the dense model begin
    with `dense_`. Recall, false-positive rate and precision have exact intervals (Clopper and
    Pearson 1934), ranking metrics stratified bootstrap intervals, and differences intervals of
    Bonett and Price (2012) or of the bootstrap; all 95%. NaN if there are no examples to count.
    Each negative has the weight `weight` in precision, F-beta and average precision, so that
    holding out negatives does not raise them.
    """
    detected = {side: scores[side] >= thresholds[side] for side in scores}
    row: dict[str, float] = {
        "n": len(truth),
        "positives": int(truth.sum()),
        "negatives": int((~truth).sum()),
        "negative_weight": weight,
    }
    for side, prefix in (("dense", "dense_"), ("pruned", "")):
        row |= {
            f"{prefix}{name}": value
            for name, value in rates(truth, detected[side], weight, beta).items()
        }
        row[f"{prefix}threshold"] = thresholds[side]
    for name, rows in (("recall", truth), ("false_positive_rate", ~truth)):
        dense, pruned = (detected[side][rows] for side in ("dense", "pruned"))
        lost, gained = int((dense & ~pruned).sum()), int((~dense & pruned).sum())
        n = len(dense)
        bounds = paired_difference(lost, gained, n) if n else (np.nan,) * 3
        row |= _with_ends(f"{name}_difference", *bounds)
    return row | _ranking(truth, scores, weight, resamples=resamples, seed=seed)


def rates(
    truth: np.ndarray, detected: np.ndarray, weight: float = 1.0, beta: float = 1.0
) -> dict[str, float]:
    """Return the confusion matrix and its rates with exact 95% intervals; see `compare`."""
    hits, missed = int((truth & detected).sum()), int((truth & ~detected).sum())
    false_alarms, passed = int((~truth & detected).sum()), int((~truth & ~detected).sum())
    row: dict[str, float] = {
        "true_positives": hits,
        "false_negatives": missed,
        "false_positives": false_alarms,
        "true_negatives": passed,
        "f_beta": float(f_beta(hits, weight * false_alarms, missed, beta=beta)),
    }
    for name, count, n in (
        ("recall", hits, hits + missed),
        ("false_positive_rate", false_alarms, false_alarms + passed),
    ):
        bounds = proportion_bounds(count, n, TAIL) if n else (np.nan, np.nan)
        row |= _with_ends(name, count / n if n else np.nan, *bounds)
    detections = hits + false_alarms
    shares = [np.nan] * 3
    if detections:
        shares = [hits / detections, *proportion_bounds(hits, detections, TAIL)]
    return row | _with_ends("precision", *(precision(p, 1 - p, weight) for p in shares))


def _with_ends(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _ranking(
    truth: np.ndarray,
    scores: Mapping[str, np.ndarray],
    weight: float,
    *,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Return the metrics of RANKING of both models and their differences; NaN for one class."""
    names = [f"{prefix}{name}" for name in RANKING for prefix in ("dense_", "")]
    names += [f"{name}_difference" for name in RANKING]
    if truth.all() or not truth.any():
        return {key: np.nan for name in names for key in _with_ends(name, *[np.nan] * 3)}
    values = _ranking_values(truth, scores, weight)
    samples = np.concatenate(
        [
            _ranking_values(truth, scores, weight, counts)
            for counts in _stratified_weights(truth, resamples, seed)
        ],
        axis=1,
    )
    low, high = np.quantile(samples, (TAIL, 1 - TAIL), axis=1)
    row: dict[str, float] = {}
    for name, *bounds in zip(names, values[:, 0], low, high, strict=True):
        row |= _with_ends(name, *map(float, bounds))
    return row


def _ranking_values(
    truth: np.ndarray,
    scores: Mapping[str, np.ndarray],
    weight: float,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Return (names, resamples): dense and pruned values of each metric, then the differences."""
    dense, pruned = (
        ranking_metrics(*curve(truth, scores[side], counts)[1:], weight=weight)
        for side in ("dense", "pruned")
    )
    levels = [side[name] for name in RANKING for side in (dense, pruned)]
    rows = np.stack([*levels, *(pruned[name] - dense[name] for name in RANKING)])
    return rows.reshape(len(rows), -1)


def _stratified_weights(truth: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield batches of counts (resamples, examples), with each class resampled on its own."""
    rng, batch = np.random.default_rng(seed), max(1, BATCH // len(truth))
    for start in range(0, resamples, batch):
        weights = np.empty((min(batch, resamples - start), len(truth)), dtype=np.int32)
        for side in (truth, ~truth):
            n = int(side.sum())
            weights[:, side] = rng.multinomial(n, np.full(n, 1 / n), len(weights))
        yield weights


# -- from stored tables ----------------------------------------------------------------------------


def evaluated(rows: pd.DataFrame, thresholds: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluated rows of `threshold_example`, with Boolean columns of the detections.

    Rows that fit the threshold are left out. `thresholds` has the rows of the table `threshold` of
    the same job. New columns: dense_detected, detected.
    """
    rows = rows[~rows["fitted"].astype(bool)]
    at = thresholds.set_index("positive")[["dense_threshold", "threshold"]]
    limits = at.loc[rows["positive"]].to_numpy()
    return rows.assign(
        truth=rows["truth"].astype(bool),
        dense_detected=rows["dense"].to_numpy() >= limits[:, 0],
        detected=rows["pruned"].to_numpy() >= limits[:, 1],
    )


def recall_loss(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the recall loss of each label, paired over the positives."""
    return _costs(measured, of_positives=True)


def false_positive_increase(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the increase of the false-positive rate of each label, paired over the negatives."""
    return _costs(measured, of_positives=False)


def _costs(measured: Evidence, of_positives: bool) -> dict[str, BoundedMetric | str]:
    thresholds = measured.tables["threshold"]
    rows = evaluated(measured.tables["threshold_example"], thresholds)
    return {
        positive if len(thresholds) > 1 else "": cost(
            rows[rows["positive"] == positive], of_positives
        )
        for positive in thresholds["positive"]
    }


def cost(rows: pd.DataFrame, of_positives: bool) -> BoundedMetric | str:
    """Return the recall loss, or the increase of the false-positive rate, of `evaluated` rows."""
    rows = rows[rows["truth"] == of_positives]
    if rows.empty:
        return f"no evaluation example {'has' if of_positives else 'lacks'} this label"
    dense, pruned = rows["dense_detected"], rows["detected"]
    worse, better = int((dense & ~pruned).sum()), int((~dense & pruned).sum())
    return paired_loss(*((worse, better) if of_positives else (better, worse)), len(rows))


def slice_table(rows: pd.DataFrame, masks: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the rates of both models in each slice, from the `evaluated` rows of one label."""
    truth, dense, pruned = (
        rows[name].to_numpy(bool) for name in ("truth", "dense_detected", "detected")
    )
    records = []
    for name, chosen in masks.items():
        before, after = (rates(truth[chosen], side[chosen]) for side in (dense, pruned))
        records.append(
            {
                "slice": name,
                "positives": int(truth[chosen].sum()),
                "negatives": int((~truth[chosen]).sum()),
                **{f"dense_{key}": value for key, value in before.items()},
                **after,
            }
        )
    return pd.DataFrame(records)
