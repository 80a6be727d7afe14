"""How well the dense and the pruned model do the task on the same examples, and every single prediction."""

from __future__ import annotations

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
    """The task's own figure (accuracy, Matthews or Spearman correlation, F1) with 95% intervals, the paired difference,
    agreement and divergence (mean KL, nats; classifiers only), and the exact McNemar test of what broke.

    Shares of examples get Wilson's interval and Bonett and Price's for the difference; other figures a seeded bootstrap.
    """

    name = "accuracy"
    title = "Accuracy"
    summary = "How many examples each model gets right (or the task's own figure), which ones pruning broke, and chance's part in it"
    estimate = 3.0
    resamples: int = option(
        1000,
        "Bootstrap resamples, for figures other than accuracy",
        low=100,
        high=100_000,
        expert=True,
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `accuracy` (one row) and `prediction` (a row an example)."""
        dense = dense_predictions(pair, subrange(report, 0.0, 0.5))
        pruned = (
            dense if pair.is_dense else predictions(pair, pair.pruned, subrange(report, 0.5, 1.0))
        )
        examples, names = pair.task.evaluation, pair.task.label_names
        was, now = dense.predicted, pruned.predicted
        right: list[Any] = (
            was if examples.labels is None else examples.labels
        )  # without labels dense is what is right
        right, was, now = comparable_values(examples.kind, names, right, was, now)
        row = summary(
            pair.task.metric,
            len(names),
            right,
            was=was,
            now=now,
            resamples=self.resamples,
            seed=pair.seed,
            probabilities=(dense.probabilities, pruned.probabilities),
        )
        row["divergence"] = divergence(dense.probabilities, pruned.probabilities, examples.kind)
        labels: list[Any] = [None] * len(examples) if examples.labels is None else right
        single = pd.DataFrame(
            {
                "example": range(len(examples)),
                "text": examples.texts,
                "pair": examples.pairs if examples.pairs else None,
                "label": [answers and answers.texts for answers in labels]
                if examples.kind == "span"
                else labels,
                "dense": was,
                "pruned": now,
                "dense_probabilities": dense.probabilities,
                "pruned_probabilities": pruned.probabilities,
                **(
                    _by_example(examples.kind, right, was, now=now)
                    if examples.labels is not None
                    else {}
                ),
            }
        )
        report(1.0, "accuracy measured")
        return {"accuracy": pd.DataFrame([row]), "prediction": single}


def divergence(dense: ArrayLike, pruned: ArrayLike, kind: str = "classification") -> float | None:
    """Kullback–Leibler divergence of pruned from dense, (examples, labels) probabilities each: the mean over examples, in nats;
    of labels that hold independently, summed over them. None where there is no probability of every label."""
    if kind not in ("classification", "multilabel"):
        return None
    p, q = (np.asarray(side).clip(1e-9) for side in (dense, pruned))
    apart = p * np.log(p / q)
    if kind == "multilabel":
        p, q = ((1 - side).clip(1e-9) for side in (p, q))
        apart = apart + p * np.log(p / q)
    return float(
        np.maximum(0.0, apart.sum(-1).mean())
    )  # rounding may leave a little less; NaN stays NaN


def summary(
    metric: str,
    classes: int,
    right: list[Any],
    was: list[Any],
    now: list[Any],
    resamples: int = 1000,
    seed: int = 0,
    *,
    probabilities: Sequence[Sequence[Sequence[float]]] = ((), ()),
) -> dict[str, Any]:
    """The one row of the accuracy table, from what is right and what both models said (examples each).

    `score` is the task's own figure; every other figure of that kind of task stands beside it under its own name.
    """
    kind, n = METRICS[metric].kind, len(right)
    row: dict[str, Any] = {"metric": metric, "n": n}
    sides = list(zip((was, now), probabilities, strict=True))
    right = _right(right, METRICS[metric].against_dense, kind)
    for name in metrics_of(kind, classes, not METRICS[metric].against_dense):
        dense, pruned = (values_for(name, *side) for side in sides)
        row[f"dense_{name}"] = METRICS[name].compute(right, dense)
        row[name] = METRICS[name].compute(right, pruned)
    row |= {"dense_score": row[f"dense_{metric}"], "score": row[metric]}
    row |= {
        "broken": None,
        "fixed": None,
        "p_value": None,
        "agreement": float(np.mean([a == b for a, b in zip(was, now, strict=True)])) if n else 0.0,
    }
    if kind != "regression" or classes == 2:
        before, after = _hits(kind, right, was), _hits(kind, right, now)
        broken, fixed = int((before & ~after).sum()), int((~before & after).sum())
        row |= {"broken": broken, "fixed": fixed, "p_value": mcnemar(broken, fixed)}
    else:
        row["agreement"] = METRICS["pearson"].compute(
            was, now
        )  # two scores are never the same to the last digit
    if metric in SHARES:
        intervals = (
            *wilson(int(before.sum()), n),
            *wilson(int(after.sum()), n),
            *paired_difference(broken, fixed, n),
        )
        row |= dict(zip(_ENDS, intervals, strict=True))
    else:
        was, now = (values_for(metric, *side) for side in sides)
        row |= dict(
            zip(
                _ENDS,
                _resampled(metric, right, was, now=now, resamples=resamples, seed=seed),
                strict=True,
            )
        )
    return row


def _resampled(
    metric: str, right: list[Any], was: list[Any], now: list[Any], resamples: int, seed: int
) -> tuple[float, ...]:
    figure, single = METRICS[metric].compute, METRICS[metric].single
    if METRICS[metric].counts is not None:
        counts, of_counts = METRICS[metric].counts, METRICS[metric].of_counts
        assert counts and of_counts, "they are given together"
        before, after = counts(right, was), counts(right, now)
        return bootstrap(
            lambda _, drawn: of_counts(drawn.sum(0)),
            before,
            before,
            now=after,
            resamples=resamples,
            seed=seed,
        )
    if single is None:
        return bootstrap(
            figure,
            np.array(right),
            np.array(was),
            now=np.array(now),
            resamples=resamples,
            seed=seed,
        )
    values = [
        np.array([single(*pair) for pair in zip(right, said, strict=True)]) for said in (was, now)
    ]
    return bootstrap(
        lambda _, worth: float(worth.mean()),
        values[0],
        values[0],
        now=values[1],
        resamples=resamples,
        seed=seed,
    )


_ENDS = (
    "dense_low",
    "dense_high",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
)
# fractions of examples, as `_hits` counts them
SHARES = (
    *("accuracy", "binary_accuracy", "exact_match", "subset_accuracy"),
    *("same_label", "same_labels", "same_answer"),
)


def _right(right: list[Any], against_dense: bool, kind: str) -> list[Any]:
    """What the dense model answered, as an accepted answer."""
    return (
        [AnswerSpans([text] if text else [], [0] if text else []) for text in right]
        if against_dense and kind == "span"
        else right
    )


def _hits(kind: str, right: list[Any], said: list[Any]) -> np.ndarray:
    """(examples,) whether each answer is right; for spans, whether it is exactly an accepted one; for words, whether all are."""
    if kind == "span":
        return np.array(
            [exact_match(a, b) == 1.0 for a, b in zip(right, said, strict=True)], dtype=bool
        )
    return np.array([a == b for a, b in zip(right, said, strict=True)], dtype=bool)


def _by_example(
    kind: str, right: list[AnswerSpans], was: list[str], now: list[str]
) -> dict[str, list[float]]:
    """Spans: each answer's F1, as an answer may be partly right."""
    if kind != "span":
        return {}
    return {
        name: [answer_f1(*pair) for pair in zip(right, said, strict=True)]
        for name, said in (("dense_f1", was), ("pruned_f1", now))
    }


def predictions(pair: Pair, model: nn.Module, report: Report) -> Predictions:
    """What one of the pair's models says of the evaluation sample."""
    return predict(
        model,
        pair.tokenizer,
        pair.task.evaluation,
        batch_size=pair.batch_size,
        max_length=pair.max_length,
        report=report,
    )


def dense_predictions(pair: Pair, report: Report) -> Predictions:
    """The dense model's, computed once for all experiments on the same sample."""
    return Predictions(
        *pair.of_dense(
            "predictions", lambda: tuple(predictions(pair, pair.dense, report)), plain=True
        )
    )
