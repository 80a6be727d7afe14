"""Compare the names of labels and columns: exactly, then by ever looser spelling, never merging two different names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from .label_pairs import to_text

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
    {"yes", "true", "y", "t"},
    {"no", "false", "n", "f"},
)
CANONICAL = {word: min(group, key=lambda w: (-len(w), w)) for group in _SAME for word in group}


def fold(name: str) -> str:
    """Without case, accents of Latin letters, and separators between letters: not_equivalent is Not Equivalent.

    Signs that tell names apart stay: C++, A-, <5, 1-2, and the marks of other scripts (Hindi vowels, Japanese voicing).
    """
    letters = [
        _unaccented(character)
        for character in unicodedata.normalize("NFKC", name.strip()).casefold()
    ]
    return re.sub(r"[\s_\-/.,'’:&]+", lambda found: _joint(found), "".join(letters))


def _unaccented(character: str) -> str:
    base = unicodedata.normalize("NFD", character)
    return base[0] if base[0].isascii() and base[0].isalpha() else character


def _joint(found: re.Match[str]) -> str:
    """What stays of separators: nothing between a letter and a letter or digit, else all of them."""
    around = (
        found.string[found.start() - 1 : found.start()],
        found.string[found.end() : found.end() + 1],
    )
    kinds = [unicodedata.category(each)[0] if each else "" for each in around]
    joins = all(kind and kind in "LMN" for kind in kinds) and set(kinds) != {"N"}
    return "" if joins else found[0]


def canonical(name: str) -> str:
    """`folded`, with one word for those that mean the same."""
    return CANONICAL.get(fold(name), fold(name))


LEVELS: tuple[Callable[[str], str], ...] = (
    str,
    to_text,
    str.casefold,
    fold,
    canonical,
)  # from exact to loose


def is_generic(names: Sequence[str]) -> bool:
    """Whether a model's labels have no names of their own: LABEL_0, LABEL_1 …"""
    return all(re.fullmatch(r"label\s*_?\s*\d+", name.strip(), re.IGNORECASE) for name in names)


def find(name: str, names: Sequence[str]) -> int | None:
    """The place of a name among others: exactly first, then by ever looser spelling, each level only if it merges none of
    the names. None if there is no such name."""
    for level in LEVELS:
        spelled = [level(each) for each in names]
        if len(set(spelled)) == len(names) and level(name) in spelled:
            return spelled.index(level(name))
    return None
