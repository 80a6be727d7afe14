"""Which attacks there are, what they replace of the published ones, and how TextAttack is made to run them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .budget import Budget
from .neighbours import Neighbours, load
from .resources import load_textattack, stopwords
from .sentences import Encoder, SentenceSimilarity

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.attack_recipes import DeepWordBugGao2018  # noqa: E402
from textattack.constraints import Constraint  # noqa: E402
from textattack.constraints.pre_transformation import (  # noqa: E402
    InputColumnModification,
    MaxModificationRate,
    RepeatModification,
    StopwordModification,
)
from textattack.constraints.semantics import WordEmbeddingDistance  # noqa: E402
from textattack.goal_functions import UntargetedClassification  # noqa: E402
from textattack.models.wrappers import ModelWrapper  # noqa: E402
from textattack.search_methods import GreedyWordSwapWIR  # noqa: E402
from textattack.shared import AbstractWordEmbedding, AttackedText  # noqa: E402
from textattack.transformations import WordSwapEmbedding  # noqa: E402

# TextFooler's 0.5 is for its own vectors; in ours 5% of the neighbours at 0.50-0.55 are neighbours there, 9% at 0.55-0.60,
# 19% at 0.6-0.7 and 40% above.
WORD_SIMILARITY = 0.55
COLUMNS = ["text", "pair"]  # of a sentence pair; the pair's second sentence is never changed


@dataclass(frozen=True)
class Recipe:
    """One attack by name."""

    name: str
    paper: str
    replaces: str  # a sentence; empty where nothing of the original is replaced
    build: Callable[[ModelWrapper, Encoder], Attack]


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
    """A swapped word must share a part of speech with the original; nouns and verbs may stand for each other, as in TextFooler."""

    def __init__(self, table: Neighbours):
        super().__init__(compare_against_original=True)
        self.table = table

    def _check_constraint(self, transformed_text: AttackedText, reference_text: AttackedText) -> bool:
        changed = transformed_text.attack_attrs["newly_modified_indices"]
        return all(self._kinds(transformed_text.words[i]) & self._kinds(reference_text.words[i]) for i in changed)

    def _kinds(self, word: str) -> int:
        place = self.table.index.get(word.lower())
        kinds = 0 if place is None else int(self.table.pos[place])
        return kinds | 0b11 if kinds & 0b11 else kinds  # POS: bit 0 is NOUN, bit 1 VERB


def _textfooler_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Jin et al. 2019, section 2, with the constants of TextAttack's recipe but for WORD_SIMILARITY."""
    table = load()
    vectors = NeighbourVectors(table)
    constraints = [
        RepeatModification(),
        StopwordModification(stopwords=stopwords()),
        WordEmbeddingDistance(embedding=vectors, min_cos_sim=WORD_SIMILARITY),
        SamePartOfSpeech(table),
        SentenceSimilarity(encoder, threshold=1 - 0.5 / math.pi, window=15),
    ]
    swap = WordSwapEmbedding(max_candidates=50, embedding=vectors)
    return Attack(UntargetedClassification(victim), constraints, swap, GreedyWordSwapWIR(wir_method="delete"))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="DeepWordBug",
            paper="Gao, Lanchantin, Soffa and Qi 2018, Black-box generation of adversarial text sequences, arXiv 1801.04354",
            replaces="",
            build=lambda victim, _: DeepWordBugGao2018.build(victim),
        ),
        Recipe(
            name="TextFooler (MiniLM)",
            paper="Jin, Jin, Zhou and Szolovits 2019, Is BERT really robust?, arXiv 1907.11932",
            replaces="Word neighbours come from a bundled table in place of counter-fitted GloVe vectors, parts of speech from "
            "lemminflect in place of a tagger, and sentence similarity from MiniLM in place of the Universal Sentence Encoder.",
            build=_textfooler_minilm,
        ),
    )
}


def prepared(recipe: Recipe, victim: ModelWrapper, encoder: Encoder, budget: Budget) -> Attack:
    """The recipe on this victim, held to the budget, the models asked about whole rounds of texts."""
    attack = recipe.build(victim, encoder)
    attack.goal_function.query_budget = budget.queries
    attack.goal_function.batch_size = 10**6  # the victim makes the batches: it knows the lengths
    attack.pre_transformation_constraints.append(InputColumnModification(COLUMNS, set(COLUMNS[1:])))
    if budget.share < 1:
        attack.pre_transformation_constraints.append(MaxModificationRate(budget.share))
    return attack
