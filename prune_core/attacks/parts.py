"""What stands in for TextAttack's downloads and its missing file: word vectors, parts of speech, look-alikes, WordNet's words."""

from __future__ import annotations

from .neighbours import Neighbours
from .resources import load_textattack, provide_wordnet

load_textattack()
from textattack.constraints import Constraint  # noqa: E402
from textattack.shared import AbstractWordEmbedding, AttackedText  # noqa: E402
from textattack.transformations import WordSwapWordNet  # noqa: E402
from textattack.transformations.word_swaps import WordSwap  # noqa: E402

# Letters of other scripts that look like Latin ones in most typefaces.
_LATIN, _OTHER = "aceijopsxyhkbdlmntuvwABCEHIKMOPTXYZ", "асеіјорѕхуһкЬԁӏмпtᴜѵԝАВСЕНІКМОРТХҮΖ"
LOOK_ALIKES = {letter: other for letter, other in zip(_LATIN, _OTHER, strict=True) if letter != other}


class NeighbourVectors(AbstractWordEmbedding):
    """The bundled table, asked as TextAttack asks word vectors."""

    def __init__(self, table: Neighbours):
        self.table = table

    def __getitem__(self, index: str | int) -> None:
        return None  # there are neighbours but no vectors

    def word2index(self, word: str) -> int:
        """KeyError for an unknown word."""
        return self.table.index[word]

    def index2word(self, index: int) -> str:
        """The word at that place."""
        return self.table.words[index]

    def nearest_neighbours(self, index: int, topn: int) -> list[int]:
        """The nearest words' places."""
        return self.table.places(index)[:topn]

    def get_cos_sim(self, a: int, b: int) -> float:
        """0 where neither word is the other's neighbour."""
        return self.table.similarity(a, b)

    def get_mse_dist(self, a: int, b: int) -> float:
        """Of unit vectors with that cosine."""
        return 2 - 2 * self.table.similarity(a, b)


class SamePartOfSpeech(Constraint):
    """A swapped word must share a part of speech with the original; with `loose`, nouns and verbs may stand for each other."""

    def __init__(self, table: Neighbours, loose: bool):
        super().__init__(compare_against_original=True)
        self.table, self.loose = table, loose

    def _check_constraint(self, transformed_text: AttackedText, reference_text: AttackedText) -> bool:
        changed = transformed_text.attack_attrs["newly_modified_indices"]
        return all(self._kinds(transformed_text.words[i]) & self._kinds(reference_text.words[i]) for i in changed)

    def _kinds(self, word: str) -> int:
        place = self.table.index.get(word.lower())
        kinds = 0 if place is None else int(self.table.pos[place])
        return kinds | 0b11 if self.loose and kinds & 0b11 else kinds  # POS: bit 0 is NOUN, bit 1 VERB


class LookAlikes(WordSwap):
    """Each letter in turn becomes one that looks the same, as TextBugger's fourth kind of bug."""

    def _get_replacement_words(self, word: str) -> list[str]:
        return [word[:i] + LOOK_ALIKES[letter] + word[i + 1 :] for i, letter in enumerate(word) if letter in LOOK_ALIKES]


class WordNetSynonyms(WordSwapWordNet):
    """TextAttack's, without its download at every start, and in one order: it hands out a set."""

    def __init__(self) -> None:
        WordSwap.__init__(self)
        provide_wordnet()
        self.language = "eng"

    def _get_replacement_words(self, word: str, random: bool = False) -> list[str]:
        return sorted(super()._get_replacement_words(word, random))
