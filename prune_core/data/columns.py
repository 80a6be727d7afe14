"""Choose the text and label columns of a table: by request, by usual names, or by the look of the
cells.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from ..errors import PruneError
from .column_names import TEXTS, first_usual
from .examples import DataSource
from .label_pairs import parse_pairs, to_flag, to_text
from .labels import find, fits, fold, is_generic

# cell values of an indicator column
MARKS = {"", "-1", "0", "1", "0.0", "1.0", "true", "false", "yes", "no", "x"}
NO_LABELS = "-"  # --label -: ignore the labels
MAX_CLASSES = 0.5  # a label column has at most this many distinct values per row


class Columns(NamedTuple):
    """Names of the chosen columns."""

    text: str
    pair: str | None
    label: str | None
    guessed: bool = False  # chosen by the look of the cells, not by name
    indicators: tuple[str, ...] = ()  # multi-label: a 1/0 column per label, in the model's order


def text_column_name(names: Sequence[str], requested: str) -> str:
    """Choose the text column by name: the requested one, else the first usual one; "" if none."""
    if requested:
        return next((name for name in names if fold(name) == fold(requested)), "")
    return first_usual(pd.DataFrame(columns=list(names)), TEXTS) or ""


def choose_columns(
    table: pd.DataFrame, source: DataSource, path: str, task_type: Any, names: Sequence[str] = ()
) -> Columns:
    """Choose the columns to read for a model with this task type (of `tasks`) and label names.

    PruneError if the choice is ambiguous.
    """
    usual = task_type.usual_columns
    text = _resolve(table, source.text, path, flag="--text")
    pair = _resolve(table, source.text_pair, path, flag="--text-pair")
    several = _split_label_columns(table, source.label, path)
    if several and not task_type.several_label_columns:
        raise PruneError(
            f"{path}: {len(several)} label columns are given ({', '.join(several[:8])}), but this "
            "model predicts one label per text; choose one with --label, or use --label - for none."
        )
    reads_label = source.label != NO_LABELS and not several
    label = _resolve(table, source.label, path, flag="--label") if reads_label else None
    if not text and not pair and usual[0] is TEXTS:
        text, pair = next(
            (
                (first_text, second_text)
                for first, second in task_type.usual_pairs
                if (first_text := first_usual(table, (first,)))
                and (second_text := first_usual(table, (second,)))
            ),
            (None, None),
        )
    text = text or first_usual(table, usual[0], {pair, label, *several})
    pair = pair or first_usual(table, usual[1], {text, label, *several})
    if label is None and reads_label:
        label = first_usual(table, usual[2], {text, pair})
    guessed = not text
    text = text or _longest_text_column(table, {pair, label, *several})
    if not text or (task_type.needs_pair and not pair):
        raise PruneError(
            f"{path}: no column is known to contain "
            f"{'a second text, the context' if text else 'a text'}; it has "
            f"{', '.join(table.columns)}. "
            f"Set it with --text{' and --text-pair' if task_type.needs_pair else ''}, "
            "and the labels with --label."
        )
    if task_type.several_label_columns and label is None and source.label != NO_LABELS:
        return Columns(
            text,
            pair,
            None,
            guessed=guessed,
            indicators=_indicators(
                table, several, {text, pair}, path=path, names=names, labels=source.labels
            ),
        )
    if label is None and source.label != NO_LABELS and task_type.is_single_label:
        label = _matching_label_column(table, {text, pair}, names)
        guessed = guessed or label is not None
    # a "header" cell that is one of the model's labels is data, unless it heads an indicator column
    is_data = label is not None and find(label, names) is not None and not _is_marked(table[label])
    if guessed and not source.header and (len(text.split()) > 5 or is_data):
        raise PruneError(
            f"{path}: its first row looks like data, not like column names ({text[:40]!r}, "
            f"{label!r}); use --header no if it is, else set the columns with --text and --label."
        )
    return Columns(text, pair, label, guessed=guessed)


def _split_label_columns(table: pd.DataFrame, requested: str, path: str) -> tuple[str, ...]:
    """Split a comma-separated list of label columns; () if it has a single name or none."""
    if "," not in requested or requested in table:
        return ()
    return tuple(
        str(_resolve(table, name.strip(), path, flag="--label"))
        for name in requested.split(",")
        if name.strip()
    )


def _indicators(
    table: pd.DataFrame,
    requested: tuple[str, ...],
    used: set[str | None],
    path: str,
    names: Sequence[str],
    labels: str,
) -> tuple[str, ...]:
    """Return an indicator column for each of a multi-label model's labels, in the model's order.

    Matches by name, by `labels`, or by position for a model whose labels have no names. () if the
    table has none; PruneError if the assignment is ambiguous.
    """
    free = list(requested) or [name for name in table if name not in used]
    short = [name.rsplit(".", 1)[-1] for name in free]
    label_by_column = {
        column: label for column, label in parse_pairs(labels).items() if column in free
    }
    column_by_label = {label: column for column, label in label_by_column.items()}
    places = [
        free.index(column_by_label[name])
        if name in column_by_label
        else _find_column(name, free, short)
        for name in names
    ]
    if None not in places and names:
        return tuple(free[place] for place in places if place is not None)
    if requested and is_generic(names) and len(requested) == len(names) and not label_by_column:
        return requested
    indicators = list(requested) or [name for name in indicator_columns(table) if name in free]
    matched = [name for name, place in zip(names, places, strict=True) if place is not None]
    if len(indicators) < 2 and not matched and not requested:
        return ()
    missing = [name for name in names if name not in matched]
    unmatched = [column for column in indicators if column not in matched]
    if is_generic(names) and len(indicators) == len(names):
        remedy = f"list them in the model's order with --label {','.join(indicators)}"
    elif unmatched:
        remedy = f"use {to_flag(dict(zip(unmatched, missing, strict=False)))}"
    else:
        remedy = "add a column for each of the others"
    raise PruneError(
        f"{path}: no column is known for the model's label {', '.join(missing[:8])}; columns of "
        f"1 and 0 are {', '.join(indicators[:12]) or 'none'}. If they are its labels, {remedy}; "
        "--label - ignores labels."
    )


def _is_marked(column: pd.Series) -> bool:
    return {to_text(value).casefold() for value in column.head(2000)} <= MARKS


def indicator_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns of 1 and 0, one per label of a multi-label file; [] if only one."""
    indicators = [name for name in table if _is_marked(table[name])]
    return indicators if len(indicators) > 1 else []


