"""Which of a model's labels each label value of a file means: by name, by number, as told, or a question to whoever asks.

Pure text matching: knows nothing of files or models, and never looks at what a model predicts.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PruneError

OUT = "leave out"  # what a value is mapped to whose rows are not used
_SAME = (
    {"negative", "neg", "bad", "negatif", "negativo", "negativ", "unfavorable"},
    {"positive", "pos", "good", "positif", "positivo", "positiv", "favorable"},
    {"neutral", "neu", "neutre", "neutro", "mixed"},
    {"entailment", "entail", "entails", "entailed"},
    {"contradiction", "contradict", "contradicts"},
    {"notentailment", "nonentailment", "notentailed"},
    {"equivalent", "paraphrase", "duplicate", "isduplicate"},
    {"notequivalent", "notparaphrase", "notduplicate", "nonduplicate", "different"},
    {"spam", "junk"},
    {"acceptable", "grammatical"},
    {"unacceptable", "ungrammatical"},
)  # fmt: skip
CANONICAL = {word: min(group, key=lambda w: (-len(w), w)) for group in _SAME for word in group}
NO, YES = {"false", "no", "n", "f", "off"}, {"true", "yes", "y", "t", "on"}


class LabelQuestion(PruneError):
    """It cannot be known which label a value means; `counts` says which values there are, and how often."""

    def __init__(self, sentence: str, counts: dict[str, int]):
        super().__init__(sentence)
        self.counts = counts


class LabelMap(NamedTuple):
    """What came of the values: the model's label of each (None: its rows are left out), how often it is there, and sentences to say."""

    labels: dict[str, int | None]
    counts: dict[str, int]
    notes: list[str]


def written(value: Any) -> str:
    """A label value as text; "" where there is none. Whole numbers have no decimals."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    text = str(value).strip()
    return re.sub(r"^([-+]?\d+)\.0+$", r"\1", text)


def folded(name: str) -> str:
    """Without case, accents, spaces, hyphens and the like."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    kept = "".join(character for character in plain if character.isalnum())
    return kept or name.strip()


def canonical(name: str) -> str:
    """`folded`, with one word for those that mean the same."""
    return CANONICAL.get(folded(name), folded(name))


def is_generic(names: Sequence[str]) -> bool:
    """Whether a model's labels have no names of their own: LABEL_0, LABEL_1 …"""
    return all(re.fullmatch(r"label\s*_?\s*\d+", name.strip(), re.IGNORECASE) for name in names)


def told(text: str) -> dict[str, str]:
    """ "NEG=negative,POS=positive" as pairs; a name with a comma is put in quotes."""
    pairs: dict[str, str] = {}
    for piece in filter(str.strip, re.findall(r'(?:[^,"]|"[^"]*")+', text)):
        found = re.fullmatch(r'\s*("[^"]*"|[^=]*?)\s*=\s*("[^"]*"|.*?)\s*', piece)
        if not found:
            raise PruneError(f"labels: {piece.strip()!r} is not understood; write value=label, such as NEG=negative,POS=positive.")
        pairs[written(found[1].strip('"'))] = found[2].strip('"')
    return pairs


def as_text(pairs: Mapping[str, str]) -> str:
    """Pairs as `told` reads them."""
    quoted = lambda name: f'"{name}"' if re.search(r"[,=]", name) else name  # noqa: E731
    return ",".join(f"{quoted(value)}={quoted(label)}" for value, label in pairs.items())


def mapped(values: Iterable[Any], names: Sequence[str], asked: str, place: str) -> LabelMap:
    """Each distinct value's label among the model's `names`. `place` begins the sentence of an error."""
    counts = Counter(map(written, values))
    ordered = dict(sorted(counts.items(), key=lambda item: (_number(item[0]) is None, _number(item[0]) or 0, item[0])))
    own = {value: _label(label, names, place) for value, label in told(asked).items()}
    if strange := [value for value in own if value not in counts]:
        raise PruneError(f"{place}: labels names {strange[0]!r}, which is no value there; those are {_listed(ordered)}.")
    left = [value for value in ordered if value and value not in own]
    found, notes = _by_name(left, names), []
    if found is None or any(label is None for label in found.values()):
        partly: dict[str, int | None] = {value: label for value, label in (found or {}).items() if label is not None}
        rest = [value for value in left if value not in partly]
        numbers, note = _by_number(rest if partly else left, names)
        if numbers is None and not partly:
            numbers, note = _by_truth(left, names)
        notes += [note] if note and numbers is not None else []
        found = partly | (numbers or {})
    labels: dict[str, int | None] = {value: own[value] if value in own else found.get(value) for value in ordered if value}
    hidden = [value for value in labels if labels[value] is None and value == "-1" and value not in own]
    unknown = [value for value in left if labels[value] is None and value not in hidden]
    if unknown:
        there = {value: n for value, n in ordered.items() if value}
        raise LabelQuestion(_question(unknown, there, labels, names, place), there)
    return LabelMap({**labels, **({"": None} if "" in counts else {})}, ordered, notes + _said(labels, names))


def left_out(label: str) -> bool:
    """Whether that is what a person calls no label at all."""
    return folded(label) in ("", "leaveout", "out")


def _label(label: str, names: Sequence[str], place: str) -> int | None:
    """The number of a label that a person names, by name or number."""
    if left_out(label):
        return None
    by_name = {folded(name): index for index, name in enumerate(names)}
    number = by_name.get(folded(label), int(label) if label.isdigit() and int(label) < len(names) else None)
    if number is None:
        raise PruneError(f"{place}: labels names {label!r}, which is no label of the model; those are {', '.join(names)}, or {OUT!r}.")
    return number


