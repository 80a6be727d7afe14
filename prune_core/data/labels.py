"""Match the label values of a file to the labels of a model: by name, by number or as given; ask if neither is certain.

Pure text matching: knows nothing of files or models, and never looks at what a model predicts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PruneError
from .label_pairs import parse_pairs, to_flag, to_text
from .spelling import CANONICAL, canonical, find, fold, is_generic

UNSURE = "?"  # what a proposal leaves to the reader
SHOWN = 12  # values in a proposal
OUT = "leave out"  # what a value is mapped to if its rows are not used
RARE = 0.05  # fraction of the rows whose values may be odd; the question is then about these values alone
NO, YES = {"false", "no", "n", "f", "off"}, {"true", "yes", "y", "t", "on"}


class LabelQuestion(PruneError):
    """It is not certain which label a value means; `counts` holds the values in question and how often each occurs."""

    def __init__(self, sentence: str, counts: dict[str, int]):
        super().__init__(sentence)
        self.counts = counts


class LabelMap(NamedTuple):
    """The model's label of each value (None: its rows are left out), how often each occurs, and notes."""

    labels: dict[str, int | None]
    counts: dict[str, int]
    notes: list[str]


def map_labels(values: Iterable[Any], names: Sequence[str], asked: str, place: str) -> LabelMap:
    """Each distinct value's label among the model's `names`. `asked` is what a person says of values, `place` begins the
    sentence of an error. LabelQuestion if a value's label is not certain."""
    counts = Counter(map(to_text, values))
    ordered = dict(
        sorted(
            counts.items(),
            key=lambda item: (_number(item[0]) is None, _number(item[0]) or 0, item[0]),
        )
    )
    own = {value: _label(label, names, place) for value, label in parse_pairs(asked).items()}
    left = [value for value in ordered if value and value not in own]
    strange = [value for value in own if value not in counts]
    if strange and set(left) - {"-1"}:  # if all are mapped, it is no typo: a split may lack a value
        raise PruneError(
            f"{place}: labels names {strange[0]!r}, which does not occur there; "
            f"the values are {_listed(ordered)}."
        )
    found, notes = _understood(left, names, counts)
    labels: dict[str, int | None] = {
        value: own[value] if value in own else found.get(value) for value in ordered if value
    }
    hidden = [
        value for value in labels if labels[value] is None and value == "-1" and value not in own
    ]
    unknown = [value for value in left if labels[value] is None and value not in hidden]
    if unknown:
        there = {value: n for value, n in ordered.items() if value}
        raise LabelQuestion(_question(unknown, there, labels, names=names, place=place), there)
    return LabelMap(
        {**labels, **({"": None} if "" in counts else {})}, ordered, notes + _said(labels, names)
    )


def fits(values: Iterable[Any], names: Sequence[str]) -> bool:
    """Whether a column's values are labels of the model, a few odd ones aside."""
    counts = Counter(value for each in values if (value := to_text(each)))
    found, _ = _understood(list(counts), names, counts)
    known = sum(
        n
        for value, n in counts.items()
        if found.get(value) is not None or (value == "-1" and found)
    )
    return bool(found) and known >= (1 - RARE) * counts.total()


def _understood(
    values: Sequence[str], names: Sequence[str], counts: Mapping[str, int]
) -> tuple[dict[str, int | None], list[str]]:
    """(labels of the values that are certain, notes). If a few rare values fit no rule, the rules are applied to the others."""
    found, notes = _by_any_rule(values, names)
    odd = [value for value in values if value not in found]
    if len(odd) < len(values) or not values:
        return found, notes
    whole = sum(counts[value] for value in values)
    for rare in (_oddities(values, names), sorted(values, key=lambda value: counts[value])):
        common = list(values)
        while (
            rare and len(common) > 1
        ):  # one value after the other, as long as few rows are concerned
            common.remove(rare.pop(0))
            if sum(counts[value] for value in common) < (1 - RARE) * whole:
                break
            found, notes = _by_any_rule(common, names)
            if len(found) == len(common):
                return found, notes
    return {}, []


def _oddities(values: Sequence[str], names: Sequence[str]) -> list[str]:
    """Values that are no number where most are."""
    numbers = [value for value in values if _number(value) is not None]
    return (
        [value for value in values if _number(value) is None]
        if 2 * len(numbers) > len(values)
        else []
    )


def _by_any_rule(
    values: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, int | None], list[str]]:
    """By name, by number, or as yes and no; {} if no rule applies."""
    by_name = _by_name(values, names)
    if by_name and (len(by_name) == len(values) or any(_number(value) is None for value in values)):
        return {**by_name, **({"-1": None} if "-1" in values else {})}, []
    numbers, note = _by_number(values, names)
    if not numbers:
        numbers, note = _by_truth(values, names)
    return numbers, [note] if note and numbers else []


