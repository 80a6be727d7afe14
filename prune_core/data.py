"""Tasks: which examples calibrate and which evaluate, by which figure, and how they become token batches.

Knows the Hub's names of the known tasks. Knows nothing of pruning; a person's own tables are read in examples.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from . import PruneError
from .encoders import ROOT
from .examples import Answers, Columns, Examples, Source, columns, examples, read_table
from .metrics import METRICS, metric_for
from .plugins import Batch

DEMO = ROOT / "assets" / "demo" / "reviews.csv"
CALIBRATION_WORDS = 9  # shorter sentences say little about a Linear's inputs; the papers' protocol drops them too


@dataclass(frozen=True)
class Known:
    """A task with a public name: where the Hub keeps it, which columns and splits it uses, and its official figure."""

    title: str
    path: str
    config: str | None
    text: str
    pair: str | None
    labels: tuple[str, ...] = ()
    evaluation: str = "validation"
    metric: str = "accuracy"
    label: str = "label"

    @property
    def kind(self) -> str:
        """The kind of head that answers it."""
        return METRICS[self.metric].kind

    @property
    def columns(self) -> Columns:
        """(text, second text, label) column names."""
        return self.text, self.pair, self.label


_GLUE = "nyu-mll/glue"
_SQUAD: dict[str, Any] = {"config": None, "text": "question", "pair": "context", "label": "answers", "metric": "answer_f1"}
KNOWN = {
    "sst2": Known("SST-2, film-review sentences", _GLUE, "sst2", "sentence", None, ("negative", "positive")),
    "imdb": Known("IMDB, film reviews", "stanfordnlp/imdb", None, "text", None, ("negative", "positive"), "test"),
    "ag_news": Known(
        "AG News, topics", "fancyzhx/ag_news", None, "text", None, ("World", "Sports", "Business", "Sci/Tech"), "test"
    ),
    "mrpc": Known("MRPC, paraphrases", _GLUE, "mrpc", "sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "qqp": Known("QQP, duplicate questions", _GLUE, "qqp", "question1", "question2", ("not_duplicate", "duplicate")),
    "stsb": Known("STS-B, likeness from 0 to 5", _GLUE, "stsb", "sentence1", "sentence2", metric="spearman"),
    "rte": Known("RTE, entailment", _GLUE, "rte", "sentence1", "sentence2", ("entailment", "not_entailment")),
    "cola": Known(
        "CoLA, acceptability", _GLUE, "cola", "sentence", None, ("unacceptable", "acceptable"), metric="matthews"
    ),
    "qnli": Known("QNLI, question and sentence", _GLUE, "qnli", "question", "sentence", ("entailment", "not_entailment")),
    "mnli": Known(
        "MNLI, entailment", _GLUE, "mnli", "premise", "hypothesis", ("entailment", "neutral", "contradiction"),
        "validation_matched",
    ),
    "squad": Known("SQuAD 1.1, answers in a text", "rajpurkar/squad", **_SQUAD),
    "squad_v2": Known("SQuAD 2.0, or none", "rajpurkar/squad_v2", **_SQUAD),
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Calibration and evaluation examples, labels as the model counts them, and the figure to judge by."""

    name: str
    label_names: tuple[str, ...]
    calibration: Examples
    evaluation: Examples
    metric: str = "accuracy"

    @property
    def kind(self) -> str:
        """classification, regression or span."""
        return self.evaluation.kind

    def sampled(self, calibration: int, evaluation: int, seed: int) -> Task:
        """The task with both parts cut down to the sizes asked for (0 = all)."""
        return replace(
            self,
            calibration=self.calibration.sample(calibration, seed, CALIBRATION_WORDS),
            evaluation=self.evaluation.sample(evaluation, seed),
        )


def is_file(task: str) -> bool:
    """True for a local file, False for `demo` and known tasks."""
    return task != "demo" and task not in KNOWN


def load(source: Source, labels: tuple[str, ...], seed: int = 0, kind: str = "classification") -> Task:
    """The task for a model of that kind with these label names; anything wrong is a sentence with row or column."""
    if source.task == "demo":
        _fits("demo", "classification", kind)
        calibration, evaluation = _demo(labels)
    elif is_file(source.task):
        calibration, evaluation = _local(source, labels, seed, kind)
    else:
        calibration, evaluation = _hub(source, labels, kind)
    if source.calibration:
        calibration = _own_calibration(source, labels, kind)
    if not any(calibration.words(i) >= CALIBRATION_WORDS for i in range(len(calibration))):
        raise PruneError(f"{source.task}: no calibration text has {CALIBRATION_WORDS} words or more; give a file with --calibration.")
    own = KNOWN[source.task].metric if source.task in KNOWN else ""
    return Task(source.task, labels, calibration, evaluation, metric_for(kind, len(labels), source.metric or own))


