"""Accuracy and attack success of a group of examples compared with the rest of the sample."""

from collections.abc import Collection
from math import sqrt
from typing import NamedTuple

import pandas as pd

from ..statistics import wilson
from .attack_success import ATTACKED


class Contrast(NamedTuple):
    """A rate inside a group and outside it; the difference is inside minus outside."""

    inside: float
    n: int
    outside: float
    n_outside: int
    low: float  # 95% interval of the difference
    high: float
    p_value: float  # Fisher's exact test


def contrast(hits: pd.Series, chosen: pd.Series) -> Contrast | None:
    """Compare the rates of two disjoint groups (Newcombe 1998); None if one is empty."""
    from scipy.stats import fisher_exact

    inside_hits, inside_n = int(hits[chosen].sum()), int(chosen.sum())
    outside_hits, outside_n = int(hits[~chosen].sum()), int((~chosen).sum())
    if not inside_n or not outside_n:
        return None
    p, q = inside_hits / inside_n, outside_hits / outside_n
    (low_p, high_p), (low_q, high_q) = (
        wilson(inside_hits, inside_n),
        wilson(outside_hits, outside_n),
    )
    table = [
        [inside_hits, inside_n - inside_hits],
        [outside_hits, outside_n - outside_hits],
    ]
    return Contrast(
        p,
        inside_n,
        q,
        n_outside=outside_n,
        low=p - q - sqrt((p - low_p) ** 2 + (high_q - q) ** 2),
        high=p - q + sqrt((high_p - p) ** 2 + (q - low_q) ** 2),
        p_value=float(fisher_exact(table).pvalue),
    )


def is_ambiguous(rows: pd.DataFrame, examples: Collection[int]) -> bool:
    """Whether an example number refers to different texts for different models.

    This happens if models are evaluated on different samples (another seed or size).
    """
    if rows.empty:
        return False
    chosen = rows[rows["example"].isin(list(examples))]
    return bool(chosen.groupby("example")["text"].nunique().gt(1).any())


def is_correct(predictions: pd.DataFrame, examples: Collection[int]) -> Contrast | None:
    """Compare the accuracy of one job; None without labels or for other task types."""
    known = predictions.dropna(subset="label") if len(predictions) else predictions
    if known.empty or not pd.api.types.is_integer_dtype(known["pruned"]):
        return None
    return contrast(known["pruned"] == known["label"], known["example"].isin(list(examples)))


def attack_succeeded(attacks: pd.DataFrame, examples: Collection[int]) -> dict[str, Contrast]:
    """Compare the attack success of one job by recipe, over correctly classified examples."""
    if attacks.empty:
        return {}
    contrasts = {
        str(recipe): contrast(rows["outcome"] == "success", rows["example"].isin(list(examples)))
        for recipe, rows in attacks[attacks["outcome"].isin(ATTACKED)].groupby("recipe", sort=False)
    }
    return {recipe: result for recipe, result in contrasts.items() if result}
