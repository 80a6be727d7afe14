"""Synonyms and antonyms among given words, from WordNet's own files; used only to build the neighbour table.

Words are inflected forms, WordNet knows lemmas: a pair of lemmas becomes pairs of forms with the same inflection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .neighbours import POS

_FILES = dict(zip(POS, ("noun", "verb", "adj", "adv"), strict=True))
_ANTONYM, _SIMILAR, _DERIVED, _PERTAINS = "!", "&", "+", "\\"
Pairs = dict[tuple[int, int], float]  # (smaller, larger) word index -> weight 0..1


@dataclass
class WordNet:
    """What the dictionary files say, by part of speech."""

    senses: dict[tuple[str, str], list[str]] = field(
        default_factory=dict
    )  # (pos, lemma) -> synsets, most frequent first
    members: dict[str, list[str]] = field(default_factory=dict)  # synset -> lemmas
    pointers: dict[str, list[tuple[str, str, int, int]]] = field(
        default_factory=dict
    )  # synset -> (kind, synset, from, to)


def read(folder: Path) -> WordNet:
    """Parse index.* and data.* (format: the manual page wndb(5WN)); a synset is named by its file and offset."""
    found = WordNet()
    letters = {"n": "NOUN", "v": "VERB", "a": "ADJ", "s": "ADJ", "r": "ADV"}
    for pos, name in _FILES.items():
        for line in (folder / f"index.{name}").read_text(encoding="ascii").splitlines():
            if not line.startswith(" "):
                lemma, _, count, *rest = line.split()
                found.senses[pos, lemma] = [f"{pos}{offset}" for offset in rest[-int(count) :]]
        for line in (folder / f"data.{name}").read_text(encoding="ascii").splitlines():
            if line.startswith(" "):
                continue
            fields = line.split(" | ")[0].split()
            words, synset = int(fields[3], 16), f"{pos}{fields[0]}"
            found.members[synset] = [
                word.split("(")[0].lower() for word in fields[4 : 4 + 2 * words : 2]
            ]
            rest = fields[5 + 2 * words :]
            found.pointers[synset] = [
                (kind, letters[letter] + offset, int(ends[:2], 16), int(ends[2:], 16))
                for kind, offset, letter, ends in zip(
                    *[iter(rest[: 4 * int(fields[4 + 2 * words])])] * 4, strict=True
                )
            ]
    return found


def kinds(word: str) -> int:
    """Which of POS the word can be, as bits, by lemminflect."""
    import lemminflect

    found = lemminflect.getAllLemmas(word)
    return sum(1 << bit for bit, pos in enumerate(POS) if pos in found)


@cache
def _forms(lemma: str, pos: str) -> dict[str, tuple[str, ...]]:
    """Inflection tag -> forms of a lemma."""
    import lemminflect

    return lemminflect.getAllInflections(lemma, upos=pos) or {"": (lemma,)}


class Lexicon:
    """Pairs of words that WordNet relates, weighted by how usual the senses are."""

    def __init__(self, wordnet: WordNet, words: Sequence[str]):
        import lemminflect

        self.wordnet = wordnet
        self.index = {word: place for place, word in enumerate(words)}
        self.lemmas: dict[tuple[str, str], set[str]] = defaultdict(
            set
        )  # (pos, lemma) -> its forms among the words
        for word in words:
            for pos, lemmas in lemminflect.getAllLemmas(word).items():
                for lemma in lemmas if pos in POS else ():
                    self.lemmas[pos, lemma].add(word)

    def synonyms(self) -> Pairs:
        """Words of one synset, weight one over the rarer sense's rank."""
        pairs: Pairs = {}
        for (pos, lemma), synsets in self._senses():
            for rank, synset in enumerate(synsets):
                for other in self.wordnet.members[synset]:
                    self._relate(
                        pairs,
                        pos,
                        lemma,
                        other=other,
                        weight=1 / (1 + max(rank, self._rank(pos, other, synset))),
                    )
        return pairs

    def relatives(self) -> Pairs:
        """Words of neighbouring synsets: adjectives grouped as similar, derivations, and the inflections of one lemma."""
        pairs: Pairs = {}
        for (pos, lemma), synsets in self._senses():
            for rank, synset in enumerate(synsets):
                for kind, target, source, end in self.wordnet.pointers[synset]:
                    weight = 1 / (1 + rank)
                    if kind == _SIMILAR:
                        for other in self.wordnet.members[target]:
                            self._relate(pairs, pos, lemma, other=other, weight=weight)
                    elif (
                        kind in (_DERIVED, _PERTAINS)
                        and self.wordnet.members[synset][source - 1] == lemma
                    ):
                        other = self.wordnet.members[target][end - 1]
                        if lemma in self.index and other in self.index:
                            self._add(pairs, lemma, other, weight)
        for forms in self.lemmas.values():
            for one in forms:
                for other in forms:
                    self._add(pairs, one, other, 1.0)
        return pairs

    def antonyms(self) -> Pairs:
        """Opposites, and whatever is similar to an opposite, for adjectives."""
        pairs: Pairs = {}
        for (pos, lemma), synsets in self._senses():
            for synset in synsets:
                for kind, target, source, end in self.wordnet.pointers[synset]:
                    if kind != _ANTONYM or self.wordnet.members[synset][source - 1] != lemma:
                        continue
                    self._relate(
                        pairs, pos, lemma, other=self.wordnet.members[target][end - 1], weight=1.0
                    )
                    for similar in self._similar(target):
                        self._relate(pairs, pos, lemma, other=similar, weight=1.0)
        return pairs

    def _senses(self) -> Iterator[tuple[tuple[str, str], list[str]]]:
        for key in sorted(self.lemmas):
            if key in self.wordnet.senses:
                yield key, self.wordnet.senses[key]

    def _rank(self, pos: str, lemma: str, synset: str) -> int:
        synsets = self.wordnet.senses.get((pos, lemma), [])
        return synsets.index(synset) if synset in synsets else len(synsets)

    def _similar(self, synset: str) -> list[str]:
        groups = [
            target for kind, target, _, _ in self.wordnet.pointers[synset] if kind == _SIMILAR
        ]
        return [word for group in groups for word in self.wordnet.members[group]]

    def _relate(self, pairs: Pairs, pos: str, lemma: str, other: str, weight: float) -> None:
        """Add every pair of forms of two lemmas that bear the same inflection."""
        if other == lemma or (pos, other) not in self.lemmas:
            return
        theirs = _forms(other, pos)
        for tag, forms in _forms(lemma, pos).items():
            for one in forms:
                for two in theirs.get(tag, ()):
                    self._add(pairs, one, two, weight)

    def _add(self, pairs: Pairs, one: str, two: str, weight: float) -> None:
        if one != two and one in self.index and two in self.index:
            a, b = sorted((self.index[one], self.index[two]))
            pairs[a, b] = max(weight, pairs.get((a, b), 0.0))
