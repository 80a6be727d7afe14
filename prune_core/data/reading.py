"""Turn the rows of a table into checked examples.

Rows left out are counted and noted; if they are too many, the user is asked.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from . import retrieval_pairs
from .cells import (
    NO,
    YES,
    are_binary_marks,
    is_empty,
    parse_answers,
    parse_flags,
    parse_list,
    parse_words,
)
from .columns import Columns
from .dropped_rows import RowQuestion, check_dropped, line_number
from .examples import BINARY, DataSource, Examples
from .label_pairs import to_text
from .labels import LabelMap, LabelQuestion, find, is_generic, map_labels
from .metrics import IGNORE_INDEX


class ReadExamples(NamedTuple):
    """Examples, notes on how they were read, and the label of each value."""

    examples: Examples
    notes: list[str]
    labels: LabelMap | None = None


class ParsedLabels(NamedTuple):
    """Label of each row, None for a row without one.

    `empty`: rows without a label although others have one; `odd`: rows whose score is not a number.
    """

    values: list[Any]
    label_map: LabelMap | None = None
    empty: Collection[int] = ()
    odd: Collection[int] = ()
    notes: Sequence[str] = ()


class TextRows(NamedTuple):
    """Rows with a text, and how to read their labels."""

    rows: pd.DataFrame
    source: DataSource
    chosen: Columns
    names: Sequence[str]  # of the model's labels
    classes: Sequence[str]  # the data's names for integer labels

    @property
    def column(self) -> pd.Series:
        """The label column."""
        assert self.chosen.label is not None, "there is a label column"
        return self.rows[self.chosen.label]

    @property
    def has_label(self) -> bool:
        """Whether there is a label column."""
        return self.chosen.label is not None and self.chosen.label in self.rows

    @property
    def place(self) -> str:
        """Beginning of an error message."""
        return f"{self.source.task}, column {self.chosen.label!r}"


def examples(
    table: pd.DataFrame,
    source: DataSource,
    chosen: Columns,
    task_type: Any,
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> ReadExamples:
    """Return the rows that have a text and, if the table has labels, a label.

    `task_type`: of the package `tasks`, which parses texts and labels; `names`: the model's label
    names; `classes`: the data's names for integer labels. RowQuestion
    if too many rows would be left out (see check_dropped).
    """
    rows, notes = _drop_empty_texts(table, source, chosen)
    text_rows = TextRows(rows, source, chosen, names=names, classes=classes)
    parsed = task_type.parse_labels(text_rows)
    labels: list[Any] | None = None
    if parsed is not None:
        rows, labels, label_notes = _drop_unlabelled(text_rows, parsed)
        notes += label_notes
    if labels and (note := task_type.label_note(labels, names)):
        notes.append(note)
    texts = [task_type.text(value) for value in rows[chosen.text]]
    pairs = [task_type.text(value) for value in rows[chosen.pair]] if chosen.pair else None
    label_map = parsed and parsed.label_map
    binary = not task_type.is_discrete and labels is not None and label_map is not None
    found = Examples(texts, pairs, labels, kind=task_type.name, binary=binary)
    if task_type.ranks_candidates and found.queries:
        used = (chosen.text, chosen.pair, chosen.label)
        scores = retrieval_pairs.first_stage_scores(rows, source.task, used)
        found = replace(found, first_stage=scores)
    return ReadExamples(found, notes, label_map)


def _drop_unlabelled(
    table: TextRows, labels: ParsedLabels
) -> tuple[pd.DataFrame, list[Any] | None, list[str]]:
    """Return (rows with a label, their labels, notes)."""
    notes = [*labels.notes, *(labels.label_map.notes if labels.label_map else [])]
    labelled = [index for index, label in enumerate(labels.values) if label is not None]
    if labels.odd:
        check_dropped(
            table.rows,
            labels.odd,
            table.source,
            problem=f"no number in column {table.chosen.label!r}",
            column=table.chosen.label,
            always=True,
        )
    if not labelled:
        notes.append("No row has a label: the pruned model is compared with the dense one.")
        return table.rows, None, notes
    if labels.empty:
        check_dropped(
            table.rows,
            labels.empty,
            table.source,
            problem=f"no label in column {table.chosen.label!r}",
            remedy="fill it in or write -1",
        )
    if dropped := len(labels.values) - len(labelled):
        noun = "labels" if table.chosen.indicators else "a label"
        notes.append(f"{plural(dropped, 'row')} without {noun} left out.")
    return table.rows.iloc[labelled], [labels.values[index] for index in labelled], notes


def text_of(value: Any) -> str:
    """Return a cell's text; PruneError for a list or a dictionary."""
    if isinstance(value, (Mapping, list, tuple, np.ndarray)):
        raise PruneError(
            f"A text is {str(value)[:60]!r}, not a string; choose the column of its text with "
            "--text, such as input.text."
        )
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _drop_empty_texts(
    table: pd.DataFrame, source: DataSource, chosen: Columns
) -> tuple[pd.DataFrame, list[str]]:
    """Return (rows with a text in all text columns, notes)."""
    empty = pd.Series(False, index=table.index)
    for column in filter(None, (chosen.text, chosen.pair)):
        empty |= table[column].map(is_empty).astype(bool)
    dropped = np.flatnonzero(empty.to_numpy())
    if len(dropped) == len(table):
        raise PruneError(
            f"{source.task}: no row has a text in column {chosen.text!r}; choose another with "
            "--text."
        )
    if not len(dropped):
        return table, []
    check_dropped(
        table,
        dropped.tolist(),
        source,
        problem=f"no text in column {chosen.text!r}",
        remedy="choose another column with --text",
    )
    return table[~empty], [f"{plural(len(dropped), 'row')} without a text left out."]


