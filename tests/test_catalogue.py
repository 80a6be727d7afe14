"""The attack catalogue: names, required resources, and recipes that need downloads."""

import hashlib
import pickle
import random
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sample_rows
import tiny
import torch
from test_pages import open_page

from prune_core import PruneError
from prune_core.attacks import requirements
from prune_core.attacks.catalogue import CATALOGUE, EVASION, FEW_WORDS, missing
from prune_core.attacks.flair_stand_in import flair_or_stand_in
from prune_core.attacks.rewritings import (
    LOOK_ALIKES,
    MAX_PADDING,
    PADDING_WORDS,
    REWRITINGS,
    ZERO_WIDTH_SPACE,
)
from prune_core.models.devices import seed_everything
from prune_core.store.store import Store

PUBLISHED = {
    "TextFooler",
    "TextBugger",
    "BERT-Attack",
    "BAE",
    "PWWS",
    "DeepWordBug",
    "Pruthi",
    "A2T",
    "CLARE",
    "IGA",
    "Alzantot genetic",
    "Faster genetic",
    "PSO",
    "Kuleshov",
    "Checklist",
    "Input reduction",
    "HotFlip",
    "BadCharacters",
    "LEAP",
}
EVASIONS = {*REWRITINGS, "Obfuscation", "Padding words"}
USE = requirements.USE.what


def test_every_published_attack_is_listed_with_a_recipe_or_a_reason():
    from prune_core.attacks.recipes import RECIPES

    published = [name for name, entry in CATALOGUE.items() if entry.changes != EVASION]
    assert {name.split(" (")[0] for name in published} == PUBLISHED
    assert set(RECIPES) == {name for name, entry in CATALOGUE.items() if not entry.cannot}
    for name, entry in CATALOGUE.items():
        assert bool(entry.replaces) == ("(" in name), "a replaced component is named in parentheses"
        missing_resources = [resource for resource in entry.needs if not resource.present]
        assert bool(missing(entry)) == bool(entry.cannot or missing_resources)
        assert all(resource.name in missing(entry) for resource in missing_resources)
    assert len({resource.key for resource in requirements.RESOURCES}) == len(
        requirements.RESOURCES
    ), "fetch identifies resources by key"


def test_recipes_available_without_downloads(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "prune_core.attacks.requirements.CHECKS",
        dict.fromkeys(requirements.CHECKS, lambda _: False),
    )
    available = {name for name, entry in CATALOGUE.items() if not missing(entry)}
    assert {name for name in available if CATALOGUE[name].changes == EVASION} == EVASIONS
    assert available - EVASIONS == {
        "DeepWordBug",
        "Pruthi",
        "Checklist (word lists)",
        "Input reduction",
        "TextFooler (MiniLM)",
        "TextBugger (MiniLM)",
        "A2T (MiniLM)",
    }


@pytest.mark.parametrize("resource", requirements.RESOURCES, ids=lambda resource: resource.name)
def test_a_resource_is_present_if_its_files_exist(resource, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (
        "NLTK_DATA",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "HF_HUB_CACHE",
        "TA_CACHE_DIR",
        "FLAIR_CACHE_ROOT",
        "PRUNESCOPE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tf"))
    monkeypatch.setattr("prune_core.attacks.requirements.WORDNET_FILES", tmp_path / "wordnet")
    monkeypatch.setattr("prune_core.attacks.requirements._PREFIXES", ())
    installed: set[str] = set()
    spec = SimpleNamespace(origin=tmp_path / "textattack" / "__init__.py")
    monkeypatch.setattr(
        "prune_core.attacks.requirements.find_spec",
        lambda name: spec if name in installed else None,
    )
    assert not resource.present
    hub = f"models--{resource.what.replace('/', '--')}/snapshots/1"
    files = {
        "nltk": f"nltk_data/{resource.what}.zip",
        "wordnet": "wordnet/data.noun",
        "textattack": f".cache/prunescope/attacks/textattack/{resource.what}",
        "hub": f".cache/huggingface/hub/{hub}/model.safetensors",
        "flair": f".flair/models/{resource.what.split('/')[-1]}/{hub}/pytorch_model.bin",
        "tensorflow hub": f"tf/{hashlib.sha1(resource.what.encode()).hexdigest()}/saved_model.pb",
        "homoglyphs": "textattack/shared/intentional_homoglyphs.txt",
    }
    if resource.kind in files:
        file = tmp_path / files[resource.kind]
        file.parent.mkdir(parents=True)
        file.touch()
    installed |= {"textattack", *resource.what.split()}
    assert resource.present


