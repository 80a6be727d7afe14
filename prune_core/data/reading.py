"""Turn the rows of a table into checked examples: rows that are left out are counted, and too many of them are a question."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from . import labels as names_of
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
from .labels import LabelMap, LabelQuestion
from .metrics import IGNORED


class ReadExamples(NamedTuple):
    """Examples, notes on how they were read, and the label of each value."""

    examples: Examples
    notes: list[str]
    labels: LabelMap | None = None


class ParsedLabels(NamedTuple):
    """What each row's label is; None for a row that has none. `empty` rows lack one although the others have one."""

    values: list[Any]
    found: LabelMap | None = None
    empty: Collection[int] = ()
    odd: Collection[int] = ()  # rows whose score is no number
    notes: Sequence[str] = ()


class _Table(NamedTuple):
    """Rows with a text, and how to read their labels."""

    rows: pd.DataFrame
    source: DataSource
    chosen: Columns
    names: Sequence[str]  # of the model's labels
    classes: Sequence[str]  # what the data calls its numbers

    @property
    def column(self) -> pd.Series:
        """The label column."""
        assert self.chosen.label is not None, "there is a label column"
        return self.rows[self.chosen.label]

    @property
    def place(self) -> str:
        """How the sentence of an error begins."""
        return f"{self.source.task}, column {self.chosen.label!r}"

    def line(self, row: int) -> str:
        """Where a row is in the file."""
        return line_number(self.rows, row)