def column_notes(table: pd.DataFrame, chosen: Columns, source: DataSource) -> list[str]:
    """Notes on a choice that may be wrong: nested fields, and other columns with longer texts."""
    if source.text or chosen.text in ("tokens", "words"):
        return []
    notes = [f"Texts are in the nested field {chosen.text!r}."] if "." in chosen.text else []
    mean_words = table[chosen.text].head(200).map(_word_count).mean()
    used = {chosen.text, chosen.pair, chosen.label, *chosen.indicators}
    longer = [
        name
        for name in table
        if name not in used
        and table[name].head(200).map(_word_count).mean() > max(4, 1.5 * mean_words)
    ]
    if longer:
        notes.append(
            f"Texts are in column {chosen.text!r}, chosen by name; "
            f"{', '.join(map(repr, longer[:3]))} {'has' if len(longer) == 1 else 'have'} longer "
            "ones: choose another with --text."
        )
    return notes


def _find_column(name: str, columns: Sequence[str], short: Sequence[str]) -> int | None:
    place = find(name, columns)
    return find(name, short) if place is None and len(set(short)) == len(short) else place


def _resolve(table: pd.DataFrame, requested: str, path: str, flag: str) -> str | None:
    """Find the requested column, ignoring case and spaces, or by number if it has no name."""
    if not requested or requested in table:
        return requested or None
    matches = [
        name
        for name in table
        if fold(name)
        in (fold(requested), f"column{fold(requested)}" if requested.isdigit() else "")
    ]
    if len(matches) != 1:
        first = {str(cell).strip() for cell in table.iloc[0]} if len(table) else set()
        hint = (
            " If its first row names the columns, use --header yes." if requested in first else ""
        )
        raise PruneError(
            f"{path}: there is no column {requested!r}; it has {', '.join(table.columns)}. "
            f"Choose one with {flag}.{hint}"
        )
    return matches[0]


def _longest_text_column(table: pd.DataFrame, used: set[str | None]) -> str | None:
    """Return the only column of sentences; None if there is none or more than one candidate."""
    lengths = {
        name: table[name].head(200).map(_word_count).mean() for name in table if name not in used
    }
    ranked = sorted(lengths, key=lambda name: -lengths[name])
    if len(ranked) == 1:
        return ranked[0]
    # few distinct values: labels rather than texts
    label_like = {
        name for name in ranked if table[name].map(str).nunique() <= max(2, len(table) // 3)
    }
    sentences = [name for name in ranked if lengths[name] >= 2]
    candidates = [name for name in sentences if name not in label_like] or sentences
    return candidates[0] if len(candidates) == 1 else None


def _word_count(cell: Any) -> int:
    """Number of words; in scripts without spaces, a third of the number of letters."""
    text = cell if isinstance(cell, str) else ""
    return max(
        len(text.split()),
        sum(not character.isascii() and character.isalpha() for character in text) // 3,
    )


def _matching_label_column(
    table: pd.DataFrame, used: set[str | None], names: Sequence[str]
) -> str | None:
    """Return the only other column whose values are labels of the model; None if none or several
    are.
    """
    matches = []
    for name in table:
        values = set(map(to_text, table[name].head(2000))) - {""} if name not in used else set()
        if 1 < len(values) <= max(2, MAX_CLASSES * len(table)) and fits(table[name], names):
            matches.append(name)
    return matches[0] if len(matches) == 1 else None
