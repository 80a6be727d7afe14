"""How TextAttack is made to run each attack of the catalogue: its own recipes, with parts of parts.py where it would download."""

from __future__ import annotations

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
from .neighbours import load
from .resources import load_textattack, stopwords
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
    return Attack(
        UntargetedClassification(victim), constraints, swap, GreedyWordSwapWIR(wir_method="delete")
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
    constraints = [
        RepeatModification(),
        StopwordModification(stopwords=stopwords()),
        SentenceSimilarity(encoder, threshold=0.8, against_original=True),
    ]
    return Attack(
        UntargetedClassification(victim), constraints, bugs, GreedyWordSwapWIR(wir_method="delete")
    )


def _pwws(victim: ModelWrapper, _: Encoder) -> Attack:
    """Ren et al. 2019, as TextAttack has it."""
    constraints = [RepeatModification(), StopwordModification()]
    return Attack(
        UntargetedClassification(victim),
        constraints,
        WordNetSynonyms(),
        GreedyWordSwapWIR("weighted-saliency"),
    )


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
    return Attack(
        UntargetedClassification(victim),
        constraints,
        swap,
        GreedyWordSwapWIR(wir_method="gradient"),
    )


def _checklist_lists(victim: ModelWrapper, _: Encoder) -> Attack:
    """Ribeiro et al. 2020, as TextAttack has it but for who finds names and places."""
    changes = CompositeTransformation(
        [WordSwapExtend(), WordSwapContract(), ListedNames(), Numbers(), ListedLocations()]
    )
    return Attack(UntargetedClassification(victim), [RepeatModification()], changes, GreedySearch())


def _leap(victim: ModelWrapper, _: Encoder) -> Attack:
    """Xiao et al. 2023, as TextAttack has it."""
    constraints = [MaxModificationRate(max_rate=0.16), StopwordModification()]
    search = ParticleSwarmOptimizationLEAP(pop_size=60, max_iters=20)
    return Attack(UntargetedClassification(victim), constraints, WordNetSynonyms(), search)


Build = Callable[[ModelWrapper, Encoder], Attack]


def _as_published(recipe: type[published.AttackRecipe]) -> Build:
    return lambda victim, _: recipe.build(victim)


PUBLISHED: dict[str, type[published.AttackRecipe]] = {
    "DeepWordBug": published.DeepWordBugGao2018,
    "Pruthi": published.Pruthi2019,
    "Input reduction": published.InputReductionFeng2018,
    "TextFooler": published.TextFoolerJin2019,
    "TextBugger": published.TextBuggerLi2018,
    "A2T (no dropout)": published.A2TYoo2021,  # the victim takes its gradients so
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
}


def build_attack(
    recipe: str, victim: ModelWrapper, encoder: Encoder, budget: AttackBudget
) -> Attack:
    """The recipe on this victim, held to the budget, the models asked about whole rounds of texts."""
    attack = RECIPES[recipe](victim, encoder)
    attack.goal_function.batch_size = 10**6  # the victim makes the batches: it knows the lengths
    add_constraints(attack, budget, encoder)
    return attack


def copy_attack(attack: Attack) -> Attack:
    """The same for a search beside it: what a search changes is its own, and the models and tables are in memory once."""
    constraints = [
        copy.copy(each) if isinstance(each, SentenceSimilarity) else each
        for each in attack.constraints
    ]
    goal, search = copy.copy(attack.goal_function), copy.copy(attack.search_method)
    return Attack(
        goal, constraints + attack.pre_transformation_constraints, attack.transformation, search
    )


def goal_reached(result: AttackResult) -> bool:
    """Whether the attack has reached its goal; Input reduction has no end of its own, so what it left is counted."""
    if isinstance(result, MaximizedAttackResult):
        before, after = (
            each.attacked_text.words for each in (result.original_result, result.perturbed_result)
        )
        return (
            len(after) < len(before)
            and sum(word.lower() not in stopwords() for word in after) <= FEW_WORDS
        )
    return isinstance(result, SuccessfulAttackResult)