def examples(
    table: pd.DataFrame,
    source: DataSource,
    chosen: Columns,
    kind: str,
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> ReadExamples:
    """The rows that have a text and, where there are labels, one. `names` are the model's labels, `classes` what the data
    calls its numbers. RowQuestion if more rows would be left out than may go unnoticed."""
    rows, notes = _with_texts(table, source, chosen)
    own = _Table(rows, source, chosen, names=names, classes=classes)
    labels = _labels(own, kind)
    right: list[Any] | None = None
    if labels is not None:
        rows, right, told = _labelled(own, labels)
        notes += told
    if kind == "classification" and right and len(set(right)) == 1:
        notes.append(
            f"Every label is {names[right[0]]!r}: accuracy says nothing of the other labels."
        )
    texts, pairs = (
        [_text(value, kind) for value in rows[name]] if name else None
        for name in (chosen.text, chosen.pair)
    )
    found = labels and labels.found
    binary = kind == "regression" and right is not None and found is not None
    return ReadExamples(Examples(texts or [], pairs, right, kind=kind, binary=binary), notes, found)


def _labels(table: _Table, kind: str) -> ParsedLabels | None:
    """Every row's label; None if the table has none."""
    label = table.chosen.label
    if kind == "multilabel" and table.chosen.indicators:
        return _indicators(table, table.chosen.indicators)
    if label is None or label not in table.rows:
        return None
    if kind == "multilabel" and len(table.names) == 1 and are_binary_marks(table.column):
        return _indicators(table, [label])
    read = {
        "span": _answers,
        "regression": _scores,
        "classification": _classes,
        "multilabel": _sets,
        "token": _tags,
    }[kind]
    return read(table)


def _labelled(
    table: _Table, labels: ParsedLabels
) -> tuple[pd.DataFrame, list[Any] | None, list[str]]:
    """(the rows with a label, their labels, notes)."""
    notes = [*labels.notes, *(labels.found.notes if labels.found else [])]
    kept = [index for index, label in enumerate(labels.values) if label is not None]
    if labels.odd:
        what = f"no number in column {table.chosen.label!r}"
        check_dropped(
            table.rows, labels.odd, table.source, what=what, column=table.chosen.label, always=True
        )
    if not kept:
        return (
            table.rows,
            None,
            [*notes, "No row has a label: the pruned model is judged against the dense one."],
        )
    if labels.empty:
        check_dropped(
            table.rows,
            labels.empty,
            table.source,
            what=f"no label in column {table.chosen.label!r}",
            remedy="fill it in or write -1 there",
        )
    if left := len(labels.values) - len(kept):
        what = "labels" if table.chosen.indicators else "a label"
        notes.append(f"{plural(left, 'row')} without {what} left out.")
    return table.rows.iloc[kept], [labels.values[index] for index in kept], notes


def _text(value: Any, kind: str) -> str:
    """A text; of `token` examples words, separated by single spaces."""
    if kind == "token":
        return " ".join(parse_words(value))
    if isinstance(value, (Mapping, list, tuple, np.ndarray)):
        raise PruneError(
            f"A text is {str(value)[:60]!r}, not a plain text; name the column of its text with --text, such as input.text."
        )
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _with_texts(
    table: pd.DataFrame, source: DataSource, chosen: Columns
) -> tuple[pd.DataFrame, list[str]]:
    empty = pd.Series(False, index=table.index)
    for column in filter(None, (chosen.text, chosen.pair)):
        empty |= table[column].map(is_empty).astype(bool)
    dropped = np.flatnonzero(empty.to_numpy())
    if len(dropped) == len(table):
        raise PruneError(
            f"{source.task}: no row has a text in column {chosen.text!r}; name another with --text."
        )
    if len(dropped):
        check_dropped(
            table,
            dropped.tolist(),
            source,
            what=f"no text in column {chosen.text!r}",
            remedy="name another column with --text",
        )
    return table[~empty], [f"{plural(len(dropped), 'row')} without a text left out."] if len(
        dropped
    ) else []


def _named(value: Any, classes: Sequence[str]) -> Any:
    """A class number as the data calls it."""
    number = to_text(value)
    return (
        classes[int(number)]
        if classes and number.isdigit() and int(number) < len(classes)
        else value
    )


def _matched(table: _Table, values: Sequence[Any]) -> tuple[list[Any], LabelMap]:
    """(values as the data calls them, their labels); if the data's names are unlike the model's, its numbers are used."""
    asked, classes, names = table.source.labels, table.classes, table.names
    by_name = [_named(value, classes) for value in values]
    try:
        return by_name, names_of.map_labels(by_name, names, asked, place=table.place)
    except PruneError:
        if not classes or asked or len(classes) != len(names) or not names_of.is_generic(names):
            raise
    found = names_of.map_labels(values, names, asked, place=table.place)
    called = {value: to_text(_named(value, classes)) for value in found.counts}
    labels = {called[value]: label for value, label in found.labels.items()}
    counts = {called[value]: count for value, count in found.counts.items()}
    note = f"The model's labels have no names; {', '.join(classes[:8])} were taken for its numbers from 0."
    return by_name, LabelMap(labels, counts, [*found.notes, note])


def _classes(table: _Table) -> ParsedLabels:
    if (place := _own_label(table)) is not None:
        return _yes_or_no(table, place)
    cells = list(table.column)
    single = [parse_list(value) if _is_list(value) else [value] for value in cells]
    if any(map(_is_list, cells)) and all(row is None or len(row) == 1 for row in single):
        cells = [row[0] if row else None for row in single]
    values, found = _matched(table, cells)
    empty = [row for row, value in enumerate(values) if not to_text(value)]
    return ParsedLabels([found.labels.get(to_text(value)) for value in values], found, empty)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) or (
        isinstance(value, str) and value.startswith("[") and value.endswith("]")
    )


def _own_label(table: _Table) -> int | None:
    """The label of a model with two whose name the column has, if it says yes or no to it: is_negative, spam."""
    name = (table.chosen.label or "").removeprefix("is_").removeprefix("Is")
    if len(table.names) != 2 or table.source.labels or not are_binary_marks(table.column):
        return None
    return names_of.find(name, table.names)


def _yes_or_no(table: _Table, place: int) -> ParsedLabels:
    marks = _indicators(table, [str(table.chosen.label)]).values
    values = [None if mark is None else place if mark[0] else 1 - place for mark in marks]
    empty = [row for row, value in enumerate(table.column) if not to_text(value)]
    note = f"Column {table.chosen.label!r} says whether a text is {table.names[place]}; the others are {table.names[1 - place]}."
    return ParsedLabels(values, None, empty, notes=[note])


