"""Metrics of GLUE, SQuAD and CoNLL, computed from labels and predictions."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import PruneError
from .examples import AnswerSpans

THRESHOLD = 0.5  # probability above which a binary classifier with one output predicts label 1
IGNORE_INDEX = -100  # label of words that metrics ignore, as in transformers


@dataclass(frozen=True)
class Metric:
    """A metric; higher is better for all of them."""

    title: str
    kind: str  # task type
    compute: Callable[[Sequence[Any], Sequence[Any]], float]  # (labels, predictions) -> value
    share: bool = True  # a fraction, shown as a percentage
    binary: bool = False  # defined for two classes only
    # one example's value, if the metric is the mean of these
    single: Callable[[Any, Any], float] | None = None
    # (examples, counts) array, if the metric is a function of the column sums; see of_counts
    counts: Callable[[Sequence[Any], Sequence[Any]], np.ndarray] | None = None
    of_counts: Callable[[np.ndarray], float] | None = None
    ranks: bool = False  # computed on outputs or probabilities, not on thresholded predictions
    against_dense: bool = False  # for data without labels: the dense model's predictions are labels


def exact_match(answers: AnswerSpans, prediction: str) -> float:
    """1 if the prediction is an accepted answer up to case, punctuation and articles, else 0.

    Rajpurkar et al. (2016).
    """
    return max(
        (
            float(normalize_answer(prediction) == normalize_answer(text))
            for text in _accepted(answers)
        ),
        default=0.0,
    )


def answer_f1(answers: AnswerSpans, prediction: str) -> float:
    """Word F1 of the prediction with the best-fitting accepted answer.

    Rajpurkar et al. (2016, 2018).
    """
    return max(
        _word_f1(normalize_answer(text).split(), normalize_answer(prediction).split())
        for text in _accepted(answers)
    )


def _accepted(answers: AnswerSpans) -> list[str]:
    # as in the official script: answers that normalize to "" are dropped, and no answer is ""
    return [text for text in answers.texts if normalize_answer(text)] or [""]


def _word_f1(expected: list[str], predicted: list[str]) -> float:
    if not expected or not predicted:
        return float(expected == predicted)
    return 2 * (Counter(expected) & Counter(predicted)).total() / (len(expected) + len(predicted))


def normalize_answer(answer: str) -> str:
    """Lowercase, drop punctuation and articles, collapse spaces (official SQuAD script)."""
    bare = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _mean(single: Callable[[Any, Any], float]) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    """Mean of a per-example metric."""
    return lambda labels, predictions: float(
        np.mean([single(*pair) for pair in zip(labels, predictions, strict=True)])
    )


def _correlation(name: str) -> Callable[[Sequence[float], Sequence[float]], float]:
    """A correlation of scipy; 0 where labels or predictions are constant (undefined)."""

    def correlate(labels: Sequence[float], predictions: Sequence[float]) -> float:
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(getattr(import_module("scipy.stats"), name)(labels, predictions).statistic)

    return correlate


def _score(name: str, **options: Any) -> Callable[[Sequence[int], Sequence[int]], float]:
    """A metric of scikit-learn; imported on first use, because pages only need the titles."""
    return lambda labels, predictions: float(
        getattr(import_module("sklearn.metrics"), name)(labels, predictions, **options)
    )


def _thresholded(name: str, **options: Any) -> Callable[[Sequence[float], Sequence[float]], float]:
    """A metric of scikit-learn, on thresholded labels and probabilities of label 1."""
    compute = _score(name, **options)

    def threshold(values: Sequence[float]) -> list[int]:
        return list((np.array(values) > THRESHOLD).astype(int).tolist())

    return lambda labels, predictions: compute(threshold(labels), threshold(predictions))


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return the set of (type, first word, last word), reading tags as conlleval and seqeval do.

    B- begins an entity; so does a change of type.
    """
    spans, start = set(), 0
    previous_prefix, previous_type = "O", ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, entity_type = tag[:1], tag[1:].split("-", 1)[-1] or "_"
        changes = previous_type != entity_type
        if previous_prefix != "O" and (previous_prefix in "ES" or prefix in "BSO" or changes):
            spans.add((previous_type, start, position - 1))
        if prefix != "O" and (prefix in "BS" or previous_prefix in "ESO" or changes):
            start = position
        previous_prefix, previous_type = prefix, entity_type
    return spans