def test_recipes_that_need_flair_state_how_to_install_it(monkeypatch):
    monkeypatch.setattr("prune_core.attacks.requirements.find_spec", lambda _: None)
    for name in ("CLARE", "Checklist", "PSO"):
        assert "pip install flair==" in missing(CATALOGUE[name])


def test_missing_flair_raises_and_leaves_no_stand_in_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "flair", None)  # importing it raises ImportError
    with flair_or_stand_in():
        from flair.models import SequenceTagger

        with pytest.raises(PruneError, match="pip install flair=="):
            SequenceTagger.load("upos-fast")
    assert not {"flair", "flair.data", "flair.models"} & set(sys.modules)


def test_an_installed_flair_is_used(monkeypatch):
    installed = ModuleType("flair")
    monkeypatch.setitem(sys.modules, "flair", installed)
    with flair_or_stand_in():
        assert sys.modules["flair"] is installed


@pytest.fixture(scope="module")
def victim():
    from prune_core.attacks.victim import Victim

    model, tokenizer = tiny.model(), tiny.tokenizer()
    tokenizer.model_max_length = 64
    return Victim(model, tokenizer, lambda: None)


def outcomes(victim, recipe, concurrency, queries=300, texts=tiny.SENTENCES[:4]):
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.data.examples import Examples

    examples = Examples(texts, labels=victim(texts).argmax(-1).tolist())
    rows = engine.run(
        recipe,
        victim,
        ProgressReporter(lambda *_: None),
        examples=examples,
        indices=range(len(texts)),
        budget=AttackBudget(queries, 1e6),
        seed=3,
        concurrency=concurrency,
    )
    return sorted(rows, key=lambda outcome: outcome.example)


def test_iga_with_local_word_vectors_matches_textattack(victim, monkeypatch, tmp_path):
    """IGA needs word vectors: use random ones in the files that TextAttack reads."""
    from textattack.attack_recipes import IGAWang2019
    from textattack.attack_results import SuccessfulAttackResult

    from prune_core.attacks.engine import example_seed

    words = sorted({word.strip(".,").lower() for text in tiny.SENTENCES for word in text.split()})
    folder = tmp_path / "word_embeddings" / "paragramcf"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(folder / "paragram.npy", rng.normal(0, 0.1, (len(words), 8)).astype(np.float32))
    nearest = np.stack(
        [np.concatenate(([i], rng.choice(len(words), 50))) for i in range(len(words))]
    )
    np.save(folder / "nn.npy", nearest)
    (folder / "wordlist.pickle").write_bytes(
        pickle.dumps({word: i for i, word in enumerate(words)})
    )
    for name in ("mse_dist.p", "cos_sim.p"):
        (folder / name).write_bytes(pickle.dumps({i: {} for i in range(len(words))}))
    monkeypatch.setattr("prune_core.attacks.requirements.textattack_folder", lambda: tmp_path)
    monkeypatch.setitem(requirements.CHECKS, "nltk", lambda _: True)
    monkeypatch.setattr("textattack.shared.utils.install.TEXTATTACK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("textattack.shared.utils.GLOBAL_OBJECTS", {})
    assert not missing(CATALOGUE["IGA"])
    concurrent, sequential = outcomes(victim, "IGA", 64), outcomes(victim, "IGA", 1)
    reference = IGAWang2019.build(victim)
    reference.goal_function.query_budget = 300
    for index, (outcome, sequential_outcome) in enumerate(zip(concurrent, sequential, strict=True)):
        seed_everything(example_seed(3, index))
        result = reference.attack(outcome.text, outcome.label)
        assert (
            (outcome.perturbed, outcome.queries)
            == (sequential_outcome.perturbed, sequential_outcome.queries)
            == (result.perturbed_text(), result.num_queries)
        )
        assert outcome.outcome == (
            "success" if isinstance(result, SuccessfulAttackResult) else "failed"
        ), outcome.note
    assert "success" in {outcome.outcome for outcome in concurrent}


def test_masked_lm_attacks_run_and_load_their_models_once(victim, monkeypatch):
    """Run BAE and BERT-Attack with a random masked language model, encoder and tagger."""
    from transformers import BertConfig, BertForMaskedLM

    loads = []
    torch.manual_seed(0)
    masked = BertForMaskedLM(
        BertConfig(vocab_size=30522, **{**tiny.WIDE, "max_position_embeddings": 512})
    ).eval()
    swap = "textattack.transformations.word_swaps.word_swap_masked_lm"

    def encoder(texts):
        counts = [
            np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256) for text in texts
        ]
        return SimpleNamespace(numpy=lambda: np.stack(counts).astype(np.float32))

    monkeypatch.setattr(
        f"{swap}.AutoModelForMaskedLM",
        SimpleNamespace(from_pretrained=lambda name: loads.append(name) or masked),
    )
    monkeypatch.setattr(
        f"{swap}.AutoTokenizer", SimpleNamespace(from_pretrained=lambda *_, **__: victim.tokenizer)
    )
    monkeypatch.setitem(
        sys.modules,
        "tensorflow_hub",
        SimpleNamespace(load=lambda url: loads.append(url) or encoder),
    )
    monkeypatch.setattr(
        "textattack.constraints.semantics.sentence_encoders.universal_sentence_encoder.universal_sentence_encoder.hub",
        sys.modules["tensorflow_hub"],
    )
    monkeypatch.setattr("nltk.pos_tag", lambda words, **_: [(word, "NOUN") for word in words])
    for recipe in ("BAE", "BERT-Attack"):
        rows = outcomes(victim, recipe, 64, queries=60)
        assert {outcome.outcome for outcome in rows} <= {"success", "failed"}, [
            outcome.note for outcome in rows
        ]
    assert loads == ["bert-base-uncased", USE] * 2