def _sets(table: _Table) -> ParsedLabels:
    """1 or 0 for every label, from lists of labels or text that lists them; lists of as many 1 and 0 as there are labels are
    indicators themselves."""
    names = table.names
    rows = [
        [value] if names_of.find(to_text(value), names) is not None else parse_list(value)
        for value in table.column
    ]
    plain = (str, type(None), float)
    empty = [
        row
        for row, value in enumerate(table.column)
        if isinstance(value, plain) and not to_text(value)
    ]
    vectors = [row if row is None else parse_flags(row, len(names)) for row in rows]
    if len(names) > 1 and all(
        row is None or vector is not None for row, vector in zip(rows, vectors, strict=True)
    ):
        return _vectors(table, vectors)._replace(empty=empty)
    flat = [value for row in rows if row for value in row]
    named, found = _matched(table, flat)
    label_of = dict(
        zip(map(to_text, flat), (found.labels.get(to_text(value)) for value in named), strict=True)
    )
    sets = [None if row is None else {label_of[to_text(value)] for value in row} for row in rows]
    values = [
        None if chosen is None else [int(label in chosen) for label in range(len(names))]
        for chosen in sets
    ]
    return ParsedLabels(values, found, empty)


def _vectors(table: _Table, rows: Sequence[Sequence[int] | None]) -> ParsedLabels:
    """1 or 0 for every label, from lists of them; `labels` may map places, counted from 0."""
    names, asked = table.names, table.source.labels
    found = names_of.map_labels(range(len(names)), names, asked, place=table.place)._replace(
        counts={}
    )
    values: list[list[int] | None] = []
    for row in rows:
        holds = [place for place, cell in enumerate(row or ()) if cell]
        chosen = {found.labels[str(place)] for place in holds}
        indicators = [int(label in chosen) for label in range(len(names))]
        values.append(None if row is None else indicators)
    return ParsedLabels(values, found)


def _indicators(table: _Table, own: Sequence[str]) -> ParsedLabels:
    """1 or 0 for every label, from a column for each: 1/0, true/false, yes/no, or a mark and empty cells, in any case.

    -1 and, where a cell says no, empty cells are not labelled. PruneError with the line for any other value.
    """
    cells = pd.DataFrame(
        {name: [to_text(value).casefold() for value in table.rows[name]] for name in own}
    )
    values = {value for name in own for value in cells[name]}
    for name in own:
        odd = np.flatnonzero(~cells[name].isin([*YES, *NO, "", "-1"]).to_numpy())
        if len(odd) and table.source.bad_rows != "skip":
            row = int(odd[0])
            raise RowQuestion(
                f"{table.source.task}, {table.line(row)}, column {name!r}: {table.rows[name].iloc[row]!r} is neither yes nor no "
                f"({plural(len(odd), 'such row')}); write 1 or 0, true or false, yes or no, or leave these rows out with "
                "--bad-rows skip."
            )
    no = (
        NO if values & NO or "-1" in values else {*NO, ""}
    )  # with marks alone an empty cell says no
    is_yes, is_no = (cells.isin(list(words)).to_numpy() for words in (YES, no))
    known = (is_yes | is_no).all(axis=1)
    if {"", *values} == {""}:
        known[:] = False
    found = LabelMap({name: label for label, name in enumerate(own)}, {}, [])
    rows = zip(is_yes, known, strict=True)
    return ParsedLabels([row.astype(int).tolist() if whole else None for row, whole in rows], found)


