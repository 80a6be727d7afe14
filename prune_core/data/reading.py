"""Rows of a table as checked examples: what is left out is counted, what is understood is said, what cannot be is one question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from . import labels as names_of
from .columns import Columns
from .examples import Answers, Examples
from .labels import LabelMap, written
from .metrics import IGNORED


class Read(NamedTuple):
    """Examples, what there is to say of them, and what label values were taken for."""

    examples: Examples
    notes: list[str]
    labels: LabelMap | None = None


def examples(
    table: pd.DataFrame, path: str, chosen: Columns, kind: str, names: Sequence[str] = (), asked: str = "", classes: Sequence[str] = ()
) -> Read:  # fmt: skip
    """The rows that have a text and, where labels are used, one. `names` are the model's labels, `asked` what a person says of
    values, `classes` what the data calls its numbers."""
    notes: list[str] = []
    table, told = _with_texts(table, chosen, kind)
    notes += told
    if table.empty:
        raise PruneError(f"{path}: no row has a text in column {chosen.text!r}; name another with --text.")
    place = f"{path}, column {chosen.label!r}"
    right: list[Any] | None = None
    found: LabelMap | None = None
    if kind == "multilabel" and (chosen.label is None or chosen.label not in table):
        right = _indicators(table, names)
    if chosen.label is not None and chosen.label in table:
        column = table[chosen.label]
        if kind == "span":
            right = _answers(column, path, [str(value) for value in table[chosen.pair]])
        elif kind == "regression":
            right = _scores(column, place)
        elif kind == "classification":
            right, found = _classes(column, names, asked, classes, place)
        elif kind == "multilabel":
            right, found = _sets(column, names, asked, classes, place)
        else:
            right, found = _tags(table, chosen, names, asked, classes, place)
        notes += found.notes if found else []
        kept = [index for index, label in enumerate(right) if label is not None]
        if not kept:
            notes.append("No row has a label: the pruned model is judged against the dense one.")
            right = None
        elif len(kept) < len(right):
            notes.append(f"{plural(len(right) - len(kept), 'row')} without a label left out.")
            table, right = table.iloc[kept], [right[index] for index in kept]
    if kind == "classification" and right and len(set(right)) == 1:
        notes.append(f"Every label is {names[right[0]]!r}: accuracy says nothing of the other labels.")
    texts = [_text(value, kind) for value in table[chosen.text]]
    pairs = [_text(value, kind) for value in table[chosen.pair]] if chosen.pair else None
    return Read(Examples(texts, pairs, right, kind), notes, found)


def _text(value: Any, kind: str) -> str:
    """A text; of `token` examples words, parted by single spaces."""
    if kind != "token":
        return str(value)
    return " ".join(_words(value))


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        value = re.findall(r"'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"", value) if value.startswith("[") and value.endswith("]") else value.split()
        value = ["".join(piece) if isinstance(piece, tuple) else piece for piece in value]
    # a word is what a label stands beside: one that is empty or has a space in it still takes one place
    return ["".join(str(word).split()) or "\N{MIDDLE DOT}" for word in value]


def _with_texts(table: pd.DataFrame, chosen: Columns, kind: str) -> tuple[pd.DataFrame, list[str]]:
    empty = pd.Series(False, index=table.index)
    for column in filter(None, (chosen.text, chosen.pair)):
        empty |= (
            table[column].map(lambda value: not len(value) if isinstance(value, (list, np.ndarray)) else not written(value)).astype(bool)
        )
    left = int(empty.sum())
    return table[~empty].reset_index(drop=True), [f"{plural(left, 'row')} without a text left out."] if left else []


def _named(value: Any, classes: Sequence[str]) -> Any:
    """A class number as the data calls it."""
    number = written(value)
    return classes[int(number)] if classes and number.isdigit() and int(number) < len(classes) else value


def _matched(values: Sequence[Any], names: Sequence[str], asked: str, classes: Sequence[str], place: str) -> tuple[list[Any], LabelMap]:
    """(values as the data calls them, their map); numbers are taken as they are where names of both do not speak for each other."""
    by_name = [_named(value, classes) for value in values]
    try:
        return by_name, names_of.mapped(by_name, names, asked, place)
    except PruneError:
        if not classes or asked or len(classes) != len(names) or not names_of.is_generic(names):
            raise
    found = names_of.mapped(values, names, asked, place)
    note = f"The model's labels have no names; {', '.join(classes[:8])} were taken for its numbers from 0."
    return list(values), found._replace(notes=[*found.notes, note])


def _classes(column: pd.Series, names: Sequence[str], asked: str, classes: Sequence[str], place: str) -> tuple[list[Any], LabelMap]:
    values, found = _matched(list(column), names, asked, classes, place)
    return [found.labels.get(written(value)) for value in values], found


def _sets(column: pd.Series, names: Sequence[str], asked: str, classes: Sequence[str], place: str) -> tuple[list[Any], LabelMap | None]:
    """1 or 0 for every label, from lists of labels or text that lists them; a list as long as the labels are many may say that itself."""
    rows = [_listed(value) for value in column]
    if all(row is None or (len(row) == len(names) and {written(value) for value in row} <= {"0", "1"}) for row in rows) and len(names) > 1:
        return [row if row is None else [int(written(value)) for value in row] for row in rows], None
    flat = [value for row in rows if row for value in row]
    named, found = _matched(flat, names, asked, classes, place)
    turn = dict(zip(map(written, flat), (found.labels.get(written(value)) for value in named), strict=True))
    sets = [None if row is None else {turn[written(value)] for value in row} for row in rows]
    return [None if chosen is None else [int(label in chosen) for label in range(len(names))] for chosen in sets], found


def _listed(value: Any) -> list[Any] | None:
    """The labels of a cell; None where it says nothing, [] where it says that there are none."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    text = written(value)
    if not text or text == "-1":
        return None
    if text.startswith("["):
        return [piece.strip(" '\"") for piece in text.strip("[]").split(",") if piece.strip(" '\"")]
    return [piece.strip() for piece in re.split(r"[|;,]", text) if piece.strip()]


