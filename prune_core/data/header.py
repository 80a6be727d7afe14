"""Detect whether the first row of a table is a header."""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import median_high

from .column_names import KNOWN
from .spelling import fold

ROWS = 2000  # rows that the first one is compared with
ABOVE = 10  # rows searched for a header below the first


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row is a header, that is, does not continue the pattern below it."""
    first = rows[0] if rows else []
    if len(rows) < 2:
        return bool(rows) and all(map(is_name, first))
    if names_columns(first):
        return True
    rest = [row for row in rows[1:ROWS] if len(row) == len(first) and row != first]
    if not rest:
        return all(map(is_name, first))
    if len({cell.strip().lower() for cell in first}) < len(first):
        return False
    # a shorter sentence may be a column name (a question), but not if it is the only column
    min_length = 0.75 if len(first) > 1 else 0.0
    return not any(
        _continues(cell, [row[place] for row in rest], min_length)
        for place, cell in enumerate(first)
    )


def names_columns(row: Sequence[str]) -> bool:
    """Whether a row contains the usual names of a text and a label column."""
    cells = [cell.strip() for cell in row if cell.strip()]
    usual = [cell for cell in cells if fold(cell) in {fold(name) for name in KNOWN}]
    return len(cells) > 1 and len(usual) >= min(2, len(cells)) and not any(map(_is_number, cells))


def header_below(rows: Sequence[Sequence[str]]) -> int:
    """Number of rows above the one that names the columns; 0 if the first row does or none does."""
    return next((place for place, row in enumerate(rows[:ABOVE]) if names_columns(row)), 0)


def _continues(cell: str, others: Sequence[str], min_length: float) -> bool:
    """Whether a cell resembles those below it.

    A number above numbers, one of a few distinct values, or a sentence above sentences with at
    least `min_length` times their median length.
    """
    if not cell.strip():
        return False
    if all(_is_number(other) for other in others):
        return _is_number(cell)
    counts = Counter(others)
    if len(counts) <= max(2, len(others) // 3) and counts[cell] > 0:
        return True
    words = median_high(len(other.split()) for other in others)
    are_texts = words >= 4 or all(not other.isascii() for other in others)
    is_long = len(cell.split()) >= 4 or (not cell.isascii() and len(cell) > 8)
    return are_texts and is_long and len(cell) >= min_length * median_high(map(len, others))


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", cell))


def is_name(cell: str) -> bool:
    """Whether a cell can be a column name: up to three words, not a number."""
    return len(cell.split()) <= 3 and not _is_number(cell)