def is_missing(label: str) -> bool:
    """Whether that is what a person calls no label at all."""
    return fold(label) in ("", "leaveout", "out")


def _label(label: str, names: Sequence[str], place: str) -> int | None:
    """The number of a label that a person names, by name or number."""
    if (number := find(label, names)) is not None:
        return number
    if is_missing(label):
        return None
    if not (label.isdigit() and int(label) < len(names)):
        raise PruneError(
            f"{place}: labels names {label!r}, which is no label of the model; those are {', '.join(names)}, or {OUT!r}."
        )
    return int(label)


def _by_name(values: Sequence[str], names: Sequence[str]) -> dict[str, int | None]:
    """By the labels' names: the strictest level of spelling at which a value is one of them."""
    if all(_number(value) is not None for value in values) and not any(
        to_text(name).isdigit() for name in names
    ):
        return {}
    found = {value: place for value in values if (place := find(value, names)) is not None}
    for value in [value for value in values if value not in found and _number(value) is None]:
        close = _beginning(value, names)
        if len(close) == 1 and close[0] not in found.values():
            found[value] = close[0]
    shared = {place for place, n in Counter(found.values()).items() if n > 1}
    return {
        value: place
        for value, place in found.items()
        if place not in shared or _is_certain(value, names[place])
    }


def _is_certain(value: str, name: str) -> bool:
    """Whether a value means a label even if another value does too: accents and separators may tell the two apart."""
    return value.strip().casefold() == name.strip().casefold() or fold(value) in CANONICAL


def _beginning(value: str, names: Sequence[str]) -> list[int]:
    """Labels of which one is the other's beginning: contra, entail, sci."""
    short = fold(value)
    if len(short) < 3:
        return []
    each = [(place, fold(name)) for place, name in enumerate(names)]
    return [
        place
        for place, name in each
        if name.startswith(short) or (len(name) >= 3 and short.startswith(name))
    ]


def _number(value: str) -> int | None:
    """What a value counts: 3, 3 stars, ★★★, 3/5, LABEL_3."""
    if value and set(value) <= {"★", "⭐", "☆", "\ufe0f"}:
        return sum(character in "★⭐" for character in value)
    found = re.fullmatch(
        r"(?:(?:label|class|klasse|classe)[\s_-]*)?([-+]?\d+)\s*(?:stars?|sterne?|étoiles?|estrellas?|/\s*\d+)?",
        value,
        re.IGNORECASE,
    )
    return int(found[1]) if found else None


def _by_number(values: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int | None], str]:
    """By number from 0; or from 1, from -1, or in their order if that is what they are. With a note if it is a choice."""
    numbers = {value: number for value in values if (number := _number(value)) is not None}
    if not values or len(set(numbers.values())) < len(values):
        return {}, ""
    named = [_number(name) for name in names]
    if (
        None not in named and not is_generic(names) and set(numbers.values()) <= set(named)
    ):  # 1 star … 5 stars
        return {value: named.index(number) for value, number in numbers.items()}, ""
    shift, note = _shifted(set(numbers.values()), names)
    return (
        ({value: shift[number] for value, number in numbers.items()}, note) if shift else ({}, "")
    )


SHIFTED = "Labels are numbered otherwise than the model's; they were taken in order."


def _shifted(some: set[int], names: Sequence[str]) -> tuple[dict[int, int | None], str]:
    """(the label of each number, a note); {} if it is not certain."""
    size = len(names)
    polarity = [canonical(name) for name in names] == [
        canonical(name) for name in ("negative", "neutral", "positive")
    ]
    if (
        size == 2
        and some == {-1, 1}
        or size == 3
        and some == {-1, 0, 1}
        and (polarity or is_generic(names))
    ):
        return {number: index for index, number in enumerate(sorted(some))}, SHIFTED
    if size > 2 and -1 in some and len(some) == size:  # hidden labels, or labels counted from -1
        return {}, ""
    if some - {-1} <= set(range(size)) and not (polarity and some - {-1} == {0, 1}):
        return {number: None if number == -1 else number for number in some}, ""
    if 0 not in some and some - {-1} <= set(range(1, size + 1)):
        return {number: None if number == -1 else number - 1 for number in some}, SHIFTED
    if len(some) == size:
        return {number: index for index, number in enumerate(sorted(some))}, SHIFTED
    return {}, ""


