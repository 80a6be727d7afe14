"""Metrics of one ranking: the relevance grades of a query's candidates and a model's scores.

Candidates with equal scores are ranked with the least relevant first, so that a model with constant
outputs gets no credit for the order of the file. Without ties, values equal those of trec_eval
(Järvelin and Kekäläinen 2002 for nDCG, with the grade as gain).
"""

from collections.abc import Callable, Sequence

import numpy as np


def ranked(grades: Sequence[float], scores: Sequence[float]) -> np.ndarray:
    """Return the grades in the order of descending scores, (candidates,) float."""
    relevance = np.maximum(np.asarray(grades, dtype=float), 0.0)
    return relevance[np.lexsort((relevance, -np.asarray(scores, dtype=float)))]


def ndcg(grades: Sequence[float], scores: Sequence[float], k: int = 10) -> float:
    """Normalized discounted cumulative gain of the first k; 0 without a relevant candidate."""
    ideal = np.sort(np.maximum(np.asarray(grades, dtype=float), 0.0))[::-1]
    best = _discounted(ideal[:k])
    return _discounted(ranked(grades, scores)[:k]) / best if best else 0.0


def reciprocal_rank(grades: Sequence[float], scores: Sequence[float], k: int = 10) -> float:
    """1 / rank of the first relevant candidate; 0 if there is none among the first k."""
    places = np.flatnonzero(ranked(grades, scores)[:k] > 0)
    return 1.0 / (places[0] + 1) if len(places) else 0.0


def average_precision(grades: Sequence[float], scores: Sequence[float]) -> float:
    """Mean precision at the ranks of the relevant candidates; 0 if there is none."""
    places = np.flatnonzero(ranked(grades, scores) > 0)
    return float(np.mean(np.arange(1, len(places) + 1) / (places + 1))) if len(places) else 0.0


def mean_over_queries(
    single: Callable[[Sequence[float], Sequence[float]], float],
) -> Callable[[Sequence[Sequence[float]], Sequence[Sequence[float]]], float]:
    """Return the metric of several queries: the mean of their values."""
    return lambda grades, scores: float(
        np.mean([single(*query) for query in zip(grades, scores, strict=True)])
    )


def _discounted(gains: np.ndarray) -> float:
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
