"""The data of a run: calibration and evaluation examples, and the metric."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..data import cells, columns, hub, reading, tables
from ..data.columns import Columns
from ..data.examples import BINARY, NO_CALIBRATION, DataSource, Examples, query_indices
from ..data.label_pairs import parse_pairs, to_text
from ..data.labels import is_missing
from ..data.reading import ReadExamples
from ..data.retrieval import RetrievalCollection
from ..data.tables import Table
from ..errors import PruneError
from ..paths import ASSETS
from . import DEFAULT, METRICS, TASK_TYPES, candidates, metric_for, of_table
from .base import TaskType
from .collection_source import (
    RETRIEVAL_DEMO,
    RETRIEVAL_FOLDER,
    is_collection,
    is_collection_folder,
    is_file,
    read_collection,
)
from .embedding import Embedding
from .known_tasks import KNOWN_TASKS
from .multilabel import Multilabel
from .regression import Regression

DEMO = ASSETS / "demo" / "reviews.csv"
GUARD_DEMO = "demo-guard"  # name of the bundled table of requests, see paths.TABLES
BUNDLED_DATA = ("demo", GUARD_DEMO, RETRIEVAL_DEMO)
CALIBRATION_POOL = 4096  # documents of a collection from which calibration texts are drawn


@dataclass(frozen=True)
class Task:
    """Calibration and evaluation examples, label names in the model's order, and the metric."""

    name: str
    label_names: tuple[str, ...]
    calibration: Examples
    evaluation: Examples
    metric: str = "accuracy"
    notes: tuple[str, ...] = ()  # on how the data was read; one sentence each
    label_map: Mapping[str, int | None] | None = None  # label value or column -> the model's label
    counts: Mapping[str, int] | None = None  # occurrences of each value; empty for label columns
    # documents and judgements; its queries are the evaluation examples
    collection: RetrievalCollection | None = None

    @property
    def kind(self) -> str:
        """Name of the task type."""
        return self.evaluation.kind

    def subsample(
        self, calibration: int, evaluation: int, seed: int, among: Collection[int] | None = None
    ) -> Task:
        """Subsample both parts to the given sizes (0 = all).

        Calibration examples are drawn from the indices `among` (default: all). The documents of a
        collection remain, all of them, and so do the candidates of a query.
        """
        collection = self.collection
        is_by_query = METRICS[self.metric].by_query
        draw = self.evaluation.sample_whole if is_by_query else self.evaluation.sample
        return replace(
            self,
            calibration=self.calibration.sample(calibration, seed, among),
            evaluation=draw(evaluation, seed),
            collection=collection and collection.sample_queries(evaluation, seed),
        )


def load(
    source: DataSource,
    labels: tuple[str, ...],
    seed: int = 0,
    kind: str = DEFAULT,
    labelled: bool = False,
) -> Task:
    """Load the task for a model with this task type and these label names.

    `labelled`: the pruning method uses labels, so those of a separate calibration file are read
    too. PruneError with a remedy if the data cannot be read.
    """
    known = KNOWN_TASKS.get(source.task)
    if known or source.task in ("demo", RETRIEVAL_DEMO):
        _check_task_type(source.task, kind_of(source), kind)
    if kind == Embedding.name and is_collection(source, kind):
        collection = read_collection(source)
        return of_collection(collection, source, labels, seed=seed, labelled=labelled)
    calibration_part, part = _parts(source, labels, kind, seed=seed)
    calibration, evaluation = (
        candidates.as_grades(each.examples, source.metric) for each in (calibration_part, part)
    )
    if source.calibration:
        calibration = _separate_calibration(source, labels, kind, labelled=labelled)
    names = BINARY if evaluation.binary else labels
    label_map = part.labels if evaluation.binary == part.examples.binary else None
    metric = metric_for(
        kind,
        len(names),
        source.metric or (known.metric if known and known.kind == kind else ""),
        labelled=evaluation.labels is not None,
        has_queries=bool(evaluation.queries),
        has_grades=evaluation.has_grades,
    )
    return Task(
        source.task,
        names,
        calibration,
        evaluation=evaluation,
        metric=metric,
        notes=(
            *part.notes,
            *candidates.ranking_notes(evaluation, metric),
            *_overlap_notes(calibration, evaluation, labels),
        ),
        label_map=label_map and label_map.labels,
        counts=label_map and label_map.counts,
    )


