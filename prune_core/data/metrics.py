"""The figures that GLUE, SQuAD and CoNLL judge by, from what is right and what a model said. Knows nothing of models or tokens."""

from __future__ import annotations

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
IGNORED = -100  # a word that is not judged, as transformers writes it


@dataclass(frozen=True)
class Metric:
    """One figure; higher is better for all of them."""

    title: str
    kind: str  # of the heads that it judges
    compute: Callable[[Sequence[Any], Sequence[Any]], float]  # (right, said) -> figure
    share: bool = True  # of examples, so that it reads as a percentage
    binary: bool = False  # defined for two classes only
    single: Callable[[Any, Any], float] | None = (
        None  # one example's worth, where the figure is their mean
    )
    counts: Callable[[Sequence[Any], Sequence[Any]], np.ndarray] | None = (
        None  # (examples, counts), of whose sums the figure is made
    )
    of_counts: Callable[[np.ndarray], float] | None = None
    ranks: bool = False  # computed on outputs or probabilities, not on thresholded predictions
    against_dense: bool = (
        False  # for data without labels: what is right is what the dense model says
    )


def exact_match(right: AnswerSpans, said: str) -> float:
    """1 where the answer is one of the accepted ones, case, punctuation and articles aside (Rajpurkar et al. 2016)."""
    return max(
        (float(normalize_answer(said) == normalize_answer(text)) for text in _accepted(right)),
        default=0.0,
    )


def answer_f1(right: AnswerSpans, said: str) -> float:
    """F1 of the answer's words against the accepted answer that fits best (Rajpurkar et al. 2016, 2018)."""
    return max(
        _word_f1(normalize_answer(text).split(), normalize_answer(said).split())
        for text in _accepted(right)
    )


def _accepted(right: AnswerSpans) -> list[str]:
    # as in the official script: an accepted answer of which nothing is left does not count, and no answer counts as ""
    return [text for text in right.texts if normalize_answer(text)] or [""]


def _word_f1(right: list[str], said: list[str]) -> float:
    if not right or not said:
        return float(right == said)
    common = sum((Counter(right) & Counter(said)).values())
    return 2 * common / (len(right) + len(said))


def normalize_answer(answer: str) -> str:
    """Lower case, without punctuation and articles, single spaces: the official script's reading of an answer."""
    bare = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _mean(single: Callable[[Any, Any], float]) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    return lambda right, said: float(
        np.mean([single(*pair) for pair in zip(right, said, strict=True)])
    )


def _correlation(name: str) -> Callable[[Sequence[float], Sequence[float]], float]:
    """scipy's correlation; 0 where a model says the same of everything, as its answers then tell nothing apart."""

    def of(right: Sequence[float], said: Sequence[float]) -> float:
        return float(getattr(import_module("scipy.stats"), name)(right, said).statistic)

    return lambda right, said: of(right, said) if np.ptp(said) > 0 and np.ptp(right) > 0 else 0.0


def _score(name: str, **options: Any) -> Callable[[Sequence[int], Sequence[int]], float]:
    """scikit-learn's; imported when first used, because pages want the titles only."""
    return lambda right, said: float(
        getattr(import_module("sklearn.metrics"), name)(right, said, **options)
    )


def _thresholded(name: str, **options: Any) -> Callable[[Sequence[float], Sequence[float]], float]:
    """scikit-learn's, of predictions or probabilities of label 1."""
    compute = _score(name, **options)
    above = lambda values: (np.array(values) > THRESHOLD).astype(int).tolist()  # noqa: E731
    return lambda right, said: compute(above(right), above(said))


