"""Retrieval: ranking quality with the old index and after re-embedding, and which one to choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis.bounded_metrics import BoundedMetric
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion, embeddings, without_scores
from ..analysis.evidence import Evidence
from ..analysis.index_compatibility import (
    BASELINE,
    KEPT,
    KEPT_ALIGNED,
    REEMBEDDED,
    Cell,
    index_loss,
    index_verdict,
)
from ..analysis.index_vectors import METRICS as VECTOR_METRICS
from ..analysis.quantities import Quantity, Value, single_value, with_interval
from ..analysis.seeds import ONE_SEED, Averaging, seed_note
from ..analysis.takeaways import (
    difference_words,
    most_pruned,
    pruned_models,
    rows_of,
    sentence_name,
)
from ..data.retrieval_metrics import RETRIEVAL_METRICS
from .base import Chart, MeasureView, Tables, has_pruned

METRIC = "ndcg_at_10"
LIMIT = 1.0  # points of nDCG@10
KEEPING = "index_keeping_loss"  # the criterion that decides whether to keep the index


def _intervals(metrics: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
    """Return the columns of each metric and of its difference from the dense model."""
    names = [value for name in metrics for value in (name, f"{name}_difference")]
    return tuple((name, f"{name}_low", f"{name}_high") for name in names)


def cell_rows(rows: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    """Return the row of a cell; of the dense model, which has a single one, that row."""
    chosen = rows[(rows["queries"] == cell.queries) & (rows["index"] == cell.index)]
    return chosen if len(chosen) else rows.iloc[:1]


def _quality(rows: pd.DataFrame, cell: Cell) -> Value:
    """Return nDCG@10 with its interval."""
    return with_interval(cell_rows(rows, cell), METRIC, f"{METRIC}_low", high=f"{METRIC}_high")


def _similarity(rows: pd.DataFrame, column: str) -> Value:
    return single_value(cell_rows(rows, KEPT), column)


QUANTITIES = (
    Quantity(
        "ndcg_old_index",
        "nDCG@10, old index",
        "nDCG@10 on the dense index",
        table="retrieval",
        read=partial(_quality, cell=KEPT),
        show=f.percent,
        better="higher",
        gloss="Ranking quality if the pruned model embeds the queries and the dense model's index "
        "is kept: normalized discounted cumulative gain of the first 10 documents.",
        tick=".0%",
    ),
    Quantity(
        "ndcg_reembedded",
        "nDCG@10, re-embedded",
        "nDCG@10 on the pruned index",
        table="retrieval",
        read=partial(_quality, cell=REEMBEDDED),
        show=f.percent,
        better="higher",
        gloss="Ranking quality if the pruned model embeds queries and documents: normalized "
        "discounted cumulative gain of the first 10 documents.",
        tick=".0%",
    ),
    Quantity(
        "index_overlap",
        "Top 10 kept",
        "Top-10 overlap with dense, old index",
        table="retrieval",
        read=partial(_similarity, column="overlap_at_10"),
        show=f.percent,
        better="higher",
        gloss="Percentage of the dense model's first 10 documents that pruned queries find on the "
        "dense index.",
        tick=".0%",
    ),
    Quantity(
        "query_cosine",
        "Query cosine",
        "Mean cosine of pruned and dense queries",
        table="retrieval",
        read=partial(_similarity, column="query_cosine"),
        show=f.plain,
        better="higher",
        gloss="Mean cosine between pruned and dense embeddings of the queries.",
        tick=".2~f",
    ),
)


def _old_index_loss(measured: Evidence) -> BoundedMetric:
    return index_loss(measured.tables["retrieval_query"], METRIC, KEPT, reference=BASELINE)


def _keeping_loss(measured: Evidence) -> BoundedMetric:
    return index_loss(measured.tables["retrieval_query"], METRIC, KEPT, reference=REEMBEDDED)


_index_criterion = partial(
    Criterion,
    measure="retrieval",
    table="retrieval_query",
    default=LIMIT,
    high=100,
    units="queries",
    supports=embeddings,
    is_default_for=without_scores,
)
CRITERIA = (
    _index_criterion(
        "old_index_loss",
        "nDCG@10 loss with the old index",
        "Largest drop of nDCG@10 below the dense model, for pruned queries on the dense index",
        "points",
        evidence=_old_index_loss,
    ),
    _index_criterion(
        KEEPING,
        "nDCG@10 loss of keeping the index",
        "Largest drop of nDCG@10 from re-embedding the documents to keeping the dense index",
        "points",
        evidence=_keeping_loss,
    ),
)


def _takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State whether the best of the most pruned models can keep the index."""
    rows, by_query = tables["retrieval"], tables.get("retrieval_query", pd.DataFrame())
    shown = [
        model for model in most_pruned(pruned_models(rows, models)) if len(rows_of(by_query, model))
    ]
    if not shown:
        return ""
    best = max(shown, key=lambda model: _quality(rows_of(rows, model), KEPT)[0])
    verdict = _verdict(rows_of(by_query, best), LIMIT)
    row = cell_rows(rows_of(rows, best), KEPT).iloc[0]
    value, low, high = (row[f"{METRIC}_difference{end}"] for end in ("", "_low", "_high"))
    which = f"{sentence_name(best)}{f', {note}' if (note := seed_note([best])) else ''}"
    return (
        f"{which}. {verdict} With the old index, nDCG@10 is "
        f"{difference_words(value, low, high, row['n'])}."
    )


def _advice(measured: Evidence, limits: Mapping[str, float]) -> str:
    """State whether the index can be kept, by the policy's limit on the loss of keeping it."""
    limit = limits.get(KEEPING, LIMIT)
    return _verdict(measured.tables["retrieval_query"], limit, alpha=measured.alpha)


def _verdict(by_query: pd.DataFrame, limit: float, alpha: float = 0.05) -> str:
    """State whether the index can be kept and, if measured, whether rotated queries can use it."""
    test = partial(index_verdict, by_query, limit, metric=METRIC, alpha=alpha)
    sentence = test().sentence
    if (by_query["queries"] == KEPT_ALIGNED.queries).any():
        sentence += f" With pruned queries rotated: {test(cell=KEPT_ALIGNED).sentence}"
    return sentence


def charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    """Draw quality by index and by size of the index vectors."""
    from .. import plots

    if has_pruned(models) and len(tables["retrieval"]):
        figure = plots.index_cells(tables["retrieval"], models, dark=dark)
        yield Chart(plots.INDEX_CELLS.title, plots.INDEX_CELLS.gloss, figure)
    if len(vectors := tables.get("retrieval_vectors", pd.DataFrame())):
        figure = plots.index_vectors(vectors, models, dark=dark)
        yield Chart(plots.INDEX_VECTORS.title, plots.INDEX_VECTORS.gloss, figure)


VIEW = MeasureView(
    tables={
        "retrieval": Averaging(("queries", "index"), intervals=_intervals(RETRIEVAL_METRICS)),
        "retrieval_query": ONE_SEED,
        "retrieval_rotation": ONE_SEED,
        "retrieval_vectors": Averaging(
            ("queries", "index", "dimensions", "precision"), intervals=_intervals(VECTOR_METRICS)
        ),
    },
    reads=("retrieval_query", "retrieval_vectors"),
    quantities=lambda tables: QUANTITIES,
    takeaway=_takeaway,
    advice=_advice,
    charts=charts,
    criteria=CRITERIA,
)
