"""What one cell holds: words, labels, yes or no, or the answers to a question; as lists, or as text that was once one."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .examples import AnswerSpans
from .label_pairs import to_text

YES = {"1", "true", "yes", "y", "t", "x", "✓", "✔", "☑"}
NO = {"0", "false", "no", "n", "f"}
QUOTED = r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\""


def parse_words(value: Any) -> list[str]:
    """The words of a token classifier's example."""
    if isinstance(value, str):
        value = (
            re.findall(r"'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"", value)
            if value.startswith("[") and value.endswith("]")
            else value.split()
        )
        value = ["".join(piece) if isinstance(piece, tuple) else piece for piece in value]
    # each label belongs to one word: an empty one, or one with a space in it, still takes one place
    return ["".join(str(word).split()) or "\N{MIDDLE DOT}" for word in value]


def parse_list(value: Any) -> list[Any] | None:
    """The labels of a cell: a list, or one written as text ([0 0 1], ['a', 'b'], {"a": 1, "b": 0}, a|b); None for an empty
    cell or -1."""
    if isinstance(value, Mapping):
        return [name for name, holds in value.items() if to_text(holds).casefold() in YES]
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return list(value)
    text = to_text(value)
    if not text or text == "-1":
        return None
    if text == "set()":
        return []
    if text.startswith("{") and ":" in text and isinstance(found := _literal(text), Mapping):
        return parse_list(found)
    text = re.sub(r"np\.\w+\(([^()]*)\)", r"\1", text)  # as NumPy 2 prints its numbers
    inside = re.fullmatch(
        r"(?:(?:np\.)?(?:array|tensor)\()?[\[({]([^\[\](){}]*)[\])}](?:,\s*d?type=[^)]*)?\)?",
        text,
        re.DOTALL,
    )
    if not inside:
        return [piece.strip() for piece in re.split(r"[|;,]", text) if piece.strip()]
    if quoted := re.findall(QUOTED, inside[1]):
        return ["".join(pieces) for pieces in quoted]
    return [
        piece
        for piece in re.split(r"\s*,\s*" if "," in inside[1] else r"\s+", inside[1].strip())
        if piece
    ]


def _literal(text: str) -> Any:
    """What JSON or a Python literal says; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def parse_flags(row: Sequence[Any], labels: int) -> list[int] | None:
    """1 or 0 for every label, if a list of as many says so; None if it does not."""
    words = [to_text(value).casefold() for value in row]
    if len(words) != labels or not {*words} <= {"0", "1", "true", "false"}:
        return None
    return [int(word in YES) for word in words]


def parse_answers(value: Any, context: str) -> AnswerSpans | None:
    """The accepted answers: as SQuAD writes them ({text, answer_start}, also a list of such), or plain text; None if one does
    not occur in the context."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        plain = re.sub(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", r"\1", value, flags=re.DOTALL)
        value = found if (found := _literal(plain)) is not None else value
    if isinstance(value, Mapping):
        texts, starts = _sequence(value.get("text")), _sequence(value.get("answer_start"))
        pairs = [
            (str(text), starts[place] if place < len(starts) else -1)
            for place, text in enumerate(texts)
        ]
    elif isinstance(value, (list, tuple, np.ndarray)):
        found = [parse_answers(each, context) for each in value]
        if None in found:
            return None
        pairs = [
            (text, start)
            for each in found
            if each
            for text, start in zip(each.texts, each.starts, strict=True)
        ]
    else:
        pairs = [(to_text(value), -1)] if to_text(value) else []
    placed = [(text, _place(text, start, context)) for text, start in pairs]
    return (
        None
        if any(start < 0 for _, start in placed)
        else AnswerSpans([text for text, _ in placed], [start for _, start in placed])
    )


def _sequence(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]


def _place(text: str, start: Any, context: str) -> int:
    """The character at which an answer begins: where it is said to, if it stands there, else its first occurrence."""
    place = int(start) if str(start).lstrip("-").isdigit() else -1
    return (
        place if place >= 0 and context[place : place + len(text)] == text else context.find(text)
    )


def is_empty(value: Any) -> bool:
    """Whether a cell has no text."""
    return len(value) == 0 if isinstance(value, (list, np.ndarray)) else not to_text(value)


def are_binary_marks(column: pd.Series) -> bool:
    """Whether every cell of a column says yes or no, or has no label."""
    return {to_text(value).casefold() for value in column} <= YES | NO | {"", "-1"}


def distinct_values(column: pd.Series, kind: str) -> list[str]:
    """The different label values of a column, in order; of lists, those in them."""
    if kind in ("multilabel", "token"):
        rows = [
            value.split() if isinstance(value, str) and kind == "token" else parse_list(value)
            for value in column
        ]
        values = {to_text(value) for row in rows if row for value in row}
    else:
        values = set(map(to_text, column))
    numbers = all(value.lstrip("-").isdigit() for value in values - {""})
    return sorted(values - {""}, key=lambda value: (int(value) if numbers else 0, value))
