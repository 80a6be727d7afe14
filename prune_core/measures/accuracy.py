"""Accuracy of the dense and the pruned model on the same examples, and every single prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import nn

from ..plugins import Measure, Pair, Report, Rows, part_of
from ..predict import probabilities
from ..statistics import mcnemar, paired_difference, wilson


@dataclass(frozen=True)
class Accuracy(Measure):
    """Shares with 95% Wilson intervals, the paired difference, agreement, and the exact McNemar test."""

    name = "accuracy"
    title = "Accuracy"
    summary = "How many examples each model gets right, which ones pruning broke, and whether that could be chance"
    estimate = 3.0

    def measure(self, pair: Pair, report: Report) -> Rows:
        dense = dense_probabilities(pair, part_of(report, 0.0, 0.5))
        pruned = dense if pair.is_dense else predicted(pair, pair.pruned, part_of(report, 0.5, 1.0))
        examples = pair.task.evaluation
        labels, was, now = np.array(examples.labels), dense.argmax(-1), pruned.argmax(-1)
        single = pd.DataFrame(
            {
                "example": range(len(examples)),
                "text": examples.texts,
                "pair": examples.pairs if examples.pairs else None,
                "label": labels,
                "dense": was,
                "pruned": now,
                "dense_probabilities": dense.tolist(),
                "pruned_probabilities": pruned.tolist(),
            }
        )
        report(1.0, "accuracy measured")
        return {"accuracy": pd.DataFrame([summary(labels, was, now)]), "prediction": single}


def summary(labels: np.ndarray, was: np.ndarray, now: np.ndarray) -> dict[str, float]:
    """The one row of the accuracy table, from true labels and both models' predictions (examples,)."""
    n, right_before, right_now = len(labels), was == labels, now == labels
    broken, fixed = int((right_before & ~right_now).sum()), int((~right_before & right_now).sum())
    difference, difference_low, difference_high = paired_difference(broken, fixed, n)
    dense_low, dense_high = wilson(int(right_before.sum()), n)
    low, high = wilson(int(right_now.sum()), n)
    return {
        "n": n,
        "dense_accuracy": float(right_before.mean()), "dense_low": dense_low, "dense_high": dense_high,
        "accuracy": float(right_now.mean()), "low": low, "high": high,
        "difference": difference, "difference_low": difference_low, "difference_high": difference_high,
        "agreement": float((was == now).mean()),
        "broken": broken, "fixed": fixed, "p_value": mcnemar(broken, fixed),
    }  # fmt: skip


def predicted(pair: Pair, model: nn.Module, report: Report) -> np.ndarray:
    """(examples, labels) probabilities of one of the pair's models on the evaluation sample."""
    return probabilities(model, pair.tokenizer, pair.task.evaluation, pair.batch_size, pair.max_length, report)


def dense_probabilities(pair: Pair, report: Report) -> np.ndarray:
    """The dense model's, computed once for all experiments on the same sample."""
    return pair.of_dense("probabilities", lambda: predicted(pair, pair.dense, report))
