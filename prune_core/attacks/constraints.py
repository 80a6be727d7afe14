"""User-defined limits on the changes of an attack, as TextAttack constraints on top of a recipe."""

from collections.abc import Sequence
from typing import Any

import torch

from .budget import AttackBudget
from .resources import load_textattack
from .scheduler import query_model
from .sentence_similarity import Encoder

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.constraints import Constraint, PreTransformationConstraint  # noqa: E402
from textattack.constraints.pre_transformation import InputColumnModification, MaxModificationRate  # noqa: E402
from textattack.shared import AttackedText  # noqa: E402

COLUMNS = ["text", "pair"]
_PROTECTED = {"first": {"pair"}, "second": {"text"}, "both": set[str]()}


def add_constraints(attack: Attack, budget: AttackBudget, encoder: Encoder) -> None:
    """Add the budget's limits to an attack; the most expensive ones come last."""
    attack.goal_function.query_budget = budget.queries
    before, after = attack.pre_transformation_constraints, attack.constraints
    before.append(InputColumnModification(COLUMNS, _PROTECTED[budget.column]))
    if budget.share < 1:
        before.append(MaxModificationRate(budget.share))
    if budget.never:
        before.append(ProtectedWords(budget.never))
    if budget.similarity > 0:
        after.append(SimilarToOriginal(encoder, budget.similarity))


class ProtectedWords(PreTransformationConstraint):
    """Words that must not be changed, in any capitalization."""

    def __init__(self, words: Sequence[str]):
        self.words = frozenset(words)

    def _get_modifiable_indices(self, current_text: AttackedText) -> set[int]:
        return {
            index for index, word in enumerate(current_text.words) if word.lower() not in self.words
        }


class SimilarToOriginal(Constraint):
    """Minimum cosine similarity of the text to the original.

    Of a pair, the less similar text counts.
    """

    def __init__(self, encoder: Encoder, minimum: float):
        super().__init__(compare_against_original=True)
        self.encoder, self.minimum = encoder, minimum

    def _check_constraint_many(
        self, transformed_texts: list[AttackedText], reference_text: AttackedText
    ) -> list[AttackedText]:
        texts = [list(text._text_input.values()) for text in (reference_text, *transformed_texts)]
        flat = torch.stack(
            query_model(self.encoder.vectors, [column for columns in texts for column in columns])
        )
        vectors = flat.view(len(texts), len(texts[0]), -1)  # (texts, columns, width), of length 1
        similarity = (vectors[1:] * vectors[0]).sum(-1).amin(-1)
        return [
            text
            for text, value in zip(transformed_texts, similarity.tolist(), strict=True)
            if value >= self.minimum
        ]

    def _check_constraint(
        self, transformed_text: AttackedText, reference_text: AttackedText
    ) -> Any:
        return bool(self._check_constraint_many([transformed_text], reference_text))
