"""Attacks on queries of a retrieval collection."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError, views
from prune_core.analysis.compared_models import ComparedModel
from prune_core.data.exact_search import top_k
from prune_core.measures import MEASURES
from prune_core.measures.retrieval import embed, embed_queries
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report

K = 2


@pytest.fixture(scope="module")
def dense():
    return tiny.model(kind="embedding")


@pytest.fixture(scope="module")
def pruned(dense):
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.6}).prune(pruned, [], no_report)
    return pruned


def attack(pair, **options):
    chosen = {"recipes": "DeepWordBug", "query_budget": 40, "k": K} | options
    return build(MEASURES, "query_attack", chosen).measure(pair, no_report)


def is_found(pair, model, texts, query, documents) -> list[bool]:
    """Return whether a relevant document is in the top k, by exact search."""
    vectors = embed_queries(pair, model, texts, no_report)
    judged = pair.task.collection.judged[query]
    relevant = set(judged.documents[judged.grades > 0].tolist())
    found = top_k(vectors, documents, K).positions
    return [bool(relevant & set(positions)) for positions in found.tolist()]


def test_logits_are_the_kth_other_and_the_best_relevant_similarity():
    from prune_core.attacks.query_victim import NO_DOCUMENT, QuerySearch

    victim = SimpleNamespace(
        logits=lambda texts: [torch.tensor([3.0, 1.0, 2.0])] * len(texts),
        documents=torch.eye(3),
        normalize=False,
        k=2,
    )
    assert QuerySearch(victim, torch.tensor([2]))(["a"]).tolist() == [[1.0, 2.0]]
    assert QuerySearch(victim, torch.tensor([]).long())(["a"]).tolist() == [[2.0, NO_DOCUMENT]]


@pytest.mark.parametrize("index", ["own", "dense"])
def test_outcomes_are_those_of_exact_search(dense, pruned, index):
    pair = tiny.retrieval_pair(dense, pruned)
    rows = attack(pair, index=index)["query_attack_example"]
    documents = embed(
        pair,
        pruned if index == "own" else dense,
        pair.task.collection.documents,
        prompt="",
        noun="",
        report=no_report,
    )
    assert set(rows["outcome"]) >= {"success", "skipped"} and len(rows) == 6
    for row in rows.itertuples():
        texts = [row.text, row.perturbed if row.outcome == "success" else row.text]
        expected = [row.outcome != "skipped", row.outcome == "failed"]
        assert is_found(pair, pruned, texts, row.example, documents) == expected
    note = rows.set_index("outcome")["note"]["skipped"]
    assert set(pd.Series(note)) == {"No relevant document in the top 2 before the attack."}


def test_prompts_precede_attacked_queries(dense):
    model = copy.deepcopy(dense)
    model.config.sentence_embedding["settings"] = {"prompts": {"query": "a dull film about "}}
    pair = tiny.retrieval_pair(model, model)
    rows = attack(pair)["query_attack_example"]
    documents = embed(
        pair, model, pair.task.collection.documents, prompt="", noun="", report=no_report
    )
    for row in rows.itertuples():
        expected = row.outcome != "skipped"
        assert is_found(pair, model, [row.text], row.example, documents) == [expected]


def test_counts_are_compared_in_a_sentence_quantities_and_a_chart(dense, pruned):
    parts = [attack(tiny.retrieval_pair(dense, model)) for model in (dense, pruned)]
    tables = {
        name: pd.concat([part[name].assign(job=job, seed=0) for job, part in enumerate(parts)])
        for name in parts[0]
    }
    models = (ComparedModel(0, "Dense"), ComparedModel(1, "Half", "magnitude", sparsity=0.6))
    view = views.VIEWS["query_attack"]
    sentence = view.takeaway(tables, models)
    assert sentence.startswith("DeepWordBug removes all relevant documents from the top k for ")
    assert "95% interval" in sentence and "queries attacked on both" in sentence
    (quantity,) = view.quantities(tables)
    rows = tables["query_attack"]
    value, low, high, n = quantity.read(rows[rows["job"] == 1])
    assert low <= value <= high and n == rows["attacked"].iloc[1]
    (chart,) = view.charts(tables, models, False)
    assert len(chart.figure.data)


def test_data_without_documents_to_lose_is_refused(dense):
    pair = tiny.retrieval_pair(dense, dense)
    with pytest.raises(PruneError, match="k is 11, but a query has 2 relevant ones of 12"):
        attack(pair, k=11)
    with pytest.raises(PruneError, match="query_attack: tiny has no queries with relevant"):
        attack(replace(pair, task=replace(pair.task, collection=None)))
