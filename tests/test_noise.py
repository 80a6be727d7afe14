"""Everyday noise: exact perturbations, their properties, rates, the limit and its false ships."""

import copy
from dataclasses import replace
from random import Random

import numpy as np
import pandas as pd
import pytest
import sample_rows
import tiny
from test_deploy import REPETITIONS, count_shipped, evidence
from test_golden_values import NAMES, evaluation_sample

from prune_core import PruneError
from prune_core.analysis import noise as rates_of
from prune_core.analysis.bounded_metrics import clustered_loss, paired_loss
from prune_core.analysis.compared_models import ComparedModel
from prune_core.attacks.noise_words import KEYBOARDS, LAYOUTS, neighbors
from prune_core.attacks.perturbations import (
    LESS_POSITIVE,
    NOT_ENTAILED,
    PERTURBATIONS,
    STRENGTHS,
    perturb,
    perturb_texts,
)
from prune_core.data.examples import Examples
from prune_core.deployment.policy import Policy
from prune_core.measures.noise import Noise
from prune_core.measures.noisy_copies import fits, label_about, noisy_copies
from prune_core.methods import METHODS
from prune_core.plugins import build, no_report
from prune_core.statistics import wilson
from prune_core.tasks import TASK_TYPES, metric_for
from prune_core.views.noise import accuracy_quantities, takeaway

ENGLISH = (
    "On 12 May Emma was not in Paris; she didn't pay 1,250 euros for a café in Boston, was she?"
)
GERMAN = "Für die Straße nach Köln zahlte Änne 3,5 oder 12500 Euro, über Würzburg."
RUSSIAN = "Ещё один фильм, который я посмотрел вчера, и он мне не понравился!"
TEXTS = [
    ENGLISH,
    GERMAN,
    RUSSIAN,
    *tiny.SENTENCES,
    "",
    " ",
    "...",
    "a",
    "12",
    "電影很好看。",
    "é",
    "🙂",
]


def everywhere(name: str, text: str, seed: int = 0, language: str = "") -> str:
    return perturb(PERTURBATIONS[name], text, Random(seed), strength=1.0, language=language)


def any_of(name: str, text: str, language: str = "") -> set[str]:
    return {everywhere(name, text, seed, language) for seed in range(60)}


def test_neighbors_of_a_key() -> None:
    assert set(neighbors("QWERTY")["g"]) == set("fhtyvb")
    assert set(neighbors("QWERTZ")["z"]) == set("tugh")
    assert "q" in neighbors("AZERTY")["a"] and "я" not in neighbors("ЙЦУКЕН")["л"]
    assert set(LAYOUTS.values()) <= set(KEYBOARDS)


def test_each_perturbation_makes_the_documented_changes() -> None:
    assert any_of("letter slips", "film") == {"flim", "flm", "fiilm"}
    assert everywhere("casing", "A warm FILM") == "a WARM film"
    assert (
        everywhere("diacritics removed", "Straße à Łódź, ёлка, йод") == "Strasse a Lodz, елка, йод"
    )
    assert {"com", "c0rn"} <= any_of("OCR errors", "corn")
    assert any_of("punctuation", "Well, 3.5!") == {
        f"Well{comma} 3.5{mark}" for comma in ("", ",,,") for mark in ("", "!!!")
    }
    assert any_of("spacing", "so good") == {"so  good", "sogood"}
    assert everywhere("contractions", "It is not so; I'm here. I know what it is.") == (
        "It's not so; I am here. I know what it is."
    )
    assert everywhere("contractions", "it does n't WORK, i've seen") == (
        "it does not WORK, i have seen"
    )
    assert everywhere("number formats", "12 of 1,250 in 1994, 12500, 3.5, two") == (
        "twelve of 1250 in 1994, 12,500, 3.50, 2"
    )
    assert everywhere("number formats", "12 von 1.250, 12500, 3,5", language="German") == (
        "12 von 1250, 12.500, 3,50"
    )
    assert everywhere("emoji", "Dull.").startswith("Dull. ")
    swapped = everywhere("names swapped", "Emma met John. Emma left.").split()
    assert swapped[0] == swapped[3] not in ("Emma", "John") and swapped[2] != "John."
    assert everywhere("time phrases", "The end.").endswith(", the end.")
    assert everywhere("negated praise", "Dull ").startswith("Dull. ")
    assert everywhere("negated statement", "The cat sat.") == "It is not true that the cat sat."


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_properties_hold_for_all_texts(name: str) -> None:
    each = PERTURBATIONS[name]
    changed = 0
    for text in TEXTS:
        assert perturb(each, text, Random(0), strength=0.0) == text
        for language in ("", "German", "Russian"):
            once, again = (
                perturb(each, text, Random(1), strength=0.5, language=language) for _ in range(2)
            )
            assert once == again and bool(once.strip()) == bool(text.strip())
            if each.keeps_words:
                assert len(once.split(" ")) == len(text.split(" ")) and once.split() != [""]
            if each.only_english and language:
                assert once == text
            changed += once != text
    assert changed


