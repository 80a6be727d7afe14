"""Table of word neighbours for word-substitution attacks: words, nearest words, parts of speech.

`assets/neighbours.npz` is built by `python -m tools.counterfit`, which documents its sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ..errors import PruneError
from ..paths import ASSETS

TABLE = ASSETS / "neighbours.npz"
_STEPS = 255  # similarities in 0..1 are stored as bytes
POS = ("NOUN", "VERB", "ADJ", "ADV")  # bits 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Words by frequency, with their neighbours.

    `nearest[i]` are the indices of word i's neighbours, nearest first; unused entries have
    similarity 0.
    """

    words: list[str]
    nearest: np.ndarray  # (words, k) uint16
    closeness: np.ndarray  # (words, k) uint8
    pos: np.ndarray  # (words,) uint8: bits of the word's possible POS

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each word."""
        return {word: place for place, word in enumerate(self.words)}

    def of(self, word: str, limit: int = 50) -> list[tuple[str, float]]:
        """Neighbours of a word with similarities, nearest first; [] for an unknown word."""
        place = self.index.get(word)
        if place is None:
            return []
        return [(self.words[i], self.similarity(place, i)) for i in self.places(place)[:limit]]

    def places(self, place: int) -> list[int]:
        """Indices of a word's neighbours, nearest first."""
        return self.nearest[place][self.closeness[place] > 0].tolist()

    def similarity(self, a: int, b: int) -> float:
        """Similarity of two words by index; 0 if neither is a neighbour of the other."""
        for word, neighbour in ((a, b), (b, a)):
            matches = np.flatnonzero((self.nearest[word] == neighbour) & (self.closeness[word] > 0))
            if len(matches):
                return int(self.closeness[word, matches[0]]) / _STEPS
        return float(a == b)

    def save(self, path: Path) -> None:
        """Write the table, without pickle."""
        names = np.array(self.words, dtype=np.bytes_)
        np.savez_compressed(
            path, words=names, nearest=self.nearest, closeness=self.closeness, pos=self.pos
        )


def pack(
    words: Sequence[str], nearest: np.ndarray, similarity: np.ndarray, pos: np.ndarray
) -> Neighbours:
    """Build a table from indices and similarities of neighbours (words, k).

    Similarities of 0 or less mean "no neighbour".
    """
    closeness = np.clip(np.round(similarity * _STEPS), 0, _STEPS).astype(np.uint8)
    return Neighbours(
        list(words),
        np.where(closeness > 0, nearest, 0).astype(np.uint16),
        closeness,
        pos=pos.astype(np.uint8),
    )


@lru_cache(maxsize=1)
def load(path: Path = TABLE) -> Neighbours:
    """Load the bundled table."""
    if not path.is_file():
        raise PruneError(
            f"{path} is missing; restore it, or build it in a clone with: python -m "
            "tools.counterfit"
        )
    with np.load(path, allow_pickle=False) as stored:
        words = [word.decode() for word in stored["words"].tolist()]
        return Neighbours(words, stored["nearest"], stored["closeness"], pos=stored["pos"])
