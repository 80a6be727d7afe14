"""A faster AttackedText: same words and edits as TextAttack's, without splitting each text again.

A search creates hundreds of texts that differ in one word, and TextAttack finds the words of each
from scratch. Here a new text takes them from its predecessor.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
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

# TextAttack segments Chinese by context, so its own splitting is used
_CHINESE = re.compile("[\u4e00-\u9fff]")
_ASCII_WORD = re.compile(r"[\w`'\-*@]+")  # equivalent to TextAttack's pattern for ASCII
_EDGES = "'-_*@"  # part of a word inside it, but not at its ends


def split_words(text: str) -> list[str]:
    """Return the words of a text as TextAttack does, with a fast path for ASCII."""
    if not text.isascii():
        return words_from_text(text)
    stripped = (
        match.strip(_EDGES)
        for word in text.split()
        for match in _ASCII_WORD.findall(word.strip(_EDGES))
    )
    return [word for word in stripped if word]


_split = lru_cache(maxsize=8192)(split_words)


class FastAttackedText(AttackedText):
    """A text or a text pair; behaves exactly like AttackedText."""

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
        """Words without punctuation.

        Every search step reads them, so the clock is checked here.
        """
        self._clock.check()
        if not self._words:
            self._words = split_words(self.text)
        return self._words

    def all_words_diff(self, other_attacked_text: AttackedText) -> set[int]:
        """Return the indices of words that differ."""
        return _differing(self.words, other_attacked_text.words)

    def generate_new_attacked_text(self, new_words: Iterable[str]) -> FastAttackedText:
        """Return a new text with these words; "" deletes a word, several words are inserted."""
        if len(self._text_input) > 1 or _CHINESE.search(self.text):
            slow = super().generate_new_attacked_text(new_words)
            return FastAttackedText(slow._text_input, self._clock, slow.attack_attrs)
        attributes = {
            "newly_modified_indices": set(),
            "previous_attacked_text": self,
            "modified_indices": self.attack_attrs["modified_indices"].copy(),
            # shared until words are inserted or deleted
            "original_index_map": self.attack_attrs["original_index_map"],
        }
        text, end, shift = "", 0, 0
        old_text, words, replacements = self.text, self.words[:], list(new_words)
        for index in sorted(_differing(words, replacements)):
            new = replacements[index]
            start, stop = self._word_spans()[index]
            text, end = text + old_text[end:start], stop
            parts = _split(new)
            if len(parts) != 1:
                _renumber(attributes, index, len(parts) - 1, new=new)
            modified = range(index + shift, index + shift + len(parts))
            attributes["modified_indices"].update(modified)
            attributes["newly_modified_indices"].update(modified)
            words[index + shift : index + shift + 1] = parts
            shift += len(parts) - 1
            if not parts and end < len(old_text):  # one space is deleted together with the word
                if index == 0:
                    end += old_text[end] == " "
                elif text[-1] == " ":
                    text = text[:-1]
            text += new
        child = FastAttackedText(
            OrderedDict([(next(iter(self._text_input)), text + old_text[end:])]),
            self._clock,
            attributes,
        )
        # the words of an edit do not depend on the surrounding text, so the list remains valid
        child._words = None if _CHINESE.search(child.text) else words
        return child

    def _word_spans(self) -> list[tuple[int, int]]:
        """Return (start, end) of every word in the text, in characters."""
        if self._spans is None:
            self._spans, end = [], 0
            for word in self.words:
                start = self.text.index(word, end)
                end = start + len(word)
                self._spans.append((start, end))
        return self._spans


def _differing(words: list[str], other_words: list[str]) -> set[int]:
    """Return the indices at which the lists differ."""
    return set(compress(count(), map(ne, words, other_words)))


def _renumber(attributes: dict[str, Any], index: int, change: int, new: str) -> None:
    """Shift word indices after word `index`, replaced by `new`, which has `change` more words.

    Updates the modified indices and the map from original words to current ones (-1: deleted).
    """
    attributes["modified_indices"] = {
        old if old < index else old + change
        for old in attributes["modified_indices"]
        if old != index
    }
    positions = attributes["original_index_map"] = attributes["original_index_map"].copy()
    if change == -1:
        positions[positions == index] = -1
    positions[positions > index] += change
    if change > 0:
        positions[positions == index] += change * (
            attributes["previous_attacked_text"].words[index] != split_words(new)[0]
        )


def rewritten(text: AttackedText, columns: Mapping[str, str]) -> AttackedText:
    """Return a text with new columns, with all words marked as modified."""
    content = OrderedDict({**text._text_input, **columns})
    is_fast = isinstance(text, FastAttackedText)
    new = FastAttackedText(content, text._clock) if is_fast else AttackedText(content)
    new.attack_attrs["previous_attacked_text"] = text
    for name in ("modified_indices", "newly_modified_indices"):
        new.attack_attrs[name] = set(range(len(new.words)))
    return new
