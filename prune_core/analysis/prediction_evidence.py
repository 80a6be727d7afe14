"""Evidence from predictions: loss of accuracy, agreement, calibration error, slices."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import formatting as f
from ..statistics import paired_bounds
from ..tasks import METRICS, TASK_TYPES, units, values_for
from . import slices
from .bounded_metrics import (
    BoundedMetric,
    bootstrapped,
    paired_loss,
    proportion,
    relative_loss,
    resample,
)
from .calibration import signed_root, squared_calibration_error
from .evidence import Evidence

CHURN = 0.03  # typical fraction of changed predictions at no loss, half broken and half fixed
CALIBRATION_SPREAD = 1.4  # divided by n: bound of the change of the squared calibration error
WIDENING = 1.15  # in simulations, bounds of the calibration error are about a tenth too narrow
PROPORTIONS = ("accuracy", "binary_accuracy", "exact_match", "subset_accuracy")


def accuracy_loss(measured: Evidence) -> BoundedMetric | str:
    """Return the loss of the task's metric; without labels, at most the changed predictions."""
    rows = measured.tables["prediction"]
    if not measured.is_labelled:
        changed = disagreement(measured)
        if isinstance(changed, str):
            return changed
        return BoundedMetric(
            np.nan,
            changed.n,
            lambda alpha: (-np.inf, changed.bounds(alpha)[1]),
            detail="no labels: accuracy drops at most by the percentage of changed predictions",
        )
    if measured.metric in PROPORTIONS:
        dense, pruned = _correct(measured)
        return paired_loss(int((dense & ~pruned).sum()), int((~dense & pruned).sum()), len(rows))
    resamples = _paired_metrics(measured.metric, rows)
    row = measured.tables["accuracy"].iloc[0]
    loss = float(row["dense_score"] - row["score"])
    return bootstrapped(loss, resamples[:, 0] - resamples[:, 1], _sample_size(measured))


def relative_accuracy_loss(measured: Evidence) -> BoundedMetric | str:
    """Return the loss of the task's metric as a fraction of the dense model's value."""
    rows = measured.tables["prediction"]
    if not measured.is_labelled:
        return (
            "a percentage of the dense metric needs labels; set a label column, or limit "
            "agreement instead"
        )
    if measured.metric in PROPORTIONS:
        dense, pruned = _correct(measured)
        return relative_loss(
            int((dense & ~pruned).sum()),
            int((~dense & pruned).sum()),
            correct=int(dense.sum()),
            n=len(rows),
        )
    resamples = _paired_metrics(measured.metric, rows)
    row = measured.tables["accuracy"].iloc[0]
    if row["dense_score"] <= 0 or (resamples[:, 0] <= 0).any():
        return "the dense model's metric is not clearly above 0; limit accuracy_loss instead"
    return bootstrapped(
        1 - float(row["score"] / row["dense_score"]),
        1 - resamples[:, 1] / resamples[:, 0],
        _sample_size(measured),
    )


def _sample_size(measured: Evidence) -> int:
    """Return the number of queries or examples that the task's metric averages over."""
    rows = measured.tables["prediction"]
    return rows["text"].nunique() if METRICS[measured.metric].by_query else len(rows)


def decidable_loss(n: int, alpha: float = 0.05, churn: float = CHURN) -> float:
    """Return the loss that n examples rule out if as many predictions are broken as fixed."""
    changed = round(churn / 2 * n)
    return paired_loss(changed, changed, n).bounds(alpha)[1]


def power_sentence(n: int, metric: str) -> str:
    """State the smallest loss that n examples can rule out; "" if unknown for the metric."""
    if metric not in PROPORTIONS or not n:
        return ""
    points = f"{100 * decidable_loss(n):.1f} points"
    return (
        f"{f.plural(n, 'example')} can rule out a loss of more than {points} of "
        f"{f.inline(METRICS[metric].title)} if pruning changes {CHURN:.0%} of the predictions and "
        "breaks as many as it fixes."
    )


def decidable_accuracy_loss(measured: Evidence) -> float:
    """Return `decidable_loss` for the evaluation examples."""
    return decidable_loss(_sample_size(measured), measured.alpha)


def decidable_disagreement(measured: Evidence) -> float:
    """Return the fraction of changed predictions that the sample rules out if CHURN change."""
    n = len(measured.tables["prediction"])
    return proportion(round(CHURN * n), n).bounds(measured.alpha)[1]


def decidable_slice_loss(measured: Evidence) -> float:
    """Return `decidable_loss` of the smallest slice, with twice the churn, as for a worst slice."""
    table = slice_table(measured)
    return 0.0 if table.empty else decidable_loss(int(table["n"].min()), measured.alpha, 2 * CHURN)


def decidable_calibration_error(measured: Evidence) -> float:
    """Return the increase of the calibration error that is ruled out if there is none.

    The standard error of its square falls as 1/n (measured in simulations).
    """
    return float(np.sqrt(CALIBRATION_SPREAD / len(measured.tables["prediction"])))


