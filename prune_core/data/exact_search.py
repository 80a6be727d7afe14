"""Exact nearest-neighbor search: the k documents with the highest similarity to each query."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import PruneError
from ..formatting import plural

QUERIES, DOCUMENTS = 256, 8192  # scored at once: 16 MB of similarities
# Similarities are compared with this many decimals. In float64, the order of summation changes the
# last of 16 digits only, so that equal documents tie whatever the chunk sizes and the BLAS library.
DECIMALS = 10


class Neighbors(NamedTuple):
    """The k best documents of each query, most similar first."""

    positions: np.ndarray  # (queries, k) int64, in the matrix of documents
    similarities: np.ndarray  # (queries, k) float64


def top_k(
    queries: Any,
    documents: Any,
    k: int,
    *,
    normalize: bool = True,
    chunk: int = DOCUMENTS,
) -> Neighbors:
    """Return the k documents with the highest cosine (or, without `normalize`, dot product).

    `queries` (queries, dimensions) and `documents` (documents, dimensions) are NumPy arrays,
    memory maps or torch tensors. Only `chunk` documents are converted and scored at once. Equal
    similarities are ordered by position. k is at most the number of documents. PruneError for
    vectors with NaN or infinite values.
    """
    k = min(k, len(documents))
    found = [
        _search(block, documents, k, normalize=normalize, chunk=chunk)
        for block in vector_chunks(queries, QUERIES, normalize, noun="query")
    ]
    if not found:
        return Neighbors(np.empty((0, k), dtype=np.int64), np.empty((0, k)))
    return Neighbors(*map(np.concatenate, zip(*found, strict=True)))


def insertion_ranks(
    queries: Any, documents: Any, vector: Any, *, normalize: bool = True
) -> np.ndarray:
    """(queries,) int64: rank, from 1, that one more document would have, behind equal ones.

    `vector` (1, dimensions) is the document's; see `top_k` for the other arguments.
    """
    (inserted,) = vector_chunks(vector, 1, normalize, noun="document")
    ranks = []
    for block in vector_chunks(queries, QUERIES, normalize, noun="query"):
        reached = (block @ inserted.T).round(DECIMALS)
        before = sum(
            ((block @ chunk.T).round(DECIMALS) >= reached).sum(axis=1)
            for chunk in vector_chunks(documents, DOCUMENTS, normalize, noun="document")
        )
        ranks.append(1 + before)
    return np.concatenate(ranks)


def vector_chunks(vectors: Any, size: int, normalize: bool, noun: str) -> Iterator[np.ndarray]:
    """Yield (≤ size, dimensions) float64 blocks of vectors, with unit length if `normalize`.

    Vectors of length 0 stay 0. PruneError for NaN or infinite values; `noun` names the vectors.
    """
    for start in range(0, len(vectors), size):
        block = _to_numpy(vectors[start : start + size])
        if bad := int((~np.isfinite(block)).any(axis=1).sum()):
            raise PruneError(
                f"{bad} of {plural(len(block), f'{noun} vector')} from position {start} "
                f"{'contains' if bad == 1 else 'contain'} NaN or infinite values; "
                "prune less, or compute the vectors in float32."
            )
        if normalize:
            lengths = np.linalg.norm(block, axis=1, keepdims=True)
            block = block / np.where(lengths > 0, lengths, 1.0)
        yield block


def _to_numpy(block: Any) -> np.ndarray:
    if hasattr(block, "detach"):  # a torch tensor; bfloat16 has no NumPy type
        block = block.detach().cpu().double()
    return np.asarray(block, dtype=np.float64)


def _search(
    queries: np.ndarray, documents: Any, k: int, *, normalize: bool, chunk: int
) -> Neighbors:
    """Search one block of queries, (queries, dimensions) float64."""
    positions = np.empty((len(queries), 0), dtype=np.int64)
    similarities = np.empty((len(queries), 0))
    start = 0
    for block in vector_chunks(documents, chunk, normalize, noun="document"):
        scores = (queries @ block.T).round(DECIMALS)
        places = np.arange(start, start + len(block))
        # earlier documents come first, so that the position in a row is the order of ties
        similarities = np.concatenate([similarities, scores], axis=1)
        positions = np.concatenate(
            [positions, np.broadcast_to(places, (len(queries), len(block)))], axis=1
        )
        best = first_largest(similarities, k)
        similarities = np.take_along_axis(similarities, best, axis=1)
        positions = np.take_along_axis(positions, best, axis=1)
        start += len(block)
    order = np.lexsort((positions, -similarities), axis=1)
    return Neighbors(
        np.take_along_axis(positions, order, axis=1),
        np.take_along_axis(similarities, order, axis=1),
    )


def first_largest(scores: np.ndarray, k: int) -> np.ndarray:
    """(rows, min(k, columns)): columns of the k largest of each row, in ascending order.

    Of scores equal to the k-th largest, the first are taken. Linear in the number of columns.
    """
    rows, columns = scores.shape
    if columns <= k:
        return np.broadcast_to(np.arange(columns), (rows, columns))
    smallest = np.partition(scores, columns - k, axis=1)[:, columns - k, None]
    above, ties = scores > smallest, scores == smallest
    missing = k - above.sum(axis=1, keepdims=True)
    chosen = above | (ties & (ties.cumsum(axis=1) <= missing))
    return np.nonzero(chosen)[1].reshape(rows, k)