def _by_truth(values: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int | None], str]:
    """True and false, and negative and positive for a model whose labels have no names."""
    if len(names) != 2:
        return {}, ""
    no = _denied(names)
    words = {value: fold(value) for value in values}
    if no is not None and all(word in NO | YES for word in words.values()):
        return {value: no if word in NO else 1 - no for value, word in words.items()}, ""
    usual = [
        ("negative", "positive"),
        ("notequivalent", "equivalent"),
        ("unacceptable", "acceptable"),
        ("ham", "spam"),
    ]
    for first, second in [(canonical(a), canonical(b)) for a, b in usual]:
        if is_generic(names) and all(canonical(value) in (first, second) for value in values):
            note = "The model's labels have no names; the usual order was taken."
            return {value: int(canonical(value) == second) for value in values}, note
    return {}, ""


DENIALS = ("not", "non", "no", "un", "in", "non-", "not-")


def _denied(names: Sequence[str]) -> int | None:
    """Which of two labels says no: the one that denies the other (not_duplicate, non-toxic, unacceptable), negative, or ham;
    the first of two without names. None if neither does."""
    if is_generic(names):
        return 0
    short = [fold(name) for name in names]
    for place, other in ((0, 1), (1, 0)):
        denies = short[place] in [f"{denial}{short[other]}" for denial in DENIALS]
        if denies or canonical(names[place]) in (canonical("negative"), "ham"):
            return place
    return None


def _listed(counts: Mapping[str, int], most: int = 12) -> str:
    shown = [f"{value or '(empty)'} ({n})" for value, n in list(counts.items())[:most]]
    return ", ".join(shown) + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _question(
    unknown: Sequence[str],
    counts: Mapping[str, int],
    labels: Mapping[str, int | None],
    names: Sequence[str],
    place: str,
) -> str:
    """What is not certain, both lists, and a flag to begin with: names that are free in their order, or to leave the rows out."""
    rows, whole = sum(counts[value] for value in unknown), sum(counts.values())
    proposed = _proposed(unknown, counts, labels, names=names)
    unsure = UNSURE in proposed.values()
    correct = (
        f"replace each {UNSURE} by a label, or by {OUT!r}"
        if unsure
        else "correct it if it is wrong"
    )
    return (
        f"{place}: it is not clear which label of the model {', '.join(map(repr, unknown[:6]))} means ({rows:,} of {whole:,} rows). "
        f"The file has {len(counts)} values ({_listed(counts)}), the model {len(names)} labels ({', '.join(names)}). Say it with "
        f"{to_flag(proposed)} or on the Prune page; {correct}."
    )


def _proposed(
    unknown: Sequence[str],
    counts: Mapping[str, int],
    labels: Mapping[str, int | None],
    names: Sequence[str],
) -> dict[str, str]:
    """A label for each value in question, where something speaks for it; UNSURE where nothing does."""
    free = [name for index, name in enumerate(names) if index not in labels.values()]
    rare = sum(counts[value] for value in unknown) <= RARE * sum(counts.values())
    if scale := _on_a_scale(unknown, names):
        return scale
    if len(unknown) == len(free):
        return dict(zip(unknown, free, strict=True))  # in their order
    known = any(label is not None for label in labels.values())
    return dict.fromkeys(unknown[:SHOWN], OUT if rare or known and not free else UNSURE)


def _on_a_scale(values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Ratings for a model of negative and positive: the lower half and the upper half, the middle neutral or left out."""
    meant = [canonical(name) for name in names]
    numbers = {value: number for value in values if (number := _number(value)) is not None}
    ends = [canonical(name) for name in ("negative", "positive")]
    if (
        len(set(numbers.values())) < max(3, len(values))
        or not set(ends) <= set(meant)
        or len(names) > 3
    ):
        return {}
    neutral = next((name for name in names if canonical(name) == canonical("neutral")), OUT)
    half = (min(numbers.values()) + max(numbers.values())) / 2
    side = {-1: names[meant.index(ends[0])], 0: neutral, 1: names[meant.index(ends[1])]}
    return {value: side[(number > half) - (number < half)] for value, number in numbers.items()}


def _said(labels: Mapping[str, int | None], names: Sequence[str]) -> list[str]:
    """Notes on what is not plain to see."""
    notes = []
    plain = [
        value
        for value, label in labels.items()
        if label is not None and value in (str(label), names[label])
    ]
    if len(plain) < len(labels):
        out = {"-1": "no label"}
        pairs = ", ".join(
            f"{value} is {out.get(value, OUT) if label is None else names[label]}"
            for value, label in list(labels.items())[:SHOWN]
        )
        notes.append(f"Labels: {pairs}{' …' if len(labels) > 12 else ''}.")
    absent = [name for index, name in enumerate(names) if index not in labels.values()]
    if absent and any(label is not None for label in labels.values()):
        have = [value for value, label in labels.items() if label is not None]
        notes.append(
            f"The data has {len(have)} labels ({', '.join(have[:8])}), the model {len(names)} ({', '.join(names[:8])}); "
            f"none of the rows is {', '.join(absent[:8])}."
        )
    return notes
