"""The table of word neighbours that word-substitution attacks swap from: words, their nearest words, parts of speech.

`assets/neighbours.npz` is built by `python -m tools.counterfit`, which says from what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from ..errors import PruneError
from ..paths import ASSETS

TABLE = ASSETS / "neighbours.npz"
_STEPS = 255  # a similarity in 0..1 is kept as a byte
POS = ("NOUN", "VERB", "ADJ", "ADV")  # bit 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Words by frequency; `nearest[i]` are the indices of word i's neighbours, nearest first, similarity 0 where none is left."""

    words: list[str]
    nearest: np.ndarray  # (words, k) uint16
    closeness: np.ndarray  # (words, k) uint8
    pos: np.ndarray  # (words,) uint8: which of POS the word can be, as bits

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> its place."""
        return {word: place for place, word in enumerate(self.words)}

    def of(self, word: str, most: int = 50) -> list[tuple[str, float]]:
        """(neighbour, similarity) of a word, nearest first; empty for an unknown word."""
        place = self.index.get(word)
        if place is None:
            return []
        return [(self.words[i], self.similarity(place, i)) for i in self.places(place)[:most]]

    def places(self, place: int) -> list[int]:
        """Indices of a word's neighbours, nearest first."""
        row = self.closeness[place]
        return self.nearest[place][row > 0].tolist()

    def similarity(self, a: int, b: int) -> float:
        """Of two words by index; 0 where neither is the other's neighbour."""
        for one, other in ((a, b), (b, a)):
            hit = np.flatnonzero((self.nearest[one] == other) & (self.closeness[one] > 0))
            if len(hit):
                return int(self.closeness[one, hit[0]]) / _STEPS
        return float(a == b)

    def save(self, path: Path) -> None:
        """Write the table; no pickle in it."""
        names = np.array(self.words, dtype=np.bytes_)
        np.savez_compressed(
            path, words=names, nearest=self.nearest, closeness=self.closeness, pos=self.pos
        )


def pack(
    words: Sequence[str], nearest: np.ndarray, similarity: np.ndarray, pos: np.ndarray
) -> Neighbours:
    """A table from neighbour indices and similarities (words, k); similarities of 0 or less mean no neighbour."""
    closeness = np.clip(np.round(similarity * _STEPS), 0, _STEPS).astype(np.uint8)
    return Neighbours(
        list(words),
        np.where(closeness > 0, nearest, 0).astype(np.uint16),
        closeness,
        pos=pos.astype(np.uint8),
    )


@lru_cache(maxsize=1)
def load(path: Path = TABLE) -> Neighbours:
    """The bundled table."""
    if not path.is_file():
        raise PruneError(
            f"{path} is missing; restore it, or build it in a clone with: python -m tools.counterfit"
        )
    with np.load(path, allow_pickle=False) as stored:
        words = [word.decode() for word in stored["words"].tolist()]
        return Neighbours(words, stored["nearest"], stored["closeness"], pos=stored["pos"])
