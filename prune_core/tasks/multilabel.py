"""Multi-label classification: any number of labels per text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.cells import are_binary_marks, parse_list
from ..data.examples import Examples
from ..data.label_pairs import to_text
from ..data.metrics import (
    Metric,
    all_equal,
    counted,
    f1_of_counts,
    label_counts,
    mean_of,
    micro_f1,
)
from .base import MIN_PROBABILITY, Predictions, TaskType, _mean_divergence

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.reading import ParsedLabels, TextRows
    from ..data.tokens import Features


class Multilabel(TaskType):
    """Any number of labels per text, each a decision of its own (one Bernoulli variable)."""

    name = "multilabel"
    output = "any number of labels"
    has_several_labels = True
    several_label_columns = True
    takes_demo_labels = True
    order_metric = "micro_f1"
    metrics = {
        "micro_f1": Metric(
            "Micro F1",
            "multilabel",
            **counted(label_counts, micro_f1),
            gloss="F1 over all labels of all examples: frequent labels have more weight.",
        ),
        "macro_f1": Metric(
            "Macro F1",
            "multilabel",
            **counted(label_counts, lambda sums: float(f1_of_counts(sums.reshape(3, -1)).mean())),
            gloss="Mean F1 over labels: rare and frequent labels have equal weight.",
        ),
        "subset_accuracy": Metric(
            "Subset accuracy",
            "multilabel",
            mean_of(all_equal),
            single=all_equal,
            gloss="Percentage of examples with all labels correct.",
        ),
        "same_labels": Metric(
            "Same labels as dense",
            "multilabel",
            mean_of(all_equal),
            single=all_equal,
            against_dense=True,
            gloss="Percentage of examples with all labels equal to the dense "
            "model's; the data has none.",
        ),
    }

    def fits_head(self, class_name: str, config: Any) -> bool:
        """Whether `problem_type` of the configuration is multi-label classification."""
        return getattr(config, "problem_type", None) == "multi_label_classification"

    def configure(self, config: Any) -> None:
        """Set the problem type."""
        config.problem_type = "multi_label_classification"

    def loss(self, outputs: Tensor, labels: Tensor, padding: Any) -> Tensor:
        """Return the binary cross-entropy, summed over examples and labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs, labels, reduction="sum")

    def divergence(self, student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the divergence per example, the mean over labels."""
        return super().divergence(self.as_classes(student), self.as_classes(teacher), temperature)

    def fisher_probe(self, logits: Tensor, signs: Tensor) -> Tensor:
        """Return √(p(1 − p))∘u."""
        p = logits.detach().sigmoid()
        return (p * (1 - p)).sqrt() * signs

    def as_classes(self, logits: Tensor) -> Tensor:
        """Return a binary decision per label: the logit of the other class is 0."""
        import torch

        return torch.stack([logits, torch.zeros_like(logits)], -1)

    def targets(self, features: Features, labels: Sequence[Any]) -> Tensor:
        """Return (rows, labels) float32, 1 or 0 per label."""
        import torch

        return torch.tensor(labels, dtype=torch.float32)

    activation = staticmethod(lambda logits: logits.sigmoid())

    def decode(self, outputs: np.ndarray, examples: Examples, config: Any) -> Predictions:
        """Return the labels with probabilities above a half."""
        return Predictions((outputs > 0.5).astype(int).tolist(), outputs.tolist())

    def decide(self, logits: Tensor, config: Any) -> Tensor:
        """Return 1 or 0 per label."""
        return (logits > 0).int()

    def text_prediction(self, text: str, prediction: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the names of the predicted labels."""
        return {"prediction": _list_names(names, prediction)}

    def has_label(self, labels: Sequence[Any], label: int) -> np.ndarray:
        """Return a Boolean mask (examples,) of the examples that have a label."""
        return np.asarray(labels)[:, label] == 1

    def label_divergence(self, dense: Any, pruned: Any) -> float | None:
        """Return the mean KL divergence, summed over labels."""
        p, q = (np.asarray(side).clip(1e-9) for side in (dense, pruned))
        terms = p * np.log(p / q)
        p, q = ((1 - side).clip(1e-9) for side in (p, q))
        return _mean_divergence(terms + p * np.log(p / q))

    def cells(self, names: Sequence[str], values: Sequence[Any] | None) -> list[Any] | None:
        """Return the names of the labels."""
        return None if values is None else [_list_names(names, value) for value in values]

    def to_odds(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the log-odds of each label."""
        values = probabilities.clip(MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        return np.log(values / (1 - values))

    def from_odds(self, odds: np.ndarray) -> list[Any]:
        """Return 1 or 0 per label."""
        return (odds > 0).astype(int).tolist()

    def label_units(
        self, true: Sequence[Any], predicted: Sequence[Any], names: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return one unit for each label that holds."""
        example, label = np.nonzero(np.array(true, dtype=float))
        return example, label, np.array(predicted, dtype=float)[example] > 0

    def relabel(self, label: Any, order: np.ndarray, names: Sequence[str]) -> Any:
        """Return the flags in the other order."""
        return np.asarray(label)[np.argsort(order)]

    def parse_labels(self, rows: TextRows) -> ParsedLabels | None:
        """Parse indicator columns, or sets of labels in one column."""
        from ..data.reading import parse_indicators, parse_sets

        if rows.chosen.indicators:
            return parse_indicators(rows, rows.chosen.indicators)
        if not rows.has_label:
            return None
        if len(rows.names) == 1 and are_binary_marks(rows.column):
            return parse_indicators(rows, [str(rows.chosen.label)])
        return parse_sets(rows)

    def label_values(self, column: pd.Series) -> set[str]:
        """Return the distinct items of the lists in a column."""
        return {to_text(item) for value in column for item in parse_list(value) or ()}


def _list_names(names: Sequence[str], flags: Sequence[Any]) -> str:
    chosen = (name for name, holds in zip(names, flags, strict=False) if holds)
    return ", ".join(chosen) or "none"
