"""The data of a run: which examples calibrate and which evaluate, and the metric. Knows nothing of pruning."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..errors import PruneError
from ..paths import ASSETS
from . import cells, columns, hub, reading, tables
from .columns import Columns
from .delimited import Dialect
from .examples import BINARY, TASK_TYPES, DataSource, Examples
from .known_tasks import KNOWN_TASKS
from .label_pairs import parse_pairs, to_text
from .labels import is_missing
from .metrics import metric_for
from .reading import ReadExamples
from .tables import Table

DEMO = ASSETS / "demo" / "reviews.csv"


@dataclass(frozen=True)
class Task:
    """Calibration and evaluation examples, labels as the model counts them, and the metric."""

    name: str
    label_names: tuple[str, ...]
    calibration: Examples
    evaluation: Examples
    metric: str = "accuracy"
    notes: tuple[str, ...] = ()  # what was understood, left out or is missing, a sentence each
    meant: Mapping[str, int | None] | None = None  # label value or column -> the model's label
    counts: Mapping[str, int] | None = None  # of each value; empty for label columns

    @property
    def kind(self) -> str:
        """A key of examples.KINDS."""
        return self.evaluation.kind

    def sampled(
        self, calibration: int, evaluation: int, seed: int, among: Collection[int] | None = None
    ) -> Task:
        """The task with both parts cut down to the sizes asked for (0 = all); calibration drawn `among` those indices."""
        return replace(
            self,
            calibration=self.calibration.sample(calibration, seed, among),
            evaluation=self.evaluation.sample(evaluation, seed),
        )


def is_file(task: str) -> bool:
    """True for what lies on this machine, False for `demo`, known tasks and Hub ids."""
    return task != "demo" and task not in KNOWN_TASKS and tables.is_path(task)


def form(source: DataSource) -> Dialect:
    """How the source says that its file is written."""
    return Dialect(
        source.separator,
        source.encoding,
        source.header,
        quotes=source.quotes,
        bad_rows=source.bad_rows,
    )


def load(
    source: DataSource,
    labels: tuple[str, ...],
    seed: int = 0,
    kind: str = "classification",
    labelled: bool = False,
) -> Task:
    """The task for a model of that kind with these label names; PruneError with a remedy where data cannot be understood.

    A calibration set of its own needs no labels; they are read where `labelled` says that the method uses them.
    """
    own = ""
    if source.task in KNOWN_TASKS:
        own = KNOWN_TASKS[source.task].metric
        _fits(source.task, KNOWN_TASKS[source.task].kind, kind)
    elif source.task == "demo":
        _fits("demo", "classification", kind)
    calibration, evaluation = _parts(source, labels, kind, seed=seed)
    notes = [*evaluation.notes]
    found = calibration.examples
    if source.calibration:
        found, told = _own_calibration(source, labels, kind, labelled=labelled)
        notes += told
    right = evaluation.examples.labels is not None
    names = BINARY if evaluation.examples.binary else labels
    metric = metric_for(kind, len(names), source.metric or own, labelled=right)
    meant = evaluation.labels
    return Task(
        source.task,
        names,
        found,
        evaluation=evaluation.examples,
        metric=metric,
        notes=(*notes, *_shared(found, evaluation.examples, labels)),
        meant=meant and meant.labels,
        counts=meant and meant.counts,
    )


def training_examples(
    source: DataSource, labels: tuple[str, ...], kind: str = "classification"
) -> Examples:
    """All labelled examples of a local file, or of its training split or a known task's or Hub data set's."""
    if source.task == "demo":
        raise PruneError(
            "The demo sentences are for calibration and evaluation; fine-tune on a known task or your own file."
        )
    return _with_labels(source, labels, kind, split="train", side=0)


def evaluation_examples(
    source: DataSource, labels: tuple[str, ...], kind: str = "classification"
) -> Examples:
    """All labelled examples of a local file, or of its split to evaluate on."""
    return _with_labels(source, labels, kind, split="", side=1)


def _with_labels(
    source: DataSource, labels: tuple[str, ...], kind: str, split: str, side: int
) -> Examples:
    if is_file(source.task) and not source.split:
        source = replace(source, split=tables.splits(source.task, form(source), source.text)[side])
    found = _read(source, labels, kind, split=split).examples
    if found.labels is None:
        raise PruneError(
            f"{source.task}: no row has a label to learn; name the column with --label."
        )
    return found


def kind_of(source: DataSource) -> str:
    """The kind of head that a source is for: the known task's; a file's by its columns and label values."""
    if source.task == "demo" or source.task in KNOWN_TASKS:
        return "classification" if source.task == "demo" else KNOWN_TASKS[source.task].kind
    table = table_of(source, "train").rows
    if not source.text and (found := columns.describe_columns(table)) != "classification":
        return found
    label = table[_labelled(table, source)]
    if label.map(lambda value: not isinstance(value, str) and hasattr(value, "__len__")).any():
        return "multilabel"
    numbers = pd.to_numeric(label.map(to_text).replace("", None), errors="coerce").dropna()
    fractions = len(numbers) == (label.map(to_text) != "").sum() and bool((numbers % 1 != 0).any())
    return "regression" if fractions else "classification"


def label_names(source: DataSource, kind: str) -> tuple[str, ...]:
    """The label names to give a new head: the known task's, a file's sorted distinct values, or what those are said to mean; one for a
    score."""
    if kind in ("regression", "span"):
        return ("score",) if kind == "regression" else ("start", "end")
    if source.task == "demo" or source.task in KNOWN_TASKS:
        return (
            ("negative", "positive") if source.task == "demo" else KNOWN_TASKS[source.task].labels
        )
    table = table_of(source, "train")
    column = (
        columns.choose(table.rows, source, source.task, kind=kind).label
        if kind == "token"
        else _labelled(table.rows, source)
    )
    if column and column in table.names:
        return tuple(table.names[column])
    values = cells.distinct_values(table.rows[column], kind)
    if asked := parse_pairs(source.labels):
        named = {
            value: label for value in values if not is_missing(label := asked.get(value, value))
        }
        if set(named.values()) == {*map(str, range(len(named)))} and not any(
            map(str.isdigit, named)
        ):  # places, such as NEG=0,POS=1
            return tuple(sorted(named, key=lambda value: int(named[value])))
        return tuple(dict.fromkeys(named.values()))
    numbers = [int(value) for value in values if value.lstrip("-").isdigit()]
    if sorted(numbers) == list(range(len(values))):
        return tuple(
            f"label {value}" for value in sorted(numbers)
        )  # what 0 and 1 mean, the numbers do not say
    return tuple(values)


def _labelled(table: pd.DataFrame, source: DataSource) -> str:
    """The label column, which must be there; with no names to match it is the one that is called so, or the one that is left."""
    chosen = columns.choose(table, source, source.task, kind="classification")
    rest = [name for name in table if name not in (chosen.text, chosen.pair)]
    if chosen.label is None and len(rest) != 1:
        raise PruneError(
            f"{source.task}: no column is known to hold labels; it has {', '.join(table.columns)}. Name one with --label."
        )
    return chosen.label or rest[0]


def table_of(source: DataSource, split: str = "") -> Table:
    """The table that a source names: a file's, or a split of a Hub data set; `split` where the source names none."""
    if source.task == "demo":
        return tables.read(str(DEMO))._replace(names={"label": ["negative", "positive"]})
    if is_file(source.task):
        return tables.read(source.task, form(source), source.split, text=source.text)
    known = KNOWN_TASKS.get(source.task)
    path, config = (known.path, known.config) if known else (source.task, source.config or None)
    table = hub.split(path, config, source.split or split, title=source.task, known=[*KNOWN_TASKS])
    return (
        table._replace(names={known.label: list(known.labels)} if known.labels else {})
        if known
        else table
    )


