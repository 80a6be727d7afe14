"""Examples and data sources as plain data.

Labels depend on the task type, see the package tasks: a class index, a set of labels, a label per
word, a score, or the accepted answers to a question about a context.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

BINARY = ("label 0", "label 1")  # names of the labels of a binary classifier with one output


@dataclass(frozen=True)
class DataSource:
    """Where an experiment's data comes from: `demo`, a known task, a local file or a Hub dataset.

    Includes the columns to use and how to parse the file.
    """

    task: str = "demo"
    text: str = ""
    text_pair: str = ""
    label: str = ""  # "-": ignore labels; multi-label: also several columns, separated by commas
    calibration: str = ""  # separate file for calibration; needs no labels
    metric: str = ""  # "": the task's default
    labels: str = ""  # meaning of label values, "NEG=negative,POS=positive"; others are matched
    separator: str = ""  # this and the next four as in delimited.Dialect
    encoding: str = ""
    header: str = ""
    quotes: str = ""
    bad_rows: str = ""  # unusable rows: skip, merge (see delimited.Dialect), "" asks the user
    config: str = ""  # of a Hub dataset
    split: str = ""  # to evaluate on; of a Hub dataset, folder or file, or the sheet of a workbook

    def __post_init__(self) -> None:
        # unlike "\t", "tab" survives forms and shells
        object.__setattr__(self, "separator", {"\t": "tab"}.get(self.separator, self.separator))


class AnswerSpans(NamedTuple):
    """Accepted answers to a question; empty if the context does not answer it."""

    texts: list[str]
    starts: list[int]  # first character of each answer in the context


@dataclass(frozen=True)
class Examples:
    """Texts or text pairs (question and context for spans) and, if known, labels.

    The words of `token` examples are separated by single spaces.
    """

    texts: list[str]
    pairs: list[str] | None = None
    # int, float, AnswerSpans, or list of int (multilabel: 1 or 0 per label; token: one per word)
    labels: list[Any] | None = None
    kind: str = "classification"
    binary: bool = False  # "regression" only: labels are 0 and 1, the output is thresholded

    def __len__(self) -> int:
        return len(self.texts)

    def full_text(self, index: int) -> str:
        """The example's full text; the two texts of a pair are joined."""
        return f"{self.texts[index]} {self.pairs[index]}" if self.pairs else self.texts[index]

    def take(self, indices: Sequence[int]) -> Examples:
        """Select examples by index, in the given order."""
        return replace(
            self,
            texts=[self.texts[i] for i in indices],
            pairs=self.pairs and [self.pairs[i] for i in indices],
            labels=self.labels and [self.labels[i] for i in indices],
        )

    def sample(self, size: int, seed: int, among: Collection[int] | None = None) -> Examples:
        """Draw a random sample of the indices `among` (default: all); see `sample_indices`."""
        return self.take(sample_indices(range(len(self)) if among is None else among, size, seed))


def sample_indices(pool: Collection[int], size: int, seed: int) -> list[int]:
    """Draw `size` indices of the pool (0 = all), in ascending order."""
    ordered = sorted(pool)
    if size == 0 or size >= len(ordered):
        return ordered
    return sorted(random.Random(seed).sample(ordered, size))
