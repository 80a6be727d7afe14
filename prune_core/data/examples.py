"""Examples and data sources as plain data.

Labels depend on the task type, see the package tasks: a class index, a set of labels, a label per
word, a score, or the accepted answers to a question about a context.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..plugins import Options, option

QUERY, DOCUMENT = "query", "document"  # roles of texts in retrieval
NO_CALIBRATION = "none"  # value of DataSource.calibration
BINARY = ("label 0", "label 1")  # names of the labels of a binary classifier with one output


@dataclass(frozen=True)
class DataSource(Options):
    """Where an experiment's data comes from: bundled data, a known task, a local file or the Hub.

    Includes the columns to use and how to parse the file; "" means that it is detected.
    """

    task: str = option(
        "demo",
        "demo, demo-guard, demo-retrieval, a known task, a file (.csv .tsv .txt .json .jsonl "
        ".parquet .arrow .xlsx .conll, optionally compressed), a folder made by save_to_disk, a "
        "retrieval collection (a BEIR or Cranfield folder), or a Hub id",
        title="Data",
    )
    text: str = option(
        "", "text column; nested fields by their dotted name", title="Text column", metavar="COLUMN"
    )
    text_pair: str = option(
        "",
        "second text column, for sentence pairs or the context of questions",
        title="Second text",
        metavar="COLUMN",
    )
    label: str = option(
        "",
        "label column; several, separated by commas, for columns of 1 and 0; - for no labels",
        title="Label column",
        metavar="COLUMN",
    )
    calibration: str = option(
        "",
        "a file, a known task or demo; needs no labels. job:ID: adversarial examples of that job; "
        "job:ID+clean: half of them, half their original texts. none: no examples, for runs that "
        "prune nothing",
        title="Calibrate on other examples",
        metavar="FILE",
    )
    metric: str = option(
        "", "metric to evaluate by, such as matthews (default: the metric of the task)"
    )
    labels: str = option(
        "",
        "the model's label for each label value, or 'leave out'; others are matched by name",
        metavar="VALUE=LABEL,…",
    )
    separator: str = option(
        "",
        "column separator of a text table, if detected incorrectly: comma, tab, semicolon, bar, "
        "none",
        title="Separator",
    )
    encoding: str = option(
        "",
        "encoding of a text file, if detected incorrectly, such as cp1252",
        title="Encoding",
    )
    header: str = option(
        "",
        "yes or no: whether the first row of a text table contains the column names",
        title="First row names columns",
    )
    quotes: str = option(
        "",
        "quotes in a text table; yes: they enclose cells; backslash: the same, with quotes inside "
        "escaped by a backslash; no: they are text",
        title="Quotes enclose cells",
    )
    bad_rows: str = option(
        "",
        "rows with a different number of cells, without text, or with a value that does not match "
        "its column; skip: leave them out; merge: merge extra cells into the text column",
        title="Bad rows",
        metavar="skip|merge",
    )
    config: str = option(
        "", "configuration of a Hub dataset", title="Configuration", metavar="NAME"
    )
    split: str = option(
        "",
        "split to evaluate on (for files: value of the column split), sheet of an Excel file, or "
        "key of a JSON file with several tables",
        title="Split to evaluate on",
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        for name in ("header", "quotes"):  # YAML's booleans
            value = getattr(self, name)
            object.__setattr__(self, name, {True: "yes", False: "no"}.get(value, value))
        # unlike "\t", "tab" survives forms and shells
        object.__setattr__(self, "separator", {"\t": "tab"}.get(self.separator, self.separator))
        super().__post_init__()


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
    # of candidates of queries: the score of the search that found them, the best is the highest
    first_stage: list[float] | None = None
    # "embedding" only: QUERY or DOCUMENT for each text, whose prompt precedes it; None: the default
    roles: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def queries(self) -> list[str]:
        """The query of each example if its pairs are candidates of queries, else [].

        They are if first texts occur twice or more on average.
        """
        is_ranking = self.pairs is not None and 2 * len(set(self.texts)) <= len(self.texts)
        return self.texts if is_ranking else []

    @property
    def has_grades(self) -> bool:
        """Whether the labels of candidates are grades of relevance: integers of at least 0."""
        return bool(self.queries and self.labels) and all(
            isinstance(label, int | float) and label >= 0 and label % 1 == 0
            for label in self.labels or ()
        )

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
            first_stage=self.first_stage and [self.first_stage[i] for i in indices],
            roles=self.roles and [self.roles[i] for i in indices],
        )

    def sample(self, size: int, seed: int, among: Collection[int] | None = None) -> Examples:
        """Draw a random sample of the indices `among` (default: all); see `sample_indices`."""
        return self.take(sample_indices(range(len(self)) if among is None else among, size, seed))

    def sample_whole(self, size: int, seed: int) -> Examples:
        """Draw a random sample of queries with all their candidates; see `query_indices`."""
        return self.take(query_indices(self.queries, size, seed))


def sample_indices(pool: Collection[int], size: int, seed: int) -> list[int]:
    """Draw `size` indices of the pool (0 = all), in ascending order."""
    ordered = sorted(pool)
    if size == 0 or size >= len(ordered):
        return ordered
    return sorted(random.Random(seed).sample(ordered, size))


def query_indices(queries: Sequence[str], size: int, seed: int) -> list[int]:
    """Draw queries with all their candidates: at most `size` examples (0 = all), in their order.

    At least one query, whose candidates may be more.
    """
    groups: dict[str, list[int]] = {}
    for index, query in enumerate(queries):
        groups.setdefault(query, []).append(index)
    chosen: list[int] = []
    for query in random.Random(seed).sample(list(groups), len(groups)):
        if chosen and 0 < size < len(chosen) + len(groups[query]):
            break
        chosen += groups[query]
    return sorted(chosen)
