"""Whether a vector index made by the dense model remains valid for a pruned model.

Four cells: queries by the dense or the pruned model, on the index of the dense or the pruned model;
optionally a fifth, pruned queries rotated into the space of the dense index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .. import formatting as f
from ..data.exact_search import DOCUMENTS, top_k, vector_chunks
from ..data.retrieval_metrics import Judged, overlap_at, values_by_query
from ..statistics import randomization_p_value, resampled_means
from .bounded_metrics import BoundedMetric, bootstrapped
from .criteria import INCONCLUSIVE

DENSE, PRUNED, ALIGNED = "dense", "pruned", "pruned, aligned"
KEEP, REEMBED = "keep the index", "re-embed"  # or INCONCLUSIVE
DEPTH = 1000  # documents per ranking, as in trec_eval and BEIR
OVERLAPS = (10, 100)
RESAMPLES = 10_000
POWER = 0.84  # standard errors beyond the limit for 80 of 100 samples to decide
# weight of the identity in the fit of the rotation, relative to the vectors' mean square: decides
# only in directions in which the documents hardly vary
IDENTITY = 1e-3
FITTED = 20_000  # documents that the rotation is fitted on


@dataclass(frozen=True)
class Cell:
    """A way to search: the model of the queries and the model of the index."""

    queries: str
    index: str


BASELINE = Cell(DENSE, DENSE)
KEPT = Cell(PRUNED, DENSE)
REEMBEDDED = Cell(PRUNED, PRUNED)
KEPT_ALIGNED = Cell(ALIGNED, DENSE)
CELLS = (BASELINE, KEPT, Cell(DENSE, PRUNED), REEMBEDDED)


class Embeddings(NamedTuple):
    """Vectors of one model: NumPy arrays, memory maps or torch tensors."""

    queries: Any  # (queries, dimensions)
    documents: Any  # (documents, dimensions)


@dataclass(frozen=True)
class IndexComparison:
    """Quality and similarity of each cell.

    `table`: one row per cell with the columns queries, index, n, depth; for each metric its mean,
    `_low` and `_high`, and compared with dense queries on the dense index `_difference`,
    `_difference_low`, `_difference_high` (95% intervals over queries) and `_p` (randomization
    test); overlap_at_10 and overlap_at_100 with the dense ranking; query_cosine and
    document_cosine to the dense vectors. Fractions.
    `by_query`: columns queries, index, query (position) and the metrics and overlaps of one query.
    `rotation`: of `fit_rotation`, if pruned queries were rotated.
    """

    table: pd.DataFrame
    by_query: pd.DataFrame
    rotation: np.ndarray | None = None  # (dimensions, dimensions)


def compare_indexes(
    dense: Embeddings,
    pruned: Embeddings,
    judgements: Sequence[Judged],
    *,
    cells: Sequence[Cell] = CELLS,
    align: bool = False,
    normalize: bool = True,
    depth: int = DEPTH,
    resamples: int = RESAMPLES,
    seed: int = 0,
    chunk: int = DOCUMENTS,
) -> IndexComparison:
    """Search with each cell and compare it with the dense model.

    `judgements`: of each query, by document position (`RetrievalCollection.judged`). `cells`: those
    to search with, BASELINE among them. `align`: add the cell of pruned queries rotated into the
    space of the dense index, by a rotation that is fitted on documents. `normalize`: cosine
    similarity, else dot products. `chunk`: documents scored at once. ValueError for shapes that do
    not match.
    """
    _check_shapes(dense, pruned, judgements)
    queries = {DENSE: dense.queries, PRUNED: pruned.queries}
    indexes = {DENSE: dense.documents, PRUNED: pruned.documents}
    cells, rotation = list(cells), None
    if align:
        sample = _sample(len(dense.documents), seed)
        rotation = fit_rotation(
            dense.documents[sample], pruned.documents[sample], normalize=normalize
        )
        queries[ALIGNED] = _all(pruned.queries, normalize) @ rotation
        cells.append(KEPT_ALIGNED)
    rankings = {
        cell: top_k(
            queries[cell.queries], indexes[cell.index], depth, normalize=normalize, chunk=chunk
        ).positions
        for cell in cells
    }
    by_query = {
        cell: _values(ranking, rankings[BASELINE], judgements) for cell, ranking in rankings.items()
    }
    query_cosine = {
        name: mean_cosine(each, dense.queries, "query") for name, each in queries.items()
    }
    document_cosine = {
        name: mean_cosine(each, dense.documents, "document") for name, each in indexes.items()
    }
    rows = [
        {
            "queries": cell.queries,
            "index": cell.index,
            "n": len(judgements),
            "depth": rankings[cell].shape[1],
            **_summary(values, by_query[BASELINE], resamples, seed),
            "query_cosine": query_cosine[cell.queries],
            "document_cosine": document_cosine[cell.index],
        }
        for cell, values in by_query.items()
    ]
    long = [
        values.assign(queries=cell.queries, index=cell.index, query=range(len(values)))
        for cell, values in by_query.items()
    ]
    return IndexComparison(pd.DataFrame(rows), pd.concat(long, ignore_index=True), rotation)


def _sample(documents: int, seed: int) -> np.ndarray:
    """Return the sorted positions of the documents that the rotation is fitted on."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(documents, min(documents, FITTED), replace=False))