def _read(source: DataSource, labels: tuple[str, ...], kind: str, split: str = "") -> ReadExamples:
    """A source's rows as examples, with notes on how they were read."""
    return examples_of(table_of(source, split), source, labels, kind=kind)


def examples_of(
    table: Table, source: DataSource, labels: tuple[str, ...], kind: str
) -> ReadExamples:
    """A table's rows as examples, with notes on how they were read."""
    named = any((source.text, source.text_pair, source.label))
    if source.task in KNOWN_TASKS and not named:
        chosen = KNOWN_TASKS[source.task].columns
    else:
        chosen = columns.choose(table.rows, source, source.task, kind=kind, names=labels)
    found = reading.examples(
        table.rows,
        source,
        chosen,
        kind=kind,
        names=labels,
        classes=table.names.get(chosen.label or "", ()),
    )
    notes = [f"Read as: {table.description}."] if table.description else []
    notes += [*table.notes, *columns.remarks(table.rows, chosen, source)]
    if chosen.guessed:
        labels_in = [repr(name) for name in (chosen.label, *chosen.indicators) if name]
        notes.append(
            f"Chosen by their cells: texts in column {chosen.text!r}, labels in {', '.join(labels_in[:8]) or 'none'}."
        )
    if chosen.indicators:
        pairs = ", ".join(
            f"{column} is {label}"
            for column, label in zip(chosen.indicators, labels, strict=True)
            if column != label
        )
        notes += [f"Label columns: {pairs}."] if pairs else []
    elif chosen.label is None and found.examples.labels is None and source.label != columns.NONE:
        rest = [name for name in table.rows if name not in (chosen.text, chosen.pair)]
        notes.append(
            "No label column"
            + (f" is known among {', '.join(rest[:8])}; name it with --label" if rest else "")
            + ": the pruned model is judged against the dense one."
        )
    return found._replace(notes=[*notes, *found.notes])


