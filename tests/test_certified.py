"""Certified robustness: certificates against brute force, sampling, the measure and its view."""

import copy
import itertools
from collections import Counter
from dataclasses import replace
from functools import cache
from math import comb
from random import Random

import numpy as np
import pandas as pd
import pytest
import sample_rows
import tiny
import torch
from scipy.stats import binom
from test_deploy import count_shipped, evidence

from prune_core import PruneError
from prune_core.analysis import certified
from prune_core.analysis.certified import ABSTAINS, largest_radius, radius, reach
from prune_core.analysis.compared_models import ComparedModel
from prune_core.data.examples import Examples
from prune_core.data.masked_words import DELETE, MASK, masked_count, without_words
from prune_core.deployment.policy import Policy
from prune_core.measures.certified import Certified
from prune_core.measures.noise_outputs import TaskOutputs
from prune_core.plugins import no_report
from prune_core.statistics import proportion_bounds
from prune_core.tasks.task_data import Task
from prune_core.views.certified import takeaway

RATE = 0.8
Words = tuple[str | None, ...]


def toy_label(words: Words, seed: int) -> int:
    """Return a label that mostly depends on the word "a", and else on a random number."""
    rng = Random(f"{seed}/{words}")
    return rng.randrange(3) if rng.random() < 0.15 else int("a" not in words)


def label_probabilities(words: Words, rate: float, removal: str, seed: int) -> np.ndarray:
    """Return the exact probability of each label over all copies of a text."""
    probabilities, h = np.zeros(3), len(words)
    if removal == MASK:
        m = masked_count(h, rate)
        for masked in itertools.combinations(range(h), m):
            left = tuple(None if i in masked else word for i, word in enumerate(words))
            probabilities[toy_label(left, seed)] += 1 / comb(h, m)
        return probabilities
    for kept in itertools.product((False, True), repeat=h):
        left = tuple(itertools.compress(words, kept))
        weight = rate ** (h - len(left)) * (1 - rate) ** len(left)
        probabilities[toy_label(left, seed)] += weight
    return probabilities


@cache
def edit_distance(one: Words, other: Words) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(
        edit_distance(one[1:], other[1:]) + (one[0] != other[0]),
        edit_distance(one[1:], other) + 1,
        edit_distance(one, other[1:]) + 1,
    )