def training_examples(source: Source, labels: tuple[str, ...], kind: str = "classification") -> Examples:
    """All labelled examples of a local file, or of a known task's training split."""
    if source.task == "demo":
        raise PruneError("The demo sentences are for calibration and evaluation; fine-tune on a known task or your own file.")
    if is_file(source.task):
        table = read_table(source.task, ["demo", *KNOWN])
        return examples(table, source.task, columns(table, source, source.task, kind), kind, labels)
    return examples(_hub_split(source.task, "train"), source.task, KNOWN[source.task].columns, kind, labels)


def kind_of(source: Source) -> str:
    """The kind of head that a source is for: the known task's; a file's by its columns and label values."""
    if not is_file(source.task):
        return "classification" if source.task == "demo" else KNOWN[source.task].kind
    table = read_table(source.task, ["demo", *KNOWN])
    if {"question", "context", "answers"} <= set(table) and not source.text:
        return "span"
    label = table[columns(table, source, source.task, "classification")[2]]
    fractions = pd.api.types.is_float_dtype(label) and bool((label.dropna() % 1 != 0).any())
    return "regression" if fractions else "classification"


def label_names(source: Source, kind: str) -> tuple[str, ...]:
    """The label names to give a new head: the known task's, or a file's sorted distinct values; one for a score."""
    if kind != "classification":
        return ("score",) if kind == "regression" else ("start", "end")
    if not is_file(source.task):
        return ("negative", "positive") if source.task == "demo" else KNOWN[source.task].labels
    table = read_table(source.task)
    column = columns(table, source, source.task, kind)[2]
    values = sorted(table[column].dropna().unique().tolist())
    if values == list(range(len(values))):
        return ("negative", "positive") if len(values) == 2 else tuple(f"label {value}" for value in values)
    return tuple(str(value) for value in values)


def _fits(task: str, needed: str, kind: str) -> None:
    heads = {"classification": "a label", "regression": "a score", "span": "an answer in a text"}
    if needed != kind:
        raise PruneError(f"{task} asks for {heads[needed]}, but the checkpoint's head gives {heads[kind]}; choose one that fits.")


def _demo(labels: tuple[str, ...]) -> tuple[Examples, Examples]:
    table = read_table(str(DEMO))
    parts = [table[table["split"] == split].reset_index(drop=True) for split in ("calibration", "evaluation")]
    calibration, evaluation = (examples(part, "demo", ("text", None, "label"), "classification", labels) for part in parts)
    return calibration, evaluation