def of_collection(
    collection: RetrievalCollection,
    source: DataSource,
    labels: tuple[str, ...],
    *,
    seed: int = 0,
    labelled: bool = False,
) -> Task:
    """Return the task of a retrieval collection: its judged queries are evaluated, without labels.

    Only the name, the metric and the calibration data of the source are used; see `load`.
    """
    kind = Embedding.name
    evaluation = Examples(list(collection.queries), kind=kind)
    if source.calibration:
        calibration = _separate_calibration(source, labels, kind, labelled=labelled)
    else:
        calibration = collection.calibration_examples(CALIBRATION_POOL, seed)
    judgements = sum(map(len, collection.judgements.values()))
    note = (
        f"Retrieval collection: {len(collection.queries):,} judged queries for evaluation, "
        f"{len(collection.documents):,} documents, {judgements:,} judgements."
    )
    return Task(
        source.task,
        labels,
        calibration,
        evaluation=evaluation,
        metric=metric_for(kind, len(labels), source.metric, labelled=False),
        notes=(note, *collection.notes, *_overlap_notes(calibration, evaluation, labels)),
        collection=collection,
    )


def training_examples(source: DataSource, labels: tuple[str, ...], kind: str = DEFAULT) -> Examples:
    """Return all labeled training examples of a file, known task or Hub dataset.

    Of a file with a training split that split, else all rows.
    """
    if source.task in ("demo", RETRIEVAL_DEMO):
        raise PruneError(
            "The demo sentences are for calibration and evaluation; fine-tune on a known task or "
            "your own file."
        )
    return _labelled_examples(source, labels, kind, split="train", side=0)


def evaluation_examples(
    source: DataSource, labels: tuple[str, ...], kind: str = DEFAULT
) -> Examples:
    """Return all labeled examples of a file, or of its evaluation split."""
    return _labelled_examples(source, labels, kind, split="", side=1)


def _splits(source: DataSource) -> tuple[str, str]:
    """Return the training and the evaluation split of a file; "" where it has none."""
    if is_collection_folder(source.task):
        return "", ""
    dialect = tables.dialect_of(source)
    return tables.train_and_evaluation_splits(source.task, dialect, source.text)


def _labelled_examples(
    source: DataSource, labels: tuple[str, ...], kind: str, split: str, side: int
) -> Examples:
    if is_file(source.task) and not source.split:
        source = replace(source, split=_splits(source)[side])
    examples = _read(source, labels, kind, split=split).examples
    if examples.labels is None:
        raise PruneError(
            f"{source.task}: no row has a label to train on; set the column with --label."
        )
    return examples


def kind_of(source: DataSource) -> str:
    """Infer the task type of a source; a file's from its columns and label values."""
    if source.task == "demo":
        return DEFAULT
    if source.task == RETRIEVAL_DEMO:
        return Embedding.name
    if source.task in KNOWN_TASKS:
        return KNOWN_TASKS[source.task].kind
    if is_collection(source, Regression.name):
        return Regression.name
    table = table_of(source, "train").rows
    if not source.text and (described := of_table(table).name) != DEFAULT:
        return described
    label = table[_label_column(table, source)]
    if label.map(lambda value: not isinstance(value, str) and hasattr(value, "__len__")).any():
        return Multilabel.name
    numbers = pd.to_numeric(label.map(to_text).replace("", None), errors="coerce").dropna()
    fractions = len(numbers) == (label.map(to_text) != "").sum() and bool((numbers % 1 != 0).any())
    return Regression.name if fractions else DEFAULT


