"""Examples, and where a person's own come from: local tables, checked so that every mistake names its row or column.

Three kinds, as encoders.kind_of names them: classification (labels are class numbers), regression (scores) and span (the
accepted answers to a question about a text). Knows nothing of hubs, tokens or models.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..errors import PruneError

# (first text, second text, label) by their usual names, where the user named none
USUAL_TEXTS = ("text", "sentence", "review", "content", "sentence1")
SPAN_COLUMNS = ("question", "context", "answers")


@dataclass(frozen=True)
class Source:
    """Which data an experiment uses: `demo`, a known task, or a local file with its columns."""

    task: str = "demo"
    text: str = ""
    text_pair: str = ""
    label: str = ""
    calibration: str = ""  # a file of its own for calibration; labels are not needed there
    metric: str = ""  # the figure to judge by; empty for the task's own


class Answers(NamedTuple):
    """What counts as right for a question; nothing where the text does not answer it."""

    texts: list[str]
    starts: list[int]  # character of the context at which each begins


@dataclass(frozen=True)
class Examples:
    """Sentences or pairs (question and context for spans) and, where known, what is right."""

    texts: list[str]
    pairs: list[str] | None = None
    labels: list[Any] | None = None  # int, float or Answers, by kind
    kind: str = "classification"

    def __len__(self) -> int:
        return len(self.texts)

    def words(self, index: int) -> int:
        """How many words the example has, both texts together."""
        return len(self.texts[index].split()) + (len(self.pairs[index].split()) if self.pairs else 0)

    def take(self, indices: Sequence[int]) -> Examples:
        """Those examples, in that order."""
        pick = lambda values: None if values is None else [values[i] for i in indices]  # noqa: E731
        return Examples([self.texts[i] for i in indices], pick(self.pairs), pick(self.labels), self.kind)

    def sample(self, size: int, seed: int, min_words: int = 0) -> Examples:
        """`size` examples (0 = all) of at least `min_words` words, drawn with the seed, in their first order."""
        long = [i for i in range(len(self)) if self.words(i) >= min_words]
        chosen = long if size == 0 or size >= len(long) else random.Random(seed).sample(long, size)
        return self.take(sorted(chosen))


def read_table(path: str, known: Sequence[str] = ()) -> pd.DataFrame:
    """A .csv, .jsonl or .parquet file as a table; `known` are the task names to offer where it is none of these."""
    file = Path(path).expanduser()
    readers = {".csv": _read_csv, ".jsonl": lambda f: pd.read_json(f, lines=True), ".parquet": pd.read_parquet}
    if file.suffix not in readers:
        raise PruneError(f"{path} is neither a known task ({', '.join(known)}) nor a .csv, .jsonl or .parquet file.")
    if not file.is_file():
        raise PruneError(f"{path}: there is no such file.")
    try:
        table = readers[file.suffix](file)
    except UnicodeDecodeError as error:
        raise PruneError(f"{path} is not UTF-8 (byte {error.start}: {error.object[error.start]:#04x}); save it as UTF-8.") from None
    except (ValueError, OSError, csv.Error) as error:
        raise PruneError(f"{path} cannot be read as {file.suffix}: {str(error).splitlines()[0][:160]}.") from None
    if table.empty:
        raise PruneError(f"{path} has no rows.")
    return table


def _read_csv(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file, encoding="utf-8")
    except pd.errors.EmptyDataError:
        raise PruneError(f"{file} is empty.") from None


Columns = tuple[str, str | None, str]  # text, second text or None, label


def columns(table: pd.DataFrame, source: Source, path: str, kind: str, labelled: bool = True) -> Columns:
    """The columns that the source names, or the usual ones; each must be there."""
    have = list(table.columns)
    if kind == "span":
        text, pair, label = (own or usual for own, usual in zip((source.text, source.text_pair, source.label), SPAN_COLUMNS, strict=True))
    else:
        usual_pair = "sentence2" if not source.text and not source.text_pair and {"sentence1", "sentence2"} <= set(have) else ""
        text = source.text or next((name for name in USUAL_TEXTS if name in have), "")
        pair, label = source.text_pair or usual_pair, source.label or "label"
    for column, flag in ((text, "--text"), (pair or None, "--text-pair"), (label if labelled else None, "--label")):
        if column is not None and column not in have:
            missing = f"there is no column {column!r}" if column else "no text column was named"
            raise PruneError(f"{path}: {missing}; it has {', '.join(map(str, have))}. Name one with {flag}.")
    return text, pair or None, label


def examples(table: pd.DataFrame, path: str, chosen: Columns, kind: str, names: Sequence[str] | None = None) -> Examples:
    """Checked examples. `names` are the model's classes; labels are left out where there is no such column.

    Rows are counted from 1, the header not counted.
    """
    text, pair, label = chosen
    for column in filter(None, (text, pair)):
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if empty.any():
            raise PruneError(f"{path}, row {_first(empty)}, column {column!r}: the text is empty; fill it or remove the row.")
    texts = [str(value) for value in table[text]]
    pairs = [str(value) for value in table[pair]] if pair else None
    labels: list[Any] | None = None
    if label in table:
        if kind == "span":
            labels = _answers(table[label], path, pairs or [])
        elif kind == "regression":
            labels = _scores(table[label], path)
        else:
            labels = _classes(table[label], path, names or ())
    return Examples(texts, pairs, labels, kind)


def _first(rows: pd.Series) -> int:
    return int(rows.to_numpy().argmax()) + 1


def _present(column: pd.Series, path: str) -> None:
    if column.isna().any():
        raise PruneError(f"{path}, row {_first(column.isna())}, column {column.name!r}: the label is missing.")


def _classes(column: pd.Series, path: str, names: Sequence[str]) -> list[int]:
    """Label values as class numbers: whole numbers count from 0, words are matched to the model's label names."""
    _present(column, path)
    by_name = {name.lower(): index for index, name in enumerate(names)}
    labels = []
    for row, value in enumerate(column, start=1):
        word = str(value).strip().lower()
        number = by_name.get(word)
        if number is None and word.removesuffix(".0").isdigit():
            number = int(float(word))
        if number is None or number >= len(names):
            allowed = f"0 to {len(names) - 1}, or {', '.join(names)}"
            raise PruneError(f"{path}, row {row}, column {column.name!r}: {value!r} is not a label of this model; use {allowed}.")
        labels.append(number)
    if len(set(labels)) < 2:
        only = names[labels[0]]
        raise PruneError(f"{path}, column {column.name!r}: every label is {only!r}; accuracy and attacks need at least two classes.")
    return labels


