"""Everyday noise: typos, OCR errors, spellings and templates that a model should tolerate.

There is no search and no model. A perturbation lists the possible changes of a text, and `perturb`
applies a seeded sample of them. The behavioral tests follow CheckList (Ribeiro et al. 2020): most
perturbations should not change the prediction; a directional one has another expectation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import NamedTuple

from .noise_words import (
    CONTRACTIONS,
    EMOJI,
    EXPANSIONS,
    FUNCTION_WORDS,
    LAYOUTS,
    NAMES,
    NEGATED_PRAISE,
    NEGATED_STATEMENT,
    NUMBER_WORDS,
    OCR,
    PLAIN_LETTERS,
    TIME_PHRASES,
    neighbors,
)

# fraction of the possible changes that are made, at least one
STRENGTHS = {"light": 0.1, "medium": 0.25, "heavy": 0.5}
SAME, LESS_POSITIVE, NOT_ENTAILED = "same prediction", "not more positive", "not entailed"
EMOJI_COUNT = 6  # at most half of them are appended
WORD = re.compile("[A-Za-zÀ-ɏͰ-ϿЀ-ӿḀ-ỿ\u0300-\u036f]+")  # Latin, Greek and Cyrillic
JOINT = "\n\x1f\n"  # separates two texts in which a name is replaced consistently


class Replacement(NamedTuple):
    """Characters start to end of a text are replaced by `text`."""

    start: int
    end: int
    text: str


Change = tuple[Replacement, ...]  # made together


@dataclass(frozen=True)
class Perturbation:
    """A kind of noise; `changes` maps (text, rng, language) to the possible changes of a text."""

    name: str
    changes: Callable[[str, Random, str], list[Change]]
    only_english: bool = False
    keeps_words: bool = False  # whether words stay separate and in place, for labels of words
    changes_both: bool = False  # whether both texts of a pair must change together
    expects: str = SAME


def perturb(
    perturbation: Perturbation, text: str, rng: Random, *, strength: float, language: str = ""
) -> str:
    """Return the text with a fraction `strength` of the possible changes, at least one.

    Return the text unchanged if no change is possible. `language` is its name, "" for English.
    """
    if not text.strip() or (perturbation.only_english and language):
        return text
    changes = perturbation.changes(text, rng, language)
    count = ceil(strength * len(changes))
    occupied: set[int] = set()
    chosen: list[Replacement] = []
    for change in rng.sample(changes, len(changes)):
        places = {place for start, end, _ in change for place in range(start, end)}
        if count and occupied.isdisjoint(places):
            count -= 1
            occupied |= places
            chosen += change
    noisy = text
    for start, end, new in sorted(chosen, reverse=True):
        noisy = noisy[:start] + new + noisy[end:]
    return noisy if noisy.strip() else text


def perturb_texts(
    perturbation: Perturbation,
    texts: Sequence[str],
    places: Sequence[int],
    *,
    rng: Random,
    strength: float,
    language: str = "",
) -> tuple[str, ...]:
    """Return the texts of an example, with those at `places` perturbed.

    Names are replaced in all texts; a negated statement replaces the last text of a pair.
    """
    if perturbation.changes_both:
        noisy = perturb(perturbation, JOINT.join(texts), rng, strength=strength, language=language)
        return tuple(noisy.split(JOINT))
    if perturbation.expects == NOT_ENTAILED:
        places = (len(texts) - 1,)
    return tuple(
        perturb(perturbation, text, rng, strength=strength, language=language)
        if place in places
        else text
        for place, text in enumerate(texts)
    )


def _like(word: str, new: str) -> str:
    """Return `new` with the case of a word: all capitals, a capital first letter, or lower."""
    if word.isupper() and len(word) > 1:
        return new.upper()
    return new[:1].upper() + new[1:] if word[:1].isupper() else new.lower()


def _one_per_word(text: str, edit: Callable[[str], str | None], least: int = 1) -> list[Change]:
    """Return a change for each word of at least `least` letters that `edit` changes."""
    found = ((match, edit(match[0])) for match in WORD.finditer(text) if len(match[0]) >= least)
    return [(Replacement(*match.span(), new),) for match, new in found if new and new != match[0]]


def _keyboard(text: str, rng: Random, language: str) -> list[Change]:
    """Replace a letter of a word by one next to it on the keyboard."""
    near = neighbors(LAYOUTS.get(language, "QWERTY"))

    def edit(word: str) -> str | None:
        places = [place for place, letter in enumerate(word) if letter.lower() in near]
        if not places:
            return None
        place = rng.choice(places)
        new = rng.choice(near[word[place].lower()])
        return word[:place] + (new.upper() if word[place].isupper() else new) + word[place + 1 :]

    return _one_per_word(text, edit, least=3)


def _letters(text: str, rng: Random, language: str) -> list[Change]:
    """Swap two inner letters of a word, leave one out or repeat one."""

    def edit(word: str) -> str:
        place = rng.randrange(1, len(word) - 2)
        first, second = word[place], word[place + 1]
        middle = rng.choice((second + first, second, first + first + second))
        return word[:place] + middle + word[place + 2 :]

    return _one_per_word(text, edit, least=4)


def _casing(text: str, rng: Random, language: str) -> list[Change]:
    """Write a word in lower case if it has capitals, else in capitals."""
    return _one_per_word(text, lambda word: word.upper() if word.islower() else word.lower())


def _diacritics(text: str, rng: Random, language: str) -> list[Change]:
    """Remove the diacritics of a word: é becomes e, ß becomes ss, ё becomes е."""
    return _one_per_word(text, lambda word: "".join(map(_plain, word)))


def _plain(letter: str) -> str:
    is_cyrillic = "Ѐ" <= letter <= "ӿ"  # й is a separate letter
    if letter in PLAIN_LETTERS or is_cyrillic:
        return PLAIN_LETTERS.get(letter, letter)
    decomposed = unicodedata.normalize("NFD", letter)
    return "".join(each for each in decomposed if not unicodedata.combining(each))


_CONFUSED = re.compile("|".join(sorted(OCR, key=len, reverse=True)))


def _ocr(text: str, rng: Random, language: str) -> list[Change]:
    """Confuse letters and digits that look alike, one for each word or number."""
    changes: list[Change] = []
    for word in re.finditer(r"\w+", text):
        if found := list(_CONFUSED.finditer(text, word.start(), word.end())):
            match = rng.choice(found)
            changes.append((Replacement(*match.span(), OCR[match[0]]),))
    return changes


def _replaced(pattern: re.Pattern[str], text: str, new: Callable[[str], str]) -> list[Change]:
    """Return a change for each match that `new` changes."""
    return [
        (Replacement(*match.span(), new(match[0])),)
        for match in pattern.finditer(text)
        if new(match[0]) != match[0]
    ]


_MARKS = re.compile(r"[.,;:!?]+(?=\s|$)|[。，！？；：]+")  # not inside numbers and addresses


def _punctuation(text: str, rng: Random, language: str) -> list[Change]:
    """Leave out a punctuation mark or repeat it three times."""
    return [
        (Replacement(*match.span(), rng.choice(("", match[0][0] * 3))),)
        for match in _MARKS.finditer(text)
    ]


def _any_of(words: dict[str, str], after: str) -> re.Pattern[str]:
    longest = sorted(map(re.escape, words), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(longest)}){after}", re.IGNORECASE)


_LONG = _any_of(CONTRACTIONS, r"(?=\s\w)")  # not at the end: "I know what it is."
_SHORT = _any_of(EXPANSIONS, r"\b")
_SHORTER, _LONGER = (
    {key.lower(): value for key, value in words.items()} for words in (CONTRACTIONS, EXPANSIONS)
)


def _contractions(text: str, rng: Random, language: str) -> list[Change]:
    """Contract words or write contracted ones out: "is not", "isn't"."""

    def contracted(found: str) -> str:
        return _like(found, _SHORTER[found.lower()])

    def expanded(found: str) -> str:
        return _like(found, _LONGER[found.lower()])

    return [*_replaced(_LONG, text, contracted), *_replaced(_SHORT, text, expanded)]


_GAP = re.compile(r"(?<=\S) (?=\S)")


def _spacing(text: str, rng: Random, language: str) -> list[Change]:
    """Double the space between two words, or leave it out."""
    return [(Replacement(*gap.span(), rng.choice(("  ", ""))),) for gap in _GAP.finditer(text)]


def _emoji(text: str, rng: Random, language: str) -> list[Change]:
    """Append neutral emoji."""
    end = len(text)
    return [(Replacement(end, end, f" {rng.choice(EMOJI)}"),) for _ in range(EMOJI_COUNT)]


_SMALL = NUMBER_WORDS.split()
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w]|[.,]\d)")
_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(_SMALL[2:])})\b", re.IGNORECASE)


def _numbers(text: str, rng: Random, language: str) -> list[Change]:
    """Write numbers in another format: thousands, decimals, and small ones as words in English."""
    changes = _replaced(_NUMBER, text, lambda number: _number(number, is_english=not language))
    if not language:
        changes += _replaced(_NUMBER_WORD, text, lambda word: str(_SMALL.index(word.lower())))
    return changes


def _number(number: str, is_english: bool) -> str:
    group, decimal = (",", ".") if is_english else (".", ",")
    if re.fullmatch(rf"\d{{1,3}}(?:{re.escape(group)}\d{{3}})+", number):
        return number.replace(group, "")
    if number.isdecimal():
        value = int(number)
        if is_english and value < len(_SMALL):
            return _SMALL[value]
        is_year = len(number) == 4 and 1000 <= value < 2100
        grouped = f"{value:,}".replace(",", group)
        return number if is_year or number.startswith("0") else grouped
    # 3.5 as 3.50: the decimal point of the language stays
    return f"{number}0" if re.fullmatch(rf"\d+{re.escape(decimal)}\d", number) else number


_GROUPS = [group.split() for group in NAMES]
_PERSONS = _GROUPS[:2]
_NAME = re.compile(rf"\b(?:{'|'.join(name for group in _GROUPS for name in group)})\b")


def _names(text: str, rng: Random, language: str) -> list[Change]:
    """Replace a person, city or country by another one in all its mentions.

    In pairs only persons: the second text may say in which country the city of the first one is.
    """
    mentions: dict[str, list[re.Match[str]]] = {}
    for match in _NAME.finditer(text):
        mentions.setdefault(match[0], []).append(match)
    changes: list[Change] = []
    for name, matches in mentions.items():
        group = next(group for group in _GROUPS if name in group)
        if JOINT in text and group not in _PERSONS:
            continue
        if others := [other for other in group if other not in mentions]:
            new = rng.choice(others)
            changes.append(tuple(Replacement(*match.span(), new) for match in matches))
    return changes


_SENTENCE = re.compile(r"(?:^|(?<=[.!?])\s+)(\w+)")


def _time(text: str, rng: Random, language: str) -> list[Change]:
    """Begin a sentence with a time phrase: "These days, ..."."""
    return [
        (
            Replacement(
                match.start(1), match.end(1), f"{rng.choice(TIME_PHRASES)}, {_inside(match[1])}"
            ),
        )
        for match in _SENTENCE.finditer(text)
    ]


_FUNCTION_WORDS = frozenset(FUNCTION_WORDS.split())


def _inside(word: str) -> str:
    """Return the first word of a sentence as it is written inside a sentence."""
    return word.lower() if word.lower() in _FUNCTION_WORDS else word


def _negation(text: str, rng: Random, language: str) -> list[Change]:
    """Append negated praise, such as "It is not good."."""
    end = len(text.rstrip())
    stop = "" if text[:end].endswith((".", "!", "?")) else "."
    return [(Replacement(end, len(text), f"{stop} {rng.choice(NEGATED_PRAISE)}"),)]


def _negated_statement(text: str, rng: Random, language: str) -> list[Change]:
    """Negate a statement: "It is not true that ..."."""
    match = re.match(r"\s*(\w+)", text)
    if match is None:
        return []
    return [(Replacement(*match.span(1), NEGATED_STATEMENT + _inside(match[1])),)]


PERTURBATIONS: dict[str, Perturbation] = {
    each.name: each
    for each in (
        Perturbation("keyboard typos", _keyboard, keeps_words=True),
        Perturbation("letter slips", _letters, keeps_words=True),
        Perturbation("OCR errors", _ocr, keeps_words=True),
        Perturbation("casing", _casing, keeps_words=True),
        Perturbation("diacritics removed", _diacritics, keeps_words=True),
        Perturbation("punctuation", _punctuation),
        Perturbation("spacing", _spacing),
        Perturbation("contractions", _contractions, only_english=True),
        Perturbation("number formats", _numbers),
        Perturbation("emoji", _emoji),
        Perturbation("names swapped", _names, only_english=True, changes_both=True),
        Perturbation("time phrases", _time, only_english=True),
        Perturbation("negated praise", _negation, only_english=True, expects=LESS_POSITIVE),
        Perturbation(
            "negated statement", _negated_statement, only_english=True, expects=NOT_ENTAILED
        ),
    )
}