def test_stronger_noise_changes_more_words() -> None:
    text = " ".join(tiny.SENTENCES)
    for name in ("keyboard typos", "letter slips", "OCR errors", "casing"):
        differing = [
            sum(a != b for a, b in zip(text.split(), noisy.split(), strict=True))
            for noisy in (
                perturb(PERTURBATIONS[name], text, Random(0), strength=strength)
                for strength in STRENGTHS.values()
            )
        ]
        assert 0 < differing[0] < differing[1] < differing[2] < len(text.split()), name


def test_only_the_selected_text_of_a_pair_changes() -> None:
    texts = ("A film with Emma.", "It is Emma who sings.")

    def noisy(name: str, places: tuple[int, ...]) -> tuple[str, ...]:
        return perturb_texts(PERTURBATIONS[name], texts, places, rng=Random(0), strength=0.5)

    for places in ((0,), (1,), (0, 1)):
        changed = noisy("keyboard typos", places)
        assert tuple(i for i in (0, 1) if changed[i] != texts[i]) == places
    names = [
        text.split()[place].strip(".")
        for text, place in zip(noisy("names swapped", (0,)), (3, 2), strict=True)
    ]
    assert names[0] == names[1] != "Emma"
    places = ("Emma is in Rome, Italy.", "It is Italian.")
    swapped = perturb_texts(
        PERTURBATIONS["names swapped"], places, (0,), rng=Random(0), strength=1.0
    )
    assert swapped[0].endswith(" is in Rome, Italy.") and swapped != places
    assert noisy("negated statement", (0,)) == (
        texts[0],
        "It is not true that it is Emma who sings.",
    )


def test_copies_are_the_same_for_every_model_and_differ_between_seeds() -> None:
    def copies(seed: int, indices: list[int]) -> list:
        return list(
            noisy_copies(
                tiny.examples(),
                indices,
                list(PERTURBATIONS.values())[:4],
                strengths=list(STRENGTHS),
                column="first",
                seed=seed,
            )
        )

    all_copies = copies(0, list(range(12)))
    assert all_copies == copies(0, list(range(12))) != copies(1, list(range(12)))
    # a copy does not depend on which other examples are drawn
    assert [each for each in all_copies if each.example == 3] == copies(0, [3])


def test_directional_tests_need_known_label_names() -> None:
    sentiment, topics = ("Negative", "Positive"), ("sports", "business")
    assert label_about(LESS_POSITIVE, sentiment) == 1
    assert label_about(LESS_POSITIVE, topics) is label_about(NOT_ENTAILED, sentiment) is None
    assert label_about(NOT_ENTAILED, ("entailment", "not_entailment")) == 0
    single, pairs = Examples(["a"]), Examples(["a"], ["b"])
    praise, statement = (PERTURBATIONS[f"negated {noun}"] for noun in ("praise", "statement"))
    assert fits(praise, single, sentiment) and not fits(praise, single, topics)
    assert fits(statement, pairs, ("entailment", "neutral", "contradiction"))
    assert not fits(statement, single, ("entailment", "not_entailment"))
    words = Examples(["a b"], kind="token")
    fitting = {each.name for each in PERTURBATIONS.values() if fits(each, words, tiny.TAGS)}
    assert fitting == {each.name for each in PERTURBATIONS.values() if each.keeps_words}


def measured(kind: str, sparsity: float = 0.6, **options) -> dict[str, pd.DataFrame]:
    dense, sample = tiny.model(kind=kind), evaluation_sample(kind)
    pruned = copy.deepcopy(dense)
    build(METHODS, "magnitude", {"sparsity": sparsity}).prune(pruned, [], no_report)
    pair = tiny.pair(dense, pruned if sparsity else dense)
    names = NAMES.get(kind, ("negative", "positive"))
    task = replace(
        pair.task, evaluation=sample, metric=metric_for(kind, len(names)), label_names=names
    )
    return Noise(**options).measure(replace(pair, task=task), no_report)