def _check_shapes(dense: Embeddings, pruned: Embeddings, judgements: Sequence[Judged]) -> None:
    shapes = [tuple(map(int, each.shape)) for each in (*dense, *pruned)]
    if shapes[:2] != shapes[2:] or shapes[0][1] != shapes[1][1] or shapes[0][0] != len(judgements):
        raise ValueError(
            f"shapes {shapes} and {len(judgements)} judged queries do not match: dense and pruned "
            "need vectors of the same queries and documents, with equal dimensions"
        )
    if not judgements:
        raise ValueError("no query")


def _values(ranking: np.ndarray, dense: np.ndarray, judgements: Sequence[Judged]) -> pd.DataFrame:
    """Return the metrics and the overlaps with the dense ranking of each query."""
    values = values_by_query(ranking, judgements)
    return values.assign(**{f"overlap_at_{k}": overlap_at(ranking, dense, k) for k in OVERLAPS})


def _summary(
    values: pd.DataFrame, baseline: pd.DataFrame, resamples: int, seed: int
) -> Mapping[str, float]:
    """Return the columns of the table that belong to metrics and overlaps."""
    overlaps = [f"overlap_at_{k}" for k in OVERLAPS]
    metrics = values.drop(columns=overlaps)
    differences = metrics - baseline[metrics.columns]
    both = np.hstack([metrics.to_numpy(), differences.to_numpy()])
    intervals = np.quantile(resampled_means(both, resamples, seed), (0.025, 0.975), axis=0)
    row: dict[str, float] = {}
    for place, name in enumerate(metrics):
        row[name] = float(metrics[name].mean())
        row[f"{name}_low"], row[f"{name}_high"] = map(float, intervals[:, place])
        row[f"{name}_difference"] = float(differences[name].mean())
        low, high = map(float, intervals[:, place + metrics.shape[1]])
        row[f"{name}_difference_low"], row[f"{name}_difference_high"] = low, high
        row[f"{name}_p"] = randomization_p_value(
            differences[name].to_numpy(), resamples=resamples, seed=seed
        )
    return row | {name: float(values[name].mean()) for name in overlaps}


def mean_cosine(first: Any, second: Any, noun: str) -> float:
    """Mean cosine of corresponding rows of two matrices (rows, dimensions), in chunks."""
    pairs = zip(
        vector_chunks(first, DOCUMENTS, True, noun),
        vector_chunks(second, DOCUMENTS, True, noun),
        strict=True,
    )
    return float(sum((one * other).sum() for one, other in pairs) / len(first))


def fit_rotation(dense: Any, pruned: Any, *, normalize: bool = True) -> np.ndarray:
    """Return the (dimensions, dimensions) rotation R that brings `pruned` @ R closest to `dense`.

    Orthogonal Procrustes (Schönemann 1966) on vectors (texts, dimensions) of the same texts. The
    identity is fitted with a small weight, so that directions without evidence stay.
    """
    from scipy.linalg import orthogonal_procrustes

    source, aim = _all(pruned, normalize), _all(dense, normalize)
    if source.shape != aim.shape or not len(source):
        raise ValueError(f"vectors of shapes {source.shape} and {aim.shape} are no pairs")
    weight = np.sqrt(IDENTITY * np.square(aim).sum() / aim.shape[1])
    prior = weight * np.eye(aim.shape[1])
    rotation, _ = orthogonal_procrustes(np.vstack([source, prior]), np.vstack([aim, prior]))
    return np.asarray(rotation)


def _all(vectors: Any, normalize: bool) -> np.ndarray:
    """Return vectors as one float64 matrix."""
    return np.concatenate(list(vector_chunks(vectors, DOCUMENTS, normalize, noun="text")))


