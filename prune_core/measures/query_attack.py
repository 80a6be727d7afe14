"""Attacks on the queries of an embedding model: typos and other words that lose the documents."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..attacks.catalogue import CATALOGUE
from ..data.examples import QUERY, Examples
from ..errors import PruneError
from ..plugins import Report, Rows, no_report, option
from .attack import Attack
from .base import Pair
from .retrieval import (
    collection_of,
    dense_embeddings,
    is_cosine,
    model_prompt,
    pruned_embeddings,
)

# they need gradients of a loss, or keep the result instead of changing it
UNSUITABLE = ("A2T", "Input reduction")
INDEX = "index of attacked queries"  # key of a pair's memo


@dataclass(frozen=True)
class QueryAttack(Attack):
    """Attack queries for which the model finds a relevant document in the top k.

    An attack succeeds if no relevant document remains in the top k. A query is an example with
    label 1: a relevant document is in the top k.
    """

    name = "query_attack"
    title = "Query attacks"
    summary = (
        "How often small changes of letters or words of a query remove all relevant documents from "
        "the top k of an embedding model"
    )
    is_default = False  # it needs a collection
    kinds: ClassVar[tuple[str, ...]] = ("embedding",)

    recipes: str = option(
        "DeepWordBug, TextFooler (MiniLM)",
        "Which attacks to run",
        choices=tuple(name for name in CATALOGUE if not name.startswith(UNSUITABLE)),
        several=True,
    )
    k: int = option(10, "Documents in which a relevant one must be", low=1, high=1000)
    index: str = option(
        "own",
        "Model that embedded the documents. own: the attacked one; dense: the old index is kept",
        choices=("own", "dense"),
    )

    @property
    def goal(self) -> tuple[Any, ...]:
        """k and the model of the index."""
        return (self.k, self.index)

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `query_attack` (a row per recipe), `query_attack_example` (and per query)."""
        from ..attacks.engine import MISCLASSIFIED

        found = pair.memo | {INDEX: self._index(pair)}
        tables = super().measure(replace(pair, memo=found), report)
        note = f"No relevant document in the top {self.k} before the attack."
        return {name: rows.replace(MISCLASSIFIED, note) for name, rows in tables.items()}

    def _attacked(self, pair: Pair) -> Examples:
        collection = collection_of(pair, self.name)
        largest = max(int((judged.grades > 0).sum()) for judged in collection.judged)
        if self.k + largest > len(collection.documents):
            raise PruneError(
                f"query_attack: k is {self.k}, but a query has {largest} relevant ones of "
                f"{len(collection.documents)} documents, so one is always in the top k; "
                "choose a smaller k."
            )
        return replace(pair.task.evaluation, labels=[1] * len(collection.queries))

    def _index(self, pair: Pair) -> Tensor:
        """Embeddings of the documents, (documents, dimensions)."""
        collection = collection_of(pair, self.name)
        embedded = pruned_embeddings if self.index == "own" else dense_embeddings
        documents: Tensor = embedded(pair, collection, no_report).documents
        return documents

    def _victim(self, pair: Pair, on_progress: Callable[[], None], dtype: torch.dtype) -> Any:
        from ..attacks.query_victim import QueryVictim

        tokenizer = pair.tokenizer_of(pair.pruned)
        victim = QueryVictim(
            pair.pruned, tokenizer, on_progress, pair.batch_size, pair.max_length, dtype
        )
        judged = collection_of(pair, self.name).judged
        victim.use_index(
            pair.memo[INDEX],
            [torch.from_numpy(each.documents[each.grades > 0]) for each in judged],
            self.k,
            prompt=model_prompt(pair.pruned, QUERY),
            normalize=is_cosine(pair.dense),
        )
        return victim