@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_task_type_is_measured(kind: str) -> None:
    tables = measured(kind)
    rows, examples = tables["noise"], tables["noise_example"]
    assert (rows["n"] > 0).all() and (rows["copies"] >= rows["n"]).all()
    for value in ("failure_rate", "dense_failure_rate", "failure_difference"):
        assert (rows[f"{value}_low"] <= rows[value] + 1e-12).all()
        assert (rows[value] <= rows[f"{value}_high"] + 1e-12).all()
    assert rows["accuracy"].notna().any() == TASK_TYPES[kind].is_discrete
    assert (examples["text"] != examples["noisy"]).any() and examples["after"].map(len).all()
    if kind == "token":
        assert (examples["text"].str.count(" ") == examples["noisy"].str.count(" ")).all()
    if kind == "span":
        assert "names swapped" not in set(rows["perturbation"])
        assert (examples["pair"] == examples["noisy_pair"]).all()


def test_rates_agree_with_the_predictions() -> None:
    tables = measured("classification")
    rows, examples = tables["noise"], tables["noise_example"]
    single = rows[(rows["perturbation"] == "casing") & (rows["strength"] == "heavy")].iloc[0]
    shown = examples.query("perturbation == 'casing' and strength == 'heavy'")
    assert single["failure_rate"] == (shown["before"] != shown["after"]).mean()
    assert (single["failure_rate_low"], single["failure_rate_high"]) == pytest.approx(
        wilson(int(shown["failed"].sum()), len(shown))
    )
    everything = rates_of.overall(rows).iloc[0]
    counts = tables["noise_count"]
    assert everything["failure_rate"] == pytest.approx(
        counts["failed"].sum() / counts["copies"].sum()
    )
    assert everything["accuracy"] == pytest.approx(counts["correct"].sum() / counts["copies"].sum())
    lost = everything["dense_accuracy"] - everything["accuracy"]
    lost_clean = everything["dense_clean_accuracy"] - everything["clean_accuracy"]
    assert everything["loss_difference"] == pytest.approx(lost - lost_clean)
    negated = rows[rows["perturbation"] == "negated praise"]
    assert negated["directional"].all() and negated["accuracy"].isna().all()


def test_casing_changes_nothing_for_an_uncased_tokenizer() -> None:
    rows = measured("classification", perturbations="casing")["noise"]
    assert (rows["failure_rate"] == 0).all() and (rows["failure_rate_high"] > 0).all()


def test_the_dense_model_loses_nothing_against_itself() -> None:
    rows = measured("classification", sparsity=0.0)["noise"]
    assert (rows["failure_difference"] == 0).all()
    assert (rows["failure_rate"] == rows["dense_failure_rate"]).all()
    assert (rows["loss_difference"].dropna() == 0).all()


def test_a_directional_failure_is_a_contradiction() -> None:
    """An entailed statement whose negation is entailed, too."""
    from prune_core.measures.noise import _directional_failures
    from prune_core.tasks import Predictions

    pair = tiny.pair(tiny.model(), tiny.model())
    entailing = replace(pair, task=replace(pair.task, label_names=("entailment", "not_entailment")))
    copies = pd.DataFrame({"perturbation": ["negated statement"] * 4})
    before, after = (Predictions(values, [[]] * 4) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
    assert list(_directional_failures(entailing, copies, before, after)) == [True] + [False] * 3
    copies = pd.DataFrame({"perturbation": ["negated praise"] * 3 + ["casing"]})
    before = Predictions([0, 1, 1, 0], [[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.9, 0.1]])
    after = Predictions([1, 1, 1, 1], [[0.45, 0.55], [0.2, 0.8], [0.35, 0.65], [0.1, 0.9]])
    assert list(_directional_failures(pair, copies, before, after)) == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "second"}, "leave it at 'first'"),
        ({"perturbations": "number formats"}, "add keyboard typos"),
        ({"perturbations": "negated praise"}, "add keyboard typos"),
    ],
)
def test_errors_state_what_to_do(options: dict[str, str], message: str) -> None:
    with pytest.raises(PruneError, match=message):
        measured("classification", **options)
    advised = {"perturbations": f"{options.get('perturbations', 'casing')}, keyboard typos"}
    assert len(measured("classification", **advised)["noise"])


def test_queries_are_counted_by_the_documents_that_they_find() -> None:
    pair = tiny.retrieval_pair(tiny.model(kind="embedding"), tiny.model(kind="embedding"))
    tables = Noise(perturbations="keyboard typos", strengths="heavy").measure(pair, no_report)
    rows = tables["noise"]
    assert rows["accuracy"].notna().all() and (rows["failure_difference"] == 0).all()
    assert set(tables["noise_example"]["before"]) <= {text[:100] for text in tiny.SENTENCES}
    without = replace(pair, task=replace(pair.task, collection=None))
    with pytest.raises(PruneError, match="second text column"):
        Noise().measure(without, no_report)