def _scores(column: pd.Series, path: str) -> list[float]:
    _present(column, path)
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.isna().any():
        row = _first(numbers.isna())
        raise PruneError(f"{path}, row {row}, column {column.name!r}: {column.iloc[row - 1]!r} is no number; this model gives scores.")
    if numbers.nunique() < 2:
        raise PruneError(f"{path}, column {column.name!r}: every score is {numbers.iloc[0]}; a correlation needs different ones.")
    return [float(value) for value in numbers]


def _answers(column: pd.Series, path: str, contexts: list[str]) -> list[Answers]:
    """Answers as SQuAD writes them ({text: [...], answer_start: [...]}), or as plain text that the context holds."""
    found = []
    for row, (value, context) in enumerate(zip(column, contexts, strict=True), start=1):
        place = f"{path}, row {row}, column {column.name!r}"
        if isinstance(value, Mapping):
            if not {"text", "answer_start"} <= set(value):
                raise PruneError(f"{place}: an answer needs the keys text and answer_start; it has {', '.join(map(str, value))}.")
            found.append(Answers([str(text) for text in value["text"]], [int(start) for start in value["answer_start"]]))
        elif value is None or value != value or not str(value).strip():
            found.append(Answers([], []))  # a question that the text does not answer
        elif (start := context.find(str(value).strip())) >= 0:
            found.append(Answers([str(value).strip()], [start]))
        else:
            raise PruneError(f"{place}: the answer {str(value)[:60]!r} does not stand in its context; copy it from there.")
    if not any(answers.texts for answers in found):
        raise PruneError(f"{path}, column {column.name!r}: no question has an answer.")
    return found
