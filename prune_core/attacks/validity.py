"""Does a changed text still say what the original said? Similarity, grammar errors added, negations and opposites touched.

Judged from the two texts alone, after the search, alike for every recipe. Knows nothing of the models under attack.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import pairwise, product
from shutil import which
from string import punctuation
from typing import Any

import numpy as np
import pandas as pd
import torch

from .changed_words import DELETED, INSERTED, word_diff
from .requirements import WORDNET
from .resources import provide_wordnet
from .sentence_similarity import encode

NEGATIONS = {
    "barely",
    "cannot",
    "hardly",
    "neither",
    "never",
    "no",
    "nobody",
    "none",
    "nor",
    "not",
    "nothing",
    "nowhere",
    "scarcely",
    "without",
}
_WORD = re.compile(r"[\w'’]+")
_BASES = "nvar"  # WordNet's parts of speech


def add_validity(examples: pd.DataFrame, device: torch.device) -> pd.DataFrame:
    """Rows of `attack_example` with three columns more, which speak of successes only:

    `similarity` (cosine of the MiniLM vectors of original and changed text), `grammar` (errors that LanguageTool finds in the
    changed text minus those in the original; NaN where LanguageTool is not there) and `meaning` (see `meaning`).
    """
    out = examples.assign(similarity=np.nan, grammar=np.nan, meaning="")
    won = out.index[out["outcome"] == "success"]
    if len(won):
        old, new = (
            _whole(out.loc[won], *columns)
            for columns in (("text", "pair"), ("perturbed", "perturbed_pair"))
        )
        vectors = encode(old + new, device)
        out.loc[won, "similarity"] = (
            (vectors[: len(old)] * vectors[len(old) :]).sum(1).numpy().astype(float)
        )
        out.loc[won, "grammar"] = _errors_added(old, new)
        out.loc[won, "meaning"] = [meaning_changes(*both) for both in zip(old, new, strict=True)]
    return out


def _whole(rows: pd.DataFrame, text: str, pair: str) -> list[str]:
    """Both sentences of a pair as one text, as any of them may have been changed."""
    return [
        first if second is None else f"{first} {second}"
        for first, second in zip(rows[text], rows[pair], strict=True)
    ]


def meaning_changes(text: str, perturbed: str) -> str:
    """Why the change may have turned the meaning round, "" where nothing says so: a negation is gone or new (a misspelt one
    is gone), or a word gave way to its opposite (looked up where WordNet is there)."""
    was, now = _negations(text), _negations(perturbed)
    changed = [
        f"“{word}” is {told}"
        for words, told in ((was - now, "gone"), (now - was, "new"))
        for word in words
    ]
    swapped = [
        f"“{old}” became its opposite “{new}”"
        for old, new in _replaced(text, perturbed)
        if _are_opposite(old, new)
    ]
    return "; ".join(changed + swapped)


def _negations(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower().replace("’", "'"))
    return Counter(
        "n't" if word.endswith("n't") else word
        for word in words
        if word in NEGATIONS or word.endswith("n't")
    )


def _replaced(text: str, perturbed: str) -> list[tuple[str, str]]:
    """(old, new) words, side by side where as many came as went, else every old one with every new one."""
    found: list[tuple[str, str]] = []
    for (kind, old), (following, new) in pairwise(word_diff(text, perturbed)):
        if (kind, following) == (DELETED, INSERTED):
            ours, theirs = (
                [word.strip(punctuation).lower() for word in words.split()] for words in (old, new)
            )
            found += (
                zip(ours, theirs, strict=True)
                if len(ours) == len(theirs)
                else product(ours, theirs)
            )
    return found


def _are_opposite(one: str, other: str) -> bool:
    return WORDNET.present and bool(
        opposites(one) & _lemmas(other) or opposites(other) & _lemmas(one)
    )


@cache
def opposites(word: str) -> frozenset[str]:
    """Lemmas that WordNet calls a word's antonyms in any sense, and those it calls similar to an antonym."""
    own = [
        lemma
        for synset in _wordnet().synsets(word)
        for lemma in synset.lemmas()
        if lemma.name().lower() in _lemmas(word)
    ]
    against = [opposite for lemma in own for opposite in lemma.antonyms()]
    similar = [
        name
        for opposite in against
        for synset in opposite.synset().similar_tos()
        for name in synset.lemma_names()
    ]
    return frozenset(
        name.lower() for name in [*(opposite.name() for opposite in against), *similar]
    )


@cache
def _lemmas(word: str) -> frozenset[str]:
    return frozenset(base for part in _BASES if (base := _wordnet().morphy(word, part)))


@cache
def _wordnet() -> Any:
    provide_wordnet()
    from nltk.corpus import wordnet

    return wordnet


def _errors_added(old: list[str], new: list[str]) -> list[float]:
    """A float a pair of texts; NaN without Java or without LanguageTool's files, which are never fetched from here."""
    from language_tool_python import LanguageTool
    from language_tool_python.download_lt import LocalLanguageTool

    installed = LocalLanguageTool.get_latest_installed_version() if which("java") else None
    if installed is None:
        return [np.nan] * len(old)
    with LanguageTool("en-US", language_tool_download_version=installed.version_name) as tool:
        errors = {text: len(tool.check(text)) for text in dict.fromkeys(old + new)}
    return [float(errors[b] - errors[a]) for a, b in zip(old, new, strict=True)]
