"""Everyday noise: predictions of both models for the same seeded noisy copies of examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..analysis import noise
from ..attacks.perturbations import LESS_POSITIVE, PERTURBATIONS, SAME, STRENGTHS
from ..data.examples import Examples, sample_indices
from ..errors import PruneError
from ..plugins import Report, Rows, option, subrange
from ..tasks import TASK_TYPES, Predictions
from .base import Measure, Pair
from .noise_outputs import outputs_of
from .noisy_copies import NoisyCopy, fits, label_about, noisy_copies

MARGIN = 0.1  # increase of a probability that is not yet a failure, as in CheckList
SHOWN = 2000  # maximum number of stored noisy texts
# columns of `noise_example`: copied ones, and predictions with the column of their text
IN_EXAMPLES = [
    *("perturbation", "strength", "example", "text", "pair", "noisy", "noisy_pair"),
    *("dense_failed", "failed"),
]
PREDICTED = {"dense_before": "text", "before": "text", "dense_after": "noisy", "after": "noisy"}


@dataclass(frozen=True)
class Noise(Measure):
    """Failure rates and accuracy of the dense and the pruned model on noisy texts.

    A failure is a prediction that differs from the same model's prediction for the original text;
    a score fails if it changes by more than `tolerance`. Directional perturbations have another
    expectation. An example counts only for perturbations that change it. All intervals are 95%.
    """

    name = "noise"
    title = "Everyday noise"
    summary = (
        "How often typos, OCR errors, casing and other everyday noise change the prediction, and "
        "accuracy on noisy text"
    )
    is_default = False
    estimate = 40.0
    perturbations: str = option(
        ", ".join(PERTURBATIONS),
        "Perturbations; those that do not apply to the data are skipped",
        choices=tuple(PERTURBATIONS),
        several=True,
    )
    strengths: str = option(
        ", ".join(STRENGTHS),
        "Fraction of the possible changes that are made: "
        + ", ".join(f"{name} {fraction:.0%}" for name, fraction in STRENGTHS.items()),
        choices=tuple(STRENGTHS),
        several=True,
    )
    examples: int = option(
        200, "Evaluation examples that get noise (0 = all)", low=0, high=100_000, unit="examples"
    )
    column: str = option(
        "first",
        "Which text of a pair gets noise",
        choices=("first", "second", "both"),
        expert=True,
    )
    tolerance: float = option(
        0.5,
        "Change of a score that is a failure, in standard deviations of the dense model's scores",
        low=0.0,
        high=100.0,
        expert=True,
    )
    resamples: int = option(
        1000, "Bootstrap resamples of the examples", low=100, high=100_000, expert=True
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `noise` (one row per perturbation and strength), `noise_count`, `noise_example`.

        `noise_count` has sums over the copies of each example, `noise_example` up to 2,000 noisy
        texts with the predictions of both models.
        """
        outputs = outputs_of(pair, self.tolerance)
        report(0.0, "writing noisy texts")
        copies = self._copies(pair)
        examples, clean, noisy = _inputs(pair.task.evaluation, copies)
        options = (self.perturbations, self.strengths, self.examples, self.column)
        dense = Predictions(
            *pair.of_dense(
                ("noise", *options, pair.seed),
                lambda: tuple(outputs.predict(pair.dense, examples, subrange(report, 0.05, 0.5))),
                plain=True,
            )
        )
        pruned = dense
        if not pair.is_dense:
            pruned = outputs.predict(pair.pruned, examples, subrange(report, 0.5, 0.95))
        report(0.95, "comparing the predictions")
        indices = list(copies["example"])
        for prefix, predictions in (("dense_", dense), ("", pruned)):
            before, after = (_take(predictions, places) for places in (clean, noisy))
            failed = outputs.failed(
                before.predicted, after.predicted, [dense.predicted[place] for place in set(clean)]
            )
            directional = _directional_failures(pair, copies, before, after)
            copies[f"{prefix}failed"] = np.where(copies["directional"], directional, failed)
            copies[f"{prefix}before"], copies[f"{prefix}after"] = before.predicted, after.predicted
            for column, side in (("clean", before), ("correct", after)):
                if (correct := outputs.correct(indices, side.predicted)) is not None:
                    copies[f"{prefix}{column}"] = correct
        shown = noise.examples_to_show(copies, SHOWN)
        tables = {
            "noise": noise.rates(copies, self.resamples, pair.seed),
            "noise_count": noise.by_example(copies, pair.task.evaluation.texts),
            "noise_example": shown[IN_EXAMPLES].assign(
                **{
                    column: [*map(outputs.text, shown[text], shown[column])]
                    for column, text in PREDICTED.items()
                }
            ),
        }
        report(1.0, "noise measured")
        return tables

    def _copies(self, pair: Pair) -> pd.DataFrame:
        """Return one row per noisy copy, with the original `text` and `pair`."""
        examples = pair.task.evaluation
        self._check(examples)
        indices = sample_indices(range(len(examples)), self.examples, pair.seed)
        chosen = (PERTURBATIONS[name] for name in self.perturbations.split(", "))
        copies = pd.DataFrame(
            noisy_copies(
                examples,
                indices,
                [each for each in chosen if fits(each, examples, pair.task.label_names)],
                strengths=self.strengths.split(", "),
                column=self.column,
                seed=pair.seed,
            ),
            columns=NoisyCopy._fields,
        )
        copies["text"] = [examples.texts[index] for index in copies["example"]]
        copies["pair"] = [examples.pairs and examples.pairs[index] for index in copies["example"]]
        copies["directional"] = [
            PERTURBATIONS[name].expects != SAME for name in copies["perturbation"]
        ]
        if copies["directional"].all():
            raise PruneError(
                f"noise: the perturbations {self.perturbations} change none of {len(indices)} "
                "texts or are all directional; add keyboard typos to them, or use more examples."
            )
        return copies

    def _check(self, examples: Examples) -> None:
        asks_question = TASK_TYPES[examples.kind].asks_question
        if self.column != "first" and (examples.pairs is None or asks_question):
            reason = "this task has no text pairs"
            if asks_question:
                reason = "the answer is a part of the context, which must not change"
            raise PruneError(
                f"noise: column is {self.column!r}, but {reason}; leave it at 'first'."
            )


