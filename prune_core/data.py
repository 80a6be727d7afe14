"""Tasks: where sentences and labels come from, which are for calibration, and how they become batches.

Knows the Hub's names of the known tasks and the user's own files. Knows nothing of pruning.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from . import PruneError
from .encoders import ROOT
from .plugins import Batch

DEMO = ROOT / "assets" / "demo" / "reviews.csv"
CALIBRATION_WORDS = 9  # shorter sentences say little about a Linear's inputs; the papers' protocol drops them too


@dataclass(frozen=True)
class Known:
    """A task with a public name: where the Hub keeps it and which columns and splits it uses."""

    title: str
    path: str
    config: str | None
    text: str
    pair: str | None
    labels: tuple[str, ...]
    evaluation: str = "validation"


_GLUE = "nyu-mll/glue"
KNOWN = {
    "sst2": Known("SST-2, film-review sentences", _GLUE, "sst2", "sentence", None, ("negative", "positive")),
    "imdb": Known("IMDB, film reviews", "stanfordnlp/imdb", None, "text", None, ("negative", "positive"), "test"),
    "ag_news": Known(
        "AG News, topics", "fancyzhx/ag_news", None, "text", None, ("World", "Sports", "Business", "Sci/Tech"), "test"
    ),
    "mrpc": Known("MRPC, paraphrases", _GLUE, "mrpc", "sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "qqp": Known("QQP, duplicate questions", _GLUE, "qqp", "question1", "question2", ("not_duplicate", "duplicate")),
    "rte": Known("RTE, entailment", _GLUE, "rte", "sentence1", "sentence2", ("entailment", "not_entailment")),
    "cola": Known("CoLA, acceptability", _GLUE, "cola", "sentence", None, ("unacceptable", "acceptable")),
    "qnli": Known("QNLI, question and sentence", _GLUE, "qnli", "question", "sentence", ("entailment", "not_entailment")),
    "mnli": Known(
        "MNLI, entailment", _GLUE, "mnli", "premise", "hypothesis", ("entailment", "neutral", "contradiction"),
        "validation_matched",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Which data an experiment uses: `demo`, a known task, or a local file with its columns."""

    task: str = "demo"
    text: str = ""
    text_pair: str = ""
    label: str = ""
    calibration: str = ""  # a file of its own for calibration; labels are not needed there

    @property
    def is_file(self) -> bool:
        """True for a local file, False for `demo` and known tasks."""
        return self.task != "demo" and self.task not in KNOWN


@dataclass(frozen=True)
class Examples:
    """Sentences (or pairs) and, where known, their labels."""

    texts: list[str]
    pairs: list[str] | None = None
    labels: list[int] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Examples:
        """Those examples, in that order."""
        pick = lambda values: None if values is None else [values[i] for i in indices]  # noqa: E731
        return Examples([self.texts[i] for i in indices], pick(self.pairs), pick(self.labels))

    def sample(self, size: int, seed: int, min_words: int = 0) -> Examples:
        """`size` examples (0 = all) of at least `min_words` words, drawn with the seed, in their first order."""
        long = [i for i, text in enumerate(self.texts) if len(text.split()) >= min_words]
        chosen = long if size == 0 or size >= len(long) else random.Random(seed).sample(long, size)
        return self.take(sorted(chosen))


@dataclass(frozen=True)
class Task:
    """Calibration and evaluation examples of one classification task, labels as the model counts them."""

    name: str
    label_names: tuple[str, ...]
    calibration: Examples
    evaluation: Examples

    def sampled(self, calibration: int, evaluation: int, seed: int) -> Task:
        """The task with both parts cut down to the sizes asked for (0 = all)."""
        return replace(
            self,
            calibration=self.calibration.sample(calibration, seed, CALIBRATION_WORDS),
            evaluation=self.evaluation.sample(evaluation, seed),
        )


def load(source: Source, labels: tuple[str, ...], seed: int = 0) -> Task:
    """The task for a model with these label names; anything wrong with the data is a sentence with row or column."""
    if source.task == "demo":
        calibration, evaluation = _demo(labels)
    elif source.is_file:
        calibration, evaluation = _local(source, labels, seed)
    else:
        calibration, evaluation = _hub(source, labels)
    if source.calibration:
        table = read_table(source.calibration)
        calibration = _examples(table, source.calibration, _columns(table, source, source.calibration, labelled=False), None)
    if not any(len(text.split()) >= CALIBRATION_WORDS for text in calibration.texts):
        raise PruneError(f"{source.task}: no calibration text has {CALIBRATION_WORDS} words or more; give a file with --calibration.")
    return Task(source.task, labels, calibration, evaluation)


def training_examples(source: Source, labels: tuple[str, ...]) -> Examples:
    """All labelled examples of a local file, or of a known task's training split."""
    if source.task == "demo":
        raise PruneError("The demo sentences are for calibration and evaluation; fine-tune on a known task or your own file.")
    if source.is_file:
        table = read_table(source.task)
        return _examples(table, source.task, _columns(table, source, source.task), labels)
    known = KNOWN[source.task]
    return _examples(_hub_split(source.task, "train"), source.task, (known.text, known.pair, "label"), labels)


def label_names(source: Source) -> tuple[str, ...]:
    """The label names to give a new head: the known task's, or a file's sorted distinct values."""
    if not source.is_file:
        return ("negative", "positive") if source.task == "demo" else KNOWN[source.task].labels
    table = read_table(source.task)
    column = _columns(table, source, source.task)[2]
    values = sorted(table[column].dropna().unique().tolist())
    if values == list(range(len(values))):
        return ("negative", "positive") if len(values) == 2 else tuple(f"label {value}" for value in values)
    return tuple(str(value) for value in values)


