"""TextAttack's text under attack, with the same words and the same edits but without its per-word work.

A search makes hundreds of texts that differ in one word; TextAttack splits every word of each again.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from itertools import compress, count
from operator import ne
from typing import Any

import numpy as np

from .budget import Clock
from .resources import load_textattack

load_textattack()
from textattack.shared import AttackedText  # noqa: E402
from textattack.shared.utils import words_from_text  # noqa: E402

_CHINESE = re.compile(
    "[\u4e00-\u9fff]"
)  # TextAttack segments these by context, so their words are left to it
_ASCII_WORD = re.compile(
    r"[\w`'\-*@]+"
)  # what TextAttack's pattern means where every character is ASCII
_EDGES = "'-_*@"  # belong to a word inside it, not at its ends


def split_words(text: str) -> list[str]:
    """TextAttack's words of a text, quickly where the text is ASCII."""
    if not text.isascii():
        return words_from_text(text)
    found = (
        match.strip(_EDGES)
        for word in text.split()
        for match in _ASCII_WORD.findall(word.strip(_EDGES))
    )
    return [word for word in found if word]


@lru_cache(maxsize=8192)
def _split(new: str) -> list[str]:
    return split_words(new)


class FastAttackedText(AttackedText):
    """One input column or two; behaves as AttackedText does, word for word."""

    def __init__(
        self, columns: OrderedDict[str, str], clock: Clock, attributes: dict[str, Any] | None = None
    ):
        self._text_input = columns
        self._clock = clock
        self._words: list[str] | None = None
        self._words_per_input: list[list[str]] | None = None
        self._pos_tags = self._ner_tags = None
        self._spans: list[tuple[int, int]] | None = None
        self.attack_attrs = {} if attributes is None else attributes
        if "original_index_map" not in self.attack_attrs:
            self._words = split_words(self.text)
            self.attack_attrs["original_index_map"] = np.arange(len(self._words))
        self.attack_attrs.setdefault("modified_indices", set())

    @property
    def words(self) -> list[str]:
        """The words without punctuation; whatever a search does asks for them, so here the clock is looked at."""
        self._clock.check()
        if not self._words:
            self._words = split_words(self.text)
        return self._words

    def all_words_diff(self, other_attacked_text: AttackedText) -> set[int]:
        """Indices of words that differ."""
        return _differing(self.words, other_attacked_text.words)

    def generate_new_attacked_text(self, new_words: Iterable[str]) -> FastAttackedText:
        """This text with its words replaced; an empty word deletes, several words insert."""
        if len(self._text_input) > 1 or _CHINESE.search(self.text):
            slow = super().generate_new_attacked_text(new_words)
            return FastAttackedText(slow._text_input, self._clock, slow.attack_attrs)
        attributes = {
            "newly_modified_indices": set(),
            "previous_attacked_text": self,
            "modified_indices": self.attack_attrs["modified_indices"].copy(),
            "original_index_map": self.attack_attrs[
                "original_index_map"
            ],  # shared until words come or go
        }
        text, end, shift = "", 0, 0
        whole, words, asked = self.text, self.words[:], list(new_words)
        for index in sorted(_differing(words, asked)):
            new, (start, stop) = asked[index], self._word_spans()[index]
            text, end = text + whole[end:start], stop
            parts = _split(new)
            if len(parts) != 1:
                _renumber(attributes, index, len(parts) - 1, new=new)
            modified = range(index + shift, index + shift + len(parts))
            attributes["modified_indices"].update(modified)
            attributes["newly_modified_indices"].update(modified)
            words[index + shift : index + shift + 1] = parts
            shift += len(parts) - 1
            if not parts and end < len(whole):  # a deleted word takes one space with it
                if index == 0:
                    end += whole[end] == " "
                elif text[-1] == " ":
                    text = text[:-1]
            text += new
        child = FastAttackedText(
            OrderedDict([(next(iter(self._text_input)), text + whole[end:])]),
            self._clock,
            attributes,
        )
        # an edit splits into words of its own: it is bounded by what bounded the word before
        child._words = None if _CHINESE.search(child.text) else words
        return child

    def _word_spans(self) -> list[tuple[int, int]]:
        """(start, end) of every word in the text."""
        if self._spans is None:
            self._spans, end = [], 0
            for word in self.words:
                start = self.text.index(word, end)
                end = start + len(word)
                self._spans.append((start, end))
        return self._spans


def _differing(some: list[str], others: list[str]) -> set[int]:
    return set(compress(count(), map(ne, some, others)))


def _renumber(attributes: dict[str, Any], index: int, change: int, new: str) -> None:
    """Keep the indices of modified words, and the map from the original's words, true after words came or went."""
    attributes["modified_indices"] = {
        old if old < index else old + change
        for old in attributes["modified_indices"]
        if old != index
    }
    places = attributes["original_index_map"] = attributes["original_index_map"].copy()
    if change == -1:
        places[places == index] = -1
    places[places > index] += change
    if change > 0:
        places[places == index] += change * (
            attributes["previous_attacked_text"].words[index] != split_words(new)[0]
        )