def label_names(source: DataSource, kind: str) -> tuple[str, ...]:
    """Return the label names for a new head.

    Those of a known task; else the sorted distinct values of the file, renamed by `source.labels`.
    """
    task_type = TASK_TYPES[kind]
    if fixed := task_type.new_label_names():
        return fixed
    if source.task == "demo":
        return ("negative", "positive")
    if source.task in KNOWN_TASKS:
        return KNOWN_TASKS[source.task].labels
    table = table_of(source, "train")
    # of a text with several labels or one, the label column may have any name
    is_unusual = task_type.usual_columns is TaskType.usual_columns
    column = (
        _label_column(table.rows, source)
        if is_unusual
        else columns.choose_columns(table.rows, source, source.task, task_type).label
    )
    if column and column in table.names:
        return tuple(table.names[column])
    values = cells.sort_values(task_type.label_values(table.rows[column]))
    if meanings := parse_pairs(source.labels):
        names = {
            value: label for value in values if not is_missing(label := meanings.get(value, value))
        }
        are_positions = set(names.values()) == {*map(str, range(len(names)))}
        if are_positions and not any(map(str.isdigit, names)):  # such as NEG=0,POS=1
            return tuple(sorted(names, key=lambda value: int(names[value])))
        return tuple(dict.fromkeys(names.values()))
    numbers = [int(value) for value in values if value.lstrip("-").isdigit()]
    if sorted(numbers) == list(range(len(values))):
        return tuple(f"label {value}" for value in sorted(numbers))  # plain numbers have no meaning
    return tuple(values)


def _label_column(table: pd.DataFrame, source: DataSource) -> str:
    """Return the label column, which must exist; the only remaining column if none has a usual
    name.
    """
    chosen = columns.choose_columns(table, source, source.task, TASK_TYPES[DEFAULT])
    rest = [name for name in table if name not in (chosen.text, chosen.pair)]
    if chosen.label is None and len(rest) != 1:
        raise PruneError(
            f"{source.task}: no column is known to contain labels; it has "
            f"{', '.join(table.columns)}. Set it with --label."
        )
    return chosen.label or rest[0]


def table_of(source: DataSource, split: str = "") -> Table:
    """Read the table of a source: a file, or a split of a Hub dataset.

    `split` is used if the source has none.
    """
    if source.task == "demo":
        return tables.read(str(DEMO))._replace(names={"label": ["negative", "positive"]})
    if source.task == RETRIEVAL_DEMO:
        return tables.read(str(RETRIEVAL_FOLDER / "corpus.jsonl"))
    if is_file(source.task):
        return tables.read(source.task, tables.dialect_of(source), source.split, text=source.text)
    split = source.split or split
    if source.task not in KNOWN_TASKS:
        return hub.load_split(
            source.task, source.config or None, split, title=source.task, known=[*KNOWN_TASKS]
        )
    known = KNOWN_TASKS[source.task]
    table = hub.load_split(known.path, known.config, split, title=source.task, known=[*KNOWN_TASKS])
    return table._replace(names={known.label: list(known.labels)} if known.labels else {})


def _read(source: DataSource, labels: tuple[str, ...], kind: str, split: str = "") -> ReadExamples:
    """Read a source as examples, with notes on how they were read."""
    if is_collection(source, kind):
        return candidates.read_run_candidates(source)
    return examples_of(table_of(source, split), source, labels, kind=kind)


