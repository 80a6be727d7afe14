"""Validity of adversarial examples: similarity to the original, added grammar errors, changed
negations and antonyms.

Computed from the two texts after the search, identically for every recipe.
"""

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
    """Add three columns to `attack_example`, filled for successful attacks only.

    `similarity`: cosine of the MiniLM vectors of original and perturbed text. `grammar`:
    LanguageTool errors in the perturbed text minus those in the original; NaN without LanguageTool.
    `meaning`: see `meaning_changes`.
    """
    rows = examples.assign(similarity=np.nan, grammar=np.nan, meaning="")
    succeeded = rows.index[rows["outcome"] == "success"]
    if len(succeeded):
        old = _joined_texts(rows.loc[succeeded], "text", "pair")
        new = _joined_texts(rows.loc[succeeded], "perturbed", "perturbed_pair")
        vectors = encode(old + new, device)
        cosines = (vectors[: len(old)] * vectors[len(old) :]).sum(1)
        rows.loc[succeeded, "similarity"] = cosines.numpy().astype(float)
        rows.loc[succeeded, "grammar"] = _errors_added(old, new)
        rows.loc[succeeded, "meaning"] = list(map(meaning_changes, old, new))
    return rows


def _joined_texts(rows: pd.DataFrame, text: str, pair: str) -> list[str]:
    """Join the texts of a pair, as either may have been changed."""
    return [
        first if second is None else f"{first} {second}"
        for first, second in zip(rows[text], rows[pair], strict=True)
    ]


def meaning_changes(text: str, perturbed: str) -> str:
    """Explain why the change may have reversed the meaning; "" if there is no evidence.

    A negation was removed (or misspelled) or added, or a word was replaced by an antonym (if
    WordNet is available).
    """
    before, after = _negations(text), _negations(perturbed)
    changed = [
        f"“{word}” was {change}"
        for words, change in ((before - after, "removed"), (after - before, "added"))
        for word in words
    ]
    swapped = [
        f"“{old}” was replaced by its antonym “{new}”"
        for old, new in _replaced(text, perturbed)
        if WORDNET.present and (opposites(old) & _lemmas(new) or opposites(new) & _lemmas(old))
    ]
    return "; ".join(changed + swapped)


def _negations(text: str) -> Counter[str]:
    return Counter(
        "n't" if word.endswith("n't") else word
        for word in _WORD.findall(text.lower().replace("’", "'"))
        if word in NEGATIONS or word.endswith("n't")
    )


def _replaced(text: str, perturbed: str) -> list[tuple[str, str]]:
    """Pairs of (old, new) words; all combinations if their numbers differ."""
    pairs: list[tuple[str, str]] = []
    for (kind, old), (following, new) in pairwise(word_diff(text, perturbed)):
        if (kind, following) != (DELETED, INSERTED):
            continue
        old_words, new_words = (
            [word.strip(punctuation).lower() for word in words.split()] for words in (old, new)
        )
        if len(old_words) == len(new_words):
            pairs += zip(old_words, new_words, strict=True)
        else:
            pairs += product(old_words, new_words)
    return pairs


@cache
def opposites(word: str) -> frozenset[str]:
    """Lemmas of a word's antonyms in any sense, and of words that WordNet lists as similar to an
    antonym.
    """
    lemmas = [
        lemma
        for synset in _wordnet().synsets(word)
        for lemma in synset.lemmas()
        if lemma.name().lower() in _lemmas(word)
    ]
    antonyms = [opposite for lemma in lemmas for opposite in lemma.antonyms()]
    similar = [
        name
        for opposite in antonyms
        for synset in opposite.synset().similar_tos()
        for name in synset.lemma_names()
    ]
    return frozenset(
        name.lower() for name in [*(opposite.name() for opposite in antonyms), *similar]
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
    """Added grammar errors per pair of texts; NaN without Java or LanguageTool, which is never
    downloaded here.
    """
    from language_tool_python import LanguageTool
    from language_tool_python.download_lt import LocalLanguageTool

    installed = LocalLanguageTool.get_latest_installed_version() if which("java") else None
    if installed is None:
        return [np.nan] * len(old)
    with LanguageTool("en-US", language_tool_download_version=installed.version_name) as tool:
        errors = {text: len(tool.check(text)) for text in dict.fromkeys(old + new)}
    return [float(errors[after] - errors[before]) for before, after in zip(old, new, strict=True)]