def _parts(
    source: DataSource, labels: tuple[str, ...], kind: str, seed: int
) -> tuple[ReadExamples, ReadExamples]:
    """(calibration, evaluation). Data with a training split calibrates on it; of a single table a third of the rows (at most
    1024) calibrates and the rest evaluates."""
    if source.task == "demo":
        table, chosen = table_of(source), Columns("text", None, "label")
        one, other = (
            reading.examples(
                table.rows[table.rows["split"] == split],
                source,
                chosen,
                kind=kind,
                names=labels,
                classes=table.names["label"],
            )
            for split in ("calibration", "evaluation")
        )
        return one, other
    if is_file(source.task):
        return _parts_of_file(source, labels, kind, seed=seed)
    known = KNOWN_TASKS.get(source.task)
    evaluation = _read(source, labels, kind, split=known.evaluation if known else "")
    if source.calibration:
        return evaluation, evaluation
    if known or hub.has_train(source.task, source.config or None, source.split):
        return _read(replace(source, split="train"), labels, kind), evaluation
    return _halved(evaluation, seed)


def _parts_of_file(
    source: DataSource, labels: tuple[str, ...], kind: str, seed: int
) -> tuple[ReadExamples, ReadExamples]:
    """Those of a file or saved data set."""
    train, usual = tables.splits(source.task, form(source), source.text)
    evaluated = source.split or usual
    found = _read(replace(source, split=evaluated), labels, kind)
    if source.calibration:
        return found, found
    if not train or train == evaluated:
        return _halved(found, seed)
    calibration = _read(replace(source, split=train), labels, kind)
    note = f"Split {train!r} calibrates and {evaluated!r} evaluates; name another to evaluate on with --split."
    return calibration, found._replace(notes=[*found.notes, note])


def _halved(found: ReadExamples, seed: int) -> tuple[ReadExamples, ReadExamples]:
    order = list(range(len(found.examples)))
    random.Random(seed).shuffle(order)
    cut = min(len(order) // 3, 1024)
    if not cut:
        raise PruneError(
            f"{len(order)} rows are too few: a third of them calibrates; give at least 3, or a file with --calibration."
        )
    parts = (found.examples.take(sorted(order[:cut])), found.examples.take(sorted(order[cut:])))
    both = [f"{len(order):,} rows: {cut:,} calibrate and {len(order) - cut:,} evaluate."]
    return found._replace(examples=parts[0]), found._replace(
        examples=parts[1], notes=[*found.notes, *both]
    )


def _own_calibration(
    source: DataSource, labels: tuple[str, ...], kind: str, labelled: bool
) -> tuple[Examples, list[str]]:
    """The texts of another source. Its labels are read only for a method that needs them (`labelled`)."""
    if source.calibration == "demo":
        if labelled and kind in ("classification", "multilabel"):
            return _parts(DataSource(), labels, kind, seed=0)[0].examples, []
        return _texts_of_demo(kind), []
    known = source.calibration in KNOWN_TASKS
    named = (
        {} if known else {"text": source.text, "text_pair": source.text_pair, "label": source.label}
    )
    form_of = {
        name: getattr(source, name)
        for name in ("separator", "encoding", "header", "quotes", "bad_rows")
    }
    own = DataSource(source.calibration, **named, **form_of, split="train" if known else "")
    if labelled:
        return _read(own, labels, kind).examples, []
    table = table_of(own).rows
    lacking = {
        name: ""
        for name in ("text", "text_pair")
        if getattr(own, name) and getattr(own, name) not in table
    }
    return _read(replace(own, label=columns.NONE, **lacking), labels, kind).examples, []


def _texts_of_demo(kind: str) -> Examples:
    """The demo's calibration sentences alone, for a model of another kind."""
    if kind == "span":
        raise PruneError(
            "The demo's sentences have no questions; calibrate a model that finds answers on questions with their contexts."
        )
    table = table_of(DataSource()).rows
    return Examples(
        [str(text) for text in table.loc[table["split"] == "calibration", "text"]], kind=kind
    )


def _fits(task: str, needed: str, kind: str) -> None:
    if needed != kind and (needed, kind) != (
        "classification",
        "multilabel",
    ):  # one label is a set of one
        raise PruneError(
            f"{task} asks for {TASK_TYPES[needed]}, but the checkpoint's head gives {TASK_TYPES[kind]}; choose one that fits."
        )


def _shared(calibration: Examples, evaluation: Examples, labels: Sequence[str]) -> list[str]:
    """Duplicates, texts in both parts, and labels that one part lacks."""
    texts = [evaluation.whole(i) for i in range(len(evaluation))]
    notes = []
    if twice := len(texts) - len(set(texts)):
        notes.append(f"{twice:,} of {len(texts):,} evaluation texts are there twice.")
    if calibration is not evaluation:
        known = {calibration.whole(i) for i in range(len(calibration))}
        if seen := sum(text in known for text in texts):
            notes.append(
                f"{seen:,} of {len(texts):,} evaluation texts are also calibration texts; figures on them say less."
            )
    if evaluation.kind == "classification" and calibration.labels and evaluation.labels:
        for name, one, other in (
            ("evaluation", evaluation, calibration),
            ("calibration", calibration, evaluation),
        ):
            if lost := sorted(set(other.labels or ()) - set(one.labels or ())):
                notes.append(
                    f"No {name} text is {', '.join(labels[i] for i in lost[:8])}, though others of the data are."
                )
    return notes
