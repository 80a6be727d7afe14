"""Match the label values of a file to a model's labels by name, by number or as given.

If a match is ambiguous, the user is asked; the model's predictions are never used.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import PruneError
from .label_pairs import parse_pairs, to_flag, to_text
from .spelling import CANONICAL, canonical, find, fold, is_generic

PLACEHOLDER = "?"  # placeholder in a proposal for the user to replace
SHOWN = 12  # values in a message
LEAVE_OUT = "leave out"  # pseudo-label of values whose rows are not used
RARE = 0.05  # up to this fraction of rows may have unmatched values without affecting the others
NO, YES = {"false", "no", "n", "f", "off"}, {"true", "yes", "y", "t", "on"}


class LabelQuestion(PruneError):
    """The label of a value is ambiguous.

    `counts` has the number of occurrences of each value of the column.
    """

    def __init__(self, message: str, counts: dict[str, int]):
        super().__init__(message)
        self.counts = counts


class LabelMap(NamedTuple):
    """The model's label of each value (None: rows are left out), occurrences, and notes."""

    labels: dict[str, int | None]
    counts: dict[str, int]
    notes: list[str]


def map_labels(values: Iterable[Any], names: Sequence[str], meanings: str, place: str) -> LabelMap:
    """Map each distinct value to a label of the model.

    `names` are the model's labels, `meanings` are value=label pairs given by the user, and `place`
    is the beginning of error messages. LabelQuestion if the label of a value is ambiguous.
    """
    counts = Counter(map(to_text, values))
    ordered = {
        value: counts[value]
        for value in sorted(
            counts, key=lambda value: (_number(value) is None, _number(value) or 0, value)
        )
    }
    given = {
        value: _parse_label(label, names, place) for value, label in parse_pairs(meanings).items()
    }
    remaining = [value for value in ordered if value and value not in given]
    unknown_values = [value for value in given if value not in counts]
    # if all values are mapped, it is no typo: a split may lack a value
    if unknown_values and set(remaining) - {"-1"}:
        raise PruneError(
            f"{place}: the label mapping contains {unknown_values[0]!r}, which does not occur in "
            "the data; "
            f"the values are {_format_counts(ordered)}."
        )
    matched, notes = _match(remaining, names, counts)
    labels: dict[str, int | None] = {
        value: given[value] if value in given else matched.get(value) for value in ordered if value
    }
    # -1 without a label marks a hidden label
    ambiguous = [value for value in remaining if labels[value] is None and value != "-1"]
    if ambiguous:
        occurring = {value: count for value, count in ordered.items() if value}
        raise LabelQuestion(
            _question_text(ambiguous, occurring, labels, names=names, place=place), occurring
        )
    notes += _describe(labels, names)
    if "" in counts:
        labels[""] = None
    return LabelMap(labels, ordered, notes)


def fits(values: Iterable[Any], names: Sequence[str]) -> bool:
    """Whether a column's values are labels of the model, except for up to 5% of the rows."""
    counts = Counter(filter(None, map(to_text, values)))
    matched, _ = _match(list(counts), names, counts)
    known = sum(
        count
        for value, count in counts.items()
        if matched.get(value) is not None or (value == "-1" and matched)
    )
    return bool(matched) and known >= (1 - RARE) * counts.total()


def _match(
    values: Sequence[str], names: Sequence[str], counts: Mapping[str, int]
) -> tuple[dict[str, int | None], list[str]]:
    """Return (labels of the unambiguous values, notes).

    If no rule matches all values, rare values are removed and the rules applied to the others.
    """
    matched, notes = _match_all(values, names)
    if matched or not values:
        return matched, notes
    total = sum(counts[value] for value in values)
    for rare in (_non_numeric(values), sorted(values, key=lambda value: counts[value])):
        common = list(values)
        # remove one value at a time while at most 5% of the rows are affected
        while rare and len(common) > 1:
            common.remove(rare.pop(0))
            if sum(counts[value] for value in common) < (1 - RARE) * total:
                break
            matched, notes = _match_all(common, names)
            if len(matched) == len(common):
                return matched, notes
    return {}, []


def _non_numeric(values: Sequence[str]) -> list[str]:
    """Return the values that are not numbers if most are."""
    others = [value for value in values if _number(value) is None]
    return others if 2 * len(others) < len(values) else []


def _match_all(
    values: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, int | None], list[str]]:
    """Match by name, by number, or as yes and no; {} if no rule applies."""
    by_name = _by_name(values, names)
    if by_name and (len(by_name) == len(values) or any(_number(value) is None for value in values)):
        return {**by_name, **({"-1": None} if "-1" in values else {})}, []
    numbers, note = _by_number(values, names)
    if not numbers:
        numbers, note = _by_truth(values, names)
    return numbers, [note] if note and numbers else []


def is_missing(label: str) -> bool:
    """Whether a user's label means "no label"."""
    return fold(label) in ("", "leaveout", "out")


