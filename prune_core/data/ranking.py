"""Metrics of one ranking: the relevance grades of a query's candidates and a model's scores.

Candidates with equal scores are ranked with the least relevant first, so that a model with constant
outputs gets no credit for the order of the file. Without ties, values equal those of trec_eval;
see `retrieval_metrics.py`.
"""

from collections.abc import Sequence

import numpy as np

from .retrieval_metrics import mean_precision, mrr_at, ndcg_at


def ranked(grades: Sequence[float], scores: Sequence[float]) -> np.ndarray:
    """Return the grades in the order of descending scores, (candidates,) float."""
    relevance = np.maximum(np.asarray(grades, dtype=float), 0.0)
    return relevance[np.lexsort((relevance, -np.asarray(scores, dtype=float)))]


def ndcg(grades: Sequence[float], scores: Sequence[float], k: int = 10) -> float:
    """Normalized discounted cumulative gain of the first k; 0 without a relevant candidate."""
    return ndcg_at(ranked(grades, scores), np.asarray(grades, dtype=float), k)


def reciprocal_rank(grades: Sequence[float], scores: Sequence[float], k: int = 10) -> float:
    """1 / rank of the first relevant candidate; 0 if there is none among the first k."""
    return mrr_at(ranked(grades, scores), np.asarray(grades, dtype=float), k)


def average_precision(grades: Sequence[float], scores: Sequence[float]) -> float:
    """Mean precision at the ranks of the relevant candidates; 0 if there is none."""
    return mean_precision(ranked(grades, scores), np.asarray(grades, dtype=float))
