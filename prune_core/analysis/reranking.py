"""Rankings of candidates by a pruned reranker, by the dense one, and by the first stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..data.ranking import ndcg, reciprocal_rank
from ..statistics import resampled_means
from ..tasks import units, values_for
from .bounded_metrics import RESAMPLES, BoundedMetric, bootstrapped

METRIC = "ndcg_at_10"
METRICS = {METRIC: ndcg, "mrr_at_10": reciprocal_rank}
FIRST, TAU = "first_stage_", "tau"


class RankingComparison(NamedTuple):
    """Quality of the pruned model's rankings, compared with the first stage and the dense model.

    `by_query`: one row per query with the columns query (its place among the queries), candidates,
    each metric, `first_stage_` and the metric, and tau. `table`: one row with their means over n
    queries and, for each metric, `_difference` from the first stage; `_low` and `_high` are 95%
    intervals. Fractions; NaN without a first stage.
    """

    table: pd.DataFrame
    by_query: pd.DataFrame


def compare_rankings(
    predictions: pd.DataFrame,
    first_stage: Sequence[float] | None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RankingComparison:
    """Compare rankings from the table `prediction`, whose rows are candidates of queries.

    `first_stage`: the score of each row by the first stage, the best is the highest.
    """
    columns = {name: list(predictions[name]) for name in predictions}
    dense, pruned = (
        values_for(METRIC, columns[side], columns[f"{side}_probabilities"])
        for side in ("dense", "pruned")
    )
    first = [np.nan] * len(predictions) if first_stage is None else list(first_stage)
    scores = list(zip(dense, pruned, first, strict=True))
    of_queries = units(METRIC, columns["label"], scores, columns["text"])
    by_query = pd.DataFrame(
        {"query": place, **_values(grades, *zip(*found, strict=True))}
        for place, (grades, found) in enumerate(zip(*of_queries, strict=True))
    )
    return RankingComparison(pd.DataFrame([_summary(by_query, resamples, seed)]), by_query)


def _values(
    grades: Sequence[float],
    dense: Sequence[float],
    pruned: Sequence[float],
    first: Sequence[float],
) -> dict[str, float]:
    """Return the values of one query."""
    is_known = not np.isnan(first).any()
    row: dict[str, float] = {"candidates": len(grades)}
    for name, metric in METRICS.items():
        row[name] = metric(grades, pruned)
        row[f"{FIRST}{name}"] = metric(grades, first) if is_known else np.nan
    return row | {TAU: kendall_tau(dense, pruned)}


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two models' scores of the same candidates.

    1 for a single candidate; 0 if only equal scores leave an order undefined.
    """
    from scipy.stats import kendalltau

    if len(first) < 2:
        return 1.0
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(kendalltau(first, second).statistic)


def _summary(by_query: pd.DataFrame, resamples: int, seed: int) -> dict[str, float]:
    values = by_query[[TAU, *METRICS, *(f"{FIRST}{name}" for name in METRICS)]].copy()
    for name in METRICS:
        values[f"{name}_difference"] = values[name] - values[f"{FIRST}{name}"]
    means = resampled_means(values.to_numpy(), resamples, seed)
    lows, highs = np.quantile(means, (0.025, 0.975), axis=0)
    row = {"n": len(by_query), "candidates": float(by_query["candidates"].mean())}
    for column, low, high in zip(values, lows, highs, strict=True):
        row |= {column: float(values[column].mean())}
        row |= {f"{column}_low": float(low), f"{column}_high": float(high)}
    return row


def first_stage_loss(by_query: pd.DataFrame, metric: str = METRIC) -> BoundedMetric | str:
    """Return how far the pruned model is below the first stage, with bounds over queries."""
    loss = (by_query[f"{FIRST}{metric}"] - by_query[metric]).to_numpy()
    if np.isnan(loss).any():
        return (
            "the order of the first stage is unknown; add a column rank to the data, or remove "
            "this limit"
        )
    return _bounded(loss)


def order_change(by_query: pd.DataFrame) -> BoundedMetric:
    """Return 1 - Kendall's tau with the dense model, mean over queries, with bounds."""
    return _bounded(1 - by_query[TAU].to_numpy())


def _bounded(values: np.ndarray) -> BoundedMetric:
    resamples = resampled_means(values[:, None], RESAMPLES, seed=0)[:, 0]
    return bootstrapped(float(values.mean()), resamples, len(values))
