"""Parse cells of a table: words, lists, marks for yes and no. Knows nothing of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .label_pairs import written

YES = {"1", "true", "yes", "y", "t", "x", "✓", "✔", "☑"}
NO = {"0", "false", "no", "n", "f"}


def words_of(value: Any) -> list[str]:
    """The words of a cell: a list, a list written as text, or a text split at spaces."""
    if isinstance(value, str):
        value = (
            re.findall(r"'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"", value)
            if value.startswith("[") and value.endswith("]")
            else value.split()
        )
        value = ["".join(piece) if isinstance(piece, tuple) else piece for piece in value]
    # each label belongs to one word: an empty one, or one with a space in it, still takes one place
    return ["".join(str(word).split()) or "\N{MIDDLE DOT}" for word in value]


def is_empty(value: Any) -> bool:
    """Whether a cell has no text."""
    return len(value) == 0 if isinstance(value, (list, np.ndarray)) else not written(value)


def listed(value: Any) -> list[Any] | None:
    """The labels of a cell, as a list or written as one ([0 0 1], ['a', 'b'], a|b); None for an empty cell or -1."""
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return list(value)
    text = written(value)
    if not text or text == "-1":
        return None
    found = re.fullmatch(
        r"(?:(?:np\.)?(?:array|tensor)\()?[\[({](.*?)[\])}](?:,.*)?\)?", text, re.DOTALL
    )
    if not found:
        return [piece.strip() for piece in re.split(r"[|;,]", text) if piece.strip()]
    if quoted := re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", found[1]):
        return ["".join(pieces) for pieces in quoted]
    return [
        piece
        for piece in re.split(r"[,\s]+" if "," not in found[1] else r"\s*,\s*", found[1].strip())
        if piece
    ]


def is_vector(row: Sequence[Any], labels: int) -> bool:
    """Whether a cell lists 1 or 0 for each of so many labels."""
    return len(row) == labels and {written(value) for value in row} <= {"0", "1"}


def are_marks(column: pd.Series) -> bool:
    """Whether every cell of a column says yes or no, or has no label."""
    return {written(value).casefold() for value in column} <= YES | NO | {"", "-1"}


def distinct(column: pd.Series, kind: str) -> list[str]:
    """The different label values of a column, in order; of lists, those in them."""
    if kind in ("multilabel", "token"):
        rows = [
            value.split() if isinstance(value, str) and kind == "token" else listed(value)
            for value in column
        ]
        values = {written(value) for row in rows if row for value in row}
    else:
        values = set(map(written, column))
    numbers = all(value.lstrip("-").isdigit() for value in values - {""})
    return sorted(values - {""}, key=lambda value: (int(value) if numbers else 0, value))
