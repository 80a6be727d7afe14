"""Certified robustness: predictions that no change of a few words can alter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import numpy as np
import pandas as pd
from torch import nn

from ..analysis import certified
from ..data.examples import Examples, sample_indices
from ..data.masked_words import MASK, REMOVALS, without_words
from ..errors import PruneError
from ..plugins import Report, Rows, option, subrange
from ..statistics import proportion_bounds
from .base import Measure, Pair
from .noise_outputs import TaskOutputs

COPIES = 20_000  # maximum number of texts that are encoded at once


@dataclass(frozen=True)
class Certified(Measure):
    """Certified accuracy of both models under randomized smoothing, by number of changed words.

    Each example is classified in random copies without most of its words, the same for all models.
    The first copies choose the label; the others give an exact lower bound of its probability
    (Clopper and Pearson), which `analysis.certified.radius` turns into a certificate. The
    certificate of an example is wrong with probability at most `alpha`.
    """

    name = "certified"
    title = "Certified robustness"
    summary = (
        "Accuracy that no change of a few words can lower, certified by randomized smoothing; for "
        "models that are fine-tuned on masked words"
    )
    kinds: ClassVar[tuple[str, ...]] = ("classification",)
    is_default = False
    estimate = 300.0
    examples: int = option(
        100, "Evaluation examples to certify (0 = all)", low=0, high=100_000, unit="examples"
    )
    removal: str = option(
        MASK,
        "How words are removed, and which changes are certified: mask (RanMASK): replaced words; "
        "delete (randomized deletion): replaced, inserted and deleted words",
        choices=tuple(REMOVALS),
    )
    rate: float = option(
        0.8,
        "Fraction of the words that is removed; more certifies more changes, at lower accuracy",
        low=0.55,
        high=0.98,
    )
    samples: int = option(
        500, "Copies of each example that certify its label", low=20, high=100_000, unit="copies"
    )
    label_samples: int = option(
        50,
        "Copies of each example that choose its label",
        low=1,
        high=10_000,
        unit="copies",
        expert=True,
    )
    alpha: float = option(
        0.05,
        "Largest probability that the certificate of an example is wrong",
        low=1e-6,
        high=0.5,
        expert=True,
    )
    column: str = option(
        "first",
        "Which text of a pair may change",
        choices=("first", "second"),
        expert=True,
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `certified` (one row per number of changed words) and `certified_example`."""
        evaluation = pair.task.evaluation
        self._check(evaluation)
        indices = sample_indices(range(len(evaluation)), self.examples, pair.seed)
        options = (self.examples, self.removal, self.rate, self.column)
        sizes = (self.samples, self.label_samples)
        dense = pair.of_dense(
            ("certified", *options, *sizes, pair.seed),
            lambda: self._votes(pair, pair.dense, indices, subrange(report, 0.0, 0.5)),
            plain=True,
        )
        pruned = dense
        if not pair.is_dense:
            pruned = self._votes(pair, pair.pruned, indices, subrange(report, 0.5, 1.0))
        texts = self._texts(evaluation)
        words = [len(texts[index].split()) for index in indices]
        outputs, names = TaskOutputs(pair, tolerance=0.0), pair.task.label_names
        rows = pd.DataFrame(
            {
                "example": indices,
                "text": [evaluation.texts[index] for index in indices],
                "pair": [evaluation.pairs[index] for index in indices]
                if evaluation.pairs
                else None,
                "words": words,
                "label": [names[(evaluation.labels or [])[index]] for index in indices],
            }
        )
        for prefix, (labels, counts) in (("dense_", dense), ("", pruned)):
            bounds = [proportion_bounds(count, self.samples, self.alpha)[0] for count in counts]
            rows[f"{prefix}predicted"] = [names[label] for label in labels]
            rows[f"{prefix}correct"] = outputs.correct(indices, labels)
            rows[f"{prefix}probability"] = bounds
            rows[f"{prefix}radius"] = [
                certified.radius(bound, count, self.rate, self.removal)
                for bound, count in zip(bounds, words, strict=True)
            ]
        table = certified.accuracies(rows, certified.largest_radius(self.rate))
        report(1.0, "certified robustness measured")
        return {
            "certified": table.assign(removal=self.removal, rate=self.rate),
            "certified_example": rows,
        }

    def _check(self, examples: Examples) -> None:
        if examples.labels is None:
            raise PruneError(
                "certified: the evaluation examples have no labels, so certified accuracy is not "
                "defined; set the label column, or leave the measure certified out."
            )
        if self.column == "second" and examples.pairs is None:
            raise PruneError(
                "certified: column is 'second', but this task has no text pairs; leave it at "
                "'first'."
            )

    def _texts(self, examples: Examples) -> Sequence[str]:
        """Return the texts that may change."""
        return examples.texts if self.column == "first" else examples.pairs or []

    def _votes(
        self, pair: Pair, model: nn.Module, indices: Sequence[int], report: Report
    ) -> tuple[list[int], list[int]]:
        """Return the label of each example, and how many of the certifying copies get it."""
        copies = self.label_samples + self.samples
        size = max(1, COPIES // copies)
        labels: list[int] = []
        counts: list[int] = []
        for start in range(0, len(indices), size):
            group = indices[start : start + size]
            ends = (start / len(indices), (start + len(group)) / len(indices))
            predicted = self._predict(pair, model, group, subrange(report, *ends))
            for votes in np.reshape(predicted, (len(group), copies)):
                label = int(np.bincount(votes[: self.label_samples]).argmax())
                labels.append(label)
                counts.append(int((votes[self.label_samples :] == label).sum()))
        return labels, counts

    def _predict(
        self, pair: Pair, model: nn.Module, indices: Sequence[int], report: Report
    ) -> list[int]:
        """Predict all copies of these examples, equal ones once."""
        evaluation, mask_token = pair.task.evaluation, pair.tokenizer_of(model).mask_token
        texts, copies = self._texts(evaluation), []
        for index in indices:
            # not of the model: dense and pruned are compared on the same copies
            rng, words = Random(f"{pair.seed}/{index}/words"), texts[index].split()
            for _ in range(self.label_samples + self.samples):
                copy = without_words(words, self.rate, self.removal, mask_token=mask_token, rng=rng)
                copies.append((index, copy))
        place = {copy: row for row, copy in enumerate(dict.fromkeys(copies))}
        rows, changed = (list(values) for values in zip(*place, strict=True))
        examples = evaluation.take(rows)
        if self.column == "first":
            examples = replace(examples, texts=changed)
        else:
            examples = replace(examples, pairs=changed)
        predicted = TaskOutputs(pair, tolerance=0.0).predict(model, examples, report).predicted
        return [predicted[place[copy]] for copy in copies]