def _by_name(values: Sequence[str], names: Sequence[str]) -> dict[str, int | None] | None:
    """By the labels' names, whatever case and spelling; None where no value is such a name."""
    exact = {folded(name): index for index, name in enumerate(names)}
    meant = {canonical(name): index for index, name in enumerate(names)}
    if len(exact) < len(names) or all(_number(value) is not None for value in values) and not any(name.isdigit() for name in names):
        return None
    found: dict[str, int | None] = {}
    for value in values:
        label = exact.get(folded(value))
        label = meant.get(canonical(value)) if label is None and len(meant) == len(names) else label
        if label is None and len(folded(value)) >= 3 and _number(value) is None:  # contra, entail, sci
            close = [
                index
                for name, index in exact.items()
                if name.startswith(folded(value)) or (len(name) >= 3 and folded(value).startswith(name))
            ]
            label = close[0] if len(close) == 1 else None
        found[value] = label
    return found if any(label is not None for label in found.values()) else None


def _number(value: str) -> int | None:
    """What a value counts: 3, 3 stars, ★★★, 3/5, LABEL_3."""
    if value and set(value) <= {"★", "⭐", "☆", "\ufe0f"}:
        return sum(character in "★⭐" for character in value)
    found = re.fullmatch(
        r"(?:(?:label|class|klasse|classe)[\s_-]*)?([-+]?\d+)\s*(?:stars?|sterne?|étoiles?|estrellas?|/\s*\d+)?", value, re.IGNORECASE
    )
    return int(found[1]) if found else None


def _by_number(values: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int | None] | None, str]:
    """By number from 0; or from 1, from -1, or in their order where that is what they are. With a sentence where it is a choice."""
    numbers = {value: number for value in values if (number := _number(value)) is not None}
    if not values or len(numbers) < len(values):
        return None, ""
    named = [_number(name) for name in names]
    if None not in named and not is_generic(names) and set(numbers.values()) <= set(named):  # 1 star … 5 stars
        return {value: named.index(number) for value, number in numbers.items()}, ""
    some, size = set(numbers.values()), len(names)
    polarity = [canonical(name) for name in names] == [canonical(name) for name in ("negative", "neutral", "positive")]
    shift: dict[int, int | None] | None = None
    if size == 2 and some == {-1, 1} or size == 3 and some == {-1, 0, 1} and (polarity or is_generic(names)):
        shift = {number: index for index, number in enumerate(sorted(some))}
    elif some - {-1} <= set(range(size)) and not (polarity and some - {-1} == {0, 1}):
        return {value: None if number == -1 else number for value, number in numbers.items()}, ""
    elif 0 not in some and some - {-1} <= set(range(1, size + 1)):
        shift = {number: None if number == -1 else number - 1 for number in some}
    elif len(some) == size:
        shift = {number: index for index, number in enumerate(sorted(some))}
    if shift is None:
        return None, ""
    return {
        value: shift[number] for value, number in numbers.items()
    }, "Labels are numbered otherwise than the model's; they were taken in order."


def _by_truth(values: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int | None] | None, str]:
    """True and false, and negative and positive for a model whose labels have no names: no is the first of two labels."""
    if len(names) != 2:
        return None, ""
    meant = [canonical(name) for name in names]
    no = meant.index(canonical("negative")) if canonical("negative") in meant else 0
    words = {value: folded(value) for value in values}
    if all(word in NO | YES for word in words.values()):
        return {value: no if word in NO else 1 - no for value, word in words.items()}, ""
    usual = [("negative", "positive"), ("notequivalent", "equivalent"), ("unacceptable", "acceptable"), ("ham", "spam")]
    for first, second in [(canonical(a), canonical(b)) for a, b in usual]:
        if is_generic(names) and all(canonical(value) in (first, second) for value in values):
            return {
                value: int(canonical(value) == second) for value in values
            }, "The model's labels have no names; the usual order was taken."
    return None, ""


def _listed(counts: Mapping[str, int], most: int = 12) -> str:
    shown = [f"{value or '(empty)'} ({n})" for value, n in list(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _question(
    unknown: Sequence[str], counts: Mapping[str, int], labels: Mapping[str, int | None], names: Sequence[str], place: str
) -> str:  # fmt: skip
    """What cannot be known, both lists, and a line to begin with: values in their order on the labels in theirs."""
    free = [name for index, name in enumerate(names) if index not in labels.values()]
    guess = {value: free[index] if index < len(free) and len(unknown) <= len(free) else OUT for index, value in enumerate(unknown[:12])}
    return (
        f"{place}: it is not clear which label of the model {', '.join(map(repr, unknown[:6]))} means. The file has {len(counts)} "
        f"({_listed(counts)}), the model {len(names)} ({', '.join(names)}). Say it with --labels '{as_text(guess)}' or on the Prune page, "
        "put right where that order is wrong."
    )


def _said(labels: Mapping[str, int | None], names: Sequence[str]) -> list[str]:
    """What is not plain to see, in sentences."""
    notes = []
    plain = all(label is None or value == str(label) or value == names[label] for value, label in labels.items())
    if not plain:
        pairs = ", ".join(f"{value} is {OUT if label is None else names[label]}" for value, label in list(labels.items())[:12])
        notes.append(f"Labels: {pairs}{' …' if len(labels) > 12 else ''}.")
    absent = [name for index, name in enumerate(names) if index not in labels.values()]
    if absent and any(label is not None for label in labels.values()):
        have = [value for value, label in labels.items() if label is not None]
        notes.append(
            f"The data has {len(have)} labels ({', '.join(have[:8])}), the model {len(names)} ({', '.join(names[:8])}); "
            f"none of the rows is {', '.join(absent[:8])}."
        )
    return notes