@pytest.mark.parametrize("rate", [0.6, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_no_replacement_of_words_breaks_a_certificate_of_masking(rate: float, seed: int) -> None:
    """All texts of five words of a vocabulary of three: 243 texts, 59,049 pairs."""
    texts = list(itertools.product("abc", repeat=5))
    exact = np.array([label_probabilities(text, rate, MASK, seed) for text in texts])
    codes = np.array([[ord(word) for word in text] for text in texts])
    certificates = 0
    for text, probabilities in zip(codes, exact, strict=True):
        label = probabilities.argmax()
        certain = radius(probabilities.max(), 5, rate, MASK)
        distances = (codes != text).sum(1)
        assert (exact[distances <= certain, label] > 0.5).all()
        certificates += certain > 0
    assert rate == 0.6 or certificates


@pytest.mark.parametrize("seed", range(2))
def test_no_edit_of_words_breaks_a_certificate_of_deletion(seed: int) -> None:
    """Texts of up to three words, and all texts within the largest certificate of them."""
    longest = 3 + largest_radius(RATE)
    texts = [each for h in range(longest + 1) for each in itertools.product("ab", repeat=h)]
    exact = {text: label_probabilities(text, RATE, DELETE, seed) for text in texts}
    certificates = 0
    for text in (each for each in texts if len(each) <= 3):
        label = exact[text].argmax()
        certain = radius(exact[text].max(), len(text), RATE, DELETE)
        reached = [each for each in texts if edit_distance(text, each) <= certain]
        assert all(exact[each][label] > 0.5 for each in reached)
        certificates += certain > 0
    assert certificates


@pytest.mark.parametrize("removal", [MASK, DELETE])
def test_some_model_breaks_each_certificate_at_one_more_word(removal: str) -> None:
    """A model that predicts 1 for every copy with a changed word: the bound is exact."""
    for words in range(6, 40):
        certain = radius(1.0, words, RATE, removal)
        assert 1 - reach(words, certain, RATE, removal) > 0.5
        assert 1 - reach(words, certain + 1, RATE, removal) <= 0.5


def test_reach_is_the_formula_of_the_paper() -> None:
    for words, changed in ((10, 1), (19, 2), (40, 3)):
        kept = words - masked_count(words, RATE)
        expected = 1 - comb(words - changed, kept) / comb(words, kept)
        assert reach(words, changed, RATE, MASK) == pytest.approx(expected)
    assert reach(5, 5, RATE, MASK) == reach(0, 1, RATE, MASK) == 1
    assert reach(5, 2, 0.9, DELETE) == pytest.approx(0.19)


def test_radius_abstains_and_has_a_limit() -> None:
    for removal in (MASK, DELETE):
        assert radius(0.5, 20, RATE, removal) == ABSTAINS
        assert radius(0.51, 20, RATE, removal) == 0
        for rate in (0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98):
            found = {radius(1.0, words, rate, removal) for words in range(200)}
            assert max(found) <= largest_radius(rate)
            assert removal == MASK or found == {largest_radius(rate)}
    assert [largest_radius(rate) for rate in (0.5, 0.7, 0.8, 0.9)] == [0, 1, 3, 6]
    # a text of one word is never masked, so that no change of it is certified
    assert radius(1.0, 1, RATE, MASK) == radius(1.0, 0, RATE, MASK) == 0


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_bound_of_the_probability_is_wrong_in_at_most_alpha_of_samples(alpha: float) -> None:
    """Exactly, over all numbers of hits in 100 copies."""
    hits = np.arange(101)
    bounds = np.array([proportion_bounds(int(each), 100, alpha)[0] for each in hits])
    for p in (0.5, 0.6, 0.75, 0.9, 0.99):
        assert binom.pmf(hits, 100, p)[bounds > p].sum() <= alpha


def test_masking_keeps_the_number_of_words_and_is_uniform() -> None:
    rng, words = Random(0), ["one", "two", "three", "four", "five"]
    seen = Counter(without_words(words, 0.6, MASK, mask_token="[M]", rng=rng) for _ in range(5000))
    assert len(seen) == comb(5, 3) and all(400 < count < 600 for count in seen.values())
    assert all(text.split().count("[M]") == 3 for text in seen)
    assert len(without_words(words, 0.6, MASK, mask_token=None, rng=rng).split()) == 2
    assert [masked_count(10, rate) for rate in (0.7, 0.8, 0.9)] == [7, 8, 9]


def test_deletion_is_independent() -> None:
    rng, words = Random(0), ["one", "two", "three"]
    seen = Counter(
        without_words(words, 0.8, DELETE, mask_token="[M]", rng=rng) for _ in range(9999)
    )
    assert len(seen) == 8
    assert seen[""] / 9999 == pytest.approx(0.8**3, abs=0.02)
    assert seen["two"] / 9999 == pytest.approx(0.2 * 0.8**2, abs=0.02)


# -- the measure -------------------------------------------------------------------------------


def measured(pair, **options) -> dict[str, pd.DataFrame]:
    options = {"samples": 100, "label_samples": 20, "examples": 0} | options
    return Certified(**options).measure(pair, no_report)


def with_bias(bias: float) -> torch.nn.Module:
    """Return a tiny model whose first label has this bias."""
    model = tiny.model()
    with torch.no_grad():
        model.classifier.bias[0] = bias
    return model


@pytest.mark.parametrize("removal", [MASK, DELETE])
def test_a_constant_prediction_has_the_largest_certificate(removal: str) -> None:
    constant = with_bias(100.0)
    tables = measured(tiny.pair(constant, constant), removal=removal, samples=200)
    examples, rows = tables["certified_example"], tables["certified"]
    bound = 0.05 ** (1 / 200)  # Clopper and Pearson for 200 of 200 copies
    assert np.allclose(examples["probability"], bound)
    expected = [radius(bound, words, RATE, removal) for words in examples["words"]]
    assert examples["radius"].tolist() == expected and max(expected) >= 2
    assert (examples["predicted"] == "negative").all()
    assert rows["changed"].tolist() == [0, 1, 2, 3] and rows["accuracy"].iloc[0] == 0.5
    assert (rows["most_frequent"] == 0.5).all() and (rows["abstained"] == 0).all()


def test_dense_and_pruned_get_the_same_copies() -> None:
    dense = tiny.model()
    examples = measured(tiny.pair(dense, copy.deepcopy(dense)))["certified_example"]
    for column in ("predicted", "probability", "radius"):
        assert examples[column].tolist() == examples[f"dense_{column}"].tolist()


def test_the_certified_probability_is_that_of_the_copies() -> None:
    """Exact probabilities of short texts, whose 28 copies are enumerated, are above the bounds."""
    texts = [" ".join(text.split()[:8]) for text in tiny.SENTENCES]
    model, examples = with_bias(0.02), replace(tiny.examples(), texts=texts)
    pair = replace(
        tiny.pair(model, model), task=Task("tiny", ("negative", "positive"), examples, examples)
    )
    rows = measured(pair, samples=400, alpha=1e-6)["certified_example"]
    for row in rows.itertuples():
        words = row.text.split()
        copies = [
            " ".join(word if i in kept else "[MASK]" for i, word in enumerate(words))
            for kept in itertools.combinations(range(8), 2)
        ]
        given = examples.take([0] * len(copies))
        labels = TaskOutputs(pair, 0.0).predict(model, replace(given, texts=copies), no_report)
        exact = labels.predicted.count(("negative", "positive").index(row.predicted)) / len(copies)
        assert row.probability <= exact < row.probability + 0.3


def test_only_the_selected_text_of_a_pair_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model, texts = tiny.model(), [text for text in tiny.SENTENCES if len(text.split()) > 1]
    labels = [0] * len(texts)
    examples = Examples(texts, texts[::-1], labels)
    pair = replace(
        tiny.pair(model, model), task=Task("tiny", ("negative", "positive"), examples, examples)
    )
    seen = []
    original = TaskOutputs.predict

    def predict(self, model, examples, report):
        seen.append(examples)
        return original(self, model, examples, report)

    monkeypatch.setattr(TaskOutputs, "predict", predict)
    for column, changed, fixed in (("first", "texts", "pairs"), ("second", "pairs", "texts")):
        seen.clear()
        rows = measured(pair, column=column)["certified_example"]
        assert all("[MASK]" in text for each in seen for text in getattr(each, changed))
        assert all(text in texts for each in seen for text in getattr(each, fixed))
        counted = examples.texts if column == "first" else examples.pairs
        assert rows["words"].tolist() == [len(text.split()) for text in counted]


def test_what_cannot_be_certified_is_refused() -> None:
    model = tiny.model()
    pair = tiny.pair(model, model)
    with pytest.raises(PruneError, match="column is 'second', but this task has no text pairs"):
        measured(pair, column="second")
    unlabelled = replace(tiny.examples(), labels=None)
    task = replace(pair.task, evaluation=unlabelled)
    with pytest.raises(PruneError, match="no labels, so certified accuracy is not defined"):
        measured(replace(pair, task=task))


# -- what is shown -----------------------------------------------------------------------------

MODELS = [ComparedModel(1, "Dense"), ComparedModel(2, "AKR 70%", "akr", 0.7)]


def certificates(n: int, dense: int, pruned: int) -> pd.DataFrame:
    """Return examples of which the first ones are certified for one changed word."""
    sides = {
        f"{prefix}{column}": value
        for prefix, count in (("dense_", dense), ("", pruned))
        for column, value in (("correct", True), ("radius", (np.arange(n) < count).astype(int)))
    }
    return pd.DataFrame({"label": ["a", "b"] * (n // 2), **sides})


def test_certified_accuracy_is_counted_with_exact_intervals() -> None:
    examples = certificates(100, dense=60, pruned=50)
    examples.loc[0, ["correct", "radius"]] = [False, 3]  # certified, but incorrect
    examples.loc[1, "radius"] = ABSTAINS
    rows = certified.accuracies(examples, largest=2)
    assert rows["accuracy"].tolist() == [0.98, 0.48, 0.0]
    assert rows["dense_accuracy"].tolist() == [1.0, 0.6, 0.0]
    assert rows["accuracy_difference"].iloc[1] == pytest.approx(-0.12)
    assert rows["accuracy_high"].iloc[2] == pytest.approx(1 - 0.025 ** (1 / 100))
    assert (rows["abstained"] == 0.01).all() and (rows["dense_abstained"] == 0).all()


def test_a_policy_limits_the_loss_of_certified_accuracy() -> None:
    for pruned, ships in ((300, 1), (260, 0)):
        rows = certificates(400, dense=300, pruned=pruned)
        shipped = count_shipped(Policy({"certified_loss": 5}), [evidence(certified_example=rows)])
        assert shipped == ships


def test_takeaway_says_what_is_certified_and_what_to_do() -> None:
    tables = sample_rows.study(runs=(("dense", 0.0), ("akr", 0.7)))
    rows = tables["certified"].assign(most_frequent=0.0)
    sentence = takeaway({"certified": rows}, MODELS)
    assert sentence.startswith("Whichever word is replaced, AKR at 70% keeps ")
    assert "95% interval" in sentence and "--mask-words" not in sentence
    worthless = takeaway({"certified": rows.assign(most_frequent=1.0)}, MODELS)
    assert "these certificates are worth nothing" in worthless
    nothing = takeaway({"certified": rows.assign(accuracy=0.0)}, MODELS)
    assert nothing.startswith("No prediction is certified for one replaced word")
    assert "`finetune --mask-words 0.8`" in nothing
