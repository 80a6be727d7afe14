"""Build each attack of the catalogue from TextAttack's recipes.

components.py replaces the components that would need downloads.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

from .budget import AttackBudget
from .catalogue import FEW_WORDS
from .components import (
    HomoglyphSwap,
    ListedLocations,
    ListedNames,
    NeighbourVectors,
    Numbers,
    SamePartOfSpeech,
    WordNetSynonyms,
)
from .constraints import add_constraints
from .evasion import PaddingWords, Rewriting
from .neighbours import load
from .resources import load_textattack, stopwords
from .rewritings import MAX_PADDING, PADDING_WORDS, REWRITINGS
from .sentence_similarity import Encoder, SentenceSimilarity

load_textattack()
from textattack import Attack  # noqa: E402
from textattack import attack_recipes as published  # noqa: E402
from textattack.attack_results import AttackResult, MaximizedAttackResult, SuccessfulAttackResult  # noqa: E402
from textattack.constraints.pre_transformation import (  # noqa: E402
    MaxModificationRate,
    RepeatModification,
    StopwordModification,
)
from textattack.constraints.semantics import WordEmbeddingDistance  # noqa: E402
from textattack.goal_functions import UntargetedClassification  # noqa: E402
from textattack.models.wrappers import ModelWrapper  # noqa: E402
from textattack.search_methods import GreedySearch, GreedyWordSwapWIR, ParticleSwarmOptimizationLEAP  # noqa: E402
from textattack.transformations import (  # noqa: E402
    CompositeTransformation,
    WordSwapContract,
    WordSwapEmbedding,
    WordSwapExtend,
    WordSwapNeighboringCharacterSwap,
    WordSwapRandomCharacterDeletion,
    WordSwapRandomCharacterInsertion,
)

# TextFooler's 0.5 is for its own vectors; in our table, 5% of the neighbors at 0.50-0.55 are
# neighbors there, 9% at 0.55-0.60, 19% at 0.6-0.7 and 40% above
WORD_SIMILARITY = 0.55


def _textfooler_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Jin et al. 2019, section 2, with TextAttack's constants except WORD_SIMILARITY."""
    table = load()
    vectors = NeighbourVectors(table)
    return Attack(
        UntargetedClassification(victim),
        [
            RepeatModification(),
            StopwordModification(stopwords=stopwords()),
            WordEmbeddingDistance(embedding=vectors, min_cos_sim=WORD_SIMILARITY),
            SamePartOfSpeech(table, loose=True),
            SentenceSimilarity(encoder, threshold=1 - 0.5 / math.pi, window=15),
        ],
        WordSwapEmbedding(max_candidates=50, embedding=vectors),
        GreedyWordSwapWIR(wir_method="delete"),
    )


def _textbugger_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Li et al. 2018, with TextAttack's constants."""
    inner: dict[str, Any] = {"random_one": True, "skip_first_char": True, "skip_last_char": True}
    bugs = CompositeTransformation(
        [
            WordSwapRandomCharacterInsertion(letters_to_insert=" ", **inner),
            WordSwapRandomCharacterDeletion(**inner),
            WordSwapNeighboringCharacterSwap(**inner),
            HomoglyphSwap(),
            WordSwapEmbedding(max_candidates=5, embedding=NeighbourVectors(load())),
        ]
    )
    return Attack(
        UntargetedClassification(victim),
        [
            RepeatModification(),
            StopwordModification(stopwords=stopwords()),
            SentenceSimilarity(encoder, threshold=0.8, against_original=True),
        ],
        bugs,
        GreedyWordSwapWIR(wir_method="delete"),
    )


def _pwws(victim: ModelWrapper, _: Encoder) -> Attack:
    """Ren et al. 2019, as in TextAttack."""
    return Attack(
        UntargetedClassification(victim),
        [RepeatModification(), StopwordModification()],
        WordNetSynonyms(),
        GreedyWordSwapWIR("weighted-saliency"),
    )


def _a2t_minilm(victim: ModelWrapper, encoder: Encoder) -> Attack:
    """Yoo and Qi 2021, with TextAttack's constants except the word similarity of our table."""
    table = load()
    vectors = NeighbourVectors(table)
    return Attack(
        UntargetedClassification(victim),
        [
            RepeatModification(),
            StopwordModification(stopwords=stopwords()),
            SamePartOfSpeech(table, loose=False),
            MaxModificationRate(max_rate=0.1, min_threshold=4),
            SentenceSimilarity(encoder, threshold=0.9, metric="cosine", against_original=True),
            WordEmbeddingDistance(embedding=vectors, min_cos_sim=WORD_SIMILARITY),
        ],
        WordSwapEmbedding(max_candidates=20, embedding=vectors),
        GreedyWordSwapWIR(wir_method="gradient"),
    )


