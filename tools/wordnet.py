"""Synonyms and antonyms among given words, from WordNet via NLTK.

The words are inflected forms and WordNet contains lemmas: a pair of lemmas becomes the pairs of
their forms with equal inflection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import lemminflect

from prune_core.attacks.neighbours import POS
from prune_core.attacks.resources import provide_wordnet

LETTERS = dict(zip(POS, "nvar", strict=True))
Pairs = dict[tuple[int, int], float]  # (smaller, larger) word index -> weight 0..1


def parts_of_speech(word: str) -> int:
    """Return the possible parts of speech of a word as bits of POS, by lemminflect."""
    lemmas = lemminflect.getAllLemmas(word)
    return sum(1 << bit for bit, pos in enumerate(POS) if pos in lemmas)


@cache
def _forms(lemma: str, pos: str) -> dict[str, tuple[str, ...]]:
    """Return the forms of a lemma by inflection tag (Penn Treebank)."""
    return lemminflect.getAllInflections(lemma, upos=pos) or {"": (lemma,)}


@cache
def _senses(lemma: str, pos: str) -> list[Any]:
    """Return the synsets of exactly this lemma, the most frequent first."""
    from nltk.corpus import wordnet

    # NLTK also returns synsets of base forms: glass for glasses
    synsets = wordnet.synsets(lemma, LETTERS[pos])
    return [synset for synset in synsets if lemma in _names(synset)]


@cache
def _names(synset: Any) -> list[str]:
    return [name.lower() for name in synset.lemma_names()]


def _name(lemma: Any) -> str:
    return lemma.name().lower()


class Lexicon:
    """Pairs of words related in WordNet, weighted by the frequency of the senses."""

    def __init__(self, words: Sequence[str]):
        provide_wordnet()
        self.index = {word: place for place, word in enumerate(words)}
        self.lemmas: dict[tuple[str, str], set[str]] = defaultdict(set)  # (lemma, pos) -> forms
        for word in words:
            for pos, lemmas in lemminflect.getAllLemmas(word).items():
                for lemma in lemmas if pos in POS else ():
                    self.lemmas[lemma, pos].add(word)

    def synonyms(self) -> Pairs:
        """Return pairs of words in one synset; the weight is 1 / the rank of the rarer sense."""
        pairs: Pairs = {}
        for lemma, pos, rank, synset in self._all_senses():
            for other in _names(synset):
                senses = _senses(other, pos)
                other_rank = senses.index(synset) if synset in senses else len(senses)
                weight = 1 / (1 + max(rank, other_rank))
                self._relate(pairs, pos, lemma, other=other, weight=weight)
        return pairs

    def relatives(self) -> Pairs:
        """Return pairs of similar adjectives, derivations, and inflections of one lemma."""
        pairs: Pairs = {}
        for lemma, pos, rank, synset in self._all_senses():
            weight = 1 / (1 + rank)
            for similar in synset.similar_tos():
                for other in _names(similar):
                    self._relate(pairs, pos, lemma, other=other, weight=weight)
            for sense in synset.lemmas():
                if _name(sense) == lemma:
                    for other in sense.derivationally_related_forms() + sense.pertainyms():
                        self._add(pairs, lemma, _name(other), weight)
        for forms in self.lemmas.values():
            for first in forms:
                for second in forms:
                    self._add(pairs, first, second, 1.0)
        return pairs

    def antonyms(self) -> Pairs:
        """Return pairs of antonyms, and for adjectives also words similar to an antonym."""
        pairs: Pairs = {}
        for lemma, pos, _, synset in self._all_senses():
            for sense in synset.lemmas():
                for opposite in sense.antonyms() if _name(sense) == lemma else ():
                    others = [_name(opposite)]
                    for similar in opposite.synset().similar_tos():
                        others += _names(similar)
                    for other in others:
                        self._relate(pairs, pos, lemma, other=other, weight=1.0)
        return pairs

    def _all_senses(self) -> Iterator[tuple[str, str, int, Any]]:
        """Yield (lemma, part of speech, rank of the sense from 0, synset) in a fixed order."""
        for lemma, pos in sorted(self.lemmas, key=lambda key: key[::-1]):
            for rank, synset in enumerate(_senses(lemma, pos)):
                yield lemma, pos, rank, synset

    def _relate(self, pairs: Pairs, pos: str, lemma: str, other: str, weight: float) -> None:
        """Add every pair of forms of two lemmas that have the same inflection."""
        if other == lemma or (other, pos) not in self.lemmas:
            return
        other_forms = _forms(other, pos)
        for tag, forms in _forms(lemma, pos).items():
            for form in forms:
                for other_form in other_forms.get(tag, ()):
                    self._add(pairs, form, other_form, weight)

    def _add(self, pairs: Pairs, first: str, second: str, weight: float) -> None:
        if first != second and first in self.index and second in self.index:
            smaller, larger = sorted((self.index[first], self.index[second]))
            pairs[smaller, larger] = max(weight, pairs.get((smaller, larger), 0.0))