def _parse_label(label: str, names: Sequence[str], place: str) -> int | None:
    """Return the index of a label given by name or number."""
    if (number := find(label, names)) is not None:
        return number
    if is_missing(label):
        return None
    if not (label.isdigit() and int(label) < len(names)):
        raise PruneError(
            f"{place}: the label mapping contains {label!r}, which is not a label of the model; "
            "choose one "
            f"of {', '.join(names)}, or {LEAVE_OUT!r}."
        )
    return int(label)


def _by_name(values: Sequence[str], names: Sequence[str]) -> dict[str, int | None]:
    """Match by name, at the strictest level of spelling at which a value is a label."""
    if all(_number(value) is not None for value in values) and not any(
        to_text(name).isdigit() for name in names
    ):
        return {}
    matched = {value: index for value in values if (index := find(value, names)) is not None}
    for value in [value for value in values if value not in matched and _number(value) is None]:
        matches = _prefix_matches(value, names)
        if len(matches) == 1 and matches[0] not in matched.values():
            matched[value] = matches[0]
    shared = {index for index, count in Counter(matched.values()).items() if count > 1}
    return {
        value: index
        for value, index in matched.items()
        if index not in shared or _is_certain(value, names[index])
    }


def _is_certain(value: str, name: str) -> bool:
    """Whether a value means a label even if another value does too.

    Values that differ in accents and separators may be different labels.
    """
    return value.strip().casefold() == name.strip().casefold() or fold(value) in CANONICAL


def _prefix_matches(value: str, names: Sequence[str]) -> list[int]:
    """Return the labels that begin with the value or vice versa: contra, entail, sci."""
    short = fold(value)
    if len(short) < 3:
        return []
    return [
        place
        for place, name in enumerate(map(fold, names))
        if name.startswith(short) or (len(name) >= 3 and short.startswith(name))
    ]


def _number(value: str) -> int | None:
    """Return the number in a value: 3, 3 stars, ★★★, 3/5, LABEL_3; None if there is none."""
    if value and set(value) <= {"★", "⭐", "☆", "\ufe0f"}:
        return sum(character in "★⭐" for character in value)
    match = re.fullmatch(
        r"(?:(?:label|class|klasse|classe)[\s_-]*)?"
        r"([-+]?\d+)"
        r"\s*(?:stars?|sterne?|étoiles?|estrellas?|/\s*\d+)?",
        value,
        re.IGNORECASE,
    )
    return int(match[1]) if match else None


def _by_number(values: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int | None], str]:
    """Match by number: the numbers in the labels' names, else by position (see _shifted).

    Returns a note if the match is a choice.
    """
    numbers = {value: number for value in values if (number := _number(value)) is not None}
    if not values or len(set(numbers.values())) < len(values):
        return {}, ""
    name_numbers = [_number(name) for name in names]  # 1 star … 5 stars
    has_numbers = None not in name_numbers and not is_generic(names)
    if has_numbers and set(numbers.values()) <= set(name_numbers):
        return {value: name_numbers.index(number) for value, number in numbers.items()}, ""
    label_of, note = _shifted(set(numbers.values()), names)
    return {value: label_of[number] for value, number in numbers.items() if label_of}, note


SHIFTED = "Labels are numbered differently from the model's; they were matched in order."


def _shifted(numbers: set[int], names: Sequence[str]) -> tuple[dict[int, int | None], str]:
    """Return (label of each number, a note): counted from 0, from 1, from -1, or in order.

    {} if it is ambiguous.
    """
    size = len(names)
    has_polarity = [*map(canonical, names)] == [
        *map(canonical, ("negative", "neutral", "positive"))
    ]
    in_order: dict[int, int | None] = {
        number: index for index, number in enumerate(sorted(numbers))
    }
    if (size == 2 and numbers == {-1, 1}) or (
        size == 3 and numbers == {-1, 0, 1} and (has_polarity or is_generic(names))
    ):
        return in_order, SHIFTED
    if size > 2 and -1 in numbers and len(numbers) == size:
        return {}, ""  # -1 marks hidden labels, or labels are counted from -1
    visible = numbers - {-1}
    hidden: dict[int, int | None] = {-1: None} if -1 in numbers else {}
    if visible <= set(range(size)) and not (has_polarity and visible == {0, 1}):
        return hidden | {number: number for number in visible}, ""
    if 0 not in numbers and visible <= set(range(1, size + 1)):
        return hidden | {number: number - 1 for number in visible}, SHIFTED
    return (in_order, SHIFTED) if len(numbers) == size else ({}, "")


def _by_truth(values: Sequence[str], names: Sequence[str]) -> tuple[dict[str, int | None], str]:
    """Match true/false; and negative/positive to a model whose labels have no names."""
    if len(names) != 2:
        return {}, ""
    negative = _denied(names)
    words = {value: fold(value) for value in values}
    if negative is not None and all(word in NO | YES for word in words.values()):
        return {
            value: negative if word in NO else 1 - negative for value, word in words.items()
        }, ""
    usual = [
        ("negative", "positive"),
        ("notequivalent", "equivalent"),
        ("unacceptable", "acceptable"),
        ("ham", "spam"),
    ]
    for first, second in [(canonical(a), canonical(b)) for a, b in usual]:
        if is_generic(names) and all(canonical(value) in (first, second) for value in values):
            note = "The model's labels have no names; the usual order was assumed."
            return {value: int(canonical(value) == second) for value in values}, note
    return {}, ""


