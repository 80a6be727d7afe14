"""Retrieval quality of embedding models, and whether the dense model's index remains valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
from torch import Tensor, nn

from ..analysis.index_compatibility import (
    BASELINE,
    CELLS,
    DENSE,
    DEPTH,
    KEPT,
    PRUNED,
    REEMBEDDED,
    RESAMPLES,
    Embeddings,
    compare_indexes,
)
from ..analysis.index_vectors import compare_vectors
from ..data.examples import DOCUMENT, QUERY, Examples
from ..data.retrieval import RetrievalCollection
from ..data.tokens import encode_texts
from ..errors import PruneError
from ..models.embedding import prompt_of
from ..plugins import Report, Rows, option, subrange
from ..tasks.encoding import embeddings
from .base import Measure, Pair

QUERY_FRACTION = 0.1  # of the progress of embedding a collection


@dataclass(frozen=True)
class Retrieval(Measure):
    """Exact search with dense and pruned queries on the dense and the pruned index.

    nDCG, MRR, recall and MAP with 95% intervals over queries, their paired difference from the
    dense model, overlap of the rankings and cosine of the vectors with the dense ones.
    """

    name = "retrieval"
    title = "Retrieval"
    summary = "Ranking quality of an embedding model, and whether the old vector index can be kept"
    estimate = 20.0
    kinds: ClassVar[tuple[str, ...]] = ("embedding",)
    is_default = False  # it needs a collection
    depth: int = option(
        DEPTH, "Documents per ranking, which recall and MAP cover", low=100, high=100_000
    )
    resamples: int = option(
        RESAMPLES, "Bootstrap resamples of the queries", low=100, high=1_000_000, expert=True
    )

    align: bool = option(
        False,
        "Also rotate pruned queries into the space of the dense index (orthogonal Procrustes, "
        "fitted on documents)",
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `retrieval` and, by query, `retrieval_query`; `retrieval_vectors`.

        With `align`, `retrieval_rotation` has one row per dimension of the pruned vectors: a row of
        the matrix R that makes x @ R the vector of a query x in the space of the dense index.
        The dense model has the cell of dense queries on the dense index only. The column `query` is
        the index into the evaluation sample.
        """
        collection = collection_of(pair, self.name)
        dense = dense_embeddings(pair, collection, subrange(report, 0.0, 0.45))
        pruned = pruned_embeddings(pair, collection, subrange(report, 0.45, 0.9))
        normalize = is_cosine(pair.dense)
        report(0.9, "searching")
        compared = compare_indexes(
            dense,
            pruned,
            collection.judged,
            cells=(BASELINE,) if pair.is_dense else CELLS,
            align=self.align and not pair.is_dense,
            normalize=normalize,
            depth=self.depth,
            resamples=self.resamples,
            seed=pair.seed,
        )
        report(0.95, "searching with smaller vectors")
        vectors = compare_vectors(
            {DENSE: dense, PRUNED: pruned},
            collection.judged,
            cells=(BASELINE,) if pair.is_dense else (BASELINE, KEPT, REEMBEDDED),
            normalize=normalize,
            resamples=self.resamples,
            seed=pair.seed,
        )
        report(1.0, "retrieval measured")
        tables = {
            "retrieval": compared.table,
            "retrieval_query": compared.by_query,
            "retrieval_vectors": vectors,
        }
        if compared.rotation is not None:
            tables["retrieval_rotation"] = pd.DataFrame(
                {
                    "dimension": range(len(compared.rotation)),
                    "rotation": compared.rotation.tolist(),
                }
            )
        return tables


def collection_of(pair: Pair, measure: str) -> RetrievalCollection:
    """Return the collection of the data; PruneError if there is none."""
    if pair.task.collection is None:
        raise PruneError(
            f"{measure}: {pair.task.name} has no queries with relevant documents; give a "
            "folder with corpus.jsonl, queries.jsonl and qrels/test.tsv, or a table with the "
            "columns query and positive, as the data."
        )
    return pair.task.collection


def is_cosine(model: Any) -> bool:
    """Whether vectors are compared by their cosine, not by the dot product."""
    return _settings(model).get("similarity_fn_name") != "dot"


def dense_embeddings(pair: Pair, collection: RetrievalCollection, report: Report) -> Embeddings:
    """Embed the collection with the dense model, once for all experiments and measures."""
    return Embeddings(
        *pair.of_dense(
            _key(pair, collection),
            lambda: embed_collection(pair, pair.dense, collection, report),
            plain=True,
        )
    )


def pruned_embeddings(pair: Pair, collection: RetrievalCollection, report: Report) -> Embeddings:
    """Embed the collection with the pruned model, once for all measures of a run."""
    if pair.is_dense:
        return dense_embeddings(pair, collection, report)
    return Embeddings(
        *pair.of_pruned(
            _key(pair, collection),
            lambda: embed_collection(pair, pair.pruned, collection, report),
        )
    )


def _key(pair: Pair, collection: RetrievalCollection) -> Any:
    """Return the key of cached embeddings; a sample of the documents has its own key."""
    if collection is pair.task.collection:
        return "retrieval"
    return ("retrieval", len(collection.documents), pair.seed)


def embed_collection(
    pair: Pair, model: nn.Module, collection: RetrievalCollection, report: Report
) -> tuple[Tensor, Tensor]:
    """Embed queries and documents: two float32 matrices (texts, dimensions) on the CPU."""
    start, end = subrange(report, 0.0, QUERY_FRACTION), subrange(report, QUERY_FRACTION, 1.0)
    queries = embed_queries(pair, model, collection.queries, start)
    return queries, embed_documents(pair, model, collection.documents, end)


def model_prompt(model: Any, role: str) -> str:
    """Return the text that a model expects before a QUERY or DOCUMENT."""
    return prompt_of(_settings(model), role)


def embed_queries(pair: Pair, model: nn.Module, texts: Sequence[str], report: Report) -> Tensor:
    """Embed queries after the model's prompt: (queries, dimensions) on the CPU."""
    prompt = model_prompt(model, QUERY)
    return embed(pair, model, texts, prompt=prompt, noun="queries", report=report)


def embed_documents(pair: Pair, model: nn.Module, texts: Sequence[str], report: Report) -> Tensor:
    """Embed documents after the model's prompt: (documents, dimensions) on the CPU."""
    prompt = model_prompt(model, DOCUMENT)
    return embed(pair, model, texts, prompt=prompt, noun="documents", report=report)


def embed(
    pair: Pair, model: nn.Module, texts: Sequence[str], *, prompt: str, noun: str, report: Report
) -> Tensor:
    """Embed texts after a prompt, in batches sorted by length: (texts, dimensions) on the CPU."""
    tokenizer = pair.tokenizer_of(model)
    limit = min(pair.max_length, tokenizer.model_max_length)
    features = encode_texts(tokenizer, Examples([prompt + text for text in texts]), limit)
    return embeddings(model, tokenizer, features, pair.batch_size, report=report, noun=noun)


def _settings(model: Any) -> Mapping[str, Any]:
    """Return the settings of sentence-transformers: prompts and the similarity function."""
    settings: Mapping[str, Any] = model.config.sentence_embedding["settings"]
    return settings
