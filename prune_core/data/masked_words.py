"""Texts without some of their words: random masking and deletion, for randomized smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from random import Random

MASK, DELETE = "mask", "delete"
REMOVALS = {
    MASK: "a fixed fraction of the words is replaced by the mask token",
    DELETE: "each word is deleted independently",
}


def masked_count(words: int, rate: float) -> int:
    """Return how many words of a text are masked: the fraction `rate`, rounded down."""
    return floor(rate * words + 1e-9)  # 0.7 · 10 must be 7 in floating point, too


def without_words(
    words: Sequence[str], rate: float, removal: str, *, mask_token: str | None, rng: Random
) -> str:
    """Return a text without a random choice of its words.

    MASK replaces exactly `masked_count` words by the mask token, or removes them if there is none;
    DELETE deletes each word with probability `rate`.
    """
    if removal == DELETE:
        return " ".join([word for word in words if rng.random() >= rate])
    masked = set(rng.sample(range(len(words)), masked_count(len(words), rate)))
    kept = (mask_token if i in masked else word for i, word in enumerate(words))
    return " ".join([word for word in kept if word is not None])