def _class_name(value: Any, classes: Sequence[str]) -> Any:
    """Return the data's name for an integer label, other values unchanged."""
    number = to_text(value)
    return classes[int(number)] if number.isdigit() and int(number) < len(classes) else value


def _match_labels(table: TextRows, values: Sequence[Any]) -> tuple[list[Any], LabelMap]:
    """Return (values with the data's class names, label map).

    If the data's names do not match the model's and these are generic, its numbers are used.
    """
    meanings, classes, names = table.source.labels, table.classes, table.names
    named = [_class_name(value, classes) for value in values]
    try:
        return named, map_labels(named, names, meanings, place=table.place)
    except PruneError:
        if not classes or meanings or len(classes) != len(names) or not is_generic(names):
            raise
    by_number = map_labels(values, names, meanings, place=table.place)
    class_of = {value: to_text(_class_name(value, classes)) for value in by_number.counts}
    labels = {class_of[value]: label for value, label in by_number.labels.items()}
    counts = {class_of[value]: count for value, count in by_number.counts.items()}
    note = (
        "The model's labels have no names; "
        f"{', '.join(classes[:8])} are assumed to be its labels from 0."
    )
    return named, LabelMap(labels, counts, [*by_number.notes, note])


def parse_classes(table: TextRows) -> ParsedLabels:
    """Parse one label per row: its name, its number, or yes and no for one of two labels."""
    if (label := _yes_no_label(table)) is not None:
        return _yes_or_no(table, label)
    cells = list(table.column)
    rows = [parse_list(value) if _is_list(value) else [value] for value in cells]
    if any(map(_is_list, cells)) and all(row is None or len(row) == 1 for row in rows):
        cells = [row[0] if row else None for row in rows]
    values, label_map = _match_labels(table, cells)
    empty = [row for row, value in enumerate(values) if not to_text(value)]
    return ParsedLabels(
        [label_map.labels.get(to_text(value)) for value in values], label_map, empty
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) or (
        isinstance(value, str) and value.startswith("[") and value.endswith("]")
    )


def _yes_no_label(table: TextRows) -> int | None:
    """Label that a yes/no column is named after (is_negative, spam).

    None if the model does not have two labels, or if the column has other values or names.
    """
    if len(table.names) != 2 or table.source.labels or not are_binary_marks(table.column):
        return None
    return find((table.chosen.label or "").removeprefix("is_").removeprefix("Is"), table.names)


