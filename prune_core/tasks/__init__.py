"""Task types: what a model predicts, and everything that depends on it. One file per type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..data.metrics import Metric
from ..errors import PruneError
from .base import Predictions, TaskType
from .classification import Classification
from .embedding import Embedding
from .multilabel import Multilabel
from .regression import RANKING, Regression
from .span import Span
from .token import TokenClassification

__all__ = ["METRICS", "TASK_TYPES", "Predictions", "TaskType"]

TASK_TYPES: dict[str, TaskType] = {
    each.name: each
    for each in (
        Classification(),
        Multilabel(),
        TokenClassification(),
        Regression(),
        Span(),
        Embedding(),
    )
}
DEFAULT = Classification.name
DEFAULT_RANKING = next(iter(RANKING))  # metric
METRICS: dict[str, Metric] = {
    name: metric for task_type in TASK_TYPES.values() for name, metric in task_type.metrics.items()
}


def of_head(class_name: str, config: Any) -> TaskType:
    """Return the task type of a model class with that configuration."""
    # a classifier is what no other type is
    others = [task_type for name, task_type in TASK_TYPES.items() if name != DEFAULT]
    with_class = [each for each in others if each.head_class != Classification.head_class]
    candidates = [*with_class, *(each for each in others if each not in with_class)]
    fitting = (each for each in candidates if each.fits_head(class_name, config))
    return next(fitting, TASK_TYPES[DEFAULT])


def of_table(table: pd.DataFrame) -> TaskType:
    """Return the task type that the names of a table's columns show."""
    described = (each for each in (TASK_TYPES["span"], *TASK_TYPES.values()))
    return next((each for each in described if each.is_described_by(table)), TASK_TYPES[DEFAULT])


def metrics_of(
    kind: str, classes: int, labelled: bool = True, has_queries: bool = False
) -> list[str]:
    """Return the names of the metrics for a task type, the default first.

    Without labels: the metrics of agreement with the dense model.
    """
    return [
        name
        for name, metric in TASK_TYPES[kind].metrics.items()
        if (classes == 2 or not metric.binary)
        and (has_queries or not metric.by_query)
        and metric.against_dense is not labelled
    ]


def values_for(
    metric: str, predictions: Sequence[Any], probabilities: Sequence[Sequence[float]] = ()
) -> list[Any]:
    """Return the values that a metric compares with the labels.

    Predictions; or probabilities of label 1 for a metric that ranks, if there are two columns, as a
    binary classifier with one output has.
    """
    if METRICS[metric].ranks and len(probabilities) and len(probabilities[0]) == 2:
        return [row[1] for row in probabilities]
    return list(predictions)


def units(
    metric: str, labels: Sequence[Any], values: Sequence[Any], queries: Sequence[str]
) -> tuple[list[Any], list[Any]]:
    """Return labels and values of the units that a metric averages over.

    These are the examples, or for a metric by query lists with the examples of each query.
    """
    if not METRICS[metric].by_query:
        return list(labels), list(values)
    groups: dict[str, tuple[list[Any], list[Any]]] = {query: ([], []) for query in queries}
    for query, label, value in zip(queries, labels, values, strict=True):
        groups[query][0].append(label)
        groups[query][1].append(value)
    return [group[0] for group in groups.values()], [group[1] for group in groups.values()]


def prediction_type(kind: str, metric: str) -> TaskType:
    """Return the task type of stored predictions.

    Predictions of a binary classifier with one output are thresholded, so they are classes.
    """
    task_type = TASK_TYPES[kind]
    is_binary = not task_type.is_discrete and metric in METRICS and METRICS[metric].binary
    return TASK_TYPES[DEFAULT] if is_binary else task_type


def metric_for(
    kind: str,
    classes: int,
    requested: str = "",
    labelled: bool = True,
    has_queries: bool = False,
    has_grades: bool = False,
) -> str:
    """Return the requested metric, or the task type's default.

    That for candidates with grades (`Examples.has_grades`) is nDCG@10. Without labels, always the
    agreement with the dense model. PruneError if the requested metric does not exist for the task
    type.
    """
    known = metrics_of(kind, classes, labelled, has_queries)
    if not labelled:
        return known[0]
    if f"binary_{requested}" in known:
        requested = f"binary_{requested}"
    if requested and requested not in known:
        raise PruneError(
            f"The metric {requested!r} does not fit this model; choose one of {', '.join(known)}."
        )
    default = DEFAULT_RANKING if has_grades and DEFAULT_RANKING in known else known[0]
    return requested or default
