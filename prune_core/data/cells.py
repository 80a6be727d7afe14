"""Parse single cells: words, labels, yes/no flags, answers.

Values are lists, or lists that were converted to text.
"""

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
    """Return the words of a token-classification example."""
    if isinstance(value, str):
        if value.startswith("[") and value.endswith("]"):
            value = [
                "".join(pieces) for pieces in re.findall(r"'((?:[^'\\]|\\.)*)'|\"([^\"]*)\"", value)
            ]
        else:
            value = value.split()
    # one label per word: an empty word, or one that contains a space, must remain one word
    return ["".join(str(word).split()) or "\N{MIDDLE DOT}" for word in value]


def parse_list(value: Any) -> list[Any] | None:
    """Return the labels of a cell, None for an empty cell or -1.

    The cell is a list, or a list as text: [0 0 1], ['a', 'b'], {"a": 1, "b": 0}, a|b.
    """
    if isinstance(value, Mapping):
        return [name for name, holds in value.items() if to_text(holds).casefold() in YES]
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return list(value)
    text = to_text(value)
    if not text or text == "-1":
        return None
    if text == "set()":
        return []
    if text.startswith("{") and ":" in text and isinstance(mapping := _literal(text), Mapping):
        return parse_list(mapping)
    text = re.sub(r"np\.\w+\(([^()]*)\)", r"\1", text)  # NumPy 2 prints np.int64(1)
    inside = re.fullmatch(
        r"(?:(?:np\.)?(?:array|tensor)\()?[\[({]([^\[\](){}]*)[\])}](?:,\s*d?type=[^)]*)?\)?",
        text,
        re.DOTALL,
    )
    if not inside:
        return [piece.strip() for piece in re.split(r"[|;,]", text) if piece.strip()]
    if quoted := re.findall(QUOTED, inside[1]):
        return ["".join(pieces) for pieces in quoted]
    separator = r"\s*,\s*" if "," in inside[1] else r"\s+"
    return [piece for piece in re.split(separator, inside[1].strip()) if piece]


def _literal(text: str) -> Any:
    """Parse a JSON or Python literal; None if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def parse_flags(row: Sequence[Any], labels: int) -> list[int] | None:
    """Return 1 or 0 per label if the row is a list of flags of that length, else None."""
    words = [to_text(value).casefold() for value in row]
    if len(words) != labels or not {*words} <= {"0", "1", "true", "false"}:
        return None
    return [int(word in YES) for word in words]


def parse_answers(value: Any, context: str) -> AnswerSpans | None:
    """Return the accepted answers to a question; None if one does not occur in the context.

    The cell is a SQuAD dict {text, answer_start}, a list of such dicts, or plain text.
    """
    if isinstance(value, str) and value.startswith(("{", "[")):
        literal = _literal(
            re.sub(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", r"\1", value, flags=re.DOTALL)
        )
        value = value if literal is None else literal
    if isinstance(value, Mapping):
        texts, starts = _as_list(value.get("text")), _as_list(value.get("answer_start"))
        pairs = [
            (str(text), starts[place] if place < len(starts) else -1)
            for place, text in enumerate(texts)
        ]
    elif isinstance(value, (list, tuple, np.ndarray)):
        parsed = [parse_answers(item, context) for item in value]
        if None in parsed:
            return None
        pairs = [
            pair
            for spans in parsed
            if spans
            for pair in zip(spans.texts, spans.starts, strict=True)
        ]
    else:
        pairs = [(to_text(value), -1)] if to_text(value) else []
    starts = [_locate(text, start, context) for text, start in pairs]
    if any(start < 0 for start in starts):
        return None
    return AnswerSpans([text for text, _ in pairs], starts)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]


def _locate(text: str, start: Any, context: str) -> int:
    """Return the first character of an answer: `start` if the answer is there, else its first
    occurrence.
    """
    position = int(start) if str(start).lstrip("-").isdigit() else -1
    if position >= 0 and context[position : position + len(text)] == text:
        return position
    return context.find(text)


def is_empty(value: Any) -> bool:
    """Whether a cell has no text."""
    return len(value) == 0 if isinstance(value, (list, np.ndarray)) else not to_text(value)


def are_binary_marks(column: pd.Series) -> bool:
    """Whether every cell of a column is yes, no or unlabeled."""
    return {to_text(value).casefold() for value in column} <= YES | NO | {"", "-1"}


def sort_values(values: set[str]) -> list[str]:
    """Sort label values, as numbers if all of them are; the empty one is left out."""
    numbers = all(value.lstrip("-").isdigit() for value in values - {""})
    return sorted(values - {""}, key=lambda value: (int(value) if numbers else 0, value))