def _yes_or_no(table: TextRows, label: int) -> ParsedLabels:
    """Read the column of `_yes_no_label`."""
    by_mark = {1: label, 0: 1 - label}
    values = [
        None if mark is None else by_mark[mark[0]]
        for mark in parse_indicators(table, [str(table.chosen.label)]).values
    ]
    empty = [row for row, value in enumerate(table.column) if not to_text(value)]
    note = (
        f"Column {table.chosen.label!r}: yes is {table.names[label]}, no is "
        f"{table.names[1 - label]}."
    )
    return ParsedLabels(values, None, empty, notes=[note])


def parse_sets(table: TextRows) -> ParsedLabels:
    """Parse sets of labels into 1 or 0 per label.

    Cells are lists of labels, text that lists them, or lists of one 1 or 0 per label.
    """
    names = table.names
    rows = [
        [value] if find(to_text(value), names) is not None else parse_list(value)
        for value in table.column
    ]
    empty = [
        row
        for row, value in enumerate(table.column)
        if isinstance(value, str | float | None) and not to_text(value)
    ]
    vectors = [row if row is None else parse_flags(row, len(names)) for row in rows]
    if len(names) > 1 and all(
        row is None or vector is not None for row, vector in zip(rows, vectors, strict=True)
    ):
        return _vectors(table, vectors)._replace(empty=empty)
    flat = [value for row in rows if row for value in row]
    named, label_map = _match_labels(table, flat)
    indices = (label_map.labels.get(to_text(value)) for value in named)
    label_of = dict(zip(map(to_text, flat), indices, strict=True))
    sets = [None if row is None else {label_of[to_text(value)] for value in row} for row in rows]
    values = [
        None if chosen is None else [int(label in chosen) for label in range(len(names))]
        for chosen in sets
    ]
    return ParsedLabels(values, label_map, empty)


def _vectors(table: TextRows, rows: Sequence[Sequence[int] | None]) -> ParsedLabels:
    """Parse lists of one 1 or 0 per label; `labels` may map positions, counted from 0."""
    names = table.names
    label_map = map_labels(range(len(names)), names, table.source.labels, place=table.place)
    sets = [
        {label_map.labels[str(place)] for place, cell in enumerate(row or ()) if cell}
        for row in rows
    ]
    values = [
        None if row is None else [int(label in chosen) for label in range(len(names))]
        for row, chosen in zip(rows, sets, strict=True)
    ]
    return ParsedLabels(values, label_map._replace(counts={}))


def parse_indicators(table: TextRows, columns: Sequence[str]) -> ParsedLabels:
    """Parse one indicator column per label into 1 or 0 per label.

    Cells are 1/0, true/false, yes/no, or a mark and empty cells, in any case. -1 and, if the
    columns contain a no, empty cells are unlabeled. RowQuestion with the line for any other value.
    """
    cells = pd.DataFrame(
        {name: [to_text(value).casefold() for value in table.rows[name]] for name in columns}
    )
    values = {value for name in columns for value in cells[name]}
    for name in columns:
        odd = np.flatnonzero(~cells[name].isin([*YES, *NO, "", "-1"]).to_numpy())
        if len(odd) and table.source.bad_rows != "skip":
            row = int(odd[0])
            raise RowQuestion(
                f"{table.source.task}, {line_number(table.rows, row)}, column {name!r}: "
                f"{table.rows[name].iloc[row]!r} is neither yes nor no "
                f"({plural(len(odd), 'such row')}); write 1 or 0, true or false, yes or no, or "
                "leave these rows out with --bad-rows skip."
            )
    # if cells are only marks or empty, empty means no
    no = NO if values & NO or "-1" in values else {*NO, ""}
    is_yes, is_no = (cells.isin(list(words)).to_numpy() for words in (YES, no))
    known = (is_yes | is_no).all(axis=1) & any(values)  # without any mark, nothing is known
    return ParsedLabels(
        [
            row.astype(int).tolist() if is_complete else None
            for row, is_complete in zip(is_yes, known, strict=True)
        ],
        LabelMap({name: label for label, name in enumerate(columns)}, {}, []),
    )


