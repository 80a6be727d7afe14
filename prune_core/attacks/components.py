"""Replacements for TextAttack's downloads and its missing file.

Word vectors, parts of speech, homoglyphs, names and places, and WordNet synonyms.
"""

from collections.abc import Iterator, Sequence
from functools import cache

from .neighbours import Neighbours, load
from .resources import load_textattack, provide_wordnet, stopwords
from .rewritings import LOOK_ALIKES

load_textattack()
from textattack.constraints import Constraint  # noqa: E402
from textattack.shared import AbstractWordEmbedding, AttackedText  # noqa: E402
from textattack.shared.data import NAMED_ENTITIES, PERSON_NAMES  # noqa: E402
from textattack.transformations import (  # noqa: E402
    WordSwapChangeLocation,
    WordSwapChangeName,
    WordSwapChangeNumber,
    WordSwapWordNet,
)
from textattack.transformations.word_swaps import WordSwap  # noqa: E402


class NeighbourVectors(AbstractWordEmbedding):
    """The bundled neighbor table with the interface of TextAttack's word vectors."""

    def __init__(self, table: Neighbours):
        self.table = table

    def __getitem__(self, index: str | int) -> None:
        return None  # the table has no vectors

    def word2index(self, word: str) -> int:
        """Index of a word; KeyError if unknown."""
        return self.table.index[word]

    def index2word(self, index: int) -> str:
        """Word at an index."""
        return self.table.words[index]

    def nearest_neighbours(self, index: int, topn: int) -> list[int]:
        """Indices of the nearest words."""
        return self.table.places(index)[:topn]

    def get_cos_sim(self, a: int, b: int) -> float:
        """Cosine similarity; 0 if neither word is a neighbor of the other."""
        return self.table.similarity(a, b)

    def get_mse_dist(self, a: int, b: int) -> float:
        """Squared distance of unit vectors with that cosine."""
        return 2 - 2 * self.table.similarity(a, b)


class SamePartOfSpeech(Constraint):
    """A swapped word must share a part of speech with the original.

    With `loose`, nouns and verbs can replace each other.
    """

    def __init__(self, table: Neighbours, loose: bool):
        super().__init__(compare_against_original=True)
        self.table, self.loose = table, loose

    def _check_constraint(
        self, transformed_text: AttackedText, reference_text: AttackedText
    ) -> bool:
        return all(
            self._kinds(transformed_text.words[i]) & self._kinds(reference_text.words[i])
            for i in transformed_text.attack_attrs["newly_modified_indices"]
        )

    def _kinds(self, word: str) -> int:
        index = self.table.index.get(word.lower())
        kinds = 0 if index is None else int(self.table.pos[index])
        # POS: bit 0 is NOUN, bit 1 VERB
        return kinds | 0b11 if self.loose and kinds & 0b11 else kinds


class HomoglyphSwap(WordSwap):
    """Replace one letter at a time with a look-alike, TextBugger's fourth type of bug."""

    def _get_replacement_words(self, word: str) -> list[str]:
        return [
            word[:i] + LOOK_ALIKES[letter] + word[i + 1 :]
            for i, letter in enumerate(word)
            if letter in LOOK_ALIKES
        ]


@cache
def _listed(names: str) -> frozenset[str]:
    """A list of names of TextAttack without those that are also ordinary words, such as Will."""
    ordinary = {*stopwords(), *load().words}
    return frozenset(
        name for name in {**PERSON_NAMES, **NAMED_ENTITIES}[names] if name.lower() not in ordinary
    )


@cache
def _places() -> frozenset[str]:
    # countries are not filtered: China remains one
    return _listed("nationality") | _listed("city") | frozenset(NAMED_ENTITIES["country"])


def _found_places(words: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield (name, indices of its words) of each country, nationality and city.

    Names have up to three words; the longest match comes first.
    """
    start = 0
    while start < len(words):
        ends = range(min(start + 3, len(words)), start, -1)
        end = next((end for end in ends if " ".join(words[start:end]) in _places()), start)
        if end > start:
            yield " ".join(words[start:end]), list(range(start, end))
        start = max(end, start + 1)


class ListedLocations(WordSwapChangeLocation):
    """Replace listed places by others of their type; TextAttack uses flair's tagger to find
    places.
    """

    def _get_transformations(
        self, current_text: AttackedText, indices_to_modify: set[int]
    ) -> list[AttackedText]:
        texts = []
        for name, place in _found_places(current_text.words):
            if set(place) <= set(indices_to_modify):
                texts += [
                    current_text.replace_words_at_indices(place, [new, *[""] * (len(place) - 1)])
                    for new in self._get_new_location(name)
                    if new != name
                ]
        return texts


class ListedNames(WordSwapChangeName):
    """Replace listed first and last names, unless they are part of a place."""

    def _get_transformations(
        self, current_text: AttackedText, indices_to_modify: set[int]
    ) -> list[AttackedText]:
        places = {i for _, place in _found_places(current_text.words) for i in place}
        return WordSwap._get_transformations(self, current_text, set(indices_to_modify) - places)

    def _get_replacement_words(self, word: str) -> Sequence[str]:
        if word in _listed("first"):
            return self._get_firstname(word)
        return self._get_lastname(word) if word in _listed("last") else []


class Numbers(WordSwapChangeNumber):
    """TextAttack's number swap.

    Leaves digits that Python cannot parse, such as ², and numbers beyond 64 bits unchanged.
    """

    def _get_new_number(self, word: str) -> Sequence[int | str]:
        is_unsupported = word.isdigit() and (not word.isascii() or len(word) > 18)
        return [] if is_unsupported else super()._get_new_number(word)


class WordNetSynonyms(WordSwapWordNet):
    """TextAttack's WordNet swap without a download at every start.

    Returns synonyms in a fixed order instead of a set.
    """

    def __init__(self) -> None:
        WordSwap.__init__(self)
        provide_wordnet()
        self.language = "eng"

    def _get_replacement_words(self, word: str, random: bool = False) -> list[str]:
        return sorted(super()._get_replacement_words(word, random))
