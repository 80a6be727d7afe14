"""Task metrics of the dense and the pruned model on the same examples, and every prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import nn

from ..data.examples import AnswerSpans
from ..data.metrics import (
    METRICS,
    answer_f1,
    comparable_values,
    exact_match,
    metrics_of,
    values_for,
)
from ..models.inference.predict import Predictions, predict
from ..plugins import Report, Rows, option, subrange
from ..statistics import bootstrap, mcnemar, paired_difference, wilson
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
        pruned = (
            dense if pair.is_dense else predictions(pair, pair.pruned, subrange(report, 0.5, 1.0))
        )
        examples, names = pair.task.evaluation, pair.task.label_names
        # without labels, the dense predictions are the reference
        labels: list[Any] = dense.predicted if examples.labels is None else examples.labels
        labels, before, after = comparable_values(
            examples.kind, names, labels, dense.predicted, pruned.predicted
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
        )
        row["divergence"] = divergence(dense.probabilities, pruned.probabilities, examples.kind)
        saved_labels: list[Any] = [None] * len(examples) if examples.labels is None else labels
        if examples.kind == "span":
            saved_labels = [spans and spans.texts for spans in saved_labels]
        has_answers = examples.kind == "span" and examples.labels is not None
        by_example = pd.DataFrame(
            {
                "example": range(len(examples)),
                "text": examples.texts,
                "pair": examples.pairs if examples.pairs else None,
                "label": saved_labels,
                "dense": before,
                "pruned": after,
                "dense_probabilities": dense.probabilities,
                "pruned_probabilities": pruned.probabilities,
                **(_f1_by_example(labels, before, after) if has_answers else {}),
            }
        )
        report(1.0, "accuracy measured")
        return {"accuracy": pd.DataFrame([row]), "prediction": by_example}


def divergence(dense: ArrayLike, pruned: ArrayLike, kind: str = "classification") -> float | None:
    """Return the mean Kullback–Leibler divergence of pruned from dense over examples, in nats.

    Both are probabilities of shape (examples, labels). For multi-label models the divergences of
    the labels are summed. None for tasks without a probability per label.
    """
    if kind not in ("classification", "multilabel"):
        return None
    p, q = (np.asarray(side).clip(1e-9) for side in (dense, pruned))
    terms = p * np.log(p / q)
    if kind == "multilabel":
        p, q = ((1 - side).clip(1e-9) for side in (p, q))
        terms = terms + p * np.log(p / q)
    # rounding may give a tiny negative value; NaN stays NaN
    return float(np.maximum(0.0, terms.sum(-1).mean()))


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
) -> dict[str, Any]:
    """Return the row of the accuracy table, from labels and the predictions of both models.

    `score` is the metric `metric`; every other metric of the task type has a column with its name.
    `probabilities` are those of the dense and of the pruned model, (examples, labels).
    """
    kind, n = METRICS[metric].kind, len(labels)
    row: dict[str, Any] = {"metric": metric, "n": n}
    sides = list(zip((dense, pruned), probabilities, strict=True))
    if METRICS[metric].against_dense and kind == "span":
        # the dense model's answers are the accepted ones; an empty text means no answer
        labels = [AnswerSpans([text], [0]) if text else AnswerSpans([], []) for text in labels]
    for name in metrics_of(kind, classes, not METRICS[metric].against_dense):
        row[f"dense_{name}"], row[name] = (
            METRICS[name].compute(labels, values_for(name, *side)) for side in sides
        )
    row |= {
        "dense_score": row[f"dense_{metric}"],
        "score": row[metric],
        "broken": None,
        "fixed": None,
        "p_value": None,
        "agreement": float(np.mean(_matches(dense, pruned))) if n else 0.0,
    }
    if kind != "regression" or classes == 2:
        before, after = _is_correct(kind, labels, dense), _is_correct(kind, labels, pruned)
        broken, fixed = int((before & ~after).sum()), int((~before & after).sum())
        row |= {"broken": broken, "fixed": fixed, "p_value": mcnemar(broken, fixed)}
    else:
        # two scores are never equal to the last digit
        row["agreement"] = METRICS["pearson"].compute(dense, pruned)
    if metric in FRACTIONS:
        intervals = _of_fractions(before, after)
    else:
        values = [values_for(metric, *side) for side in sides]
        intervals = _bootstrap(metric, labels, *values, resamples=resamples, seed=seed)
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
# metrics that are fractions of examples, as `_is_correct` counts them
FRACTIONS = (
    *("accuracy", "binary_accuracy", "exact_match", "subset_accuracy"),
    *("same_label", "same_labels", "same_answer"),
)


def _matches(left: Sequence[Any], right: Sequence[Any]) -> list[bool]:
    """Return whether the values are equal, example by example."""
    return [a == b for a, b in zip(left, right, strict=True)]


def _is_correct(kind: str, labels: list[Any], predictions: list[Any]) -> np.ndarray:
    """Return whether each prediction is correct, as a Boolean array (examples,).

    An answer is correct if it equals an accepted answer; a tagged text if all its tags are correct.
    """
    if kind == "span":
        scores = [exact_match(*pair) for pair in zip(labels, predictions, strict=True)]
        return np.array(scores, dtype=float) == 1.0
    return np.array(_matches(labels, predictions), dtype=bool)


def _f1_by_example(
    labels: list[AnswerSpans], dense: list[str], pruned: list[str]
) -> dict[str, list[float]]:
    """Return the F1 of each answer, which may be partly correct, as columns."""
    return {
        name: [answer_f1(*pair) for pair in zip(labels, answers, strict=True)]
        for name, answers in (("dense_f1", dense), ("pruned_f1", pruned))
    }


def predictions(pair: Pair, model: nn.Module, report: Report) -> Predictions:
    """Return the predictions of one model of the pair on the evaluation sample."""
    return predict(
        model,
        pair.tokenizer,
        pair.task.evaluation,
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
