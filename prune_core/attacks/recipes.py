"""How TextAttack is made to run each attack of the catalogue: its own recipes, with parts of parts.py where it would download."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .budget import Budget
from .limits import limit
from .neighbours import load
from .parts import LookAlikes, NeighbourVectors, SamePartOfSpeech, WordNetSynonyms
from .resources import load_textattack, stopwords
from .sentences import Encoder, SentenceSimilarity

load_textattack()
from textattack import Attack  # noqa: E402
from textattack.attack_recipes import DeepWordBugGao2018, Pruthi2019  # noqa: E402
from textattack.constraints.pre_transformation import (  # noqa: E402
    MaxModificationRate,
    RepeatModification,
    StopwordModification,
)
from textattack.constraints.semantics import WordEmbeddingDistance  # noqa: E402
from textattack.goal_functions import UntargetedClassification  # noqa: E402
from textattack.models.wrappers import ModelWrapper  # noqa: E402
from textattack.search_methods import GreedyWordSwapWIR  # noqa: E402
from textattack.transformations import (  # noqa: E402
    CompositeTransformation,
    WordSwapEmbedding,
    WordSwapNeighboringCharacterSwap,
    WordSwapRandomCharacterDeletion,
    WordSwapRandomCharacterInsertion,
)

# TextFooler's 0.5 is for its own vectors; in ours 5% of the neighbours at 0.50-0.55 are neighbours there, 9% at 0.55-0.60,
# 19% at 0.6-0.7 and 40% above.
WORD_SIMILARITY = 0.55


def _textfooler_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Jin et al. 2019, section 2, with the constants of TextAttack's recipe but for WORD_SIMILARITY."""
    table = load()
    vectors = NeighbourVectors(table)
    constraints = [
        RepeatModification(),
        StopwordModification(stopwords=stopwords()),
        WordEmbeddingDistance(embedding=vectors, min_cos_sim=WORD_SIMILARITY),
        SamePartOfSpeech(table, loose=True),
        SentenceSimilarity(encoder, threshold=1 - 0.5 / math.pi, window=15),
    ]
    swap = WordSwapEmbedding(max_candidates=50, embedding=vectors)
    return Attack(UntargetedClassification(victim), constraints, swap, GreedyWordSwapWIR(wir_method="delete"))


def _textbugger_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Li et al. 2018, with TextAttack's constants."""
    inner: dict[str, Any] = {"random_one": True, "skip_first_char": True, "skip_last_char": True}
    bugs = CompositeTransformation(
        [
            WordSwapRandomCharacterInsertion(letters_to_insert=" ", **inner),
            WordSwapRandomCharacterDeletion(**inner),
            WordSwapNeighboringCharacterSwap(**inner),
            LookAlikes(),
            WordSwapEmbedding(max_candidates=5, embedding=NeighbourVectors(load())),
        ]
    )
    constraints = [
        RepeatModification(),
        StopwordModification(stopwords=stopwords()),
        SentenceSimilarity(encoder, threshold=0.8, against_original=True),
    ]
    return Attack(UntargetedClassification(victim), constraints, bugs, GreedyWordSwapWIR(wir_method="delete"))


def _pwws(victim: ModelWrapper, _: Encoder) -> Attack:
    """Ren et al. 2019, as TextAttack has it."""
    constraints = [RepeatModification(), StopwordModification()]
    return Attack(UntargetedClassification(victim), constraints, WordNetSynonyms(), GreedyWordSwapWIR("weighted-saliency"))


def _a2t_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Yoo and Qi 2021, with TextAttack's constants but for the word similarity, which is our table's."""
    table = load()
    vectors = NeighbourVectors(table)
    constraints = [
        RepeatModification(),
        StopwordModification(stopwords=stopwords()),
        SamePartOfSpeech(table, loose=False),
        MaxModificationRate(max_rate=0.1, min_threshold=4),
        SentenceSimilarity(encoder, threshold=0.9, metric="cosine", against_original=True),
        WordEmbeddingDistance(embedding=vectors, min_cos_sim=WORD_SIMILARITY),
    ]
    swap = WordSwapEmbedding(max_candidates=20, embedding=vectors)
    return Attack(UntargetedClassification(victim), constraints, swap, GreedyWordSwapWIR(wir_method="gradient"))


Build = Callable[[ModelWrapper, Encoder], Attack]
RECIPES: dict[str, Build] = {
    "DeepWordBug": lambda victim, _: DeepWordBugGao2018.build(victim),
    "TextFooler (MiniLM)": _textfooler_minilm,
    "Pruthi": lambda victim, _: Pruthi2019.build(victim),
    "TextBugger (MiniLM)": _textbugger_minilm,
    "PWWS": _pwws,
    "A2T (MiniLM)": _a2t_minilm,
}


def prepared(recipe: str, victim: ModelWrapper, encoder: Encoder, budget: Budget) -> Attack:
    """The recipe on this victim, held to the budget, the models asked about whole rounds of texts."""
    attack = RECIPES[recipe](victim, encoder)
    attack.goal_function.batch_size = 10**6  # the victim makes the batches: it knows the lengths
    limit(attack, budget, encoder)
    return attack
