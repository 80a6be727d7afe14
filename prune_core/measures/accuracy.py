"""Task metrics of the dense and the pruned model on the same examples, and every prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ..data.examples import Examples
from ..models.inference.predict import Predictions, predict
from ..plugins import Report, Rows, option, subrange
from ..statistics import bootstrap, mcnemar, paired_difference, wilson
from ..tasks import METRICS, TASK_TYPES, metrics_of, units, values_for
from .base import Measure, Pair


@dataclass(frozen=True)
class Accuracy(Measure):
    """The task's metric of both models (accuracy, F1 or a correlation) with 95% intervals.

    Also the paired difference, agreement, divergence (mean KL in nats; classifiers only) and the
    exact McNemar test. Fractions of examples get Wilson's interval, their difference Bonett and
    Price's (2012); other metrics a seeded bootstrap.
    """

    name = "accuracy"
    title = "Accuracy"
    summary = "The task's metric of both models with intervals, and which predictions changed"
    estimate = 3.0
    resamples: int = option(
        1000,
        "Bootstrap resamples, for metrics other than accuracy",
        low=100,
        high=100_000,
        expert=True,
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `accuracy` (one row) and `prediction` (one row per example)."""
        dense = dense_predictions(pair, subrange(report, 0.0, 0.5))
        pruned = pruned_predictions(pair, subrange(report, 0.5, 1.0))
        examples, names = pair.task.evaluation, pair.task.label_names
        # without labels, the dense predictions are the reference
        task_type = TASK_TYPES[examples.kind]
        labels: list[Any] = dense.predicted if examples.labels is None else examples.labels
        labels, before, after = task_type.comparable(
            names, labels, dense.predicted, pruned.predicted
        )
        row = summary(
            pair.task.metric,
            len(names),
            labels,
            dense=before,
            pruned=after,
            resamples=self.resamples,
            seed=pair.seed,
            probabilities=(dense.probabilities, pruned.probabilities),
            queries=examples.queries,
        )
        row["divergence"] = task_type.label_divergence(dense.probabilities, pruned.probabilities)
        stored_labels: list[Any] = [None] * len(examples)
        columns: dict[str, Any] = {}
        if examples.labels is not None:
            stored_labels = task_type.stored_labels(labels)
            columns = task_type.example_columns(labels, before, after)
        by_example = pd.DataFrame(
            {
                "example": range(len(examples)),
                "text": examples.texts,
                "pair": examples.pairs if examples.pairs else None,
                "label": stored_labels,
                "dense": before,
                "pruned": after,
                "dense_probabilities": dense.probabilities,
                "pruned_probabilities": pruned.probabilities,
                **columns,
            }
        )
        report(1.0, "accuracy measured")
        return {"accuracy": pd.DataFrame([row]), "prediction": by_example}


