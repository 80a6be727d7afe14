"""Metrics of rankings of a whole collection against relevance judgements.

Unlike `ranking.py`, where all candidates of a query are known, a ranking may miss relevant
documents: these count in the ideal ranking and in denominators. Documents without a judgement and
grades below 0 count as grade 0; grades above 0 are relevant. Values equal those of trec_eval, also
for queries without a relevant document, whose values are 0.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd


class Judged(NamedTuple):
    """Judgements of one query."""

    documents: np.ndarray  # (judged,) int64 positions of documents in the collection, distinct
    grades: np.ndarray  # (judged,) float


# (grades in ranking order, all judged grades) -> value; grades are at least 0
RankingMetric = Callable[[np.ndarray, np.ndarray], float]


def ranked_grades(ranking: Sequence[int] | np.ndarray, judged: Judged) -> np.ndarray:
    """Return the grade of each document of a ranking, (depth,); 0 if it is not judged.

    `ranking` holds document positions, the best first; -1 fills places without a document.
    """
    grade_of = dict(zip(judged.documents.tolist(), judged.grades.tolist(), strict=True))
    return np.array([max(grade_of.get(int(place), 0.0), 0.0) for place in ranking], dtype=float)


def ndcg_at(
    ranked: np.ndarray, judged: np.ndarray, k: int = 10, exponential: bool = False
) -> float:
    """Normalized discounted cumulative gain of the first k.

    The gain is the grade (Järvelin and Kekäläinen 2002, as in trec_eval) or, if `exponential`,
    2^grade - 1 (Burges et al. 2005). The ideal ranking holds all judged documents.
    """
    ideal = np.sort(np.maximum(judged, 0.0))[::-1][:k]
    best = _discounted(ideal, exponential)
    return _discounted(ranked[:k], exponential) / best if best else 0.0


def mrr_at(ranked: np.ndarray, judged: np.ndarray, k: int = 10) -> float:
    """1 / rank of the first relevant document; 0 if there is none among the first k."""
    places = np.flatnonzero(ranked[:k] > 0)
    return 1.0 / (places[0] + 1) if len(places) else 0.0


def recall_at(ranked: np.ndarray, judged: np.ndarray, k: int = 10) -> float:
    """Fraction of the relevant documents that are among the first k."""
    relevant = int((judged > 0).sum())
    return float((ranked[:k] > 0).sum() / relevant) if relevant else 0.0


def mean_precision(ranked: np.ndarray, judged: np.ndarray) -> float:
    """Average precision: precision at each relevant document of the ranking, 0 at missing ones."""
    relevant = int((judged > 0).sum())
    places = np.flatnonzero(ranked > 0)
    precision = np.arange(1, len(places) + 1) / (places + 1)
    return float(precision.sum() / relevant) if relevant else 0.0


RETRIEVAL_METRICS: Mapping[str, RankingMetric] = {
    "ndcg_at_10": ndcg_at,
    "mrr_at_10": mrr_at,
    "recall_at_10": recall_at,
    "recall_at_100": partial(recall_at, k=100),
    "map": mean_precision,
}


def values_by_query(
    rankings: Sequence[Sequence[int]] | np.ndarray,
    judgements: Sequence[Judged],
    metrics: Mapping[str, RankingMetric] = RETRIEVAL_METRICS,
) -> pd.DataFrame:
    """Return one row per query and one column per metric, fractions.

    `rankings` (queries, depth) holds document positions; `map` covers the given depth.
    """
    rows = []
    for ranking, judged in zip(rankings, judgements, strict=True):
        ranked = ranked_grades(ranking, judged)
        rows.append({name: metric(ranked, judged.grades) for name, metric in metrics.items()})
    return pd.DataFrame(rows, columns=list(metrics), dtype=float)


def overlap_at(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """(queries,): fraction of the first k documents that two rankings (queries, depth) share.

    k is at most the depth of the shallower ranking. -1 fills places without a document.
    """
    k = min(k, first.shape[1], second.shape[1])
    shared = [
        len(({*map(int, one[:k])} & {*map(int, other[:k])}) - {-1})
        for one, other in zip(first, second, strict=True)
    ]
    return np.array(shared, dtype=float) / max(k, 1)


def _discounted(grades: np.ndarray, exponential: bool) -> float:
    gains = np.exp2(grades) - 1 if exponential else grades
    return float((gains / np.log2(np.arange(2, len(gains) + 2))).sum())