def examples_of(
    table: Table, source: DataSource, labels: tuple[str, ...], kind: str
) -> ReadExamples:
    """Convert a table to examples, with notes on how they were read."""
    if source.task in KNOWN_TASKS and not (source.text or source.text_pair or source.label):
        chosen = KNOWN_TASKS[source.task].columns
    else:
        chosen = columns.choose_columns(
            table.rows, source, source.task, TASK_TYPES[kind], names=labels
        )
    examples = reading.examples(
        table.rows,
        source,
        chosen,
        task_type=TASK_TYPES[kind],
        names=labels,
        classes=table.names.get(chosen.label or "", ()),
    )
    notes = [f"Read as: {table.description}."] if table.description else []
    notes += [*table.notes, *columns.column_notes(table.rows, chosen, source)]
    if chosen.guessed:
        label_columns = [repr(name) for name in (chosen.label, *chosen.indicators) if name]
        notes.append(
            f"Columns chosen by their content: texts in column {chosen.text!r}, labels in "
            f"{', '.join(label_columns[:8]) or 'none'}."
        )
    if chosen.indicators:
        pairs = ", ".join(
            f"{column} is {label}"
            for column, label in zip(chosen.indicators, labels, strict=True)
            if column != label
        )
        notes += [f"Label columns: {pairs}."] if pairs else []
    elif (
        chosen.label is None
        and examples.examples.labels is None
        and source.label != columns.NO_LABELS
    ):
        rest = [name for name in table.rows if name not in (chosen.text, chosen.pair)]
        hint = f" is known among {', '.join(rest[:8])}; set it with --label" if rest else ""
        notes.append(f"No label column{hint}: the pruned model is compared with the dense one.")
    return examples._replace(notes=[*notes, *examples.notes])


def _parts(
    source: DataSource, labels: tuple[str, ...], kind: str, seed: int
) -> tuple[ReadExamples, ReadExamples]:
    """Return (calibration, evaluation).

    Data with a training split calibrates on it; of a single table, a third of the rows (at most
    1024) is for calibration and the rest for evaluation.
    """
    if source.task == "demo":
        table, chosen = table_of(source), Columns("text", None, "label")
        calibration, evaluation = (
            reading.examples(
                table.rows[table.rows["split"] == split],
                source,
                chosen,
                task_type=TASK_TYPES[kind],
                names=labels,
                classes=table.names["label"],
            )
            for split in ("calibration", "evaluation")
        )
        return calibration, evaluation
    if is_file(source.task):
        return _parts_of_file(source, labels, kind, seed=seed)
    known = KNOWN_TASKS.get(source.task)
    evaluation = _read(source, labels, kind, split=known.evaluation if known else "")
    if source.calibration:
        return evaluation, evaluation
    if known or hub.has_train(source.task, source.config or None, source.split):
        return _read(replace(source, split="train"), labels, kind), evaluation
    return _split_randomly(evaluation, seed)


def _parts_of_file(
    source: DataSource, labels: tuple[str, ...], kind: str, seed: int
) -> tuple[ReadExamples, ReadExamples]:
    """Return (calibration, evaluation) of a file or saved dataset."""
    train, usual = _splits(source)
    evaluated = source.split or usual
    evaluation = _read(replace(source, split=evaluated), labels, kind)
    if source.calibration:
        return evaluation, evaluation
    if not train or train == evaluated:
        return _split_randomly(evaluation, seed)
    note = (
        f"Split {train!r} is used for calibration and {evaluated!r} for evaluation; "
        "choose another to evaluate on with --split."
    )
    return _read(replace(source, split=train), labels, kind), evaluation._replace(
        notes=[*evaluation.notes, note]
    )


