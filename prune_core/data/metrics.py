"""The figures that GLUE and SQuAD judge by, from what is right and what a model said. Knows nothing of models or tokens."""

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
from .examples import Answers


@dataclass(frozen=True)
class Metric:
    """One figure; higher is better for all of them."""

    title: str
    kind: str  # of the heads that it judges
    compute: Callable[[Sequence[Any], Sequence[Any]], float]  # (right, said) -> figure
    share: bool = True  # of examples, so that it reads as a percentage
    binary: bool = False  # defined for two classes only
    single: Callable[[Any, Any], float] | None = None  # one example's worth, where the figure is their mean


def exact_match(right: Answers, said: str) -> float:
    """1 where the answer is one of the accepted ones, case, punctuation and articles aside (Rajpurkar et al. 2016)."""
    return max((float(normalised(said) == normalised(text)) for text in _accepted(right)), default=0.0)


def answer_f1(right: Answers, said: str) -> float:
    """F1 of the answer's words against the accepted answer that fits best (Rajpurkar et al. 2016, 2018)."""
    return max(_word_f1(normalised(text).split(), normalised(said).split()) for text in _accepted(right))


def _accepted(right: Answers) -> list[str]:
    # as in the official script: an accepted answer of which nothing is left does not count, and no answer counts as ""
    return [text for text in right.texts if normalised(text)] or [""]


def _word_f1(right: list[str], said: list[str]) -> float:
    if not right or not said:
        return float(right == said)
    common = sum((Counter(right) & Counter(said)).values())
    return 2 * common / (len(right) + len(said))


def normalised(answer: str) -> str:
    """Lower case, without punctuation and articles, single spaces: the official script's reading of an answer."""
    bare = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _mean(single: Callable[[Any, Any], float]) -> Callable[[Sequence[Any], Sequence[Any]], float]:
    return lambda right, said: float(np.mean([single(*pair) for pair in zip(right, said, strict=True)]))


def _correlation(name: str) -> Callable[[Sequence[float], Sequence[float]], float]:
    """scipy's correlation; 0 where a model says the same of everything, as its answers then tell nothing apart."""
    of = lambda right, said: float(getattr(import_module("scipy.stats"), name)(right, said).statistic)  # noqa: E731
    return lambda right, said: of(right, said) if np.ptp(said) > 0 and np.ptp(right) > 0 else 0.0


def _score(name: str, **options: Any) -> Callable[[Sequence[int], Sequence[int]], float]:
    """scikit-learn's; imported when first used, because pages want the titles only."""
    return lambda right, said: float(getattr(import_module("sklearn.metrics"), name)(right, said, **options))


METRICS = {
    "accuracy": Metric("Accuracy", "classification", _score("accuracy_score")),
    "f1": Metric("F1", "classification", _score("f1_score", zero_division=0.0), binary=True),
    "matthews": Metric("Matthews correlation", "classification", _score("matthews_corrcoef"), share=False),
    "spearman": Metric("Spearman correlation", "regression", _correlation("spearmanr"), share=False),
    "pearson": Metric("Pearson correlation", "regression", _correlation("pearsonr"), share=False),
    "answer_f1": Metric("F1", "span", _mean(answer_f1), single=answer_f1),
    "exact_match": Metric("Exact match", "span", _mean(exact_match), single=exact_match),
}


def metrics_of(kind: str, classes: int) -> list[str]:
    """The figures that exist for a kind of head, the usual one first."""
    return [name for name, metric in METRICS.items() if metric.kind == kind and (classes == 2 or not metric.binary)]


def metric_for(kind: str, classes: int, asked: str = "") -> str:
    """The figure asked for, or the usual one; one that the head cannot be judged by is a sentence."""
    known = metrics_of(kind, classes)
    if asked and asked not in known:
        raise PruneError(f"The metric {asked!r} does not fit this model; choose one of {', '.join(known)}.")
    return asked or known[0]
