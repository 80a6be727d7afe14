"""Examples and where they come from, as plain data. Knows nothing of files, hubs, tokens or models.

Five kinds, as replay.kind_of names them: classification (a class number), multilabel (a set of them), token (one for every
word), regression (a score) and span (the accepted answers to a question about a text).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

TASK_TYPES = {
    "classification": "a label",
    "multilabel": "any number of labels",
    "token": "a label for every word",
    "regression": "a score",
    "span": "an answer in a text",
}  # what a model's head gives
BINARY = ("label 0", "label 1")  # names of the labels of a binary classifier with one output


@dataclass(frozen=True)
class DataSource:
    """Which data an experiment uses: `demo`, a known task, a local file or a Hub data set, with its columns and how to read it."""

    task: str = "demo"
    text: str = ""
    text_pair: str = ""
    label: str = ""  # "-": do not use the labels; of a multi-label model also several columns, separated by commas
    calibration: str = ""  # a file of its own for calibration; labels are not needed there
    metric: str = ""  # the figure to judge by; empty for the task's own
    labels: str = (
        ""  # what label values mean, "NEG=negative,POS=positive"; what is not named is found out
    )
    separator: str = ""  # this and the next four as in delimited.Form
    encoding: str = ""
    header: str = ""
    quotes: str = ""
    bad_rows: str = (
        ""  # what becomes of rows that cannot be used: skip, merge (see delimited.Form), "" asks
    )
    config: str = ""  # of a Hub data set
    split: str = ""  # to evaluate on, of a Hub data set, a folder or file of several, or an Excel file's sheet

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "separator", {"\t": "tab"}.get(self.separator, self.separator)
        )  # which survives forms and shells


class AnswerSpans(NamedTuple):
    """What counts as right for a question; nothing where the text does not answer it."""

    texts: list[str]
    starts: list[int]  # character of the context at which each begins


@dataclass(frozen=True)
class Examples:
    """Sentences or pairs (question and context for spans) and, where known, what is right.

    Of `token` examples the words are parted by single spaces.
    """

    texts: list[str]
    pairs: list[str] | None = None
    labels: list[Any] | None = (
        None  # int, list of them (multilabel: 1 or 0 a label; token: one a word), float or Answers
    )
    kind: str = "classification"
    binary: bool = False  # of "regression": labels are 0 and 1, the output is thresholded

    def __len__(self) -> int:
        return len(self.texts)

    def whole(self, index: int) -> str:
        """The example's text, both together where there are two."""
        return f"{self.texts[index]} {self.pairs[index]}" if self.pairs else self.texts[index]

    def take(self, indices: Sequence[int]) -> Examples:
        """Those examples, in that order."""
        pick = lambda values: None if values is None else [values[i] for i in indices]  # noqa: E731
        texts, pairs, labels = [self.texts[i] for i in indices], pick(self.pairs), pick(self.labels)
        return Examples(texts, pairs, labels, kind=self.kind, binary=self.binary)

    def sample(self, size: int, seed: int, among: Collection[int] | None = None) -> Examples:
        """The examples at `sample_indices`, drawn from the indices `among` (default: all)."""
        return self.take(sample_indices(range(len(self)) if among is None else among, size, seed))


def sample_indices(pool: Collection[int], size: int, seed: int) -> list[int]:
    """`size` indices of the pool (0 = all), drawn with the seed, in ascending order."""
    ordered = sorted(pool)
    if size == 0 or size >= len(ordered):
        return ordered
    return sorted(random.Random(seed).sample(ordered, size))