def parse_tags(table: TextRows) -> ParsedLabels:
    """Parse one label per word."""
    words = [parse_words(value) for value in table.rows[table.chosen.text]]
    rows: list[list[Any] | None] = [
        value.split() or None
        if isinstance(value, str) and not value.startswith("[")
        else parse_list(value)
        for value in table.column
    ]
    odd = [
        row for row, tags in enumerate(rows) if tags is not None and len(tags) != len(words[row])
    ]
    if odd and table.source.bad_rows != "skip":
        first = odd[0]
        raise RowQuestion(
            f"{table.place}, {line_number(table.rows, first)}: "
            f"{plural(len(rows[first] or ()), 'label')} for "
            f"{plural(len(words[first]), 'word')}; give one label per word, or leave such rows out "
            "with --bad-rows skip."
        )
    empty = [row for row, tags in enumerate(rows) if tags is None]
    for row in odd:
        rows[row] = None
    values = [value for row in rows if row for value in row if to_text(value) != str(IGNORE_INDEX)]
    named, label_map = _match_labels(table, values)
    indices = (label_map.labels.get(to_text(name)) for name in named)
    label_of = {str(IGNORE_INDEX): IGNORE_INDEX} | {
        to_text(value): IGNORE_INDEX if label is None else label
        for value, label in zip(values, indices, strict=True)
    }
    labels = [row and [label_of[to_text(value)] for value in row] for row in rows]
    return ParsedLabels(labels, label_map, empty)


def parse_scores(table: TextRows) -> ParsedLabels:
    """Parse numbers; a decimal comma is accepted.

    -1 means unlabeled if no other number is negative.
    """
    if binary := _binary(table):
        return binary
    text = table.column.map(to_text)
    if grouped := [value for value in text if re.fullmatch(r"[-+]?\d{1,3},\d{3}", value)]:
        small, large = grouped[0].replace(",", "."), grouped[0].replace(",", "")
        raise PruneError(
            f"{table.place}: {grouped[0]!r} may be {small} or {large}; write scores with a decimal "
            "point and without thousands separators."
        )
    text = text.map(lambda value: value.replace(",", "."))
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(float, copy=True)
    numbers[np.isinf(numbers)] = np.nan
    odd = np.flatnonzero(np.isnan(numbers) & (text != "").to_numpy()).tolist()
    valid = numbers[~np.isnan(numbers)]
    if set(valid[valid < 0].tolist()) == {-1.0} and not 0 <= valid.max() <= 1:
        numbers[numbers == -1] = np.nan  # GLUE's mark of a hidden score
        valid = numbers[~np.isnan(numbers)]
    if len(set(valid.tolist())) == 1:
        raise PruneError(
            f"{table.place}: every score is {valid[0]}; a correlation needs different values."
        )
    return ParsedLabels(
        [None if np.isnan(value) else float(value) for value in numbers],
        empty=np.flatnonzero((text == "").to_numpy()).tolist(),
        odd=odd,
    )


def _binary(table: TextRows) -> ParsedLabels | None:
    """Parse labels for a binary classifier with one output: 0 and 1, or two words.

    None if the column contains scores.
    """
    values = {to_text(value) for value in table.column} - {""}
    are_words = pd.to_numeric(pd.Series(sorted(values), dtype=str), errors="coerce").isna().all()
    if not values or not (values == {"0", "1"} or table.source.labels or are_words):
        return None
    try:
        labels = parse_classes(table._replace(names=BINARY))
    except LabelQuestion:
        if len(values) == 2 or table.source.labels:
            raise
        return None
    known = {label for label in labels.values if label is not None}
    if len(known) == 1:
        raise PruneError(f"{table.place}: every label is {known.pop()}; a metric needs 0 and 1.")
    return labels


def parse_answer_column(table: TextRows) -> ParsedLabels:
    """Parse SQuAD answers ({text: [...], answer_start: [...]}) or plain text of the context."""
    assert table.chosen.pair is not None, "a question has a context"
    answers = [
        parse_answers(value, str(context))
        for value, context in zip(table.column, table.rows[table.chosen.pair], strict=True)
    ]
    odd = [row for row, value in enumerate(answers) if value is None]
    if odd and table.source.bad_rows != "skip":
        raise RowQuestion(
            f"{table.place}, {line_number(table.rows, odd[0])}: the answer "
            f"{str(table.column.iloc[odd[0]])[:60]!r} does not occur in its context; copy it from "
            "there, or leave such rows out with --bad-rows skip."
        )
    known = any(value and value.texts for value in answers)
    return ParsedLabels(answers if known else [None] * len(answers))
