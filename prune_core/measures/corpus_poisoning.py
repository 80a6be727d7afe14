"""Corpus poisoning of embedding models: how many queries one inserted passage reaches."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor, nn

from ..analysis.index_compatibility import Embeddings
from ..data.exact_search import insertion_ranks
from ..data.examples import DOCUMENT, sample_indices
from ..data.retrieval import RetrievalCollection
from ..errors import PruneError
from ..plugins import Report, Rows, no_report, option, subrange
from ..statistics import wilson
from .base import Measure, Pair
from .retrieval import (
    collection_of,
    dense_embeddings,
    embed_documents,
    is_cosine,
    model_prompt,
    pruned_embeddings,
)

DOCUMENTS = 100  # sampled; the passage at the start has the first words of one of them
TRAIN, HELD_OUT = "train", "held-out"


class Setup(NamedTuple):
    """What the attacks on all models have in common."""

    start: list[str]  # words of the passage before the attack
    train: list[int]  # queries on which it is optimized
    held_out: list[int]  # queries on which success is counted


@dataclass(frozen=True)
class CorpusPoisoning(Measure):
    """Insert a passage that is optimized (HotFlip) to be similar to half of the queries.

    The attack succeeds for a query of the other half if the passage enters its top k in the index
    of the attacked model (Zhong et al. 2023, arXiv 2310.19156). The passage of the dense model is
    tested on the pruned one, too.
    """

    name = "corpus_poisoning"
    title = "Corpus poisoning"
    summary = (
        "How many queries one inserted passage reaches that is optimized for the embedding model, "
        "or for the dense one"
    )
    estimate = 30.0
    slow = True
    kinds: ClassVar[tuple[str, ...]] = ("embedding",)
    is_default = False  # it needs a collection

    k: int = option(10, "First documents of which the passage must be one", low=1, high=1000)
    words: int = option(20, "Words of the passage", low=1, high=100, unit="words")
    steps: int = option(
        60, "Words that are tried to be replaced, one per step", low=1, high=100_000, unit="steps"
    )
    candidates: int = option(
        16,
        "Replacements per step that are compared by a forward pass, the best to first order",
        low=1,
        high=1000,
        expert=True,
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `corpus_poisoning`, a row per passage, `corpus_poisoning_query`, and per query.

        The column `passage` is the model for which the passage was optimized: own or dense.
        """
        collection = collection_of(pair, self.name)
        if self.k > len(collection.documents):
            raise PruneError(
                f"corpus_poisoning: k is {self.k}, but there are {len(collection.documents)} "
                "documents, so every passage is in the top k; choose a smaller k."
            )
        report(0.0, "choosing a passage")
        setup = self._setup(pair, collection)
        dense = dense_embeddings(pair, collection, subrange(report, 0.0, 0.2))
        passage = pair.of_dense(
            (self, pair.seed),
            lambda: self._optimized(
                pair, pair.dense, setup, dense.queries, subrange(report, 0.2, 0.5)
            ),
            plain=True,
        )
        vectors, passages = dense, {"own": passage}
        if not pair.is_dense:
            part = subrange(report, 0.5, 0.7)
            vectors = pruned_embeddings(pair, collection, part)
            part = subrange(report, 0.7, 1.0)
            own = self._optimized(pair, pair.pruned, setup, vectors.queries, part)
            passages = {"own": own, "dense": passage}
        found = [
            self._reached(pair, collection, setup, vectors=vectors, name=name, passage=each)
            for name, each in passages.items()
        ]
        report(1.0, "corpus poisoning measured")
        return {
            self.name: pd.DataFrame([row for row, _ in found]),
            f"{self.name}_query": pd.concat([rows for _, rows in found], ignore_index=True),
        }

    def _setup(self, pair: Pair, collection: RetrievalCollection) -> Setup:
        """Choose the first words of a document, and halve the queries it is not relevant to.

        Of a sample of documents, one relevant to the fewest queries, then one with enough words.
        """
        vocabulary = _vocabulary(pair)
        names = {token: word for word, token in vocabulary.items()}
        fixed = len(pair.tokenizer(model_prompt(pair.dense, DOCUMENT))["input_ids"])
        length = min(self.words, _limit(pair) - fixed)
        relevant = [{*judged.documents[judged.grades > 0]} for judged in collection.judged]
        starts = {}
        for place in sample_indices(range(len(collection.documents)), DOCUMENTS, pair.seed):
            text = collection.documents[place]
            ids = pair.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            starts[place] = [names[token] for token in ids if token in names][:length]
        judgements = Counter(place for places in relevant for place in places)
        chosen = min(starts, key=lambda place: (judgements[place], -len(starts[place])))
        order = [query for query, places in enumerate(relevant) if chosen not in places]
        if not starts[chosen] or len(order) < 2:
            raise PruneError(
                f"corpus_poisoning: {pair.task.name} has too little to attack (queries: "
                f"{len(order)}, words at the start: {len(starts[chosen])}); give a collection "
                "with at least 2 queries and with documents whose words the tokenizer knows."
            )
        random.Random(pair.seed).shuffle(order)
        half = len(order) // 2
        return Setup(starts[chosen], sorted(order[:half]), sorted(order[half:]))

    def _optimized(
        self, pair: Pair, model: nn.Module, setup: Setup, queries: Tensor, report: Report
    ) -> tuple[list[str], int]:
        """Return the words of the passage after the attack on a model, and the steps taken."""
        from ..attacks.hotflip import optimize

        words, similarities = optimize(
            _target(pair, model, queries[setup.train]),
            setup.start,
            self.steps,
            candidates=self.candidates,
            report=report,
        )
        return words, len(similarities) - 1

    def _reached(
        self,
        pair: Pair,
        collection: RetrievalCollection,
        setup: Setup,
        *,
        vectors: Embeddings,
        name: str,
        passage: tuple[list[str], int],
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """Return the rows of a passage in the two tables, for the attacked model."""
        words, steps = passage
        queries, documents = vectors
        texts = [" ".join(setup.start), " ".join(words)]
        inserted = embed_documents(pair, pair.pruned, texts, no_report)
        normalize = is_cosine(pair.dense)
        before, after = (
            insertion_ranks(queries, documents, vector[None], normalize=normalize)
            for vector in inserted
        )
        target = _target(pair, pair.pruned, queries[setup.train])
        first, last = target.similarities([setup.start, words]).tolist()
        held_out = setup.held_out
        succeeded = int((after[held_out] <= self.k).sum())
        low, high = wilson(succeeded, len(held_out))
        row = {
            "passage": name,
            "k": self.k,
            "n": len(held_out),
            "succeeded": succeeded,
            "success_rate": succeeded / len(held_out),
            "success_low": low,
            "success_high": high,
            "start_rate": float((before[held_out] <= self.k).mean()),
            "train_rate": float((after[setup.train] <= self.k).mean()),
            "start_similarity": first,
            "similarity": last,
            "steps": steps,
            "start": texts[0],
            "text": texts[1],
        }
        order = setup.train + held_out
        by_query = pd.DataFrame(
            {
                "passage": name,
                "example": order,
                "text": [collection.queries[query] for query in order],
                "split": [TRAIN] * len(setup.train) + [HELD_OUT] * len(held_out),
                "start_rank": before[order],
                "rank": after[order],
                "outcome": np.where(after[order] <= self.k, "success", "failed"),
            }
        )
        return row, by_query


def _limit(pair: Pair) -> int:
    """Return the largest number of tokens of a text."""
    return int(min(pair.max_length, pair.tokenizer.model_max_length))


def _vocabulary(pair: Pair) -> dict[str, int]:
    """Return the words that may be inserted, with their token ids."""
    from ..attacks.hotflip import whole_words

    found: dict[str, int] = pair.of_dense("whole words", lambda: whole_words(pair.tokenizer))
    return found


def _target(pair: Pair, model: nn.Module, queries: Tensor) -> Any:
    """Return the similarity of passages to these queries, (queries, dimensions)."""
    from ..attacks.hotflip import PassageTarget

    return PassageTarget(
        model,
        pair.tokenizer,
        _vocabulary(pair),
        queries=queries,
        is_cosine=is_cosine(pair.dense),
        prompt=model_prompt(model, DOCUMENT),
        limit=_limit(pair),
    )
