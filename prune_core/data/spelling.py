"""Match names of labels and columns: exactly, then by ever looser spelling.

A level is used only if it does not merge two different names.
"""

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
CANONICAL = {
    word: min(group, key=lambda name: (-len(name), name)) for group in _SAME for word in group
}


def fold(name: str) -> str:
    """Remove case, accents of Latin letters, and separators: not_equivalent equals Not Equivalent.

    Characters that distinguish names remain: C++, A-, <5, 1-2, and the marks of other scripts
    (Hindi vowels, Japanese voicing).
    """
    letters = [
        _strip_accent(character)
        for character in unicodedata.normalize("NFKC", name.strip()).casefold()
    ]
    return re.sub(r"[\s_\-/.,'’:&]+", _join, "".join(letters))


def _strip_accent(character: str) -> str:
    base = unicodedata.normalize("NFD", character)
    return base[0] if base[0].isascii() and base[0].isalpha() else character


def _join(match: re.Match[str]) -> str:
    """Remove separators between two letters or a letter and a digit; keep others."""
    around = (
        match.string[match.start() - 1 : match.start()],
        match.string[match.end() : match.end() + 1],
    )
    kinds = [unicodedata.category(character)[0] if character else "" for character in around]
    joins = all(kind and kind in "LMN" for kind in kinds) and set(kinds) != {"N"}
    return "" if joins else match[0]


def canonical(name: str) -> str:
    """Fold a name and replace synonyms by one word."""
    return CANONICAL.get(fold(name), fold(name))


# from exact to loose
LEVELS: tuple[Callable[[str], str], ...] = (
    str,
    to_text,
    str.casefold,
    fold,
    canonical,
)


def is_generic(names: Sequence[str]) -> bool:
    """Whether a model's labels have no real names: LABEL_0, LABEL_1 …"""
    return all(re.fullmatch(r"label\s*_?\s*\d+", name.strip(), re.IGNORECASE) for name in names)


def find(name: str, names: Sequence[str]) -> int | None:
    """Return the index of a name among `names`, None if it is missing.

    Tries exact spelling first, then looser levels, each only if it does not merge any of the names.
    """
    for level in LEVELS:
        spelled = [level(candidate) for candidate in names]
        if len(set(spelled)) == len(names) and level(name) in spelled:
            return spelled.index(level(name))
    return None
