"""Tables for perturbations: keyboards, look-alike letters, contractions, names and templates."""

from __future__ import annotations

from functools import cache

ROW_OFFSETS = (0.0, 0.25, 0.75)  # of the rows of a keyboard, in widths of a key
KEYBOARDS = {
    "QWERTY": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "QWERTZ": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
    "AZERTY": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
    "ЙЦУКЕН": ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю"),
}
# keyboard layout by detected language; QWERTY for all others
LAYOUTS = {
    "German": "QWERTZ",
    "Czech": "QWERTZ",
    "Hungarian": "QWERTZ",
    "French": "AZERTY",
    "Russian": "ЙЦУКЕН",
}


@cache
def neighbors(layout: str) -> dict[str, str]:
    """Return the letters next to each letter of a keyboard, in its row and the adjacent rows."""
    places = {
        letter: (row, column + ROW_OFFSETS[row])
        for row, letters in enumerate(KEYBOARDS[layout])
        for column, letter in enumerate(letters)
    }
    return {
        letter: "".join(
            other
            for other, (other_row, x) in places.items()
            if other != letter and abs(other_row - row) <= 1 and abs(x - column) <= 1
        )
        for letter, (row, column) in places.items()
    }


# sequences that optical character recognition confuses
OCR = {
    **{"rn": "m", "m": "rn", "cl": "d", "d": "cl", "vv": "w", "w": "vv", "li": "h", "h": "b"},
    **{"o": "0", "O": "0", "0": "O", "l": "1", "I": "l", "1": "l", "i": "l", "e": "c", "c": "e"},
    **{"S": "5", "5": "S", "B": "8", "8": "B", "Z": "2", "g": "9", "9": "g", "n": "ri", "u": "ii"},
}

# letters whose decomposition does not contain the plain letter
PLAIN_LETTERS = {
    **{"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "œ": "oe"},
    **{"Œ": "OE", "đ": "d", "Đ": "D", "ı": "i", "ё": "е", "Ё": "Е"},
}

_NOT = "is are was were do does did has have had would could should"
_PRONOUNS = {
    "am": ("I", "'m"),
    "are": ("you we they", "'re"),
    "is": ("it he she that there", "'s"),
    "have": ("I you we they", "'ve"),
    "will": ("I you he she it we they", "'ll"),
}
CONTRACTIONS = {
    **{f"{verb} not": f"{verb}n't" for verb in _NOT.split()},
    "will not": "won't",
    "cannot": "can't",
    **{
        f"{subject} {verb}": f"{subject}{end}"
        for verb, (subjects, end) in _PRONOUNS.items()
        for subject in subjects.split()
    },
}
# 's is also a genitive and short for "has"; in tokenized text, n't is a separate word
EXPANSIONS = {
    short.replace("'", mark): long
    for long, short in CONTRACTIONS.items()
    if not short.endswith("'s")
    for mark in "'’"
} | {f"{short[:-3]} n't": long for long, short in CONTRACTIONS.items() if short.endswith("n't")}

# female and male first names, cities, countries; none of them is also a common word
NAMES = (
    "Emma Olivia Sophia Emily Laura Sarah Jessica Rachel Anna Julia Karen Linda Susan Barbara "
    "Margaret Helen Nancy Maria Alice Hannah",
    "James John Robert Michael David William Thomas Daniel Matthew Anthony Andrew Joshua Kevin "
    "Brian George Edward Peter Henry Samuel Benjamin",
    "Boston Chicago Seattle Denver Dallas Houston Philadelphia Detroit Atlanta Miami London Madrid "
    "Berlin Vienna Rome Tokyo Beijing Moscow Toronto Dublin",
    "France Germany Italy Spain Portugal Sweden Norway Poland Canada Mexico Brazil Argentina Japan "
    "India Australia Egypt Kenya Ireland Austria Belgium",
)
NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve"
EMOJI = "📌📎📅📷🕒🔹💬📝"  # neutral: no sentiment
TIME_PHRASES = ("These days", "As of today", "At the moment", "Right now")
# words with a capital letter only at the start of a sentence
FUNCTION_WORDS = (
    "a an the this that these those it its there he she they we you his her their our your my some "
    "all every each no not if when while as in on at of to for with from by but and or so what who "
    "how why where which is are was were do does did"
)
# negated praise: none of them makes a text more positive
NEGATED_PRAISE = (
    "It is not good.",
    "I would not recommend it.",
    "I did not enjoy it.",
    "I am not happy with it.",
    "It was not worth it.",
)
NEGATED_STATEMENT = "It is not true that "