def index_loss(
    by_query: pd.DataFrame,
    metric: str = "ndcg_at_10",
    cell: Cell = KEPT,
    reference: Cell = REEMBEDDED,
    seed: int = 0,
) -> BoundedMetric:
    """Return the loss of a cell compared with another one: the evidence for a limit.

    `by_query`: of `IndexComparison`. A fraction, bounded by a paired bootstrap over queries.
    """
    loss = _of(by_query, reference)[metric] - _of(by_query, cell)[metric].to_numpy()
    resamples = resampled_means(loss.to_numpy()[:, None], RESAMPLES, seed)[:, 0]
    return bootstrapped(float(loss.mean()), resamples, len(loss))


def _of(by_query: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    chosen = (by_query["queries"] == cell.queries) & (by_query["index"] == cell.index)
    if not chosen.any():
        raise ValueError(f"{cell.queries} queries on the {cell.index} index were not measured")
    return by_query[chosen].sort_values("query", ignore_index=True)


@dataclass(frozen=True)
class IndexVerdict:
    """Result of the non-inferiority test of the old index, in points of the metric."""

    result: str  # KEEP, REEMBED or INCONCLUSIVE
    loss: float  # mean over queries of re-embedded minus old index
    low: float  # one-sided bounds of the loss, each wrong with probability at most alpha
    high: float
    limit: float
    n: int  # queries
    confidence: float  # percent
    # queries that would decide in 80 of 100 samples if the measured loss is the true one
    queries_needed: int | None

    @property
    def sentence(self) -> str:
        """The verdict with its evidence, in one sentence."""
        change = f"{'gains' if self.loss < 0 else 'loses'} {_points(abs(self.loss))}"
        found = f"the old index {change} against re-embedding"
        limit = f"the limit is {_points(self.limit)}"
        test = f"{self.confidence:g}% confidence, n = {f.count(self.n)} queries"
        if self.result == KEEP:
            excluded = f"a loss of more than {_points(max(self.high, 0.0))} is ruled out"
            return f"Keep the index: {found}, and {excluded} ({test}); {limit}."
        if self.result == REEMBED:
            excluded = f"a loss of less than {_points(self.low)} is ruled out"
            return f"Re-embed: {found}, and {excluded} ({test}); {limit}."
        needed = self.queries_needed
        remedy = f"about {f.count(needed)} queries would decide" if needed else "no sample decides"
        return (
            f"Inconclusive at {f.count(self.n)} queries: {found}, and losses from "
            f"{_points(self.low)} to {_points(self.high)} are possible ({self.confidence:g}% "
            f"confidence); {limit}, and {remedy}."
        )


def _points(value: float) -> str:
    number = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
    return f"{number} points"


def index_verdict(
    by_query: pd.DataFrame,
    limit: float,
    *,
    metric: str = "ndcg_at_10",
    cell: Cell = KEPT,
    alpha: float = 0.05,
    seed: int = 0,
) -> IndexVerdict:
    """Test whether pruned queries on the old index are non-inferior to re-embedding.

    KEEP if the upper bound of the loss is at most `limit` points, REEMBED if its lower bound is
    more, else INCONCLUSIVE; each bound is one-sided at `alpha`. `cell=KEPT_ALIGNED` judges rotated
    queries. The loss of both compared with the dense model is another question: `index_loss` with
    `reference=BASELINE`.
    """
    loss = index_loss(by_query, metric, cell, seed=seed)
    low, high = (100 * bound for bound in loss.bounds(alpha))
    result = INCONCLUSIVE
    if high <= limit:
        result = KEEP
    elif low > limit:
        result = REEMBED
    value = 100 * loss.value
    half = high - value if value <= limit else value - low
    return IndexVerdict(
        result,
        value,
        low,
        high,
        limit,
        loss.n,
        confidence=100 * (1 - alpha),
        queries_needed=None
        if result != INCONCLUSIVE
        else _needed(half, limit - value, loss.n, alpha),
    )


def _needed(half: float, gap: float, n: int, alpha: float) -> int | None:
    """Return how many queries would decide in 80 of 100 samples; None if the gap is 0.

    The half-width of the bound narrows with the root of n.
    """
    from scipy.stats import norm

    if abs(gap) < 1e-9:
        return None
    z = float(norm.ppf(1 - alpha))
    return max(n + 1, ceil(n * (half / gap * (z + POWER) / z) ** 2))
