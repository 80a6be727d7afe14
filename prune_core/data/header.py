"""Whether the first row of a table names its columns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

ROWS = 2000  # rows that the first one is compared with


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: not if it continues their pattern."""
    if len(rows) < 2:
        return bool(rows) and all(is_name(cell) for cell in rows[0])
    first = rows[0]
    rest = [row for row in rows[1:ROWS] if len(row) == len(first) and row != first]
    if not rest:
        return all(is_name(cell) for cell in first)
    if len({cell.strip().lower() for cell in first}) < len(first):
        return False
    return not any(_continues(cell, [row[place] for row in rest]) for place, cell in enumerate(first))


def _continues(cell: str, others: Sequence[str]) -> bool:
    """Whether a cell is like those below it: a number above numbers, one of a few values, a sentence above sentences."""
    if not cell.strip():
        return False
    if all(_is_number(other) for other in others):
        return _is_number(cell)
    counts = Counter(others)
    if len(counts) <= max(2, len(others) // 3) and counts[cell] > 0:
        return True
    words = sorted(len(other.split()) for other in others)
    if words[len(words) // 2] >= 4 or all(not other.isascii() for other in others):
        return len(cell.split()) >= 4 or (not cell.isascii() and len(cell) > 8)
    return False


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", cell))


def is_name(cell: str) -> bool:
    """Whether a cell may be the name of a column: a few words, no number."""
    return len(cell.split()) <= 3 and not _is_number(cell)
