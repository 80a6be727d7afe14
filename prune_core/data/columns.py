"""Which columns of a table are texts and labels: those named, the usual names, or what their cells look like."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ..errors import PruneError
from .column_names import LABELS, PAIRS, TEXTS, USUAL
from .examples import DataSource
from .label_pairs import parse_pairs, to_flag, to_text
from .labels import find, fits, fold, is_generic

MARKS = {
    "",
    "-1",
    "0",
    "1",
    "0.0",
    "1.0",
    "true",
    "false",
    "yes",
    "no",
    "x",
}  # what a column of indicators holds
NONE = "-"  # a label column that is not to be used
MOST_CLASSES = (
    0.5  # of as many rows as there are may be different values, in a column that looks like labels
)


class Columns(NamedTuple):
    """Names of columns."""

    text: str
    pair: str | None
    label: str | None  # None where there is none
    guessed: bool = False  # chosen by what their cells look like, not by name
    indicators: tuple[
        str, ...
    ] = ()  # for multi-label models: a column of 1 and 0 for each label, in the model's order


def text_name(names: Sequence[str], asked: str) -> str:
    """The column that holds texts by its name alone: the one asked for, else the first usual one; "" where none is."""
    table = pd.DataFrame(columns=list(names))
    if asked:
        return next((name for name in names if fold(name) == fold(asked)), "")
    return _usual(table, TEXTS) or ""


def choose(
    table: pd.DataFrame, source: DataSource, path: str, kind: str, names: Sequence[str] = ()
) -> Columns:
    """The columns to read for a model of that kind with these label names; PruneError if they cannot be known."""
    usual = USUAL.get(kind, (TEXTS, (), LABELS))
    text = _named(table, source.text, path, flag="--text")
    pair = _named(table, source.text_pair, path, flag="--text-pair")
    several = _several(table, source.label, path)
    if several and kind != "multilabel":
        raise PruneError(
            f"{path}: {len(several)} label columns are named ({', '.join(several[:8])}), but this model gives one label to "
            "each text; name one with --label, or use --label - for none."
        )
    label = (
        None
        if source.label == NONE or several
        else _named(table, source.label, path, flag="--label")
    )
    if not text and not pair and kind not in USUAL:
        text, pair = next(
            (
                (a, b)
                for first, second in PAIRS
                if (a := _usual(table, (first,))) and (b := _usual(table, (second,)))
            ),
            (None, None),
        )
    text = text or _usual(table, usual[0], {pair, label, *several})
    pair = pair or _usual(table, usual[1], {text, label, *several})
    if label is None and source.label != NONE and not several:
        label = _usual(table, usual[2], {text, pair})
    guessed = False
    if not text:
        text, guessed = _longest(table, {pair, label, *several}), True
    if not text or (kind == "span" and not pair):
        missing = "a text" if not text else "a second text, the context"
        raise PruneError(
            f"{path}: no column is known to hold {missing}; it has {', '.join(table.columns)}. Name one with --text"
            f"{' and --text-pair' if kind == 'span' else ''}, and labels with --label."
        )
    if kind == "multilabel" and label is None and source.label != NONE:
        return Columns(
            text,
            pair,
            None,
            guessed=guessed,
            indicators=_indicators(
                table, several, {text, pair}, path=path, names=names, labels=source.labels
            ),
        )
    if label is None and source.label != NONE and kind == "classification":
        label = _fitting(table, {text, pair}, names)
        guessed = guessed or label is not None
    data = bool(label) and find(str(label), names) is not None and not _is_marked(table[str(label)])
    if guessed and not source.header and (len(text.split()) > 5 or data):
        raise PruneError(
            f"{path}: its first row looks like data, not like names of columns ({text[:40]!r}, {label!r}); use --header no "
            "if it is, else name the columns with --text and --label."
        )
    return Columns(text, pair, label, guessed=guessed)


def _several(table: pd.DataFrame, asked: str, path: str) -> tuple[str, ...]:
    """The label columns that are named one after the other, separated by commas; () if one is named, or none."""
    if "," not in asked or asked in table:
        return ()
    return tuple(
        str(_named(table, name.strip(), path, flag="--label"))
        for name in asked.split(",")
        if name.strip()
    )


def _indicators(
    table: pd.DataFrame,
    asked: tuple[str, ...],
    taken: set[str | None],
    path: str,
    names: Sequence[str],
    labels: str,
) -> tuple[str, ...]:
    """A column for each of a multi-label model's labels, in its order: by name, as `labels` says, or, for a model whose labels
    have no names, as listed. () if the table has none; PruneError if it is not certain which column is which label."""
    free = list(asked) or [name for name in table if name not in taken]
    short = [name.rsplit(".", 1)[-1] for name in free]
    meant = {column: label for column, label in parse_pairs(labels).items() if column in free}
    wanted = {label: column for column, label in meant.items()}
    places = [
        free.index(wanted[name]) if name in wanted else _place(name, free, short) for name in names
    ]
    if None not in places and names:
        return tuple(free[place] for place in places if place is not None)
    if asked and is_generic(names) and len(asked) == len(names) and not meant:
        return asked
    marks = list(asked) or [name for name in indicator_columns(table) if name in free]
    found = [name for name, place in zip(names, places, strict=True) if place is not None]
    if len(marks) < 2 and not found and not asked:
        return ()
    missing = [name for name in names if name not in found]
    free_marks = [column for column in marks if column not in found]
    way = (
        f"name them in the model's order with --label {','.join(marks)}"
        if is_generic(names) and len(marks) == len(names)
        else (
            f"say it with {to_flag(dict(zip(free_marks, missing, strict=False)))}"
            if free_marks
            else "add a column for each of the others"
        )
    )
    raise PruneError(
        f"{path}: no column is known for the model's label {', '.join(missing[:8])}; columns of 1 and 0 are "
        f"{', '.join(marks[:12]) or 'none'}. If they are its labels, {way}; --label - uses no labels."
    )


def _is_marked(column: pd.Series) -> bool:
    return {to_text(value).casefold() for value in column.head(2000)} <= MARKS


def indicator_columns(table: pd.DataFrame) -> list[str]:
    """Columns of 1 and 0, of which a multi-label file has one for each label; [] if there is one alone."""
    marks = [name for name in table if _is_marked(table[name])]
    return marks if len(marks) > 1 else []


def remarks(table: pd.DataFrame, chosen: Columns, source: DataSource) -> list[str]:
    """Notes on a choice that may not be what is wanted: nested fields, and other columns with longer texts."""
    if source.text or chosen.text in ("tokens", "words"):
        return []
    notes = [f"Texts are in the nested field {chosen.text!r}."] if "." in chosen.text else []
    own = table[chosen.text].head(200).map(_words).mean()
    taken = {chosen.text, chosen.pair, chosen.label, *chosen.indicators}
    longer = [
        name
        for name in table
        if name not in taken and table[name].head(200).map(_words).mean() > max(4, 1.5 * own)
    ]
    if longer:
        notes.append(
            f"Texts are in column {chosen.text!r}, by its name; {', '.join(map(repr, longer[:3]))} "
            f"{'holds' if len(longer) == 1 else 'hold'} longer ones: name another with --text."
        )
    return notes


def _place(name: str, columns: Sequence[str], short: Sequence[str]) -> int | None:
    place = find(name, columns)
    return find(name, short) if place is None and len(set(short)) == len(short) else place


def describe_columns(table: pd.DataFrame) -> str:
    """The kind of model that a table is for, as far as its columns say: span, token or classification."""
    if all(_usual(table, names) for names in USUAL["span"]):
        return "span"
    words, tags = (_usual(table, USUAL["token"][place]) for place in (0, 2))
    listed = lambda name: not isinstance(table[name].iloc[0], str | int | float)  # noqa: E731
    if words and tags and words != tags and listed(words) and listed(tags):
        return "token"
    return "token" if {"tokens", "ner_tags"} <= set(table) else "classification"


def _named(table: pd.DataFrame, asked: str, path: str, flag: str) -> str | None:
    """The column that is meant: by its name, whatever case and spaces, or by the number of one without a name."""
    if not asked:
        return None
    if asked in table:
        return asked
    close = [
        name
        for name in table
        if fold(name) in (fold(asked), f"column{fold(asked)}" if asked.isdigit() else "")
    ]
    if len(close) != 1:
        first = {str(cell).strip() for cell in table.iloc[0]} if len(table) else set()
        hint = " If its first row names the columns, use --header yes." if asked in first else ""
        raise PruneError(
            f"{path}: there is no column {asked!r}; it has {', '.join(table.columns)}. Name one with {flag}.{hint}"
        )
    return close[0]


def _usual(
    table: pd.DataFrame, names: Sequence[str], taken: Collection[str | None] = ()
) -> str | None:
    """The first of these names that a column has; of nested fields the last part is the name, if no column has one."""
    free = [name for name in table if name not in taken]
    for part in (slice(None), slice(-1, None)):
        known = {fold(".".join(name.split(".")[part])): name for name in reversed(free)}
        if found := [known[fold(name)] for name in names if fold(name) in known]:
            return found[0]
    return None


def _longest(table: pd.DataFrame, taken: set[str | None]) -> str | None:
    """The one column of sentences; None where there is none, or another that could be it."""
    lengths = {
        name: table[name].head(200).map(_words).mean() for name in table if name not in taken
    }
    ranked = sorted(lengths, key=lambda name: -lengths[name])
    if len(ranked) == 1:
        return ranked[0]
    few = {
        name for name in ranked if table[name].map(str).nunique() <= max(2, len(table) // 3)
    }  # more like labels than like texts
    long = [name for name in ranked if lengths[name] >= 2 and name not in few] or [
        name for name in ranked if lengths[name] >= 2
    ]
    return long[0] if len(long) == 1 else None


def _words(cell: Any) -> int:
    """Words, or what stands for them in scripts without spaces."""
    text = cell if isinstance(cell, str) else ""
    return max(
        len(text.split()),
        sum(not character.isascii() and character.isalpha() for character in text) // 3,
    )


def _fitting(table: pd.DataFrame, taken: set[str | None], names: Sequence[str]) -> str | None:
    """The one other column whose values are labels of the model, a few odd ones aside; None if none or several are."""
    found = []
    for name in table:
        values = set(map(to_text, table[name].head(2000))) - {""} if name not in taken else set()
        if 1 < len(values) <= max(2, MOST_CLASSES * len(table)) and fits(table[name], names):
            found.append(name)
    return found[0] if len(found) == 1 else None
