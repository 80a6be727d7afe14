"""Whether the labels were taken in another order than the model was trained with, read off the dense model's own answers.

Pure pandas; knows nothing of models or pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..data.label_pairs import format_pairs
from ..data.labels import is_generic
from ..formatting import percent
from ..statistics import wilson

MOST = 50  # labels among which an order is looked for
LEAD = 0.2  # by how much another order must be better
CHANCE = 1.1  # this one may be right by as many times chance, and no more


class Order(NamedTuple):
    """Another order that the dense model's answers speak for."""

    labels: str  # as --labels takes it
    sentence: str


def better_order(prediction: pd.DataFrame, facts: Mapping[str, Any]) -> Order | None:
    """The order of labels in which the dense model would do far better than chance, where in the one taken it does not."""
    names, meant = list(facts.get("label_names") or ()), facts.get("labels") or {}
    rows = prediction[prediction["label"].notna()] if "label" in prediction else prediction
    if facts.get("kind") != "classification" or not 2 <= len(names) <= MOST or not len(rows) or not meant:
        return None
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (rows["label"].astype(int), rows["dense"].astype(int)), 1)
    n, now = len(rows), counts.trace() / len(rows)
    chance = max(1 / len(names), counts.sum(1).max() / n if now > 1 / len(names) else 0.0)
    if now > CHANCE * chance:
        return None  # as nearly always: before a page pays for scipy
    from scipy.optimize import linear_sum_assignment

    taken = linear_sum_assignment(-counts)[1]
    best = counts[np.arange(len(names)), taken].sum()
    lowest, _ = wilson(int(best), n)
    if best / n < now + LEAD or lowest <= max(chance, counts.sum(1).max() / n):
        return None
    pairs = {value: names[taken[label]] for value, label in meant.items() if value and label is not None}
    return Order(format_pairs(pairs), _sentence(now, best / n, n, pairs, names))


def _sentence(now: float, best: float, n: int, pairs: Mapping[str, str], names: Sequence[str]) -> str:
    order = ", ".join(f"{value} is {label}" for value, label in list(pairs.items())[:8])
    why = "the model's labels have no names to go by" if is_generic(names) else "the labels may have been counted in another order"
    return (f"With labels as they were taken the dense model is right on {percent(now)} of {n:,} examples, no better than "
            f"chance; with {order} it would be right on {percent(best)}: {why}.")  # fmt: skip
