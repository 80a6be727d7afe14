"""Tasks: which examples calibrate and which evaluate, by which figure, and how they become token batches.

Knows the Hub's names of the known tasks. Knows nothing of pruning; a person's own tables are read in examples.py.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ..errors import PruneError
from ..paths import ASSETS
from .examples import Columns, Examples, Source, columns, examples, read_table
from .metrics import METRICS, metric_for
from .tokens import CALIBRATION_WORDS

DEMO = ASSETS / "demo" / "reviews.csv"


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
