"""How well the dense and the pruned model do the task on the same examples, and every single prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import nn

from ..data.examples import Answers
from ..data.metrics import METRICS, answer_f1, exact_match, metrics_of
from ..models.predict import Predictions, predict
from ..plugins import Report, Rows, option, part_of
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
    resamples: int = option(1000, "Bootstrap resamples, for figures other than accuracy", low=100, high=100_000, expert=True)

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `accuracy` (one row) and `prediction` (a row an example)."""
        dense = dense_predictions(pair, part_of(report, 0.0, 0.5))
        pruned = dense if pair.is_dense else predicted(pair, pair.pruned, part_of(report, 0.5, 1.0))
        examples = pair.task.evaluation
        right = examples.labels or []
        row = summary(pair.task.metric, len(pair.task.label_names), right, dense.said, pruned.said, self.resamples, pair.seed)
        row["divergence"] = divergence(dense.probabilities, pruned.probabilities) if examples.kind == "classification" else None
        single = pd.DataFrame(
            {
                "example": range(len(examples)),
                "text": examples.texts,
                "pair": examples.pairs if examples.pairs else None,
                "label": [answers.texts for answers in right] if examples.kind == "span" else right,
                "dense": dense.said,
                "pruned": pruned.said,
                "dense_probabilities": dense.probabilities,
                "pruned_probabilities": pruned.probabilities,
                **_by_example(examples.kind, right, dense.said, pruned.said),
            }
        )
        report(1.0, "accuracy measured")
        return {"accuracy": pd.DataFrame([row]), "prediction": single}


def divergence(dense: ArrayLike, pruned: ArrayLike) -> float:
    """Kullback–Leibler divergence of pruned from dense, (examples, labels) probabilities each: the mean over examples, in nats."""
    p, q = (np.asarray(side).clip(1e-9) for side in (dense, pruned))
    return float((p * np.log(p / q)).sum(-1).mean())


def summary(
    metric: str, classes: int, right: list[Any], was: list[Any], now: list[Any], resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """The one row of the accuracy table, from what is right and what both models said (examples each).

    `score` is the task's own figure; every other figure of that kind of task stands beside it under its own name.
    """
    kind, n = METRICS[metric].kind, len(right)
    row: dict[str, Any] = {"metric": metric, "n": n}
    for name in metrics_of(kind, classes):
        row[f"dense_{name}"], row[name] = METRICS[name].compute(right, was), METRICS[name].compute(right, now)
    row |= {"dense_score": row[f"dense_{metric}"], "score": row[metric]}
    row |= {"broken": None, "fixed": None, "p_value": None, "agreement": float(np.mean([a == b for a, b in zip(was, now, strict=True)]))}
    if kind != "regression":
        before, after = _hits(kind, right, was), _hits(kind, right, now)
        broken, fixed = int((before & ~after).sum()), int((~before & after).sum())
        row |= {"broken": broken, "fixed": fixed, "p_value": mcnemar(broken, fixed)}
    else:
        row["agreement"] = METRICS["pearson"].compute(was, now)  # two scores are never the same to the last digit
    if metric in ("accuracy", "exact_match"):
        intervals = (*wilson(int(before.sum()), n), *wilson(int(after.sum()), n), *paired_difference(broken, fixed, n))
        row |= dict(zip(_ENDS, intervals, strict=True))
    else:
        row |= dict(zip(_ENDS, _resampled(metric, right, was, now, resamples, seed), strict=True))
    return row


def _resampled(metric: str, right: list[Any], was: list[Any], now: list[Any], resamples: int, seed: int) -> tuple[float, ...]:
    figure, single = METRICS[metric].compute, METRICS[metric].single
    if single is None:
        return bootstrap(figure, np.array(right), np.array(was), np.array(now), resamples, seed)
    values = [np.array([single(*pair) for pair in zip(right, said, strict=True)]) for said in (was, now)]
    return bootstrap(lambda _, worth: float(worth.mean()), values[0], values[0], values[1], resamples, seed)


_ENDS = ("dense_low", "dense_high", "low", "high", "difference", "difference_low", "difference_high")


def _hits(kind: str, right: list[Any], said: list[Any]) -> np.ndarray:
    """(examples,) whether each answer is right; for spans, whether it is exactly an accepted one."""
    if kind == "span":
        return np.array([exact_match(a, b) == 1.0 for a, b in zip(right, said, strict=True)])
    return np.array(right) == np.array(said)


def _by_example(kind: str, right: list[Answers], was: list[str], now: list[str]) -> dict[str, list[float]]:
    """Spans: each answer's F1, as an answer may be partly right."""
    if kind != "span":
        return {}
    return {
        name: [answer_f1(*pair) for pair in zip(right, said, strict=True)] for name, said in (("dense_f1", was), ("pruned_f1", now))
    }


def predicted(pair: Pair, model: nn.Module, report: Report) -> Predictions:
    """What one of the pair's models says of the evaluation sample."""
    return predict(model, pair.tokenizer, pair.task.evaluation, pair.batch_size, pair.max_length, report)


def dense_predictions(pair: Pair, report: Report) -> Predictions:
    """The dense model's, computed once for all experiments on the same sample."""
    return pair.of_dense("predictions", lambda: predicted(pair, pair.dense, report))