def entities(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """(type, first word, last word) of every entity, as conlleval and seqeval read tags: B- begins one, so does another type."""
    found, start, before = set(), 0, ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        letter, kind = tag[:1], tag[1:].split("-", 1)[-1] or "_"
        if before[0] != "O" and (before[0] in "ES" or letter in "BSO" or before[1] != kind):
            found.add((before[1], start, place - 1))
        if letter != "O" and (letter in "BS" or before[0] in "ESO" or before[1] != kind):
            start = place
        before = (letter, kind)
    return found


def _entity_counts(right: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> np.ndarray:
    """(examples, 3): entities in both, those that are right, those that were said."""
    pairs = [(entities(one), entities(other)) for one, other in zip(right, said, strict=True)]
    return np.array(
        [[len(one & other), len(one), len(other)] for one, other in pairs], dtype=float
    ).reshape(-1, 3)


def _label_counts(right: Sequence[Sequence[int]], said: Sequence[Sequence[int]]) -> np.ndarray:
    """(examples, 3 x labels): for every label 1 where both have it, where it is right, where it was said."""
    one, other = (np.array(side, dtype=bool) for side in (right, said))
    return np.concatenate([one & other, one, other], axis=1).astype(float)


def _f1(total: np.ndarray) -> np.ndarray:
    """Of (in both, right, said), by column; 0 where there is nothing to find, as seqeval and scikit-learn say."""
    both, right, said = total
    return 2 * both / np.maximum(right + said, 1e-9)


def _counted(
    counts: Callable[..., np.ndarray], of_counts: Callable[[np.ndarray], float]
) -> dict[str, Any]:
    return {
        "compute": lambda right, said: of_counts(counts(right, said).sum(0)),
        "counts": counts,
        "of_counts": of_counts,
    }


def _micro(sums: np.ndarray) -> float:
    return float(_f1(sums.reshape(3, -1).sum(1)))


def _same(right: Any, said: Any) -> float:
    return float(list(right) == list(said))


_ENTITY_F1 = _counted(_entity_counts, _micro)


def judge(
    kind: str, names: Sequence[str], right: Sequence[Any], *said: Sequence[Any]
) -> list[list[Any]]:
    """What is right and what was said, as the figures compare them: labels of words by name, without words that are not judged."""
    if kind != "token":
        return [list(side) for side in (right, *said)]
    return [
        [
            [names[label] for label, own in zip(row, truth, strict=True) if own != IGNORED]
            for row, truth in zip(side, right, strict=True)
        ]
        for side in (right, *said)
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
    "subset_accuracy": Metric("Subset accuracy", "multilabel", _mean(_same), single=_same),
    "entity_f1": Metric("Entity F1", "token", **_ENTITY_F1),
    "same_label": Metric(
        "Agreement with dense", "classification", _score("accuracy_score"), against_dense=True
    ),
    "same_labels": Metric(
        "Same labels as dense", "multilabel", _mean(_same), single=_same, against_dense=True
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
    """The figures that exist for a kind of head, the usual one first; for data without labels those against dense."""
    return [
        name
        for name, metric in METRICS.items()
        if metric.kind == kind
        and (classes == 2 or not metric.binary)
        and metric.against_dense is not labelled
    ]


def values_for(
    metric: str, said: Sequence[Any], probabilities: Sequence[Sequence[float]] = ()
) -> list[Any]:
    """Return what a metric compares with the labels: predictions, or probabilities of label 1.

    Metrics that rank take the latter for a binary classifier with one output, which has two each.
    """
    if METRICS[metric].ranks and len(probabilities) and len(probabilities[0]) == 2:
        return [each[1] for each in probabilities]
    return list(said)


def prediction_type(kind: str, metric: str) -> str:
    """Return the task type of stored predictions.

    Those of a binary classifier with one output are thresholded, as any classifier's.
    """
    is_binary = kind == "regression" and metric in METRICS and METRICS[metric].binary
    return "classification" if is_binary else kind


def metric_for(kind: str, classes: int, asked: str = "", labelled: bool = True) -> str:
    """The figure asked for, or the usual one; one that the head cannot be judged by is a sentence. Without labels, that against dense."""
    known = metrics_of(kind, classes, labelled)
    asked = f"binary_{asked}" if f"binary_{asked}" in known else asked
    if not labelled:
        return known[0]
    if asked and asked not in known:
        raise PruneError(
            f"The metric {asked!r} does not fit this model; choose one of {', '.join(known)}."
        )
    return asked or known[0]