def _checklist_lists(victim: ModelWrapper, _: Encoder) -> Attack:
    """Ribeiro et al. 2020, as in TextAttack except how names and places are found."""
    changes = CompositeTransformation(
        [WordSwapExtend(), WordSwapContract(), ListedNames(), Numbers(), ListedLocations()]
    )
    return Attack(UntargetedClassification(victim), [RepeatModification()], changes, GreedySearch())


def _leap(victim: ModelWrapper, _: Encoder) -> Attack:
    """Xiao et al. 2023, as in TextAttack."""
    return Attack(
        UntargetedClassification(victim),
        [MaxModificationRate(max_rate=0.16), StopwordModification()],
        WordNetSynonyms(),
        ParticleSwarmOptimizationLEAP(pop_size=60, max_iters=20),
    )


Build = Callable[[ModelWrapper, Encoder], Attack]


def _as_published(recipe: type[published.AttackRecipe]) -> Build:
    return lambda victim, _: recipe.build(victim)


def _rewriting(*rewritings: Callable[[str], str]) -> Build:
    """Rewrite the whole text, in the way that lowers the probability of the label most."""
    return lambda victim, _: Attack(
        UntargetedClassification(victim), [], Rewriting(rewritings), GreedySearch()
    )


def _padding_words(victim: ModelWrapper, _: Encoder) -> Attack:
    """Repeatedly add the word that lowers the probability of the label most."""
    padding = PaddingWords(PADDING_WORDS, MAX_PADDING)
    return Attack(UntargetedClassification(victim), [], padding, GreedySearch())


PUBLISHED: dict[str, type[published.AttackRecipe]] = {
    "DeepWordBug": published.DeepWordBugGao2018,
    "Pruthi": published.Pruthi2019,
    "Input reduction": published.InputReductionFeng2018,
    "TextFooler": published.TextFoolerJin2019,
    "TextBugger": published.TextBuggerLi2018,
    "A2T (no dropout)": published.A2TYoo2021,  # the victim computes gradients without dropout
    "BERT-Attack": published.BERTAttackLi2020,
    "BAE": published.BAEGarg2019,
    "CLARE": published.CLARE2020,
    "Checklist": published.CheckList2020,
    "IGA": published.IGAWang2019,
    "Alzantot genetic": published.GeneticAlgorithmAlzantot2018,
    "Faster genetic": published.FasterGeneticAlgorithmJia2019,
    "PSO": published.PSOZang2020,
    "Kuleshov": published.Kuleshov2017,
}
RECIPES: dict[str, Build] = {
    **{name: _as_published(recipe) for name, recipe in PUBLISHED.items()},
    "TextFooler (MiniLM)": _textfooler_minilm,
    "TextBugger (MiniLM)": _textbugger_minilm,
    "PWWS": _pwws,
    "A2T (MiniLM)": _a2t_minilm,
    "Checklist (word lists)": _checklist_lists,
    "LEAP": _leap,
    **{name: _rewriting(rewrite) for name, rewrite in REWRITINGS.items()},
    "Obfuscation": _rewriting(*REWRITINGS.values()),
    "Padding words": _padding_words,
}


def build_attack(
    recipe: str, victim: ModelWrapper, encoder: Encoder, budget: AttackBudget
) -> Attack:
    """Build the recipe for a victim, with the budget's limits; models are queried for whole rounds
    of texts.
    """
    attack = RECIPES[recipe](victim, encoder)
    attack.goal_function.batch_size = 10**6  # the victim forms batches by length
    add_constraints(attack, budget, encoder)
    return attack


def copy_attack(attack: Attack) -> Attack:
    """Copy an attack for a concurrent search: own state, shared models and tables."""
    constraints = [
        copy.copy(constraint) if isinstance(constraint, SentenceSimilarity) else constraint
        for constraint in attack.constraints
    ]
    goal, search = copy.copy(attack.goal_function), copy.copy(attack.search_method)
    return Attack(
        goal, constraints + attack.pre_transformation_constraints, attack.transformation, search
    )


def goal_reached(result: AttackResult) -> bool:
    """Whether the attack reached its goal.

    Input reduction has no end of its own, so the remaining words are counted.
    """
    if isinstance(result, MaximizedAttackResult):
        before = result.original_result.attacked_text.words
        after = result.perturbed_result.attacked_text.words
        content_words = sum(word.lower() not in stopwords() for word in after)
        return len(after) < len(before) and content_words <= FEW_WORDS
    return isinstance(result, SuccessfulAttackResult)
