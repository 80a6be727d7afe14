"""Detect whether the first row of a table is a header."""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import median_high

from .column_names import KNOWN
from .spelling import fold

COMPARED_ROWS = 2000  # rows that the first one is compared with
TITLE_ROWS = 10  # rows that may precede the header
MIN_WORDS = 4  # of a text
MIN_CHARACTERS = 9  # of a text in a script without spaces
_KNOWN = {fold(name) for name in KNOWN}


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is a header.

    It is one if it has the usual names of columns, or if no cell resembles those below it.
    """
    first = rows[0] if rows else []
    if len(rows) < 2:
        return bool(rows) and all(map(is_name, first))
    if names_columns(first):
        return True
    rest = [row for row in rows[1:COMPARED_ROWS] if len(row) == len(first) and row != first]
    if not rest:
        return all(map(is_name, first))
    if len({cell.strip().lower() for cell in first}) < len(first):
        return False
    # a shorter sentence may be a column name (a question), but not if it is the only column
    min_length = 0.75 if len(first) > 1 else 0.0
    return not any(
        _resembles(cell, [row[column] for row in rest], min_length)
        for column, cell in enumerate(first)
    )


def names_columns(row: Sequence[str]) -> bool:
    """Whether a row contains the usual names of a text and a label column."""
    cells = [cell.strip() for cell in row if cell.strip()]
    if len(cells) < 2 or any(map(_is_number, cells)):
        return False
    return sum(fold(cell) in _KNOWN for cell in cells) >= 2


def rows_above_header(rows: Sequence[Sequence[str]]) -> int:
    """Number of rows above the one that names the columns; 0 if the first row does or none does."""
    return next((index for index, row in enumerate(rows[:TITLE_ROWS]) if names_columns(row)), 0)


def _resembles(cell: str, others: Sequence[str], min_length: float) -> bool:
    """Whether a cell resembles the others of its column.

    It is a number like all of them, or one of a few distinct values, or a text like most of them
    with at least `min_length` times their median length.
    """
    if not cell.strip():
        return False
    if all(_is_number(other) for other in others):
        return _is_number(cell)
    counts = Counter(others)
    if len(counts) <= max(2, len(others) // 3) and counts[cell] > 0:
        return True
    words = median_high(len(other.split()) for other in others)
    are_texts = words >= MIN_WORDS or all(not other.isascii() for other in others)
    is_text = len(cell.split()) >= MIN_WORDS or (not cell.isascii() and len(cell) >= MIN_CHARACTERS)
    return are_texts and is_text and len(cell) >= min_length * median_high(map(len, others))


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", cell))


def is_name(cell: str) -> bool:
    """Whether a cell can be a column name: up to three words, not a number."""
    return len(cell.split()) <= 3 and not _is_number(cell)
