"""Retrieval quality with smaller index vectors: fewer dimensions, int8 or binary values.

The vectors of documents are truncated (Kusupati et al. 2022, Matryoshka representations), scaled to
unit length and quantized; queries are truncated and stay float32. Rankings are those of an exact
search, which sentence-transformers approximates by rescoring candidates in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import pandas as pd

from ..data.exact_search import DOCUMENTS, top_k, vector_chunks
from ..data.retrieval_metrics import RETRIEVAL_METRICS, Judged, values_by_query
from ..statistics import resampled_means
from .index_compatibility import BASELINE, RESAMPLES, Cell, Embeddings

BITS = {"float32": 32, "int8": 8, "binary": 1}  # of one dimension
DIVISORS = (1, 2, 4, 8)  # of the number of dimensions
FEWEST = 8  # dimensions; a binary vector is at least one byte
DEPTH = 100  # documents per ranking
METRICS = {name: RETRIEVAL_METRICS[name] for name in ("ndcg_at_10", "recall_at_100")}


def compare_vectors(
    models: Mapping[str, Embeddings],
    judgements: Sequence[Judged],
    *,
    cells: Sequence[Cell],
    normalize: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Search with each cell, number of dimensions and precision of the index.

    `models`: the embeddings of each name in `cells`, BASELINE among them. `normalize`: cosine
    similarity, else dot products. Return one row per combination with the columns queries, index,
    dimensions, precision, bytes (of one document's vector), n (queries) and for nDCG@10 and
    recall@100 the mean, `_low` and `_high`, and the `_difference` from BASELINE with all dimensions
    in float32, `_difference_low` and `_difference_high` (95% intervals over queries; fractions).
    """
    width = int(models[BASELINE.queries].queries.shape[1])
    sizes = [width // divisor for divisor in DIVISORS if width // divisor >= FEWEST] or [width]
    found = {}
    for index, size, precision in product({cell.index: None for cell in cells}, sizes, BITS):
        documents = compressed(models[index].documents, size, precision, normalize=normalize)
        for cell in cells:
            if cell.index == index:
                queries = models[cell.queries].queries[:, :size]
                ranking = top_k(queries, documents, DEPTH, normalize=normalize).positions
                found[cell, size, precision] = values_by_query(ranking, judgements, METRICS)
    return _table(found, reference=(BASELINE, width, "float32"), resamples=resamples, seed=seed)


def compressed(vectors: Any, dimensions: int, precision: str, *, normalize: bool) -> np.ndarray:
    """Return what an index stores of vectors (documents, width), as float32 values.

    int8: 255 steps between the smallest and the largest value of each dimension. binary: the sign.
    """
    kept = np.concatenate(
        [
            block.astype(np.float32)
            for block in vector_chunks(vectors[:, :dimensions], DOCUMENTS, normalize, "document")
        ]
    )
    if precision == "binary":
        return np.where(kept > 0, np.float32(1), np.float32(-1))
    if precision == "int8":
        low, high = kept.min(axis=0), kept.max(axis=0)
        step = np.maximum((high - low) / 255, np.finfo(np.float32).tiny)
        return low + step * np.round((kept - low) / step)
    return kept


def _table(
    found: Mapping[tuple[Cell, int, str], pd.DataFrame],
    *,
    reference: tuple[Cell, int, str],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return means and intervals of the values by query of each combination."""
    quality = np.stack([values.to_numpy() for values in found.values()], axis=1)
    both = np.concatenate([quality, quality - found[reference].to_numpy()[:, None]], axis=2)
    means = both.mean(axis=0)  # (combinations, metrics and their differences)
    samples = resampled_means(both.reshape(len(both), -1), resamples, seed)
    low, high = np.quantile(samples, (0.025, 0.975), axis=0).reshape(2, *means.shape)
    columns = [*METRICS, *(f"{name}_difference" for name in METRICS)]
    rows = []
    for place, (cell, dimensions, precision) in enumerate(found):
        row: dict[str, Any] = {
            "queries": cell.queries,
            "index": cell.index,
            "dimensions": dimensions,
            "precision": precision,
            "bytes": ceil(dimensions * BITS[precision] / 8),
            "n": len(both),
        }
        for column, *values in zip(columns, means[place], low[place], high[place], strict=True):
            row |= dict(zip((column, f"{column}_low", f"{column}_high"), values, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)
