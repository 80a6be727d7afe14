"""Failure rates and accuracy of the dense and the pruned model on the same noisy copies.

Copies of one example are dependent, so the bootstrap resamples examples with all their copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..statistics import paired_difference, resampled_means, wilson
from .bounded_metrics import BoundedMetric, clustered_loss
from .evidence import Evidence

ALL = "all"  # all perturbations that should not change the prediction, or all strengths
# value -> column whose mean it is, or two columns whose mean difference it is
RATES = {
    "failure_rate": ("failed",),
    "dense_failure_rate": ("dense_failed",),
    "failure_difference": ("failed", "dense_failed"),
}
ACCURACIES = {
    "accuracy": ("correct",),
    "dense_accuracy": ("dense_correct",),
    "accuracy_difference": ("correct", "dense_correct"),
    "clean_accuracy": ("clean",),
    "dense_clean_accuracy": ("dense_clean",),
}
# accuracy lost by pruning on noisy texts, minus that on the original texts
EXTRA = "loss_difference"
VALUES = (*RATES, *ACCURACIES, EXTRA)
# columns of the table `noise_count`, besides the example
COUNTS = ("text", "copies", "failed", "dense_failed", "correct", "dense_correct")


def columns_of(value: str) -> tuple[str, str, str]:
    """Return the columns of a value and of the ends of its interval."""
    return value, f"{value}_low", f"{value}_high"


def rates(copies: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Return one row per perturbation and strength, and rows over all of them.

    `copies` has one row per noisy text with the columns perturbation, strength, example,
    directional, failed and dense_failed; with labels also correct and dense_correct, and clean and
    dense_clean for the original text. Directional perturbations change labels, so they have no
    accuracy and are not in the rows of all perturbations.
    """
    perturbations = list(dict.fromkeys(copies["perturbation"]))
    strengths = list(dict.fromkeys(copies["strength"]))
    rows = []
    for perturbation in [*perturbations, ALL]:
        of_perturbation = copies["perturbation"] == perturbation
        if perturbation == ALL:
            of_perturbation = ~copies["directional"]
        for strength in [*strengths, *([ALL] if len(strengths) > 1 else [])]:
            of_strength = (copies["strength"] == strength) | (strength == ALL)
            group = copies[of_perturbation & of_strength]
            if len(group):
                names = {"perturbation": perturbation, "strength": strength}
                rows.append(names | _row(group, resamples, seed))
    return pd.DataFrame(rows)


def _row(group: pd.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Return rates of these copies with 95% intervals."""
    n, is_directional = group["example"].nunique(), bool(group["directional"].iloc[0])
    row: dict[str, Any] = {"directional": is_directional, "n": n, "copies": len(group)}
    row |= {column: np.nan for value in VALUES for column in columns_of(value)}
    known = RATES if is_directional or "correct" not in group else RATES | ACCURACIES
    if len(group) == n:
        for value, columns in known.items():
            row |= dict(zip(columns_of(value), _exact(group, columns), strict=True))
    of_copies = {value: _difference(group, columns) for value, columns in known.items()}
    if len(known) > len(RATES):
        clean = _difference(group, ("dense_clean", "clean"))
        of_copies[EXTRA] = _difference(group, ("dense_correct", "correct")) - clean
    sums = pd.DataFrame(of_copies).assign(copies=1.0).groupby(group["example"].to_numpy()).sum()
    samples = resampled_means(sums.to_numpy(float), resamples, seed)
    for place, value in enumerate(of_copies):
        if np.isnan(row[value]):
            observed = float(of_copies[value].mean())
            low, high = np.quantile(samples[:, place] / samples[:, -1], (0.025, 0.975))
            if low == high:  # no variance between examples: use the interval of one copy each
                low, high = _without_spread(observed, n, is_rate=not value.endswith("difference"))
            row |= dict(zip(columns_of(value), (observed, float(low), float(high)), strict=True))
    return row


def _difference(group: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    first, *rest = (group[column].to_numpy(float) for column in columns)
    return first - rest[0] if rest else first


def _exact(group: pd.DataFrame, columns: Sequence[str]) -> tuple[float, float, float]:
    """Return a rate or a paired difference of two rates, for one copy per example."""
    first, *rest = (group[column].to_numpy(bool) for column in columns)
    n = len(group)
    if not rest:
        return float(first.mean()), *wilson(int(first.sum()), n)
    more, fewer = int((first & ~rest[0]).sum()), int((~first & rest[0]).sum())
    return paired_difference(fewer, more, n)


def _without_spread(value: float, n: int, is_rate: bool) -> tuple[float, float]:
    if is_rate:
        return wilson(round(value * n), n)
    _, low, high = paired_difference(0, 0, n)
    return value + low, value + high


def by_example(copies: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Return sums over the copies of each example that should not change the prediction."""
    counted = copies[~copies["directional"]]
    names = [name for name in COUNTS if name in counted.columns.difference(["text"])]
    sums = counted[names].astype(float).groupby(counted["example"]).sum()
    sums.insert(0, "copies", counted.groupby("example").size())
    sums.insert(0, "text", [texts[example] for example in sums.index])
    return sums.reindex(columns=COUNTS).reset_index(names="example")


def noise_loss(measured: Evidence) -> BoundedMetric:
    """Return the accuracy lost on noisy texts, or without labels the increase in failure rate."""
    rows = measured.tables["noise_count"]
    loss = rows["dense_correct"] - rows["correct"]
    if loss.isna().any():
        loss = rows["failed"] - rows["dense_failed"]
    return clustered_loss((loss / rows["copies"].mean()).to_numpy(float))


def examples_to_show(copies: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Return at most `limit` copies: first those on which only one model fails, then both."""
    failures = copies["failed"].astype(int) + copies["dense_failed"].astype(int)
    priority = failures.map({1: 0, 2: 1, 0: 2})
    return copies.loc[priority.sort_values(kind="stable").index[:limit]].sort_index()


def overall(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the table `noise` over all perturbations and strengths."""
    rows = rows[rows["perturbation"] == ALL]
    together = rows[rows["strength"] == ALL]
    return together if len(together) else rows  # a single strength has no row over all strengths
