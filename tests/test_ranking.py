"""Ranking metrics: values by query, ties, and how a reranker's data is recognized."""

import numpy as np
import pytest
import tiny
from sklearn.metrics import ndcg_score

from prune_core import PruneError
from prune_core.data.examples import DataSource, Examples
from prune_core.data.ranking import average_precision, ndcg, reciprocal_rank
from prune_core.measures.accuracy import summary
from prune_core.tasks import METRICS, metric_for, task_data, units

GRADES, SCORES = [0, 2, 1, 0, 1], [0.9, 0.8, 0.1, 0.3, 0.5]


def test_values_by_hand():
    # the grades by descending score: 0 2 1 0 1
    assert reciprocal_rank(GRADES, SCORES) == 1 / 2
    assert average_precision(GRADES, SCORES) == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)
    gain = 2 / np.log2(3) + 1 / np.log2(4) + 1 / np.log2(6)
    best = 2 / np.log2(2) + 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg(GRADES, SCORES) == pytest.approx(gain / best)


def test_ndcg_matches_scikit_learn():
    rng = np.random.default_rng(0)
    for size in (2, 5, 30):
        grades, scores = rng.integers(0, 4, size), rng.normal(size=size)
        assert ndcg(grades, scores) == pytest.approx(ndcg_score([grades], [scores], k=10))


@pytest.mark.parametrize("metric", [ndcg, reciprocal_rank, average_precision])
def test_constant_scores_get_no_credit_for_the_order_of_the_file(metric):
    grades = [1, 0, 0, 0]
    assert metric(grades, [0.5] * 4) == metric(grades, [0, 1, 2, 3]) < metric(grades, [3, 2, 1, 0])
    assert metric([0, 0], [1, 0]) == 0.0


def test_metric_is_a_mean_over_queries_with_its_interval():
    queries = [f"query {i // 4}" for i in range(80)]
    rng = np.random.default_rng(1)
    labels = [float(i % 4 == 0) for i in range(80)]
    dense, pruned = (list(rng.normal(size=80) + weight * np.array(labels)) for weight in (3, 1))
    row = summary("ndcg_at_10", 1, labels, dense, pruned, queries=queries)
    by_query = [ndcg(labels[i : i + 4], pruned[i : i + 4]) for i in range(0, 80, 4)]
    assert row["n"] == 20 and row["score"] == pytest.approx(np.mean(by_query))
    assert row["low"] < row["score"] < row["high"] and row["mrr_at_10"] <= 1
    assert row["difference"] < 0 and row["difference_low"] < row["difference"]
    shuffled = rng.permutation(80)
    other = units("map", *([values[i] for i in shuffled] for values in (labels, dense, queries)))
    assert METRICS["map"].compute(*other) == pytest.approx(
        METRICS["map"].compute(*units("map", labels, dense, queries))
    )


def test_candidates_are_recognized_by_repeated_first_texts(tmp_path):
    assert Examples(["q"] * 4, ["a", "b", "c", "d"]).queries == ["q"] * 4
    assert Examples(["q"] * 4).queries == [] == Examples(["q", "r", "s"], ["a", "b", "c"]).queries
    rows = "".join(f"query {i // 5},passage {i},{i % 5 == 0:d}\n" for i in range(60))
    file = tmp_path / "candidates.csv"
    file.write_text("query,passage,label\n" + rows)
    source = DataSource(str(file), text="query", text_pair="passage", metric="mrr_at_10")
    task = task_data.load(source, ("score",), kind="regression")
    assert task.metric == "mrr_at_10" and len(set(task.evaluation.queries)) > 1
    with pytest.raises(PruneError, match="does not fit this model"):
        metric_for("regression", 1, "mrr_at_10")
    assert tiny.examples().queries == []
