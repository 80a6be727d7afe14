"""Classification: one label per text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.metrics import (
    Metric,
    class_counts,
    matthews_of_counts,
    micro_f1,
    positive_counts,
    score,
)
from .base import TaskType


class Classification(TaskType):
    """One of several labels per text."""

    name = "classification"
    output = "a label"
    attackable = True
    is_single_label = True
    takes_demo_labels = True
    order_metric = "accuracy"
    metrics = {
        "accuracy": Metric(
            "Accuracy",
            "classification",
            score("accuracy_score"),
            gloss="Percentage of evaluation examples classified correctly.",
        ),
        "f1": Metric(
            "F1",
            "classification",
            score("f1_score", zero_division=0.0),
            counts=positive_counts,
            of_counts=micro_f1,
            binary=True,
            gloss="Harmonic mean of precision and recall of the second class.",
        ),
        "matthews": Metric(
            "Matthews correlation",
            "classification",
            score("matthews_corrcoef"),
            counts=class_counts,
            of_counts=matthews_of_counts,
            share=False,
            gloss="Matthews correlation of predicted and true classes: 1 is perfect, 0 is chance.",
        ),
        "same_label": Metric(
            "Agreement with dense",
            "classification",
            score("accuracy_score"),
            against_dense=True,
            gloss="Percentage of predictions equal to the dense model's; the data has no labels.",
        ),
    }

    def label_note(self, labels: Sequence[int], names: Sequence[str]) -> str:
        """Return a note if every label is the same."""
        if len(set(labels)) != 1:
            return ""
        return f"Every label is {names[labels[0]]!r}: accuracy does not cover the other labels."