def _indicators(table: pd.DataFrame, names: Sequence[str]) -> list[Any] | None:
    """A column a label with 0 and 1 in it."""
    by_name = {names_of.folded(name): name for name in table}
    own = [by_name.get(names_of.folded(name)) for name in names]
    if None in own:
        return None
    yes = np.stack([table[column].map(written).isin(("1", "true", "True", "yes")).to_numpy() for column in own], axis=1)
    return yes.astype(int).tolist()


def _tags(
    table: pd.DataFrame, chosen: Columns, names: Sequence[str], asked: str, classes: Sequence[str], place: str
) -> tuple[list[Any], LabelMap]:  # fmt: skip
    """A label a word; a row whose labels are not as many as its words is an error."""
    words = [_words(value) for value in table[chosen.text]]
    rows = [_listed(value) if not isinstance(value, str) or value.startswith("[") else value.split() for value in table[chosen.label]]
    for number, (row, said) in enumerate(zip(rows, words, strict=True), start=1):
        if row is not None and len(row) != len(said):
            raise PruneError(f"{place}, row {number}: {len(row)} labels stand beside {len(said)} words; give each word one.")
    flat = [value for row in rows if row for value in row]
    hidden = {str(IGNORED)}
    named, found = _matched([value for value in flat if written(value) not in hidden], names, asked, classes, place)
    known = [value for value in flat if written(value) not in hidden]
    turn = {str(IGNORED): IGNORED} | {
        written(a): IGNORED if (label := found.labels.get(written(b))) is None else label for a, b in zip(known, named, strict=True)
    }
    return [None if row is None else [turn[written(value)] for value in row] for row in rows], found


def _scores(column: pd.Series, place: str) -> list[Any]:
    """Numbers; a comma before decimals is read too."""
    text = column.map(lambda value: written(value).replace(",", "."))
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = numbers.isna() & (text != "")
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise PruneError(f"{place}, row {row + 1}: {column.iloc[row]!r} is no number; this model gives scores.")
    if (numbers.dropna() == -1).all():  # GLUE's hidden tests
        return [None] * len(numbers)
    if numbers.nunique() == 1:
        raise PruneError(f"{place}: every score is {numbers.dropna().iloc[0]}; a correlation needs different ones.")
    return [None if np.isnan(value) else float(value) for value in numbers]


def _answers(column: pd.Series, path: str, contexts: list[str]) -> list[Any]:
    """Answers as SQuAD writes them ({text: [...], answer_start: [...]}), or as plain text that the context holds."""
    found = []
    for row, (value, context) in enumerate(zip(column, contexts, strict=True), start=1):
        place = f"{path}, row {row}, column {column.name!r}"
        if isinstance(value, Mapping):
            if not {"text", "answer_start"} <= set(value):
                raise PruneError(f"{place}: an answer needs the keys text and answer_start; it has {', '.join(map(str, value))}.")
            found.append(Answers([str(text) for text in value["text"]], [int(start) for start in value["answer_start"]]))
        elif not written(value):
            found.append(Answers([], []))  # a question that the text does not answer
        elif (start := context.find(written(value))) >= 0:
            found.append(Answers([written(value)], [start]))
        else:
            raise PruneError(f"{place}: the answer {str(value)[:60]!r} does not stand in its context; copy it from there.")
    return found if any(answers.texts for answers in found) else [None] * len(found)


def distinct(column: pd.Series, kind: str) -> list[str]:
    """The different label values of a column, in order; of lists, those in them."""
    if kind in ("multilabel", "token"):
        rows = [value.split() if isinstance(value, str) and kind == "token" else _listed(value) for value in column]
        values = {written(value) for row in rows if row for value in row}
    else:
        values = set(map(written, column))
    numbers = all(value.lstrip("-").isdigit() for value in values - {""})
    return sorted(values - {""}, key=lambda value: (int(value) if numbers else 0, value))