def test_input_reduction_keeps_the_prediction_and_counts_remaining_words(victim):
    from prune_core.attacks.resources import stopwords

    rows = outcomes(victim, "Input reduction", 64, queries=500, texts=[*tiny.SENTENCES, "Bad."])
    for outcome in rows:
        assert outcome.perturbed_prediction == outcome.original_prediction == outcome.label
        remaining = [
            word
            for word in outcome.perturbed.replace(",", " ").replace(".", " ").split()
            if word.lower() not in stopwords()
        ]
        assert (outcome.outcome == "success") == (
            outcome.words_changed > 0 and len(remaining) <= FEW_WORDS
        ), outcome.perturbed
    assert {outcome.outcome for outcome in rows} == {"success", "failed"}


def test_listed_names_and_locations_are_swapped_and_other_words_kept(victim):
    from textattack.shared import AttackedText

    from prune_core.attacks.components import ListedLocations, ListedNames, Numbers

    def swapped(swap, text):
        random.seed(0)
        np.random.seed(0)
        return [new.text for new in swap(AttackedText(text))]

    text = "Will Christopher leave New York for Reading in 12 days?"
    names, locations = swapped(ListedNames(), text), swapped(ListedLocations(), text)
    assert len(names) == 3
    assert all(
        new.startswith("Will ") and new.endswith(" leave New York for Reading in 12 days?")
        for new in names
    )
    assert len(locations) == 3
    assert all(
        new.startswith("Will Christopher leave ") and "York" not in new and "Reading" in new
        for new in locations
    )
    assert swapped(Numbers(), "5² is " + "9" * 25) == [] and len(swapped(Numbers(), text)) == 3


def test_rewritings_are_exact():
    text = "Bad film, go!"
    assert {name: rewrite(text) for name, rewrite in REWRITINGS.items()} == {
        "Line breaks": "Bad\nfilm,\ngo!",
        "Two turns": "User: Bad film,\nAssistant: Please go on.\nUser: go!",
        "Repeated punctuation": "Bad... film,,, go!!!",
        "Zero-width spaces": " ".join(map(ZERO_WIDTH_SPACE.join, ("Bad", "film,", "go!"))),
        "Homoglyphs": "".join(LOOK_ALIKES.get(letter, letter) for letter in text),
        "Leetspeak": "B4d f1lm, g0!",
        "Spaced letters": "B a d   f i l m ,   g o !",
        "ROT13": "Decode this ROT13 text: Onq svyz, tb!",
        "Base64": "Decode this Base64 text: QmFkIGZpbG0sIGdvIQ==",
    }
    assert REWRITINGS["Base64"]("half a surrogate \ud83d").isascii()


