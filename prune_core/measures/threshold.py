"""Detection at a threshold, for guard models and other detectors of rare labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ..analysis import detection
from ..data.examples import Examples
from ..errors import PruneError
from ..plugins import Report, Rows, option, subrange
from ..tasks import TASK_TYPES, TaskType
from .accuracy import dense_predictions, pruned_predictions
from .base import Measure, Pair

RATE, F_BETA = "false_positive_rate", "f_beta"


@dataclass(frozen=True)
class Threshold(Measure):
    """Recall, false-positive rate and precision of both models at a threshold, for each label.

    The threshold is given, or fitted to the dense model on held-out examples, which are not
    evaluated. If the target is a false-positive rate, only negatives are held out. Also average
    precision, ROC AUC and recall at false-positive rates of 1% and 0.1%, all with 95% intervals.
    """

    name = "threshold"
    title = "Detection at a threshold"
    summary = (
        "Recall and false positives of a detector at a threshold that is fitted to the dense model "
        "on held-out examples"
    )
    estimate = 3.0
    kinds: ClassVar[tuple[str, ...]] = ("classification", "multilabel", "regression")
    is_default = False  # it needs a label to detect

    positive: str = option(
        "",
        "Name of the label to detect; by default all labels of a multi-label model, and with two "
        "labels the one that is not called safe, benign, negative or similar",
    )
    threshold: float | None = option(
        None,
        "Lowest probability at which a label counts as detected, for both models",
        low=0.0,
        high=1.0,
        kind=float,
        none="fitted",
    )
    target: str = option(
        RATE,
        "Target of the fitted threshold: a false-positive rate, or the highest F-beta",
        choices={RATE: "false-positive rate", F_BETA: "highest F-beta"},
    )
    rate: float = option(
        1.0, "False-positive rate of the fitted threshold", low=0.0, high=50.0, unit="%"
    )
    beta: float = option(
        1.0, "Weight of recall relative to precision in F-beta", low=0.1, high=10.0
    )
    refit: bool = option(
        False,
        "Fit the pruned model's threshold to its own scores on the same held-out examples, instead "
        "of using the dense model's threshold",
    )
    held_out: float = option(
        0.5,
        "Fraction of the examples that are held out to fit the threshold",
        low=0.1,
        high=0.9,
        expert=True,
    )
    resamples: int = option(
        1000, "Bootstrap resamples, for ranking metrics", low=100, high=100_000, expert=True
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `threshold` (one row per label), `threshold_example` (per label and example)."""
        examples, names = pair.task.evaluation, list(pair.task.label_names)
        task_type = TASK_TYPES[examples.kind]
        self._check(examples, task_type)
        positives = self._positives(task_type, names)
        dense = dense_predictions(pair, subrange(report, 0.0, 0.4)).probabilities
        pruned = pruned_predictions(pair, subrange(report, 0.4, 0.8)).probabilities
        sides = {"dense": np.array(dense), "pruned": np.array(pruned)}
        totals, rows = [], []
        for place, label in enumerate(positives):
            truth = task_type.has_label(examples.labels or (), label)
            scores = {side: values[:, label] for side, values in sides.items()}
            if len(positives) == 1 and (truth.all() or not truth.any()):
                raise PruneError(
                    f"threshold: {int(truth.sum())} of {len(truth)} evaluation examples have the "
                    f"label {names[label]!r}; give examples with and without it."
                )
            row, fitted = self._label(names[label], truth, scores, pair.seed)
            totals.append(row)
            rows.append(
                pd.DataFrame(
                    {
                        "positive": names[label],
                        "example": range(len(examples)),
                        "text": examples.texts,
                        "pair": examples.pairs if examples.pairs else None,
                        "truth": truth,
                        "fitted": fitted,
                        **scores,
                    }
                )
            )
            report(0.8 + 0.2 * (place + 1) / len(positives), f"{names[label]} measured")
        return {
            "threshold": pd.DataFrame(totals),
            "threshold_example": pd.concat(rows, ignore_index=True),
        }

    def _check(self, examples: Examples, task_type: TaskType) -> None:
        if examples.labels is None:
            raise PruneError(
                "threshold: the evaluation examples have no labels, so detections cannot be "
                "counted; set the label column, or leave the measure threshold out."
            )
        if not (task_type.is_single_label or task_type.has_several_labels or examples.binary):
            raise PruneError(
                "threshold: the model predicts a score and the labels are not 0 and 1, so nothing "
                "is detected; leave the measure threshold out."
            )

    def _positives(self, task_type: TaskType, names: list[str]) -> list[int]:
        """Return the labels to detect."""
        if self.positive:
            if self.positive not in names:
                raise PruneError(
                    f"threshold: positive is {self.positive!r}; the labels of the model are "
                    f"{', '.join(names)}."
                )
            return [names.index(self.positive)]
        if task_type.has_several_labels:
            return list(range(len(names)))
        if len(names) > 2:
            raise PruneError(
                f"threshold: the model has {len(names)} labels; set the option positive to the one "
                f"to detect: {', '.join(names)}."
            )
        return [detection.default_positive(names)]

    def _label(
        self, name: str, truth: np.ndarray, scores: dict[str, np.ndarray], seed: int
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Return the row of a label, and a mask (examples,) of those that fit its threshold."""
        fitted = np.zeros(len(truth), dtype=bool)
        thresholds = dict.fromkeys(scores, self.threshold or 0.0)
        if self.threshold is None:
            with_positives = self.target == F_BETA
            fitted = detection.fitting_rows(truth, self.held_out, seed, with_positives)
            needed = [(~truth, "without"), *([(truth, "with")] if with_positives else [])]
            for rows, word in needed:
                if not (fitted & rows).any():
                    raise PruneError(
                        f"threshold: {int(rows.sum())} of {len(truth)} evaluation examples are "
                        f"{word} the label {name!r}, too few to fit a threshold; give more "
                        "examples, or set the option threshold to a number."
                    )
            thresholds = {
                side: self._fit(truth[fitted], scores[side if self.refit else "dense"][fitted])
                for side in scores
            }
        evaluated = ~fitted
        row = detection.compare(
            truth[evaluated],
            {side: values[evaluated] for side, values in scores.items()},
            thresholds,
            beta=self.beta,
            # so that the label is as rare as among all examples
            weight=_inverse(evaluated, ~truth) / _inverse(evaluated, truth),
            resamples=self.resamples,
            seed=seed,
        )
        held_out = {
            "fitted_positives": int((fitted & truth).sum()),
            "fitted_negatives": int((fitted & ~truth).sum()),
        }
        return {"positive": name, **held_out, **row}, fitted

    def _fit(self, truth: np.ndarray, scores: np.ndarray) -> float:
        if self.target == F_BETA:
            return detection.threshold_of_f_beta(truth, scores, self.beta)
        return detection.threshold_at_rate(scores[~truth], self.rate / 100)


def _inverse(chosen: np.ndarray, among: np.ndarray) -> float:
    """Return the inverse of the fraction of a class that is chosen; 1 for an empty class."""
    return float(among.sum() / (chosen & among).sum()) if among.any() else 1.0
