"""HotFlip on passages, and the measure that inserts them into a retrieval collection."""

import copy
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError, views
from prune_core.analysis.compared_models import ComparedModel
from prune_core.attacks.hotflip import PassageTarget, optimize, replaced, whole_words
from prune_core.data.exact_search import insertion_ranks, top_k
from prune_core.measures import MEASURES
from prune_core.measures.retrieval import embed_collection, embed_documents
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report

START = ["a", "warm", "and", "funny"]
SMALL = {"k": 2, "words": 4, "steps": 5, "candidates": 4}


class MeanEmbedding(torch.nn.Module):
    """Embeds a text as the mean of its token embeddings, so first-order changes are exact."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(30522, 8)

    def get_input_embeddings(self):
        return self.table

    def forward(self, input_ids, attention_mask, **_):
        real = attention_mask[..., None]
        mean = (self.table(input_ids) * real).sum(1) / real.sum(1)
        return SimpleNamespace(embeddings=mean)


@pytest.fixture(scope="module")
def vocabulary():
    return whole_words(tiny.tokenizer())


@pytest.fixture(scope="module")
def dense():
    return tiny.model(kind="embedding")


@pytest.fixture(scope="module")
def pairs(dense, vocabulary):
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": 0.6}).prune(pruned, [], no_report)
    memo = {"whole words": vocabulary}
    return [replace(tiny.retrieval_pair(dense, model), memo=memo) for model in (dense, pruned)]


@pytest.fixture(scope="module")
def parts(pairs):
    return [build(MEASURES, "corpus_poisoning", SMALL).measure(pair, no_report) for pair in pairs]


def test_vocabulary_has_whole_words_that_are_read_as_their_token(vocabulary):
    tokenizer = tiny.tokenizer()
    assert {"film", "warm"} < set(vocabulary) and all(word.isalpha() for word in vocabulary)
    some = list(vocabulary)[::50]
    expected = [vocabulary[word] for word in some]
    assert tokenizer(" ".join(some), add_special_tokens=False)["input_ids"] == expected
    assert tokenizer.decode(expected) == " ".join(some)


def test_a_step_on_a_linear_model_is_the_best_of_the_vocabulary(vocabulary):
    some = dict(list(vocabulary.items())[::40])
    queries = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    target = PassageTarget(
        MeanEmbedding(), tiny.tokenizer(), some, queries=queries, is_cosine=False, prompt="query: "
    )
    for place in range(len(START)):
        values = target.similarities([replaced(START, place, word) for word in some])
        best = [list(some)[index] for index in values.topk(3).indices]
        assert target.replacements(START, place, 3) == best
    values = target.similarities([replaced(START, 0, word) for word in some])
    words, similarities = optimize(target, START, 1, candidates=1, report=no_report)
    assert words == replaced(START, 0, list(some)[int(values.argmax())])
    assert similarities == pytest.approx([target.similarities([START]).item(), values.max().item()])


def test_similarity_of_the_accepted_words_never_decreases(dense, vocabulary):
    queries = torch.randn(3, 24, generator=torch.Generator().manual_seed(1))
    target = PassageTarget(dense, tiny.tokenizer(), vocabulary, queries=queries, is_cosine=True)
    words, similarities = optimize(target, START, 6, candidates=4, report=no_report)
    assert similarities == sorted(similarities) and similarities[-1] > similarities[0]
    expected = torch.nn.functional.cosine_similarity(
        queries, dense(**tiny.tokenizer()(" ".join(words), return_tensors="pt")).embeddings
    )
    assert similarities[-1] == pytest.approx(expected.mean().item(), abs=1e-5)


def test_optimization_ends_when_no_word_can_be_replaced(dense):
    target = PassageTarget(
        dense, tiny.tokenizer(), {"a": 1037}, queries=torch.ones(1, 24), is_cosine=True
    )
    words, similarities = optimize(target, ["a", "a"], 9, candidates=4, report=no_report)
    assert words == ["a", "a"] and len(similarities) == 3


@pytest.mark.parametrize("normalize", [True, False])
def test_insertion_rank_is_the_place_behind_documents_as_similar(normalize):
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    for vector in (rng.normal(size=(1, 3)), documents[2:3]):
        found = top_k(queries, np.concatenate([documents, vector]), 7, normalize=normalize)
        ranks = 1 + np.argmax(found.positions == 6, axis=1)
        inserted = insertion_ranks(queries, documents, vector, normalize=normalize)
        assert inserted.tolist() == ranks.tolist()


def test_rows_are_those_of_exact_search_on_the_attacked_model(pairs, parts):
    (_, pair), (of_dense, tables) = pairs, parts
    rows, by_query = tables["corpus_poisoning"], tables["corpus_poisoning_query"]
    assert rows["passage"].tolist() == ["own", "dense"]
    assert rows["text"][1] == of_dense["corpus_poisoning"]["text"][0] != rows["text"][0]
    queries, documents = embed_collection(pair, pair.pruned, pair.task.collection, no_report)
    for row in rows.itertuples():
        inserted = embed_documents(pair, pair.pruned, [row.text], no_report)
        own = by_query[by_query["passage"] == row.passage]
        ranks = insertion_ranks(queries, documents, inserted)
        assert own["rank"].tolist() == ranks[own["example"]].tolist()
        held_out = own[own["split"] == "held-out"]
        assert row.n == len(held_out) and row.succeeded == (held_out["rank"] <= 2).sum()
        assert (own["outcome"] == "success").tolist() == (own["rank"] <= 2).tolist()


def test_queries_of_the_document_at_the_start_are_not_attacked(pairs, parts):
    collection, tables = pairs[0].task.collection, parts[0]
    (left_out,) = {*range(6)} - {*tables["corpus_poisoning_query"]["example"]}
    start = {*tables["corpus_poisoning"]["start"][0].split()}
    relevant = collection.judged[left_out].documents
    texts = [collection.documents[place].lower() for place in relevant]
    assert any(start <= {*re.findall(r"\w+", text)} for text in texts)


def test_counts_are_compared_in_a_sentence_quantities_and_a_chart(parts):
    tables = {
        name: pd.concat([part[name].assign(job=job, seed=0) for job, part in enumerate(parts)])
        for name in parts[0]
    }
    models = (ComparedModel(0, "Dense"), ComparedModel(1, "Half", "magnitude", sparsity=0.6))
    view = views.VIEWS["corpus_poisoning"]
    sentence = view.takeaway(tables, models)
    assert sentence.startswith("One inserted passage, optimized on other queries, enters the top k")
    assert "of 3 queries of the dense model" in sentence and "95% interval" in sentence
    rows = tables["corpus_poisoning"]
    own, transfer = view.quantities(tables)
    value, low, high, n = own.read(rows[rows["job"] == 1])
    assert low <= value <= high and n == 3
    assert np.isnan(transfer.read(rows[rows["job"] == 0])[0])
    (chart,) = view.charts(tables, models, False)
    assert "of attacked queries" in chart.figure.to_json()


def test_collections_without_queries_to_reach_are_refused(pairs):
    measure = build(MEASURES, "corpus_poisoning", {"k": 13})
    with pytest.raises(PruneError, match="k is 13, but there are 12 documents"):
        measure.measure(pairs[0], no_report)
    task = replace(pairs[0].task, collection=pairs[0].task.collection.sample_queries(1, 0))
    with pytest.raises(PruneError, match=r"too little to attack \(queries: 1,"):
        build(MEASURES, "corpus_poisoning", SMALL).measure(replace(pairs[0], task=task), no_report)