def _demo(labels: tuple[str, ...]) -> tuple[Examples, Examples]:
    table = read_table(str(DEMO))
    parts = [table[table["split"] == split].reset_index(drop=True) for split in ("calibration", "evaluation")]
    calibration, evaluation = (_examples(part, "demo", ("text", None, "label"), labels) for part in parts)
    return calibration, evaluation


def _local(source: Source, labels: tuple[str, ...], seed: int) -> tuple[Examples, Examples]:
    """Without a calibration file, a third of the rows (at most 1024) calibrates and the rest evaluates."""
    table = read_table(source.task)
    examples = _examples(table, source.task, _columns(table, source, source.task), labels)
    if source.calibration:
        return examples, examples
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    cut = min(len(order) // 3, 1024)
    return examples.take(sorted(order[:cut])), examples.take(sorted(order[cut:]))


def _hub(source: Source, labels: tuple[str, ...]) -> tuple[Examples, Examples]:
    known = KNOWN[source.task]
    columns = (known.text, known.pair, "label")
    if len(known.labels) != len(labels):
        raise PruneError(
            f"{source.task} has {len(known.labels)} labels ({', '.join(known.labels)}) but the model has "
            f"{len(labels)} ({', '.join(labels)}); choose a checkpoint fine-tuned on {source.task}."
        )
    train, evaluation = (_hub_split(source.task, split) for split in ("train", known.evaluation))
    return _examples(train, source.task, columns, None), _examples(evaluation, source.task, columns, labels)


def _hub_split(task: str, split: str) -> pd.DataFrame:
    from datasets import load_dataset

    known = KNOWN[task]
    try:
        return load_dataset(known.path, known.config, split=split).to_pandas()
    except (OSError, ValueError) as error:  # datasets raises these two when the Hub or the name fails
        raise PruneError(
            f"{task}: the Hub cannot be reached and the data is not in its cache; go online, or give a local file with "
            f"--text {known.text} --label label. ({str(error).splitlines()[0][:120]})"
        ) from None


def read_table(path: str) -> pd.DataFrame:
    """A .csv, .jsonl or .parquet file as a table."""
    file = Path(path).expanduser()
    readers = {".csv": _read_csv, ".jsonl": lambda f: pd.read_json(f, lines=True), ".parquet": pd.read_parquet}
    if file.suffix not in readers:
        known = ", ".join(["demo", *KNOWN])
        raise PruneError(f"{path} is neither a known task ({known}) nor a .csv, .jsonl or .parquet file.")
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


def _columns(table: pd.DataFrame, source: Source, path: str, labelled: bool = True) -> tuple[str, str | None, str]:
    """(text, pair or None, label) column names, found by their usual names where the user named none."""
    have = list(table.columns)
    usual = [name for name in ("text", "sentence", "review", "content", "sentence1") if name in have]
    text = source.text or (usual[0] if usual else "")
    label = source.label or "label"
    pair = source.text_pair or None
    for column, flag in ((text, "--text"), (pair, "--text-pair"), (label if labelled else None, "--label")):
        if column is not None and column not in have:
            missing = f"there is no column {column!r}" if column else "no text column was named"
            raise PruneError(f"{path}: {missing}; it has {', '.join(map(str, have))}. Name one with {flag}.")
    return text, pair, label


def _examples(
    table: pd.DataFrame, path: str, columns: tuple[str, str | None, str], names: tuple[str, ...] | None
) -> Examples:
    """Checked examples; without `names` labels are left out. Rows are counted from 1, the header not counted."""
    text, pair, label = columns
    for column in filter(None, (text, pair)):
        empty = table[column].isna() | (table[column].astype(str).str.strip() == "")
        if empty.any():
            raise PruneError(f"{path}, row {_first(empty)}, column {column!r}: the text is empty; fill it or remove the row.")
    labels = None if names is None else _labels(table[label], path, names)
    return Examples(
        [str(value) for value in table[text]],
        [str(value) for value in table[pair]] if pair else None,
        labels,
    )


def _first(rows: pd.Series) -> int:
    return int(rows.to_numpy().argmax()) + 1


def _labels(column: pd.Series, path: str, names: tuple[str, ...]) -> list[int]:
    """Label values as class numbers: whole numbers count from 0, words are matched to the model's label names."""
    if column.isna().any():
        raise PruneError(f"{path}, row {_first(column.isna())}, column {column.name!r}: the label is missing.")
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


def encode(tokenizer: Any, examples: Examples, max_length: int) -> dict[str, list[list[int]]]:
    """Token ids and masks of every example, cut at max_length, not padded."""
    limit = min(max_length, tokenizer.model_max_length)
    return dict(tokenizer(examples.texts, examples.pairs, truncation=True, max_length=limit))


def batches(
    tokenizer: Any, examples: Examples, batch_size: int, max_length: int, device: torch.device
) -> Iterator[tuple[Batch, list[int]]]:
    """(batch, indices of its examples), sorted by length so that little is padding; pads to the batch's longest."""
    encoded = encode(tokenizer, examples, max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(examples)), key=lambda i: (lengths[i], i))
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        padded = tokenizer.pad({key: [values[i] for i in indices] for key, values in encoded.items()}, return_tensors="pt")
        yield {key: value.to(device) for key, value in padded.items()}, indices