def _local(source: Source, labels: tuple[str, ...], seed: int, kind: str) -> tuple[Examples, Examples]:
    """Without a calibration file, a third of the rows (at most 1024) calibrates and the rest evaluates."""
    table = read_table(source.task, ["demo", *KNOWN])
    found = examples(table, source.task, columns(table, source, source.task, kind), kind, labels)
    if source.calibration:
        return found, found
    order = list(range(len(found)))
    random.Random(seed).shuffle(order)
    cut = min(len(order) // 3, 1024)
    return found.take(sorted(order[:cut])), found.take(sorted(order[cut:]))


def _own_calibration(source: Source, labels: tuple[str, ...], kind: str) -> Examples:
    """A calibration file's labels are used where a method asks for them and may be missing or strange where none does."""
    table, path = read_table(source.calibration), source.calibration
    text, pair, label = columns(table, source, path, kind, labelled=False)
    try:
        return examples(table, path, (text, pair, label), kind, labels)
    except PruneError:
        return examples(table.drop(columns=label, errors="ignore"), path, (text, pair, label), kind)


def _hub(source: Source, labels: tuple[str, ...], kind: str) -> tuple[Examples, Examples]:
    known = KNOWN[source.task]
    _fits(source.task, known.kind, kind)
    if kind == "classification" and len(known.labels) != len(labels):
        raise PruneError(
            f"{source.task} has {len(known.labels)} labels ({', '.join(known.labels)}) but the model has "
            f"{len(labels)} ({', '.join(labels)}); choose a checkpoint fine-tuned on {source.task}."
        )
    train, evaluation = (
        examples(_hub_split(source.task, split), source.task, known.columns, kind, labels) for split in ("train", known.evaluation)
    )
    return train, evaluation


def _hub_split(task: str, split: str) -> pd.DataFrame:
    from datasets import load_dataset

    known = KNOWN[task]
    try:
        return load_dataset(known.path, known.config, split=split).to_pandas()
    except (OSError, ValueError) as error:  # datasets raises these two when the Hub or the name fails
        raise PruneError(
            f"{task}: the Hub cannot be reached and the data is not in its cache; go online, or give a local file with "
            f"--text {known.text} --label {known.label}. ({str(error).splitlines()[0][:120]})"
        ) from None


class Features(NamedTuple):
    """Token ids and masks, not padded. A long context becomes several windows, so examples and rows are not the same."""

    inputs: dict[str, list[list[int]]]
    example: list[int]  # of every row
    offsets: list[list[tuple[int, int] | None]] | None  # spans: each token's characters of the context; None outside it

    def __len__(self) -> int:
        return len(self.example)


def encode(tokenizer: Any, found: Examples, max_length: int) -> Features:
    """The examples as tokens; sentences are cut at max_length, a context is read in windows that overlap by a third of it."""
    limit = min(max_length, tokenizer.model_max_length)
    if found.kind != "span":
        inputs = dict(tokenizer(found.texts, found.pairs, truncation=True, max_length=limit))
        return Features(inputs, list(range(len(found))), None)
    assert found.pairs is not None, "a question has a context"
    questions = [_shortened(tokenizer, text.lstrip(), limit // 3) for text in found.texts]
    encoded = tokenizer(
        questions, found.pairs, truncation="only_second", max_length=limit, stride=limit // 3,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    rows, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    for row, spans in enumerate(offsets):
        offsets[row] = [tuple(span) if part == 1 else None for span, part in zip(spans, encoded.sequence_ids(row), strict=True)]
    return Features(dict(encoded), rows, offsets)


def _shortened(tokenizer: Any, question: str, limit: int) -> str:
    """The question's first `limit` tokens as text: the context needs room too."""
    if len(question) <= limit:  # a token has at least one character
        return question
    ends = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return question if len(ends) <= limit else question[: ends[limit - 1][1]]


def targets(features: Features, found: Examples) -> Tensor:
    """What is right, a row each: class (rows,) int64, score (rows,) float32, or first and last token (rows, 2) int64.

    Where a window does not hold the first accepted answer whole, both ends are token 0, [CLS].
    """
    assert found.labels is not None, "the caller checks for labels"
    right = [found.labels[example] for example in features.example]
    if features.offsets is not None:
        return torch.tensor([_ends(spans, answers) for spans, answers in zip(features.offsets, right, strict=True)])
    return torch.tensor(right, dtype=torch.float32 if found.kind == "regression" else torch.int64)


def _ends(offsets: Sequence[tuple[int, int] | None], answers: Answers) -> tuple[int, int]:
    if not answers.texts:
        return 0, 0
    first, last = answers.starts[0], answers.starts[0] + len(answers.texts[0])
    inside = [token for token, span in enumerate(offsets) if span and span[0] < last and span[1] > first]
    if not inside:
        return 0, 0
    left, right = offsets[inside[0]], offsets[inside[-1]]
    return (inside[0], inside[-1]) if left and right and left[0] <= first and right[1] >= last else (0, 0)


def by_length(
    tokenizer: Any, features: Features, batch_size: int, device: torch.device
) -> Iterator[tuple[Batch, list[int]]]:
    """(batch, its rows), sorted by length so that little is padding; pads to the batch's longest."""
    lengths = [len(ids) for ids in features.inputs["input_ids"]]
    order = sorted(range(len(features)), key=lambda i: (lengths[i], i))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield padded(tokenizer, features, rows, device), rows


def padded(tokenizer: Any, features: Features, rows: Sequence[int], device: torch.device, multiple: int | None = None) -> Batch:
    """Those rows as one batch, its length a multiple of `multiple` where that is given."""
    chosen = {key: [values[i] for i in rows] for key, values in features.inputs.items()}
    found = tokenizer.pad(chosen, return_tensors="pt", **({"pad_to_multiple_of": multiple} if multiple else {}))
    return {key: value.to(device) for key, value in found.items()}


def batches(
    tokenizer: Any, found: Examples, batch_size: int, max_length: int, device: torch.device, labelled: bool = False
) -> Iterator[tuple[Batch, list[int]]]:
    """(batch, indices of its examples), by length; with `labelled`, "labels" are among its tensors (see targets)."""
    features = encode(tokenizer, found, max_length)
    right = targets(features, found).to(device) if labelled else None
    for batch, rows in by_length(tokenizer, features, batch_size, device):
        if right is not None:
            batch["labels"] = right[rows]
        yield batch, [features.example[row] for row in rows]