DENIALS = ("not", "non", "no", "un", "in", "non-", "not-")


def _denied(names: Sequence[str]) -> int | None:
    """Return which of two labels means "no", None if neither does.

    The one that denies the other (not_duplicate, non-toxic, unacceptable), negative, or ham; the
    first if labels have no names.
    """
    if is_generic(names):
        return 0
    short = [fold(name) for name in names]
    for place, other in ((0, 1), (1, 0)):
        denies = short[place] in [f"{denial}{short[other]}" for denial in DENIALS]
        if denies or canonical(names[place]) in (canonical("negative"), "ham"):
            return place
    return None


def _format_counts(counts: Mapping[str, int]) -> str:
    shown = [f"{value or '(empty)'} ({count})" for value, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def _question_text(
    ambiguous: Sequence[str],
    counts: Mapping[str, int],
    labels: Mapping[str, int | None],
    names: Sequence[str],
    place: str,
) -> str:
    """Message with the ambiguous values, both lists, and a `--labels` flag to start from."""
    rows, total = sum(counts[value] for value in ambiguous), sum(counts.values())
    proposal = _propose(ambiguous, counts, labels, names=names)
    instruction = (
        f"replace each {PLACEHOLDER} by a label, or by {LEAVE_OUT!r}"
        if PLACEHOLDER in proposal.values()
        else "correct it if it is wrong"
    )
    return (
        f"{place}: it is not clear which label of the model {', '.join(map(repr, ambiguous[:6]))} "
        f"means ({rows:,} of {total:,} rows). The file has {len(counts)} values "
        f"({_format_counts(counts)}), the model {len(names)} labels ({', '.join(names)}). "
        f"Set it with {to_flag(proposal)} or on the Prune page; {instruction}."
    )


def _propose(
    ambiguous: Sequence[str],
    counts: Mapping[str, int],
    labels: Mapping[str, int | None],
    names: Sequence[str],
) -> dict[str, str]:
    """Propose a label for each ambiguous value; PLACEHOLDER if there is no evidence."""
    free = [name for index, name in enumerate(names) if index not in labels.values()]
    if ratings := _propose_ratings(ambiguous, names):
        return ratings
    if len(ambiguous) == len(free):
        return dict(zip(ambiguous, free, strict=True))  # in their order
    is_rare = sum(counts[value] for value in ambiguous) <= RARE * sum(counts.values())
    is_extra = not free and any(label is not None for label in labels.values())
    return dict.fromkeys(ambiguous[:SHOWN], LEAVE_OUT if is_rare or is_extra else PLACEHOLDER)


def _propose_ratings(values: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Propose labels of ratings for a negative/positive model.

    The lower half is negative, the upper half positive, the middle neutral or left out.
    """
    by_meaning = {canonical(name): name for name in reversed(names)}
    negative, neutral, positive = map(canonical, ("negative", "neutral", "positive"))
    numbers = {value: number for value in values if (number := _number(value)) is not None}
    is_scale = len(set(numbers.values())) >= max(3, len(values))
    if not is_scale or not {negative, positive} <= set(by_meaning) or len(names) > 3:
        return {}
    middle = (min(numbers.values()) + max(numbers.values())) / 2
    by_sign = {
        -1: by_meaning[negative],
        0: by_meaning.get(neutral, LEAVE_OUT),
        1: by_meaning[positive],
    }
    return {
        value: by_sign[(number > middle) - (number < middle)] for value, number in numbers.items()
    }


def _describe(labels: Mapping[str, int | None], names: Sequence[str]) -> list[str]:
    """Notes on label matches that are not self-evident, and on labels that do not occur."""
    notes = []
    evident = [
        value
        for value, label in labels.items()
        if label is not None and value in (str(label), names[label])
    ]
    if len(evident) < len(labels):
        shown = {
            value: names[label] if label is not None else {"-1": "no label"}.get(value, LEAVE_OUT)
            for value, label in list(labels.items())[:SHOWN]
        }
        pairs = ", ".join(f"{value} is {name}" for value, name in shown.items())
        notes.append(f"Labels: {pairs}{' …' if len(labels) > SHOWN else ''}.")
    absent = [name for index, name in enumerate(names) if index not in labels.values()]
    if absent and any(label is not None for label in labels.values()):
        present = [value for value, label in labels.items() if label is not None]
        notes.append(
            f"The data has {len(present)} labels ({', '.join(present[:8])}), the model "
            f"{len(names)} "
            f"({', '.join(names[:8])}); no row has the label {', '.join(absent[:8])}."
        )
    return notes
