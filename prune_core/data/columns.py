"""Which columns of a table are texts and labels: those named, the usual names, or what their cells look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from ..errors import PruneError
from .examples import Source
from .labels import folded, mapped, written

PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"), ("text", "text_pair"),
    ("text1", "text2"), ("text_a", "text_b"), ("sentence_a", "sentence_b"), ("query", "passage"),
    ("query", "document"), ("question", "context"),
)  # fmt: skip
TEXTS = (
    "text", "sentence", "review", "content", "sentence1", "question1", "premise", "tweet", "message", "comment", "utterance", "query",
    "document", "body", "question", "texts", "sms", "review_text", "reviewtext", "headline", "description", "title", "satz",
    "texte", "texto", "nachricht",
)  # fmt: skip
LABELS = (
    "label", "labels", "sentiment", "class", "category", "target", "intent", "topic", "gold_label", "gold", "rating", "stars", "polarity",
    "score",
    "emotion", "annotation", "klasse", "etikett", "etiquette", "etiqueta", "kategorie", "absicht", "coarse_label", "is_duplicate", "y",
)  # fmt: skip
USUAL = {
    "span": (("question",), ("context",), ("answers", "answer")),
    "token": (("tokens", "words"), (), ("ner_tags", "tags", "labels", "ner", "pos_tags", "label")),
}
NONE = "-"  # a label column that is not to be used
MOST_CLASSES = 0.5  # of as many rows as there are may be different values, in a column that looks like labels


class Columns(NamedTuple):
    """Names of columns; `guessed` where their cells, not their names, spoke for them."""

    text: str
    pair: str | None
    label: str | None  # None where there is none
    guessed: bool = False


def choose(table: pd.DataFrame, source: Source, path: str, kind: str, names: Sequence[str] = ()) -> Columns:
    """The columns to read for a model of that kind with these label names; a sentence where they cannot be told."""
    usual = USUAL.get(kind, (TEXTS, (), LABELS))
    text = _named(table, source.text, path, "--text")
    pair = _named(table, source.text_pair, path, "--text-pair")
    label = None if source.label == NONE else _named(table, source.label, path, "--label")
    if not text and not pair and kind not in USUAL:
        text, pair = next(
            ((a, b) for first, second in PAIRS if (a := _usual(table, (first,))) and (b := _usual(table, (second,)))), (None, None)
        )
    text = text or _usual(table, usual[0], {pair, label})
    pair = pair or _usual(table, usual[1], {text, label})
    if label is None and source.label != NONE:
        label = _usual(table, usual[2], {text, pair})
    guessed = False
    if not text:
        text, guessed = _longest(table, {pair, label}), True
    if not text or (kind == "span" and not pair):
        missing = "a text" if not text else "a second text, the context"
        raise PruneError(f"{path}: no column is known to hold {missing}; it has {', '.join(table.columns)}. Name one with --text"
                         f"{' and --text-pair' if kind == 'span' else ''}, and labels with --label.")  # fmt: skip
    if label is None and source.label != NONE and kind == "classification":
        label = _fitting(table, {text, pair}, names)
        guessed = guessed or label is not None
    return Columns(text, pair, label, guessed)


def looks(table: pd.DataFrame) -> str:
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
    close = [name for name in table if folded(name) in (folded(asked), f"column{folded(asked)}" if asked.isdigit() else "")]
    if len(close) != 1:
        raise PruneError(f"{path}: there is no column {asked!r}; it has {', '.join(table.columns)}. Name one with {flag}.")
    return close[0]


def _usual(table: pd.DataFrame, names: Sequence[str], taken: set[str | None] = frozenset()) -> str | None:  # type: ignore[assignment]
    free = [name for name in table if name not in taken]
    by_part = {folded(name.rsplit(".", 1)[-1]): name for name in reversed(free)}  # of nested fields the last part is the name
    by_name = by_part | {folded(name): name for name in reversed(free)}
    return next((by_name[folded(name)] for name in names if folded(name) in by_name), None)


def _longest(table: pd.DataFrame, taken: set[str | None]) -> str | None:
    """The one column of sentences; None where there is none, or another that could be it."""
    lengths = {name: table[name].head(200).map(_words).mean() for name in table if name not in taken}
    ranked = sorted(lengths, key=lambda name: -lengths[name])
    if len(ranked) == 1:
        return ranked[0]
    few = {name for name in ranked if table[name].map(str).nunique() <= max(2, len(table) // 3)}  # more like labels than like texts
    long = [name for name in ranked if lengths[name] >= 2 and name not in few] or [name for name in ranked if lengths[name] >= 2]
    return long[0] if len(long) == 1 else None


def _words(cell: Any) -> int:
    """Words, or what stands for them in scripts without spaces."""
    text = cell if isinstance(cell, str) else ""
    return max(len(text.split()), sum(not character.isascii() and character.isalpha() for character in text) // 3)


def _fitting(table: pd.DataFrame, taken: set[str | None], names: Sequence[str]) -> str | None:
    """The one other column whose values are labels of the model; None where none or several are."""
    found = []
    for name in table:
        values = set(map(written, table[name].head(2000))) - {""} if name not in taken else set()
        if 1 < len(values) <= max(2, MOST_CLASSES * len(table)):
            try:
                mapped(table[name], names, "", name)
                found.append(name)
            except PruneError:
                continue  # what is no label is no label column
    return found[0] if len(found) == 1 else None
