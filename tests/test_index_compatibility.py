"""Index compatibility: the four cells, alignment, tests over queries and the verdict."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ortho_group

from prune_core.analysis.criteria import INCONCLUSIVE
from prune_core.analysis.index_compatibility import (
    ALIGNED,
    BASELINE,
    DENSE,
    KEEP,
    KEPT,
    KEPT_ALIGNED,
    PRUNED,
    REEMBED,
    REEMBEDDED,
    Embeddings,
    compare_indexes,
    fit_rotation,
    index_loss,
    index_verdict,
    mean_cosine,
)
from prune_core.data.exact_search import top_k
from prune_core.data.retrieval_metrics import Judged, overlap_at, values_by_query
from prune_core.statistics import randomization_p_value, resampled_means

QUERIES, DOCUMENTS, DIMENSIONS = 40, 150, 12


def collection(seed=0):
    """Return (dense embeddings, judgements): each query is near its two relevant documents."""
    rng = np.random.default_rng(seed)
    documents = rng.normal(size=(DOCUMENTS, DIMENSIONS))
    relevant = [rng.choice(DOCUMENTS, 2, replace=False) for _ in range(QUERIES)]
    noise = rng.normal(size=(QUERIES, DIMENSIONS))
    queries = np.stack([documents[pair].sum(0) for pair in relevant]) + noise
    judged = [Judged(pair, np.array([2.0, 1.0])) for pair in relevant]
    return Embeddings(queries, documents), judged


def noisy(dense, scale, seed=1):
    rng = np.random.default_rng(seed)
    return Embeddings(*(each + scale * rng.normal(size=each.shape) for each in dense))


def test_each_cell_searches_its_index_with_its_queries():
    dense, judged = collection()
    pruned = noisy(dense, 1.2)
    compared = compare_indexes(dense, pruned, judged, resamples=500)
    table = compared.table.set_index(["queries", "index"])
    assert list(table.index) == [*product((DENSE, PRUNED), (DENSE,))] + [
        *product((DENSE, PRUNED), (PRUNED,))
    ]
    sides = {DENSE: dense, PRUNED: pruned}
    baseline = top_k(*dense, 1000).positions
    base = values_by_query(baseline, judged)
    for (queries, index), row in table.iterrows():
        ranking = top_k(sides[queries].queries, sides[index].documents, 1000).positions
        values = values_by_query(ranking, judged)
        for name in values:
            assert row[name] == pytest.approx(values[name].mean())
            assert row[f"{name}_difference"] == pytest.approx((values[name] - base[name]).mean())
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
            low, high = row[f"{name}_difference_low"], row[f"{name}_difference_high"]
            assert low <= row[f"{name}_difference"] <= high
        assert row["overlap_at_10"] == pytest.approx(overlap_at(ranking, baseline, 10).mean())
        assert row["n"] == QUERIES and row["depth"] == DOCUMENTS
    first = table.loc[(DENSE, DENSE)]
    assert first["overlap_at_10"] == first["overlap_at_100"] == first["ndcg_at_10_p"] == 1
    assert first["ndcg_at_10_difference_low"] == first["ndcg_at_10_difference_high"] == 0
    assert first["query_cosine"] == pytest.approx(1) == first["document_cosine"]
    kept = table.loc[(PRUNED, DENSE)]
    assert kept["document_cosine"] == pytest.approx(1) and kept["query_cosine"] < 0.99
    assert kept["ndcg_at_10_p"] < 0.05 and kept["overlap_at_10"] < 1
    assert len(compared.by_query) == 4 * QUERIES
    means = compared.by_query.groupby(["queries", "index"])["map"].mean()
    assert means[PRUNED, PRUNED] == pytest.approx(table.loc[(PRUNED, PRUNED), "map"])


def test_results_depend_on_neither_chunks_nor_type_of_array():
    dense, judged = collection()
    pruned = noisy(dense, 0.3)
    first = compare_indexes(dense, pruned, judged, resamples=50)
    tensors = [Embeddings(*map(torch.tensor, each)) for each in (dense, pruned)]
    second = compare_indexes(*tensors, judged, resamples=50, chunk=7)
    pd.testing.assert_frame_equal(first.table, second.table)
    pd.testing.assert_frame_equal(first.by_query, second.by_query)


def test_alignment_restores_a_rotated_space():
    dense, judged = collection()
    rotation = ortho_group.rvs(DIMENSIONS, random_state=0)
    pruned = Embeddings(dense.queries @ rotation, dense.documents @ rotation)
    compared = compare_indexes(dense, pruned, judged, align=True, resamples=50)
    table = compared.table.set_index(["queries", "index"])
    assert table.loc[(ALIGNED, DENSE), "overlap_at_10"] == 1
    assert table.loc[(ALIGNED, DENSE), "query_cosine"] == pytest.approx(1)
    assert table.loc[(PRUNED, PRUNED), "overlap_at_10"] == 1  # one rotation of both changes nothing
    assert table.loc[(PRUNED, DENSE), "overlap_at_10"] < 0.3
    verdicts = [
        index_verdict(compared.by_query, 5.0, cell=cell).result for cell in (KEPT, KEPT_ALIGNED)
    ]
    assert verdicts == [REEMBED, KEEP]


def test_rotation_is_orthogonal_and_keeps_directions_without_evidence():
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(50, 6)) * [1, 1, 1, 0, 0, 0]  # three directions do not occur
    turn = np.eye(6)
    turn[:2, :2] = [[0, 1], [-1, 0]]
    found = fit_rotation(dense, dense @ turn, normalize=False)
    assert np.allclose(found @ found.T, np.eye(6))
    assert np.allclose(found, turn.T, atol=1e-2)
    with pytest.raises(ValueError, match="are no pairs"):
        fit_rotation(dense, dense[:3])


def test_shapes_are_checked():
    dense, judged = collection()
    with pytest.raises(ValueError, match="do not match"):
        compare_indexes(dense, Embeddings(dense.queries[:, :5], dense.documents[:, :5]), judged)
    with pytest.raises(ValueError, match="do not match"):
        compare_indexes(dense, dense, judged[:-1])


def test_mean_cosine():
    first, second = np.array([[1.0, 0], [0, 2]]), torch.tensor([[3.0, 0], [1, 1]])
    assert mean_cosine(first, second, "text") == pytest.approx((1 + np.sqrt(0.5)) / 2)


# ---- tests over queries


def test_randomization_test_is_exact_for_few_differences():
    differences = np.array([0.3, -0.1, 0.0, 0.2, 0.4])
    nonzero = differences[differences != 0]
    sums = [abs((np.array(signs) * nonzero).sum()) for signs in product((1, -1), repeat=4)]
    expected = np.mean([each >= abs(nonzero.sum()) - 1e-12 for each in sums])
    assert randomization_p_value(differences, resamples=10_000, seed=0) == expected
    assert randomization_p_value(np.zeros(5), resamples=100, seed=0) == 1.0
    assert randomization_p_value(np.zeros(0), resamples=100, seed=0) == 1.0


def test_sampled_randomization_test_agrees_with_the_exact_one():
    differences = np.random.default_rng(3).normal(0.3, 1, size=14)
    exact = randomization_p_value(differences, resamples=2**14, seed=0)
    sampled = randomization_p_value(differences, resamples=16_000, seed=0)
    assert sampled == pytest.approx(exact, abs=0.02) and sampled != exact
    assert sampled == randomization_p_value(-differences, resamples=16_000, seed=0)
    assert randomization_p_value(np.full(50, 0.1), resamples=999, seed=0) == 1 / 1000


def test_randomization_test_keeps_its_level():
    rng = np.random.default_rng(4)
    values = [
        randomization_p_value(rng.normal(size=30) ** 3, resamples=400, seed=seed)
        for seed in range(400)
    ]
    assert 0.02 < np.mean(np.array(values) <= 0.05) < 0.08


def test_resampled_means_are_paired_and_have_the_standard_error_of_the_mean():
    values = np.random.default_rng(0).normal(size=(80, 2))
    samples = resampled_means(np.hstack([values, values[:, :1] - values[:, 1:]]), 4000, seed=1)
    assert samples.shape == (4000, 3)
    assert np.allclose(samples[:, 0] - samples[:, 1], samples[:, 2])
    assert samples[:, 0].std() == pytest.approx(values[:, 0].std() / np.sqrt(80), rel=0.05)
    assert np.array_equal(
        samples, resampled_means(np.hstack([values, values[:, :1] - values[:, 1:]]), 4000, seed=1)
    )


# ---- verdict


def measured(loss):
    """Return values by query where the kept index loses `loss` (queries,) of nDCG@10."""
    n = len(loss)
    frames = [
        pd.DataFrame(
            {
                "queries": cell.queries,
                "index": cell.index,
                "query": range(n),
                "ndcg_at_10": 0.5 - (loss if cell == KEPT else 0.0),
            }
        )
        for cell in (BASELINE, KEPT, REEMBEDDED)
    ]
    return pd.concat(frames, ignore_index=True)


def test_verdicts():
    noise = np.random.default_rng(0).normal(scale=0.05, size=400)
    noise -= noise.mean()
    keep = index_verdict(measured(noise), limit=1.0)
    assert keep.result == KEEP and keep.loss == pytest.approx(0, abs=1e-9) and keep.n == 400
    # the normal bound: 1.645 standard errors
    assert keep.high == pytest.approx(1.645 * 100 * noise.std() / 20, rel=0.1)
    assert keep.sentence.startswith("Keep the index: the old index loses 0.00 points")
    assert keep.queries_needed is None
    worse = index_verdict(measured(noise + 0.03), limit=1.0)
    assert worse.result == REEMBED and worse.loss == pytest.approx(3) and worse.low > 1
    assert worse.sentence.startswith("Re-embed: the old index loses 3.00 points against")
    few = index_verdict(measured((noise + 0.008)[:20]), limit=1.0)
    assert few.result == INCONCLUSIVE and few.queries_needed > 20
    assert few.sentence.startswith("Inconclusive at 20 queries:") and "would decide" in few.sentence
    better = index_verdict(measured(noise - 0.02), limit=1.0)
    assert "gains 2.00 points against re-embedding, and a loss of more than 0.00" in better.sentence
    assert index_loss(measured(noise), reference=BASELINE).value == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="pruned, aligned queries on the dense index"):
        index_verdict(measured(noise), limit=1.0, cell=KEPT_ALIGNED)


def test_few_equal_queries_do_not_decide():
    assert index_verdict(measured(np.zeros(30)), limit=1.0).result == INCONCLUSIVE
    assert index_verdict(measured(np.zeros(200)), limit=1.0).result == KEEP
    assert index_loss(measured(np.zeros(200))).bounds(0.05) == (-1 / 200, 1 / 200)


def test_an_index_at_the_limit_is_rarely_kept():
    """The false positive rate of the non-inferiority test at its worst case."""
    rng, kept = np.random.default_rng(0), 0
    for _ in range(300):
        changed = rng.random(100) < 0.4
        loss = np.where(changed, rng.normal(0.025, 0.2, size=100), 0.0)  # mean 0.01: the limit
        kept += index_verdict(measured(loss), limit=1.0).result == KEEP
    assert kept / 300 < 0.09