def _inputs(evaluation: Examples, copies: pd.DataFrame) -> tuple[Examples, list[int], list[int]]:
    """Return the distinct texts, and per copy the indices of its original and noisy text."""
    originals, noisy = (
        list(copies[list(columns)].itertuples(index=False, name=None))
        for columns in (("example", "text", "pair"), ("example", "noisy", "noisy_pair"))
    )
    place = {row: index for index, row in enumerate(dict.fromkeys([*originals, *noisy]))}
    indices, texts, pairs = (list(values) for values in zip(*place, strict=True))
    examples = replace(
        evaluation.take(indices), texts=texts, pairs=None if evaluation.pairs is None else pairs
    )
    return examples, [place[row] for row in originals], [place[row] for row in noisy]


def _take(predictions: Predictions, places: Sequence[int]) -> Predictions:
    return Predictions(*([values[place] for place in places] for values in predictions))


def _directional_failures(
    pair: Pair, copies: pd.DataFrame, before: Predictions, after: Predictions
) -> np.ndarray:
    """Return a mask (copies,) of predictions that violate a directional expectation."""
    failed = np.zeros(len(copies), dtype=bool)
    expected = np.array([PERTURBATIONS[name].expects for name in copies["perturbation"]])
    for expects in {*expected} - {SAME}:
        label = label_about(expects, pair.task.label_names)
        label_before, label_after = (np.array(side.predicted) == label for side in (before, after))
        # a statement and its negation cannot both be entailed
        violated = label_before & label_after
        if expects == LESS_POSITIVE:
            old, new = (np.array(side.probabilities)[:, label] for side in (before, after))
            violated = (new - old > MARGIN) | (~label_before & label_after)
        failed |= violated & (expected == expects)
    return failed