def _entity_counts(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> np.ndarray:
    """Count entities per example: (examples, 3), in both, in the labels, in the predictions."""
    pairs = zip(map(entities, labels), map(entities, predictions), strict=True)
    counts = [[len(tagged & found), len(tagged), len(found)] for tagged, found in pairs]
    return np.array(counts, dtype=float).reshape(-1, 3)


def _label_counts(
    labels: Sequence[Sequence[int]], predictions: Sequence[Sequence[int]]
) -> np.ndarray:
    """Flag labels per example: (examples, 3 * labels), in both, in labels, in predictions."""
    expected, predicted = np.array(labels, dtype=bool), np.array(predictions, dtype=bool)
    return np.concatenate([expected & predicted, expected, predicted], axis=1).astype(float)


def _f1(sums: np.ndarray) -> np.ndarray:
    """F1 per column from the rows (in both, in labels, in predictions).

    0 where all three are 0, as in seqeval and scikit-learn.
    """
    both, expected, predicted = sums
    return 2 * both / np.maximum(expected + predicted, 1e-9)


def _counted(
    counts: Callable[..., np.ndarray], of_counts: Callable[[np.ndarray], float]
) -> dict[str, Any]:
    return {
        "compute": lambda labels, predictions: of_counts(counts(labels, predictions).sum(0)),
        "counts": counts,
        "of_counts": of_counts,
    }


def _micro(sums: np.ndarray) -> float:
    return float(_f1(sums.reshape(3, -1).sum(1)))


def _all_equal(labels: Any, predictions: Any) -> float:
    return float(list(labels) == list(predictions))


_ENTITY_F1 = _counted(_entity_counts, _micro)


def comparable_values(
    kind: str, names: Sequence[str], labels: Sequence[Any], *predictions: Sequence[Any]
) -> list[list[Any]]:
    """Convert labels and predictions to the form that metrics compare.

    For token classification: tag names, without the words whose label is IGNORED.
    """
    if kind != "token":
        return [list(values) for values in (labels, *predictions)]
    return [
        [
            [
                names[tag]
                for tag, label in zip(row, row_labels, strict=True)
                if label != IGNORE_INDEX
            ]
            for row, row_labels in zip(values, labels, strict=True)
        ]
        for values in (labels, *predictions)
    ]


METRICS = {
    "accuracy": Metric("Accuracy", "classification", _score("accuracy_score")),
    "f1": Metric("F1", "classification", _score("f1_score", zero_division=0.0), binary=True),
    "matthews": Metric(
        "Matthews correlation", "classification", _score("matthews_corrcoef"), share=False
    ),
    "binary_accuracy": Metric(
        "Accuracy", "regression", _thresholded("accuracy_score"), binary=True
    ),
    "binary_f1": Metric(
        "F1", "regression", _thresholded("f1_score", zero_division=0.0), binary=True
    ),
    "binary_matthews": Metric(
        "Matthews correlation",
        "regression",
        _thresholded("matthews_corrcoef"),
        share=False,
        binary=True,
    ),
    "average_precision": Metric(
        "Average precision",
        "regression",
        _score("average_precision_score"),
        binary=True,
        ranks=True,
    ),
    "spearman": Metric(
        "Spearman correlation", "regression", _correlation("spearmanr"), share=False, ranks=True
    ),
    "pearson": Metric(
        "Pearson correlation", "regression", _correlation("pearsonr"), share=False, ranks=True
    ),
    "answer_f1": Metric("F1", "span", _mean(answer_f1), single=answer_f1),
    "exact_match": Metric("Exact match", "span", _mean(exact_match), single=exact_match),
    "micro_f1": Metric("Micro F1", "multilabel", **_counted(_label_counts, _micro)),
    "macro_f1": Metric(
        "Macro F1",
        "multilabel",
        **_counted(_label_counts, lambda sums: float(_f1(sums.reshape(3, -1)).mean())),
    ),
    "subset_accuracy": Metric(
        "Subset accuracy", "multilabel", _mean(_all_equal), single=_all_equal
    ),
    "entity_f1": Metric("Entity F1", "token", **_ENTITY_F1),
    "same_label": Metric(
        "Agreement with dense", "classification", _score("accuracy_score"), against_dense=True
    ),
    "same_labels": Metric(
        "Same labels as dense",
        "multilabel",
        _mean(_all_equal),
        single=_all_equal,
        against_dense=True,
    ),
    "same_entities": Metric("Entity F1 against dense", "token", **_ENTITY_F1, against_dense=True),
    "same_score": Metric(
        "Correlation with dense",
        "regression",
        _correlation("pearsonr"),
        share=False,
        against_dense=True,
    ),
    "same_answer": Metric(
        "Same answer as dense", "span", _mean(exact_match), single=exact_match, against_dense=True
    ),
}


def metrics_of(kind: str, classes: int, labelled: bool = True) -> list[str]:
    """Names of the metrics for a task type, the default first.

    Without labels: the metrics of agreement with the dense model.
    """
    return [
        name
        for name, metric in METRICS.items()
        if metric.kind == kind
        and (classes == 2 or not metric.binary)
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


def prediction_type(kind: str, metric: str) -> str:
    """Return the task type of stored predictions.

    Predictions of a binary classifier with one output are thresholded, so they are classes.
    """
    is_binary = kind == "regression" and metric in METRICS and METRICS[metric].binary
    return "classification" if is_binary else kind


def metric_for(kind: str, classes: int, requested: str = "", labelled: bool = True) -> str:
    """Return the requested metric, or the task type's default.

    Without labels, always the agreement with the dense model. PruneError if the requested metric
    does not exist for the task type.
    """
    known = metrics_of(kind, classes, labelled)
    if not labelled:
        return known[0]
    if f"binary_{requested}" in known:
        requested = f"binary_{requested}"
    if requested and requested not in known:
        raise PruneError(
            f"The metric {requested!r} does not fit this model; choose one of {', '.join(known)}."
        )
    return requested or known[0]
