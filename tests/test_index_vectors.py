"""Smaller index vectors: truncation, int8 and binary values, and the table of their quality."""

import numpy as np
import pytest
import torch
from test_index_compatibility import DIMENSIONS, DOCUMENTS, QUERIES, collection, noisy

from prune_core.analysis.index_compatibility import BASELINE, DENSE, KEPT, PRUNED, REEMBEDDED
from prune_core.analysis.index_vectors import BITS, compare_vectors, compressed
from prune_core.data.exact_search import top_k
from prune_core.data.retrieval_metrics import values_by_query

UNIT = np.array([[3.0, 4, 9], [0, -1, 9], [-0.6, 0.8, 9]])


def test_vectors_are_truncated_then_scaled_then_quantized():
    exact = compressed(UNIT, 2, "float32", normalize=True)
    assert np.allclose(exact, [[0.6, 0.8], [0, -1], [-0.6, 0.8]])
    assert compressed(torch.tensor(UNIT), 2, "binary", normalize=True).tolist() == [
        [1, 1],
        [-1, -1],
        [-1, 1],
    ]
    rounded = compressed(UNIT, 2, "int8", normalize=True)
    assert np.abs(rounded - exact).max() <= 1.8 / 255 / 2 + 1e-6  # half a step
    assert np.allclose(rounded[[0, 2]], exact[[0, 2]])  # smallest and largest values are exact
    assert compressed(UNIT, 3, "float32", normalize=False)[0].tolist() == [3, 4, 9]
    constant = compressed(np.ones((4, 2)), 2, "int8", normalize=False)
    assert (constant == 1).all()


def test_int8_has_at_most_256_values_per_dimension():
    vectors = np.random.default_rng(0).normal(size=(2000, 3))
    stored = compressed(vectors, 3, "int8", normalize=False)
    assert all(len(np.unique(column)) <= 256 for column in stored.T)


def test_table_has_every_cell_size_and_precision():
    dense, judged = collection()
    models = {DENSE: dense, PRUNED: noisy(dense, 0.8)}
    cells = (BASELINE, KEPT, REEMBEDDED)
    table = compare_vectors(models, judged, cells=cells, resamples=200)
    assert len(table) == len(cells) * len(BITS) and set(table["dimensions"]) == {DIMENSIONS}
    rows = table.set_index(["queries", "index", "precision"])
    assert rows.loc[DENSE, DENSE]["bytes"].to_dict() == {"float32": 48, "int8": 12, "binary": 2}
    for cell in cells:
        ranking = top_k(models[cell.queries].queries, models[cell.index].documents, 100).positions
        expected = values_by_query(ranking, judged)
        row = rows.loc[cell.queries, cell.index, "float32"]
        for name in ("ndcg_at_10", "recall_at_100"):
            assert row[name] == pytest.approx(expected[name].mean())
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    reference = rows.loc[DENSE, DENSE, "float32"]
    assert reference["ndcg_at_10_difference"] == reference["ndcg_at_10_difference_high"] == 0
    assert reference["n"] == QUERIES and DOCUMENTS > 100
    binary = rows.loc[DENSE, DENSE, "binary"]
    assert binary["ndcg_at_10_difference"] == pytest.approx(
        binary["ndcg_at_10"] - reference["ndcg_at_10"]
    )
    assert binary["ndcg_at_10"] < reference["ndcg_at_10"]


def test_dimensions_are_halved_down_to_a_byte_of_bits():
    rng = np.random.default_rng(1)
    dense = type(collection()[0])(rng.normal(size=(QUERIES, 40)), rng.normal(size=(DOCUMENTS, 40)))
    table = compare_vectors({DENSE: dense}, collection()[1], cells=(BASELINE,), resamples=20)
    assert sorted(set(table["dimensions"])) == [10, 20, 40]
