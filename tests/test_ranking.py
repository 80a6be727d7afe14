"""Ranking metrics: values by query, ties, and how a reranker's data is recognized."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from sklearn.metrics import ndcg_score
from test_retrieval_measure import write_collection

from prune_core import PruneError
from prune_core.data.examples import DataSource, Examples
from prune_core.data.ranking import average_precision, ndcg, reciprocal_rank
from prune_core.experiments.content_hashes import hash_data
from prune_core.measures.accuracy import summary
from prune_core.models.inference.predict import predict
from prune_core.tasks import METRICS, metric_for, task_data, units
from prune_core.training.finetune import TrainingRecipe, score

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


def candidates(**options) -> Examples:
    return Examples(["q"] * 4, ["a", "b", "c", "d"], kind="regression", **options)


def test_candidates_are_recognized_by_repeated_first_texts():
    assert candidates().queries == ["q"] * 4
    once = Examples(["q", "r", "s"], ["a", "b", "c"], kind="regression")
    assert Examples(["q"] * 4, kind="regression").queries == [] == once.queries
    assert tiny.examples().queries == []
    with pytest.raises(PruneError, match="does not fit this model"):
        metric_for("regression", 1, "mrr_at_10")


def test_classifiers_of_pairs_have_no_rankings(tmp_path):
    source = write_table(tmp_path / "pairs.csv", "query,passage,label,rank")
    task = task_data.load(source, ("no", "yes"), kind="classification")
    assert task.metric == "accuracy" and task.evaluation.first_stage is None
    assert task.label_map == {"0": 0, "1": 1}
    assert set(task.calibration.texts) & set(task.evaluation.texts), "rows are drawn, not queries"


def test_only_grades_make_a_ranking():
    assert candidates(labels=[0, 1, 0, 3.0]).has_grades
    assert not candidates(labels=[0, 1, 0.5, 3]).has_grades  # similarities, as in STS
    assert not candidates(labels=[0, 1, -2, 3]).has_grades
    assert not candidates(labels=[[0, 1]] * 4).has_grades
    assert not candidates().has_grades


def write_table(file: Path, names: str, queries: int = 12, grades: int = 2) -> DataSource:
    """Write five candidates per query, the worst first; the first stage found the best last."""
    rows = [
        (f"query {place // 5}", f"passage {place}", place % 5 % grades, 5 - place % 5)
        for place in range(5 * queries)
    ]
    columns = names.split(",")
    lines = [names, *(",".join(map(str, row[: len(columns)])) for row in rows)]
    file.write_text("".join(f"{line}\n" for line in lines))
    return DataSource(str(file))


def load(source: DataSource) -> task_data.Task:
    return task_data.load(source, ("score",), kind="regression")


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ("query,passage,label", None),
        ("query,document,score,rank", -5.0),
        ("query,text,relevance,bm25", 5.0),
        ("question,answer,grade,first_stage_score", 5.0),
    ],
)
def test_a_table_of_candidates_is_ranked_with_the_order_of_its_first_stage(tmp_path, names, first):
    task = load(write_table(tmp_path / "candidates.csv", names))
    assert task.metric == "ndcg_at_10" and not task.evaluation.binary and task.label_map is None
    assert task.label_names == ("score",) and set(task.evaluation.labels) == {0.0, 1.0}
    scores = task.evaluation.first_stage
    assert (scores and scores[0]) == first
    unknown = "order before reranking is unknown" in " ".join(task.notes)
    assert unknown is (first is None)


def test_queries_are_never_divided(tmp_path):
    source = write_table(tmp_path / "candidates.csv", "query,passage,label,rank")
    task = load(source)
    assert len(task.calibration) == 20 and len(task.evaluation) == 40
    assert not set(task.calibration.texts) & set(task.evaluation.texts)
    sample = task.subsample(7, 12, seed=1)
    assert len(sample.calibration) == 7 and len(sample.evaluation) == 10
    assert len(set(sample.evaluation.texts)) == 2 and len(sample.evaluation.first_stage) == 10
    assert len(task.subsample(7, 1, seed=1).evaluation) == 5, "one query"
    with pytest.raises(PruneError, match=r"5 rows are too few: a third of the queries"):
        load(write_table(tmp_path / "one.csv", "query,passage,label", queries=1))


def test_a_requested_metric_of_classes_keeps_the_threshold(tmp_path):
    source = write_table(tmp_path / "candidates.csv", "query,passage,label")
    task = load(replace(source, metric="accuracy"))
    assert task.metric == "binary_accuracy" and task.evaluation.binary and task.label_map
    assert load(replace(source, metric="spearman")).metric == "spearman"


def test_a_rank_that_is_no_number_is_an_error(tmp_path):
    source = write_table(tmp_path / "candidates.csv", "query,passage,label,rank")
    text = Path(source.task).read_text().replace("passage 1,1,4", "passage 1,1,fourth")
    Path(source.task).write_text(text)
    with pytest.raises(PruneError, match=r"line 3, column 'rank': 'fourth' is not a number"):
        load(source)


def test_similarities_of_repeated_texts_are_correlated_as_before(tmp_path):
    source = write_table(tmp_path / "similar.csv", "query,passage,score")
    text = Path(source.task).read_text().replace(",1\n", ",0.5\n")
    Path(source.task).write_text(text)
    assert load(source).metric == "spearman"


def write_run(folder: Path) -> Path:
    """Write the tiny collection with a run file: four candidates per query, the relevant last."""
    write_collection(folder)
    found = tiny.collection()
    lines = []
    for query, grades in found.judgements.items():
        others = [each for each in found.document_ids if each not in grades]
        for rank, document in enumerate([*others[:3], next(iter(grades))], start=1):
            lines.append(f"{query} Q0 {document} {rank} {-rank} bm25\n")
    (folder / "run.trec").write_text("".join(lines))
    return folder


def test_a_collection_with_a_run_file_is_reranked(tmp_path):
    source = DataSource(str(write_run(tmp_path / "beir")))
    task = load(source)
    assert task.metric == "ndcg_at_10" and task.collection is None
    assert len(task.calibration) == 8 and len(task.evaluation) == 16
    assert task.evaluation.labels[:4] == [0, 0, 0, 2] and task.evaluation.labels.count(2) == 4
    assert task.evaluation.first_stage[:4] == [-1, -2, -3, -4]
    assert "6 of 12 relevant documents are not among the candidates" in " ".join(task.notes)
    assert task_data.kind_of(source) == "regression"
    assert len(task_data.training_examples(source, ("score",), "regression")) == 24
    with_other = load(replace(source, calibration=source.task))
    assert len(with_other.evaluation) == 24 == len(with_other.calibration)


def test_a_collection_needs_one_run_file(tmp_path):
    folder = write_collection(tmp_path / "beir")
    with pytest.raises(PruneError, match=r"no run file with candidates to rerank; add run.trec"):
        load(DataSource(str(folder)))
    for name in ("bm25.run", "run.trec"):
        (folder / name).write_text("q0 Q0 d0 1 1 bm25\n")
    with pytest.raises(PruneError, match=r"2 run files \(bm25.run, run.trec\); keep one"):
        load(DataSource(str(folder)))
    assert "run.trec" in [name for name, _ in hash_data(str(folder))]


def test_fine_tuning_selects_by_the_ranking(tmp_path):
    model = tiny.model(kind="regression")
    examples = replace(candidates(labels=[0.0, 1.0, 0.0, 1.0]), pairs=tiny.SENTENCES[:4])
    scores = score(model, tiny.tokenizer(), examples, TrainingRecipe())
    found = predict(model, tiny.tokenizer(), examples).predicted
    assert scores["ndcg_at_10"] == pytest.approx(ndcg(examples.labels, found))