def summary(
    metric: str,
    classes: int,
    labels: list[Any],
    dense: list[Any],
    pruned: list[Any],
    resamples: int = 1000,
    seed: int = 0,
    *,
    probabilities: Sequence[Sequence[Sequence[float]]] = ((), ()),
    queries: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the row of the accuracy table, from labels and the predictions of both models.

    `score` is the metric `metric`; every other metric of the task type has a column with its name.
    `probabilities` are those of the dense and of the pruned model, (examples, labels); `queries`
    are the queries whose candidates the examples are, if they are. `n` counts what the metric
    averages over: queries or examples.
    """
    task_type, n = TASK_TYPES[METRICS[metric].kind], len(labels)
    row: dict[str, Any] = {
        "metric": metric,
        "n": len(set(queries)) if METRICS[metric].by_query else n,
    }
    sides = list(zip((dense, pruned), probabilities, strict=True))
    if METRICS[metric].against_dense:
        labels = task_type.as_labels(labels)
    labelled = not METRICS[metric].against_dense
    for name in metrics_of(task_type.name, classes, labelled, bool(queries)):
        row[f"dense_{name}"], row[name] = (
            METRICS[name].compute(*units(name, labels, values_for(name, *side), queries))
            for side in sides
        )
    row |= {
        "dense_score": row[f"dense_{metric}"],
        "score": row[metric],
        "broken": None,
        "fixed": None,
        "p_value": None,
        "agreement": float(np.mean(_matches(dense, pruned))) if n else 0.0,
    }
    if task_type.is_discrete or classes == 2:
        before, after = (task_type.is_correct(labels, side) for side in (dense, pruned))
        broken, fixed = int((before & ~after).sum()), int((~before & after).sum())
        row |= {"broken": broken, "fixed": fixed, "p_value": mcnemar(broken, fixed)}
    else:
        # two scores are never equal to the last digit
        row["agreement"] = task_type.closeness(dense, pruned)
    if metric in FRACTIONS:
        intervals = _of_fractions(before, after)
    else:
        (reference, first), (_, second) = (
            units(metric, labels, values_for(metric, *side), queries) for side in sides
        )
        intervals = _bootstrap(metric, reference, first, second, resamples=resamples, seed=seed)
    return row | dict(zip(_INTERVALS, intervals, strict=True))


def _of_fractions(before: np.ndarray, after: np.ndarray) -> tuple[float, ...]:
    """Return the values of _INTERVALS, from whether each example was and is correct."""
    n = len(before)
    broken, fixed = int((before & ~after).sum()), int((~before & after).sum())
    return (
        *wilson(int(before.sum()), n),
        *wilson(int(after.sum()), n),
        *paired_difference(broken, fixed, n),
    )


def _bootstrap(
    metric: str, labels: list[Any], dense: list[Any], pruned: list[Any], **settings: int
) -> tuple[float, ...]:
    """Return the values of _INTERVALS by bootstrap over examples.

    Resamples counts or values per example if the metric is a function of their sum or mean, which
    is faster than computing it from predictions each time.
    """
    spec = METRICS[metric]
    if spec.counts is not None:
        counts, of_counts = spec.counts, spec.of_counts
        assert of_counts is not None, "a metric with counts has of_counts"
        before, after = counts(labels, dense), counts(labels, pruned)
        return bootstrap(
            lambda _, rows: of_counts(rows.sum(0)), before, before, after=after, **settings
        )
    single = spec.single
    if single is None:
        reference, before, after = (np.array(values) for values in (labels, dense, pruned))
        return bootstrap(spec.compute, reference, before, after=after, **settings)
    before, after = (
        np.array([single(*pair) for pair in zip(labels, values, strict=True)])
        for values in (dense, pruned)
    )
    return bootstrap(
        lambda _, values: float(values.mean()), before, before, after=after, **settings
    )


_INTERVALS = (
    "dense_low",
    "dense_high",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
)
# metrics that are fractions of examples, as `TaskType.is_correct` counts them
FRACTIONS = (
    *("accuracy", "binary_accuracy", "exact_match", "subset_accuracy"),
    *("same_label", "same_labels", "same_answer"),
)


def _matches(left: Sequence[Any], right: Sequence[Any]) -> list[bool]:
    """Return whether the values are equal, example by example."""
    return [a == b for a, b in zip(left, right, strict=True)]


def predictions(
    pair: Pair, model: nn.Module, report: Report, examples: Examples | None = None
) -> Predictions:
    """Return the predictions of one model of the pair, by default for the evaluation sample."""
    return predict(
        model,
        pair.tokenizer_of(model),
        pair.task.evaluation if examples is None else examples,
        batch_size=pair.batch_size,
        max_length=pair.max_length,
        report=report,
    )


def dense_predictions(pair: Pair, report: Report) -> Predictions:
    """Return the dense model's predictions, computed once for all experiments on this sample."""
    return Predictions(
        *pair.of_dense(
            "predictions", lambda: tuple(predictions(pair, pair.dense, report)), plain=True
        )
    )


def pruned_predictions(pair: Pair, report: Report) -> Predictions:
    """Return the pruned model's predictions, computed once for all measures of a run."""
    if pair.is_dense:
        return dense_predictions(pair, report)
    return pair.of_pruned("predictions", lambda: predictions(pair, pair.pruned, report))