def _split_randomly(part: ReadExamples, seed: int) -> tuple[ReadExamples, ReadExamples]:
    """Split examples at random, candidates by query: a third of them is for calibration."""
    order, kind = list(range(len(part.examples))), part.examples.kind
    queries = part.examples.queries if TASK_TYPES[kind].ranks_candidates else []
    random.Random(seed).shuffle(order)
    size = min(len(order) // 3, 1024)
    chosen = query_indices(queries, size, seed) if queries else sorted(order[:size])
    rest = sorted({*order} - {*chosen})
    if not size or not rest:
        unit = "queries" if queries else "rows"
        raise PruneError(
            f"{len(order)} rows are too few: a third of the {unit} is used for calibration; give "
            f"at least 3 {unit}, or a file with --calibration."
        )
    note = f"{len(order):,} rows: {len(chosen):,} for calibration and {len(rest):,} for evaluation."
    return (
        part._replace(examples=part.examples.take(chosen)),
        part._replace(examples=part.examples.take(rest), notes=[*part.notes, note]),
    )


def _separate_calibration(
    source: DataSource, labels: tuple[str, ...], kind: str, labelled: bool
) -> Examples:
    """Read the calibration examples of a separate source; labels only if the method needs them."""
    if source.calibration == NO_CALIBRATION:
        return Examples([], kind=kind)
    if source.calibration == "demo":
        if labelled and TASK_TYPES[kind].takes_demo_labels:
            return _parts(DataSource(), labels, kind, seed=0)[0].examples
        return _demo_texts(kind)
    known = source.calibration in KNOWN_TASKS
    inherited = ["separator", "encoding", "header", "quotes", "bad_rows"]
    inherited += [] if known else ["text", "text_pair", "label"]
    options = {name: getattr(source, name) for name in inherited}
    calibration = DataSource(source.calibration, **options, split="train" if known else "")
    if kind == Embedding.name and is_collection(calibration, kind):
        return read_collection(calibration).calibration_examples(CALIBRATION_POOL, seed=0)
    if not labelled and not is_collection(calibration, kind):
        table = table_of(calibration).rows
        missing = {
            name: ""
            for name in ("text", "text_pair")
            if getattr(calibration, name) and getattr(calibration, name) not in table
        }
        calibration = replace(calibration, label=columns.NO_LABELS, **missing)
    return _read(calibration, labels, kind).examples


def _demo_texts(kind: str) -> Examples:
    """Return the demo's calibration texts without labels, for a model of another task type."""
    if TASK_TYPES[kind].asks_question:
        raise PruneError(
            "The demo sentences have no questions; calibrate a question-answering model on "
            "questions with their contexts."
        )
    table = table_of(DataSource()).rows
    return Examples(
        [str(text) for text in table.loc[table["split"] == "calibration", "text"]], kind=kind
    )


def _check_task_type(task: str, needed: str, kind: str) -> None:
    # a multi-label model can predict single labels, an embedding model the similarity of pairs
    also = {(DEFAULT, Multilabel.name), (Regression.name, Embedding.name)}
    if needed != kind and (needed, kind) not in also:
        raise PruneError(
            f"{task} needs {TASK_TYPES[needed].output}, but the checkpoint's head predicts "
            f"{TASK_TYPES[kind].output}; choose a checkpoint or task that fits."
        )


def _overlap_notes(calibration: Examples, evaluation: Examples, labels: Sequence[str]) -> list[str]:
    """Notes on duplicates, texts in both parts, and labels that one part lacks."""
    texts = [evaluation.full_text(i) for i in range(len(evaluation))]
    notes = []
    if duplicates := len(texts) - len(set(texts)):
        notes.append(f"{duplicates:,} of {len(texts):,} evaluation texts are duplicates.")
    if calibration is not evaluation:
        known = {calibration.full_text(i) for i in range(len(calibration))}
        if shared := sum(text in known for text in texts):
            notes.append(
                f"{shared:,} of {len(texts):,} evaluation texts are also calibration texts; "
                "metrics on them are less reliable."
            )
    if TASK_TYPES[evaluation.kind].is_single_label and calibration.labels and evaluation.labels:
        for name, part, other in (
            ("evaluation", evaluation, calibration),
            ("calibration", calibration, evaluation),
        ):
            if missing := sorted(set(other.labels or ()) - set(part.labels or ())):
                notes.append(
                    f"No {name} text has the label {', '.join(labels[i] for i in missing[:8])}, "
                    "which occurs elsewhere in the data."
                )
    return notes