def _tags(table: _Table) -> ParsedLabels:
    """A label for each word."""
    words = [parse_words(value) for value in table.rows[table.chosen.text]]
    rows = [
        parse_list(value)
        if not isinstance(value, str) or value.startswith("[")
        else value.split() or None
        for value in table.column
    ]
    odd = [
        row
        for row, (labels, said) in enumerate(zip(rows, words, strict=True))
        if labels is not None and len(labels) != len(said)
    ]
    if odd and table.source.bad_rows != "skip":
        labels, said = rows[odd[0]], words[odd[0]]
        raise RowQuestion(
            f"{table.place}, {table.line(odd[0])}: {plural(len(labels or ()), 'label')} for {plural(len(said), 'word')}; "
            "give each word one, or leave such rows out with --bad-rows skip."
        )
    rows = [None if row in set(odd) else labels for row, labels in enumerate(rows)]
    known = [value for row in rows if row for value in row if to_text(value) != str(IGNORED)]
    named, found = _matched(table, known)
    label_of = {str(IGNORED): IGNORED} | {
        to_text(a): IGNORED if (label := found.labels.get(to_text(b))) is None else label
        for a, b in zip(known, named, strict=True)
    }
    empty = [row for row, labels in enumerate(rows) if labels is None and row not in set(odd)]
    return ParsedLabels(
        [None if row is None else [label_of[to_text(value)] for value in row] for row in rows],
        found,
        empty,
    )


def _scores(table: _Table) -> ParsedLabels:
    """Numbers; a comma before decimals is read too. -1 is not scored where no other number is negative."""
    if binary := _binary(table):
        return binary
    text = table.column.map(to_text)
    if grouped := [value for value in text if re.fullmatch(r"[-+]?\d{1,3},\d{3}", value)]:
        small, large = grouped[0].replace(",", "."), grouped[0].replace(",", "")
        raise PruneError(
            f"{table.place}: {grouped[0]!r} may be {small} or {large}; write scores with a decimal point and without "
            "separators of thousands."
        )
    text = text.map(lambda value: value.replace(",", "."))
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(float, copy=True)
    numbers[np.isinf(numbers)] = np.nan
    odd = np.flatnonzero(np.isnan(numbers) & (text != "").to_numpy()).tolist()
    seen = numbers[~np.isnan(numbers)]
    if (
        set(seen[seen < 0].tolist()) == {-1.0} and not 0 <= seen.max() <= 1
    ):  # no score, but GLUE's mark of a hidden one
        numbers[numbers == -1] = np.nan
    if len(set(numbers[~np.isnan(numbers)].tolist())) == 1:
        raise PruneError(
            f"{table.place}: every score is {numbers[~np.isnan(numbers)][0]}; a correlation needs different ones."
        )
    empty = np.flatnonzero((text == "").to_numpy()).tolist()
    return ParsedLabels(
        [None if np.isnan(value) else float(value) for value in numbers], None, empty, odd=odd
    )


def _binary(table: _Table) -> ParsedLabels | None:
    """Labels for a classifier with one output: 0 and 1, or two words for them; None for scores."""
    values = {to_text(value) for value in table.column} - {""}
    are_words = pd.to_numeric(pd.Series(sorted(values), dtype=str), errors="coerce").isna().all()
    if not values or not (values == {"0", "1"} or table.source.labels or are_words):
        return None
    try:
        labels = _classes(table._replace(names=BINARY))
    except LabelQuestion:
        if len(values) == 2 or table.source.labels:
            raise
        return None
    known = {label for label in labels.values if label is not None}
    if len(known) == 1:
        raise PruneError(f"{table.place}: every label is {known.pop()}; a metric needs 0 and 1.")
    return labels


def _answers(table: _Table) -> ParsedLabels:
    """Answers as SQuAD writes them ({text: [...], answer_start: [...]}), or as plain text that the context holds."""
    assert table.chosen.pair is not None, "a question has a context"
    contexts = map(str, table.rows[table.chosen.pair])
    found = [
        parse_answers(value, context) for value, context in zip(table.column, contexts, strict=True)
    ]
    odd = [row for row, value in enumerate(found) if value is None]
    if odd and table.source.bad_rows != "skip":
        raise RowQuestion(
            f"{table.place}, {table.line(odd[0])}: the answer {str(table.column.iloc[odd[0]])[:60]!r} does not occur in its "
            "context; copy it from there, or leave such rows out with --bad-rows skip."
        )
    known = any(value and value.texts for value in found)
    return ParsedLabels(found if known else [None] * len(found))
