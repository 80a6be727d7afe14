"""Metrics of GLUE, SQuAD and CoNLL, computed from labels and predictions."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from .examples import AnswerSpans

THRESHOLD = 0.5  # probability above which a binary classifier with one output predicts label 1
IGNORE_INDEX = -100  # label of words that metrics ignore, as in transformers


@dataclass(frozen=True)
class Metric:
    """A metric; higher is better for all of them."""

    title: str
    kind: str  # name of the task type
    compute: Callable[[Sequence[Any], Sequence[Any]], float]  # (labels, predictions) -> value
    share: bool = True  # a fraction, shown as a percentage
    binary: bool = False  # defined for two classes only
    # one example's value, if the metric is the mean of these
    single: Callable[[Any, Any], float] | None = None
    # (examples, counts) array, if the metric is a function of the column sums; see of_counts
    counts: Callable[[Sequence[Any], Sequence[Any]], np.ndarray] | None = None
    of_counts: Callable[[np.ndarray], float] | None = None
    ranks: bool = False  # computed on outputs or probabilities, not on thresholded predictions
    # computed for each query, from the examples with that first text; see `tasks.units`
    by_query: bool = False
    against_dense: bool = False  # for data without labels: the dense model's predictions are labels
    gloss: str = ""  # explanation in one sentence


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


def mean_of(single: Callable[[Any, Any], float]) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    """Mean of a metric of single examples, or of single queries."""
    return lambda labels, predictions: float(
        np.mean([single(*pair) for pair in zip(labels, predictions, strict=True)])
    )


def correlation(name: str) -> Callable[[Sequence[float], Sequence[float]], float]:
    """A correlation of scipy; 0 where labels or predictions are constant (undefined)."""

    def correlate(labels: Sequence[float], predictions: Sequence[float]) -> float:
        if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
            return 0.0
        return float(getattr(import_module("scipy.stats"), name)(labels, predictions).statistic)

    return correlate


def score(name: str, **options: Any) -> Callable[[Sequence[int], Sequence[int]], float]:
    """A metric of scikit-learn; imported on first use, because pages only need the titles."""
    return lambda labels, predictions: float(
        getattr(import_module("sklearn.metrics"), name)(labels, predictions, **options)
    )


def thresholded(name: str, **options: Any) -> Callable[[Sequence[float], Sequence[float]], float]:
    """A metric of scikit-learn, on thresholded labels and probabilities of label 1."""
    compute = score(name, **options)
    return lambda labels, predictions: compute(at_threshold(labels), at_threshold(predictions))


def at_threshold(values: Sequence[float]) -> list[int]:
    """Return 0 or 1 per value; of classes 0 and 1, the classes."""
    return list((np.array(values) > THRESHOLD).astype(int).tolist())


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


def entity_counts(
    labels: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]
) -> np.ndarray:
    """Count entities per example: (examples, 3), in both, in the labels, in the predictions."""
    pairs = zip(map(entities, labels), map(entities, predictions), strict=True)
    counts = [[len(tagged & found), len(tagged), len(found)] for tagged, found in pairs]
    return np.array(counts, dtype=float).reshape(-1, 3)


def label_counts(
    labels: Sequence[Sequence[int]], predictions: Sequence[Sequence[int]]
) -> np.ndarray:
    """Flag labels per example: (examples, 3 * labels), in both, in labels, in predictions."""
    expected, predicted = np.array(labels, dtype=bool), np.array(predictions, dtype=bool)
    return np.concatenate([expected & predicted, expected, predicted], axis=1).astype(float)


def positive_counts(labels: Sequence[float], predictions: Sequence[float]) -> np.ndarray:
    """Flag label 1 per example: (examples, 3), in both, in labels, in predictions."""
    expected, predicted = (np.array(at_threshold(each)) for each in (labels, predictions))
    return np.stack([expected & predicted, expected, predicted], axis=1).astype(float)


def class_counts(labels: Sequence[int], predictions: Sequence[int]) -> np.ndarray:
    """Flag classes per example: (examples, 1 + 2 * classes), correct, the label, the prediction."""
    expected, predicted = np.array(labels, dtype=int), np.array(predictions, dtype=int)
    classes = np.eye(1 + max(expected.max(), predicted.max()))
    correct = (expected == predicted)[:, None]
    return np.concatenate([correct, classes[expected], classes[predicted]], axis=1)


def matthews_of_counts(sums: np.ndarray) -> float:
    """Multi-class Matthews correlation from the sums of `class_counts`; 0 where undefined.

    As in scikit-learn: Gorodkin, Comparing two K-category assignments, 2004.
    """
    expected, predicted = sums[1:].reshape(2, -1)
    n = expected.sum()
    spread = (n**2 - (expected**2).sum()) * (n**2 - (predicted**2).sum())
    return float((sums[0] * n - expected @ predicted) / np.sqrt(spread)) if spread else 0.0


def f1_of_counts(sums: np.ndarray) -> np.ndarray:
    """F1 per column from the rows (in both, in labels, in predictions).

    0 where all three are 0, as in seqeval and scikit-learn.
    """
    both, expected, predicted = sums
    return 2 * both / np.maximum(expected + predicted, 1e-9)


def counted(
    counts: Callable[..., np.ndarray], of_counts: Callable[[np.ndarray], float]
) -> dict[str, Any]:
    """Arguments of a Metric that is a function of the sums of counts (examples, counts)."""
    return {
        "compute": lambda labels, predictions: of_counts(counts(labels, predictions).sum(0)),
        "counts": counts,
        "of_counts": of_counts,
    }


def micro_f1(sums: np.ndarray) -> float:
    """F1 of the sums over all columns; see `f1_of_counts`."""
    return float(f1_of_counts(sums.reshape(3, -1).sum(1)))


def all_equal(labels: Any, predictions: Any) -> float:
    """1 if all entries are equal, else 0."""
    return float(list(labels) == list(predictions))