def _paired_metrics(name: str, rows: pd.DataFrame) -> np.ndarray:
    """Return (resamples, 2): the task's metric of both models on resampled examples or queries."""
    metric, labels = METRICS[name], list(rows["label"])
    if metric.counts is not None and metric.of_counts is not None:
        of_counts = metric.of_counts
        dense, pruned = (metric.counts(labels, list(rows[side])) for side in ("dense", "pruned"))
        return resample(lambda _, counts: of_counts(counts.sum(0)), dense, dense, pruned)
    if "dense_f1" in rows:  # spans have one F1 per answer
        dense, pruned = (rows[f"{side}_f1"].to_numpy() for side in ("dense", "pruned"))
        return resample(lambda _, scores: float(scores.mean()), dense, dense, pruned)
    values = [
        values_for(name, list(rows[side]), list(rows.get(f"{side}_probabilities", ())))
        for side in ("dense", "pruned")
    ]
    if metric.by_query and metric.single is not None:
        queries, single = list(rows["text"]), metric.single
        dense, pruned = (
            np.array([*map(single, *units(name, labels, side, queries))]) for side in values
        )
        return resample(lambda _, scores: float(scores.mean()), dense, dense, pruned)
    return resample(metric.compute, np.array(labels), *map(np.array, values))


def _correct(measured: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Return (examples,) whether the dense and the pruned model are correct."""
    rows, predictions = measured.tables["prediction"], measured.prediction_type
    dense, pruned = (
        predictions.stored_correct(rows["label"], rows[side]) for side in ("dense", "pruned")
    )
    return dense, pruned


def _same_predictions(measured: Evidence) -> np.ndarray:
    """Return (examples,) whether both models predict the same."""
    rows = measured.tables["prediction"]
    return measured.prediction_type.is_same(rows["dense"], rows["pruned"])


def disagreement(measured: Evidence) -> BoundedMetric | str:
    """Return the fraction of predictions that differ from the dense model's."""
    if not measured.prediction_type.is_discrete:
        return "scores are never exactly equal; remove the limit on agreement"
    agrees = _same_predictions(measured)
    return proportion(int((~agrees).sum()), len(agrees))


def calibration_error(measured: Evidence) -> BoundedMetric | str:
    """Return the increase of the calibration error."""
    rows = measured.tables["prediction"]
    if not TASK_TYPES[measured.kind].is_single_label:
        return "calibration needs class probabilities; remove this limit"
    if not measured.is_labelled:
        return "calibration needs labels; remove this limit or name a label column"
    labels = rows["label"].to_numpy(int)
    dense, pruned = (
        np.array([*rows[f"{side}_probabilities"]], dtype=float) for side in ("dense", "pruned")
    )
    if np.isnan(pruned).any():
        return "the predictions have no probabilities; remove this limit"
    value = squared_calibration_error(labels, pruned) - squared_calibration_error(labels, dense)
    resamples = resample(squared_calibration_error, labels, dense, pruned)
    changes = resamples[:, 1] - resamples[:, 0]
    # every resample adds the bias by chance again, so changes are centered
    metric = bootstrapped(
        value, value + WIDENING * (changes - changes.mean()), len(rows), min_examples=0.0
    )

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = metric.bounds(alpha)
        return signed_root(low), signed_root(high)

    return BoundedMetric(signed_root(value), len(rows), bounds)


def slice_table(measured: Evidence) -> pd.DataFrame:
    """Return the loss of each slice, worst bound first; empty without labels or for regression."""
    rows = measured.tables["prediction"]
    if rows.empty or not measured.prediction_type.is_discrete or not measured.is_labelled:
        return pd.DataFrame()
    masks = slices.slice_masks(
        rows,
        measured.slices,
        measured.prediction_type,
        names=measured.label_names,
        source=measured.job.experiment["source"],
    )
    table = slices.slice_verdicts(masks, *_correct(measured), alpha=measured.alpha)
    return table if table.empty else table.sort_values("low", kind="stable", ignore_index=True)


def worst_slice(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the loss of the slice with the worst bound: if it meets the limit, all slices do."""
    table = slice_table(measured)
    if table.empty:
        return {"": "no slice has labels and predictions that are correct or incorrect"}
    worst = table.iloc[0]
    loss = paired_loss(int(worst["broken"]), int(worst["fixed"]), int(worst["n"]))

    def bounds(alpha: float) -> tuple[float, float]:
        # a violation must hold after correction for all slices
        return _largest_certain_loss(table, alpha / len(table)), loss.bounds(alpha)[1]

    return {str(worst["slice"]): loss._replace(bounds=bounds)}


def _largest_certain_loss(table: pd.DataFrame, alpha: float) -> float:
    """Return the largest lower bound of the loss of any slice."""
    return max(
        -paired_bounds(int(broken), int(fixed), int(n), alpha=alpha)[1]
        for broken, fixed, n in zip(table["broken"], table["fixed"], table["n"], strict=True)
    )


def flipped_predictions(measured: Evidence) -> pd.DataFrame:
    """Return examples that pruning broke or fixed, or without labels those that changed.

    Columns of `prediction`, and `what`: "broken", "fixed" or "changed".
    """
    rows = measured.tables["prediction"]
    if rows.empty or not measured.prediction_type.is_discrete:
        return pd.DataFrame()
    if not measured.is_labelled:
        return rows[~_same_predictions(measured)].assign(what="changed")
    dense, pruned = _correct(measured)
    what = np.where(dense & ~pruned, "broken", np.where(~dense & pruned, "fixed", ""))
    return rows.assign(what=what)[what != ""]
