"""Certificates of randomized smoothing over words, and certified accuracy.

The smoothed classifier predicts the label that the model gives to most copies of a text without
randomly chosen words. A change of d words does not reach a copy in which none of them is left, so
the label's probability p over copies falls by at most Δ, the probability that one is left:

- masking of exactly m of h words, replaced words: Δ = 1 − C(h−d, h−m) / C(h, h−m), which is RanMASK
  (Zeng et al. 2023) with β = 1. The estimated β of the paper is smaller, but is no bound.
- independent deletion at rate q, inserted, deleted and replaced words: Δ = 1 − q^d (RS-Del, Huang
  et al. 2023; CERT-ED, 2024).

A label with p − Δ > 1/2 remains the prediction.
"""

from __future__ import annotations

from math import ceil, log, prod

import numpy as np
import pandas as pd

from ..data.masked_words import DELETE, masked_count
from ..statistics import paired_difference, proportion_bounds
from .bounded_metrics import BoundedMetric, paired_loss
from .evidence import Evidence

ABSTAINS = -1  # radius of a prediction that is not certified at all: the model abstains
VALUES = ("accuracy", "dense_accuracy", "accuracy_difference")


def columns_of(value: str) -> tuple[str, str, str]:
    """Return the columns of a value and of the ends of its 95% interval."""
    return value, f"{value}_low", f"{value}_high"


def reach(words: int, changed: int, rate: float, removal: str) -> float:
    """Return Δ: the largest probability that one of `changed` words is left in a copy."""
    if removal == DELETE:
        return 1 - rate**changed
    masked = masked_count(words, rate)
    if changed > masked:
        return 1.0
    return 1 - prod((masked - i) / (words - i) for i in range(changed))


def radius(probability: float, words: int, rate: float, removal: str) -> int:
    """Return the largest certified number of changed words, ABSTAINS if there is none.

    `probability`: lower bound of the predicted label's probability over copies. 0: the smoothed
    prediction for the text itself is certain, but for no changed text.
    """
    changed = ABSTAINS
    while probability - reach(words, changed + 1, rate, removal) > 0.5:
        changed += 1
    return changed


def largest_radius(rate: float) -> int:
    """Return the number of changed words that no certificate at this rate exceeds.

    It is the largest d with rate^d > 1/2, because Δ is at least 1 − rate^d.
    """
    return ceil(log(0.5) / log(rate) - 1e-9) - 1


def accuracies(examples: pd.DataFrame, largest: int) -> pd.DataFrame:
    """Return certified accuracy with exact (Clopper-Pearson) 95% intervals, paired difference.

    `examples` has one row per example with correct, radius, dense_correct, dense_radius and label.
    One row per number of changed words from 0 to `largest`.
    """
    n, rows = len(examples), []
    for changed in range(largest + 1):
        row: dict[str, float] = {"changed": changed, "n": n}
        dense, pruned = _certified(examples, changed)
        for value, correct in (("accuracy", pruned), ("dense_accuracy", dense)):
            hits = int(correct.sum())
            ends = proportion_bounds(hits, n, alpha=0.025)
            row |= zip(columns_of(value), (hits / n, *ends), strict=True)
        difference = paired_difference(
            int((dense & ~pruned).sum()), int((pruned & ~dense).sum()), n
        )
        row |= zip(columns_of("accuracy_difference"), difference, strict=True)
        for prefix in ("", "dense_"):
            row[f"{prefix}abstained"] = float((examples[f"{prefix}radius"] == ABSTAINS).mean())
        row["most_frequent"] = float(examples["label"].value_counts(normalize=True).iloc[0])
        rows.append(row)
    return pd.DataFrame(rows)


def _certified(examples: pd.DataFrame, changed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return masks (examples,) of correct certified predictions, dense and pruned."""
    dense = examples["dense_correct"] & (examples["dense_radius"] >= changed)
    pruned = examples["correct"] & (examples["radius"] >= changed)
    return dense.to_numpy(bool), pruned.to_numpy(bool)


def _discordant(dense: np.ndarray, pruned: np.ndarray) -> tuple[int, int]:
    """Return the numbers of examples that only the dense, and only the pruned model has."""
    return int((dense & ~pruned).sum()), int((pruned & ~dense).sum())


def certified_loss(measured: Evidence) -> BoundedMetric:
    """Return the certified accuracy lost by pruning, for one changed word."""
    rows = measured.tables["certified_example"]
    return paired_loss(*_discordant(*_certified(rows, changed=1)), len(rows))