def test_stored_texts_begin_with_those_on_which_one_model_fails() -> None:
    copies = pd.DataFrame(
        {"failed": [False, True, True, False], "dense_failed": [False, True, False, True]}
    )
    assert list(rates_of.examples_to_show(copies, 2).index) == [2, 3]
    assert list(rates_of.examples_to_show(copies, 3).index) == [1, 2, 3]


# -- the limit ---------------------------------------------------------------------------------


def test_clustered_loss_of_single_copies_is_at_least_as_wide_as_the_paired_bound() -> None:
    losses = np.repeat([1.0, -1.0, 0.0], (9, 4, 187))
    clustered, paired = clustered_loss(losses), paired_loss(9, 4, 200)
    assert clustered.value == pytest.approx(paired.value)
    assert clustered.bounds(0.05) == pytest.approx(paired.bounds(0.05))
    third = clustered_loss(losses / 3)
    assert third.value == pytest.approx(paired.value / 3)
    assert third.bounds(0.05)[1] < paired.bounds(0.05)[1]
    assert clustered.at_size(400).n == 400


def noisy_counts(rng: np.random.Generator, case: str, limit: float, n: int) -> pd.DataFrame:
    """Sums over 30 copies per example of models that lose exactly `limit` under noise."""
    copies = rng.integers(20, 40, n)
    if case == "whole examples":  # all copies of an example are lost or none
        broken = rng.random(n) < limit + 0.02
        fixed = ~broken & (rng.random(n) < 0.02 / (1 - limit - 0.02))
        lost, gained = broken * copies, fixed * copies
    elif case == "few examples":  # nothing is ever gained
        lost, gained = (rng.random(n) < limit) * copies, np.zeros(n, dtype=int)
    elif case == "many examples":  # a few copies of many examples
        lost = rng.binomial(copies, rng.beta(0.3, 0.3 * (1 - limit - 0.02) / (limit + 0.02), n))
        gained = rng.binomial(copies - lost, 0.02 / (1 - limit - 0.02))
    else:  # a third of the loss in few whole examples, the rest spread over all
        whole = rng.random(n) < limit / 3
        lost = np.where(whole, copies, rng.binomial(copies, (limit * 2 / 3) / (1 - limit / 3)))
        gained = np.zeros(n, dtype=int)
    dense = np.where(lost > 0, np.maximum(lost, copies - gained), copies - gained)
    return pd.DataFrame(
        {
            "example": range(n),
            "copies": copies,
            "failed": 0.0,
            "dense_failed": 0.0,
            "dense_correct": dense,
            "correct": dense - lost + gained,
        }
    )


@pytest.mark.parametrize("case", ["whole examples", "few examples", "many examples", "mixed"])
@pytest.mark.parametrize(("limit", "n"), [(2, 200), (5, 100), (2, 440)])
def test_false_ship_rate_of_the_noise_limit_is_at_most_alpha(case: str, limit: int, n: int) -> None:
    rng = np.random.default_rng(0)
    items = [
        evidence(noise_count=noisy_counts(rng, case, limit / 100, n)) for _ in range(REPETITIONS)
    ]
    shipped = count_shipped(Policy({"noise_loss": limit}), items)
    assert shipped <= REPETITIONS // 20, f"{shipped} of {REPETITIONS}"


def test_without_labels_the_limit_is_on_failures() -> None:
    counts = pd.DataFrame(
        {"copies": [10] * 300, "failed": [1] * 300, "dense_failed": [1] * 300}
    ).assign(correct=np.nan, dense_correct=np.nan)
    assert count_shipped(Policy({"noise_loss": 2}), [evidence(noise_count=counts)]) == 1
    worse = counts.assign(failed=4)
    assert count_shipped(Policy({"noise_loss": 2}), [evidence(noise_count=worse)]) == 0


# -- what is shown -----------------------------------------------------------------------------

MODELS = [ComparedModel(1, "Dense"), ComparedModel(2, "AKR 70%", "akr", 0.7)]


def study() -> dict[str, pd.DataFrame]:
    tables = sample_rows.study(runs=(("dense", 0.0), ("akr", 0.7)))
    return {name: tables[name] for name in ("noise", "noise_example", "attack")}


def test_takeaway_and_quantities_cover_noisy_clean_and_attacked_text() -> None:
    tables = study()
    sentence = takeaway(tables, MODELS)
    assert sentence.startswith("On noisy text, AKR at 70% has ") and "original texts" in sentence
    assert list(accuracy_quantities(tables)) == [
        "Original text",
        "Everyday noise",
        "DeepWordBug",
        "TextFooler (MiniLM)",
    ]
    unlabelled = tables["noise"].assign(accuracy=np.nan)
    assert "of the predictions" in takeaway({"noise": unlabelled}, MODELS)
    assert accuracy_quantities({"noise": unlabelled}) == {}
