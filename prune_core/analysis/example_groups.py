"""A group of examples against the rest of the sample: how often a model is right, and how often it is fooled."""

from __future__ import annotations

from collections.abc import Collection
from math import sqrt
from typing import NamedTuple

import pandas as pd

from ..statistics import wilson
from .attack_success import ATTACKED


class Contrast(NamedTuple):
    """A share inside the group and outside it; the difference is inside minus outside."""

    inside: float
    n: int
    outside: float
    n_outside: int
    low: float  # 95% interval of the difference
    high: float
    p_value: float  # Fisher's exact test


def contrast(hits: pd.Series, chosen: pd.Series) -> Contrast | None:
    """Two shares of different examples (Newcombe 1998, from Wilson's intervals); None where a side is empty."""
    from scipy.stats import fisher_exact

    a, n, b, m = (
        int(value)
        for value in (hits[chosen].sum(), chosen.sum(), hits[~chosen].sum(), (~chosen).sum())
    )
    if not n or not m:
        return None
    p, q = a / n, b / m
    (low_p, high_p), (low_q, high_q) = wilson(a, n), wilson(b, m)
    low, high = (
        p - q - sqrt((p - low_p) ** 2 + (high_q - q) ** 2),
        p - q + sqrt((high_p - p) ** 2 + (q - low_q) ** 2),
    )
    return Contrast(
        p,
        n,
        q,
        n_outside=m,
        low=low,
        high=high,
        p_value=float(fisher_exact([[a, n - a], [b, m - b]]).pvalue),
    )


def is_ambiguous(rows: pd.DataFrame, examples: Collection[int]) -> bool:
    """Whether one of these example numbers is a different text for different models.

    Models evaluated on different samples (another seed or size) number different texts alike.
    """
    if rows.empty:
        return False
    chosen = rows[rows["example"].isin(list(examples))]
    return bool(chosen.groupby("example")["text"].nunique().gt(1).any())


def is_correct(predictions: pd.DataFrame, examples: Collection[int]) -> Contrast | None:
    """Accuracy of one job's rows of `prediction`; None where there are no labels or answers are not right or wrong."""
    known = predictions.dropna(subset="label") if len(predictions) else predictions
    if known.empty or not pd.api.types.is_integer_dtype(known["pruned"]):
        return None
    return contrast(known["pruned"] == known["label"], known["example"].isin(list(examples)))


def attack_succeeded(attacks: pd.DataFrame, examples: Collection[int]) -> dict[str, Contrast]:
    """Attack success by recipe, of one job's rows of `attack_example`; examples the model got wrong to begin with are left out."""
    if attacks.empty:
        return {}
    tried = attacks[attacks["outcome"].isin(ATTACKED)]
    found = {
        str(recipe): contrast(own["outcome"] == "success", own["example"].isin(list(examples)))
        for recipe, own in tried.groupby("recipe", sort=False)
    }
    return {recipe: each for recipe, each in found.items() if each}
