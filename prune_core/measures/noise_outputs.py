"""Outputs for noisy texts: predictions, or the documents retrieved for a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..data.exact_search import top_k
from ..data.examples import Examples
from ..errors import PruneError
from ..plugins import Report, no_report
from ..tasks import TASK_TYPES, Predictions, TaskType, prediction_type
from .accuracy import predictions
from .base import Pair
from .retrieval import collection_of, dense_embeddings, embed_queries, is_cosine, pruned_embeddings


@dataclass(frozen=True)
class TaskOutputs:
    """Predictions of the task type; scores differ if they change by more than `tolerance`.

    `tolerance` is a multiple of the standard deviation of the dense model's scores.
    """

    pair: Pair
    tolerance: float

    @property
    def _type(self) -> TaskType:
        """The type of the predictions; a binary classifier with one output predicts classes."""
        return prediction_type(self.pair.task.kind, self.pair.task.metric)

    def predict(self, model: nn.Module, examples: Examples, report: Report) -> Predictions:
        """Predict the examples."""
        return predictions(self.pair, model, report, examples=examples)

    def failed(self, before: Sequence[Any], after: Sequence[Any], dense: Sequence[Any]) -> Any:
        """Return a mask (copies,) of changed predictions; `dense` is the dense model's `before`."""
        if self._type.is_discrete:
            return ~self._type.is_same(before, after)
        limit = self.tolerance * float(np.std(dense))
        return np.abs(np.array(after) - np.array(before)) > limit

    def correct(self, indices: Sequence[int], predicted: Sequence[Any]) -> Any:
        """Return whether predictions for these examples are correct; None if undefined.

        It is undefined without labels and for scores.
        """
        examples = self.pair.task.evaluation
        if examples.labels is None or not self._type.is_discrete:
            return None
        labels, values = TASK_TYPES[examples.kind].comparable(
            self.pair.task.label_names, [examples.labels[index] for index in indices], predicted
        )
        return self._type.is_correct(labels, values)

    def text(self, text: str, prediction: Any) -> str:
        """Format the prediction for a text."""
        shown = TASK_TYPES[self.pair.task.kind].text_prediction(
            text, prediction, self.pair.task.label_names
        )
        value = shown["prediction"]
        return f"{value:.3f}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class SearchOutputs:
    """The top k documents that a model retrieves for a query from its own index."""

    pair: Pair
    k: int = 10

    def predict(self, model: nn.Module, examples: Examples, report: Report) -> Predictions:
        """Return the positions of the top documents per query, without probabilities."""
        collection = collection_of(self.pair, "noise")
        embedded = dense_embeddings if model is self.pair.dense else pruned_embeddings
        documents = embedded(self.pair, collection, no_report).documents
        queries = embed_queries(self.pair, model, examples.texts, report)
        found = top_k(queries, documents, self.k, normalize=is_cosine(self.pair.dense))
        return Predictions(found.positions.tolist(), [[] for _ in examples.texts])

    def failed(self, before: Sequence[Any], after: Sequence[Any], dense: Sequence[Any]) -> Any:
        """Return a mask (copies,) of queries whose top document changed."""
        return np.array([old[0] != new[0] for old, new in zip(before, after, strict=True)])

    def correct(self, indices: Sequence[int], predicted: Sequence[Any]) -> Any:
        """Return whether a relevant document is among the top k."""
        judged = collection_of(self.pair, "noise").judged
        relevant = [set(judged[index].documents[judged[index].grades > 0]) for index in indices]
        return np.array(
            [not known.isdisjoint(found) for known, found in zip(relevant, predicted, strict=True)]
        )

    def text(self, text: str, prediction: Any) -> str:
        """Return the first 100 characters of the top document."""
        return collection_of(self.pair, "noise").documents[prediction[0]][:100]


def outputs_of(pair: Pair, tolerance: float) -> TaskOutputs | SearchOutputs:
    """Return the outputs of a task; raise PruneError for single texts of an embedding model."""
    if pair.task.collection is not None:
        return SearchOutputs(pair)
    if TASK_TYPES[pair.task.kind].separates_pairs and pair.task.evaluation.pairs is None:
        raise PruneError(
            "noise: single texts of an embedding model have no prediction that noise could change; "
            "set a second text column, or give a retrieval collection as the data."
        )
    return TaskOutputs(pair, tolerance)
