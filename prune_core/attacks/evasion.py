"""Transformations of evasion attacks: rewriting whole texts and adding harmless words."""

from collections.abc import Callable, Sequence

from .attacked_text import rewritten
from .resources import load_textattack

load_textattack()
from textattack.shared import AttackedText  # noqa: E402
from textattack.transformations import Transformation  # noqa: E402


class Rewriting(Transformation):
    """Rewrite the whole text once, with each of several functions.

    A text of a pair is rewritten only if all its words may change.
    """

    def __init__(self, rewritings: Sequence[Callable[[str], str]]):
        self.rewritings = rewritings

    def _get_transformations(
        self, current_text: AttackedText, indices_to_modify: set[int]
    ) -> list[AttackedText]:
        if current_text.attack_attrs["modified_indices"]:
            return []
        columns, start = {}, 0
        for (name, text), words in zip(
            current_text._text_input.items(), current_text.words_per_input, strict=True
        ):
            indices = set(range(start, start + len(words)))
            start += len(words)
            if indices and indices <= indices_to_modify:
                columns[name] = text
        if not columns:
            return []
        return [
            rewritten(current_text, {name: rewrite(text) for name, text in columns.items()})
            for rewrite in self.rewritings
        ]


class PaddingWords(Transformation):
    """Add one of the words before the first or after the last word that may change.

    At most `limit` words are added to a text.
    """

    def __init__(self, words: Sequence[str], limit: int):
        self.words, self.limit = words, limit

    def _get_transformations(
        self, current_text: AttackedText, indices_to_modify: set[int]
    ) -> list[AttackedText]:
        added = current_text.attack_attrs.get("padding", 0)
        if added >= self.limit or not indices_to_modify:
            return []
        first, last = min(indices_to_modify), max(indices_to_modify)
        texts = []
        for word in self.words:
            texts.append(current_text.insert_text_before_word_index(first, word))
            texts.append(current_text.insert_text_after_word_index(last, word))
        for text in texts:
            text.attack_attrs["padding"] = added + 1
        return texts