@pytest.mark.parametrize("recipe", [*REWRITINGS, "Obfuscation"])
def test_a_rewriting_is_one_query_of_the_whole_text(victim, recipe):
    used = REWRITINGS if recipe == "Obfuscation" else {recipe: REWRITINGS[recipe]}
    for outcome in outcomes(victim, recipe, 64):
        tried = {rewrite(outcome.text) for rewrite in used.values()} - {outcome.text}
        assert outcome.queries == 1 + len(tried), "the text itself, and each rewriting"
        assert outcome.perturbed in (tried or {outcome.text})
        changed = victim([outcome.perturbed]).argmax(-1).item()
        assert outcome.perturbed_prediction == changed
        assert (outcome.outcome == "success") == (changed != outcome.label)


def test_obfuscation_succeeds_if_any_rewriting_does(victim):
    succeeded = [
        {row.example for row in outcomes(victim, name, 64) if row.outcome == "success"}
        for name in REWRITINGS
    ]
    best = {row.example for row in outcomes(victim, "Obfuscation", 64) if row.outcome == "success"}
    assert best == set().union(*succeeded) and best, "two labels: the lowest probability succeeds"


def test_padding_words_surround_the_complete_text(victim):
    rows = outcomes(victim, "Padding words", 64, queries=300)
    for outcome in rows:
        bare = outcome.text.rstrip(".")
        before, after = outcome.perturbed.split(bare)
        added = [*before.split(), *after.rstrip(".").split()]
        assert 1 <= len(added) <= MAX_PADDING and set(added) <= set(PADDING_WORDS)
        assert outcome.words_changed == len(added) and outcome.queries <= 300
        assert outcome.queries >= 1 + 2 * len(PADDING_WORDS) * (len(added) - 1)


def test_only_the_chosen_text_of_a_pair_is_rewritten(victim):
    from prune_core.attacks import engine
    from prune_core.attacks.budget import AttackBudget, ProgressReporter
    from prune_core.data.examples import Examples

    texts, pairs = tiny.SENTENCES[:3], tiny.SENTENCES[3:6]
    labels = victim([*zip(texts, pairs, strict=True)]).argmax(-1).tolist()
    expected = {
        "first": lambda row: (row.text.replace(" ", "\n"), row.pair),
        "second": lambda row: (row.text, row.pair.replace(" ", "\n")),
        "both": lambda row: (row.text.replace(" ", "\n"), row.pair.replace(" ", "\n")),
    }
    for column, texts_of in expected.items():
        rows = engine.run(
            "Line breaks",
            victim,
            ProgressReporter(lambda *_: None),
            examples=Examples(texts, pairs, labels),
            indices=range(3),
            budget=AttackBudget(column=column),
            seed=3,
        )
        for row in rows:
            assert row.note or (row.perturbed, row.perturbed_pair) == texts_of(row), row


def test_attack_page_groups_recipes_by_what_they_change(home):
    store = Store(home)
    for id, (method, sparsity) in zip(
        sample_rows.fill(store, 40, runs=sample_rows.RUNS[:2]), sample_rows.RUNS, strict=False
    ):
        tables = sample_rows.attack(method, sparsity)
        renamed = {
            name: pd.concat([rows, rows.replace("DeepWordBug", "Leetspeak")])
            for name, rows in tables.items()
        }
        store.add_rows(id, renamed, "attack", seconds=1.0, facts={})
    page = open_page("attack", **{"attack-changes": "evasion"})
    groups = next(each for each in page.segmented_control if "change" in each.label)
    assert groups.options == ["Letters", "Words", "Evasion"]
    (chart,) = (each for each in page.get("plotly_chart") if "chart-success" in each.proto.id)
    assert "Leetspeak" in chart.proto.spec and "DeepWordBug" not in chart.proto.spec
    groups.set_value("letters").run()
    (chart,) = (each for each in page.get("plotly_chart") if "chart-success" in each.proto.id)
    assert "DeepWordBug" in chart.proto.spec and "Leetspeak" not in chart.proto.spec
