"""The attack engine: equal outcomes to TextAttack, budgets, unusual texts, no network access."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import tiny
import torch

from prune_core import Cancelled, PruneError
from prune_core.attacks import neighbours, resources
from prune_core.attacks.budget import AttackBudget, Clock, ProgressReporter
from prune_core.attacks.catalogue import CATALOGUE, EVASION, missing
from prune_core.attacks.scheduler import Search, query_model, run_concurrently
from prune_core.data.examples import Examples
from prune_core.measures.attack import Attack, summarize
from prune_core.models.devices import seed_everything
from prune_core.paths import ROOT
from prune_core.plugins import no_report

NAMED_ENTITIES = [
    "Michael Johnson spent 12 days in New York and he didn't like it.",
    "There is no film by Will Reading that I'd see 3 times in China.",
]
NAMES = [
    name for name, entry in CATALOGUE.items() if not missing(entry)
]  # PWWS only if WordNet is installed
SEED = 3
UNLIMITED = AttackBudget(queries=10**6, seconds=10**6)
UNUSUAL_TEXTS = {
    "empty": "",
    "spaces": "   ",
    "one word": "Dreadful",
    "no word": "?!... --",
    "emoji": "what a film 😀🎬 loved it ❤️",
    "Greek": "Η ταινία ήταν πολύ καλή και αστεία",
    "Chinese": "这部电影非常精彩 but long",
    "quotes": "'it' isn't \"so-so\" -- it's_bad*",
}


@pytest.fixture(scope="module")
def victim():
    """A random BERT with the real tokenizer, and texts labeled with its predictions.

    One label is incorrect, so that this example is skipped.
    """
    from prune_core.attacks.victim import Victim

    model, tokenizer = tiny.model(), tiny.tokenizer()
    tokenizer.model_max_length = 64
    texts = [*tiny.SENTENCES[:6], *NAMED_ENTITIES]
    labels = Victim(model, tokenizer, no_op)(texts).argmax(-1).tolist()
    labels[1] = 1 - labels[1]
    return model, tokenizer, Examples(texts, labels=labels)


def no_op() -> None: ...


def attack(
    victim,
    recipe=NAMES[0],
    examples=None,
    budget=UNLIMITED,
    report=no_report,
    model=None,
    concurrency=4,
):
    from prune_core.attacks import engine
    from prune_core.attacks.victim import Victim

    reporter = ProgressReporter(report)
    examples = examples or victim[2]
    wrapped = Victim(model or victim[0], victim[1], reporter.report_if_due)
    outcomes = engine.run(
        recipe,
        wrapped,
        reporter,
        examples=examples,
        indices=range(len(examples)),
        budget=budget,
        seed=SEED,
        concurrency=concurrency,
    )
    return sorted(outcomes, key=lambda outcome: outcome.example)


@pytest.mark.parametrize("recipe", NAMES)
def test_outcomes_match_textattack(victim, recipe):
    from textattack.attack_results import SkippedAttackResult
    from textattack.models.wrappers import HuggingFaceModelWrapper

    from prune_core.attacks.engine import example_seed
    from prune_core.attacks.recipes import RECIPES, goal_reached
    from prune_core.attacks.sentence_similarity import Encoder
    from prune_core.attacks.victim import Victim

    model, tokenizer, examples = victim
    wrapper = HuggingFaceModelWrapper(model, tokenizer)
    wrapper.get_grad = Victim(
        model, tokenizer, no_op
    ).get_grad  # TextAttack's leaves dropout on, which is not reproducible
    reference = RECIPES[recipe](wrapper, Encoder(torch.device("cpu"), no_op))
    budget = (
        AttackBudget(queries=300, seconds=10**6) if recipe == "LEAP" else UNLIMITED
    )  # particle swarms need many thousand queries
    reference.goal_function.query_budget = budget.queries
    ours = attack(victim, recipe, budget=budget)
    for index, outcome in enumerate(ours):
        seed_everything(example_seed(SEED, index))
        result = reference.attack(examples.texts[index], examples.labels[index])
        expected = "skipped"
        if not isinstance(result, SkippedAttackResult):
            expected = "success" if goal_reached(result) else "failed"
        assert outcome.outcome == expected
        assert outcome.queries == result.num_queries
        if outcome.outcome != "skipped":
            assert outcome.perturbed == result.perturbed_text()
            assert outcome.perturbed_prediction == result.perturbed_result.output
    # some rewritings do not change the tokens of BERT
    expected = {"skipped"} if CATALOGUE[recipe].changes == EVASION else {"skipped", "success"}
    assert expected <= {outcome.outcome for outcome in ours}


@pytest.mark.parametrize("name", UNUSUAL_TEXTS)
def test_fast_attacked_text_matches_textattack(name):
    from textattack.shared import AttackedText

    from prune_core.attacks.attacked_text import FastAttackedText

    fast, reference = (
        FastAttackedText(OrderedDict(text=UNUSUAL_TEXTS[name]), Clock(no_op)),
        AttackedText(UNUSUAL_TEXTS[name]),
    )
    assert fast.words == reference.words
    for index in range(len(fast.words)):
        for new in ("", "x", "two words", "hy-phen", "-", "Ünï"):
            actual, expected = (
                text.replace_word_at_index(index, new) for text in (fast, reference)
            )
            for edited_twice in (False, True):
                assert actual.text == expected.text and actual.words == expected.words
                for key in ("modified_indices", "newly_modified_indices"):
                    assert actual.attack_attrs[key] == expected.attack_attrs[key]
                assert (
                    actual.attack_attrs["original_index_map"].tolist()
                    == expected.attack_attrs["original_index_map"].tolist()
                )
                if edited_twice or not actual.words:
                    break
                actual, expected = (
                    text.replace_word_at_index(0, "first one") for text in (actual, expected)
                )


@pytest.mark.parametrize("recipe", NAMES)
def test_unusual_texts_produce_rows(victim, recipe):
    texts = [
        *UNUSUAL_TEXTS.values(),
        "this <SPLIT> is <SPLIT> odd",
        " ".join(random.Random(0).choices(tiny.SENTENCES[2].split(), k=2000)),
    ]
    started = time.perf_counter()
    rows = attack(
        victim,
        recipe,
        Examples(texts, labels=[0] * len(texts)),
        budget=AttackBudget(queries=40, seconds=5),
    )
    assert [
        row.note for row in rows if row.outcome == "error" and "English word lists" not in row.note
    ] == []
    assert time.perf_counter() - started < 30


def test_only_the_first_text_of_a_pair_is_perturbed(victim):
    examples = Examples(tiny.SENTENCES[:3], pairs=tiny.SENTENCES[3:6], labels=[0, 0, 0])
    rows = attack(victim, examples=examples) + attack(
        victim, examples=Examples(examples.texts, examples.pairs, [1, 1, 1])
    )
    attacked = [row for row in rows if row.outcome in ("success", "failed")]
    assert len(attacked) == 3 and not any(row.outcome == "error" for row in rows)
    assert all(
        "\n" not in row.perturbed and len(row.perturbed.split()) == len(row.text.split())
        for row in attacked
    )


def test_budgets_are_enforced(victim):
    few_queries = attack(victim, budget=AttackBudget(queries=5))
    assert all(row.queries <= 5 for row in few_queries)
    assert any("query budget of 5" in row.note for row in few_queries if row.outcome == "failed")
    no_time = attack(victim, budget=AttackBudget(seconds=1e-9))
    notes = {
        "failed": "Stopped by the time budget of 1e-09 s.",
        "skipped": "Misclassified before the attack.",
    }
    assert {row.outcome for row in no_time} == set(notes)
    assert all(row.note == notes[row.outcome] for row in no_time)
    few_words = attack(victim, budget=AttackBudget(share=0.1))
    assert all(
        row.words_changed <= max(1, -(-len(row.text.split()) // 10))
        for row in few_words
        if row.words_changed is not None
    )


def test_nan_logits_are_recorded_as_an_error_and_the_run_continues(victim):
    class NaNLogits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.config = model, model.config

        def forward(self, **batch):
            output = self.model(**batch)
            affected = (batch["input_ids"] == victim[1].convert_tokens_to_ids("plot")).any(1)
            output.logits[affected] = float("nan")
            return output

    rows = attack(victim, model=NaNLogits(victim[0]))
    assert [row.outcome == "error" for row in rows] == ["plot" in text for text in victim[2].texts]
    failed = next(row for row in rows if row.outcome == "error")
    assert "NaN or infinite" in failed.note and failed.perturbed is None


@pytest.mark.parametrize("recipe", NAMES)
def test_outcomes_do_not_depend_on_concurrency(victim, recipe):
    sequential, *concurrent = (
        [vars(row) | {"seconds": 0} for row in attack(victim, recipe, concurrency=concurrency)]
        for concurrency in (1, 3, 100)
    )
    rounded = ("original_probabilities", "perturbed_probabilities")  # rounding depends on the batch
    for rows in concurrent:
        for expected, actual in zip(sequential, rows, strict=True):
            assert all(expected[key] == pytest.approx(actual[key], abs=1e-5) for key in rounded)
            assert {**expected, **dict.fromkeys(rounded)} == {**actual, **dict.fromkeys(rounded)}


def test_concurrent_searches_share_batches_and_keep_their_rng_state():
    rounds = []

    def double(texts):
        rounds.append(list(texts))
        return [2 * text for text in texts]

    def search(times: int) -> list[float]:
        return [random.random() + query_model(double, [times, turn])[0] for turn in range(times)]

    def run_alone(times: int) -> list[float]:
        random.seed(times)
        return [random.random() + 2 * times for _ in range(times)]

    searches = [
        Search(lambda times=times: search(times), Clock(no_op), times) for times in (2, 1, 3)
    ]
    assert sorted(run_concurrently(searches, 2), key=len) == [
        run_alone(1),
        run_alone(2),
        run_alone(3),
    ]
    # the third starts as soon as the second has ended
    assert rounds == [[2, 0, 1, 0], [2, 1, 3, 0], [3, 1], [3, 2]]


def test_torch_errors_in_a_search_can_be_caught():
    """Regression test: torch's errors walk the C stack.

    That crashed the process if a search was started at a greater stack depth than it was resumed.
    """

    def work() -> str:
        query_model(list, [1])
        with pytest.raises(RuntimeError):
            torch.nn.functional.cosine_similarity(
                torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
            )
        return query_model(list, ["caught"])[0]

    assert (
        list(run_concurrently([Search(work, Clock(no_op), 0) for _ in range(4)], 4))
        == ["caught"] * 4
    )


def test_cancellation_propagates_through_a_search(victim, monkeypatch):
    monkeypatch.setattr(
        "prune_core.attacks.budget._INTERVAL", 0
    )  # report every time: these attacks are too short
    calls = []

    def report(progress, message):
        calls.append(progress)
        if len(calls) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        attack(victim, report=report)


def test_outcomes_are_seeded_and_the_global_rng_is_unchanged(victim):
    random.seed(11)
    before = random.getstate()
    first, second = ([vars(row) | {"seconds": 0} for row in attack(victim)] for _ in range(2))
    assert first == second and random.getstate() == before


SUMMARY_COLUMNS = (
    "recipe n accuracy accuracy_low accuracy_high under_attack under_attack_low under_attack_high "
    "success_rate success_low "
    "success_high attacked succeeded failed skipped errored words_changed queries precision seconds"
)
EXAMPLE_COLUMNS = (
    "recipe example outcome text label perturbed original_prediction perturbed_prediction "
    "original_probabilities "
    "perturbed_probabilities words_changed share_changed queries seconds note pair perturbed_pair "
    "similarity grammar meaning"
)


def test_table_columns_and_one_sample_for_all_recipes():
    pair = tiny.pair(tiny.model(), tiny.model(seed=1))
    tables = Attack(examples=5, word_examples=3).measure(pair, no_report)
    summary, examples = tables["attack"], tables["attack_example"]
    assert list(summary.columns) == SUMMARY_COLUMNS.split()
    assert list(examples.columns) == EXAMPLE_COLUMNS.split()
    names = ["DeepWordBug", "TextFooler (MiniLM)"]
    assert summary.recipe.tolist() == names and summary.n.tolist() == [5, 3]
    character_sample, word_sample = (
        examples[examples.recipe == name].example.tolist() for name in names
    )
    assert character_sample[:3] == word_sample
    assert (summary.accuracy >= summary.under_attack).all()


def test_only_examples_with_the_chosen_label_are_attacked():
    pair = tiny.pair(tiny.model(), tiny.model(), copies=2)
    recipes = {"recipes": "Leetspeak, Base64"}
    attacked = [
        Attack(examples=count, only_label="positive", **recipes).measure(pair, no_report)
        for count in (3, 100)
    ]
    few, all_rows = (tables["attack_example"] for tables in attacked)
    assert set(all_rows["label"]) == {1} and list(attacked[0]["attack"]["n"]) == [3, 3]
    order = all_rows[all_rows["recipe"] == "Base64"]["example"].tolist()
    assert len(order) == 12 and few["example"].tolist() == order[:3] * 2, "a smaller sample first"
    with pytest.raises(PruneError, match="none of 24 evaluation examples has this label"):
        Attack(only_label="jailbreak", **recipes).measure(pair, no_report)
    with pytest.raises(PruneError, match="max_changed is 0.5, but Leetspeak changes"):
        Attack(max_changed=0.5, **recipes).measure(pair, no_report)


def test_missing_resources_are_reported_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("prune_core.attacks.requirements.WORDNET_FILES", tmp_path)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("prune_core.attacks.requirements._PREFIXES", ())
    assert {"PWWS", "LEAP"} <= Attack.unavailable_choices().keys()
    with pytest.raises(PruneError, match="apt install wordnet-base"):
        Attack(recipes="DeepWordBug, PWWS").measure(
            tiny.pair(tiny.model(), tiny.model()), no_report
        )
    with pytest.raises(PruneError, match="'Nobody'; choose one or more of DeepWordBug"):
        Attack(recipes="DeepWordBug,Nobody")
    assert Attack(recipes="Pruthi,DeepWordBug,Pruthi").recipes == "Pruthi, DeepWordBug"


def test_half_precision_attacks_leave_the_model_unchanged(victim):
    model = tiny.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = Attack(recipes="DeepWordBug", examples=4, precision="bf16").measure(
        tiny.pair(model, model), no_report
    )["attack_example"]
    assert len(rows) == 4 and (rows.outcome != "error").all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_summary_counts():
    class Row:
        def __init__(self, outcome, fraction=None):
            self.outcome, self.share_changed, self.queries = outcome, fraction, 10

    rows = [Row("success", 0.2), Row("success", 0.4), Row("failed"), Row("skipped"), Row("error")]
    totals = summarize(rows)
    assert (totals["n"], totals["attacked"], totals["succeeded"], totals["errored"]) == (5, 3, 2, 1)
    assert totals["accuracy"] == 0.75
    assert totals["under_attack"] == 0.25
    assert totals["success_rate"] == pytest.approx(2 / 3)
    assert totals["words_changed"] == pytest.approx(0.3)
    assert totals["success_low"] < 2 / 3 < totals["success_high"]
    all_skipped = summarize([Row("skipped")])
    assert all_skipped["success_rate"] is None and all_skipped["attacked"] == 0


def test_import_offline_prepares_private_files(tmp_path):
    code = (
        "import logging, socket\n"
        "before = logging.getLogger('transformers')\n"
        "def refuse(*_, **__): raise SystemExit('touched the network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from prune_core.attacks.recipes import RECIPES\n"
        "import nltk, os\n"
        "print(len(nltk.corpus.stopwords.words('english')), 'TA_CACHE_DIR' in os.environ)\n"
        "assert not before.disabled, 'textattack disables all loggers on import'\n"
    )
    environment = {
        **os.environ,
        "PRUNESCOPE_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "NLTK_DATA": str(tmp_path / "none"),
    }
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [str(len(resources.stopwords())), "False"]
    assert (
        tmp_path / "attacks" / "nltk_data" / "corpora" / "stopwords" / "english"
    ).stat().st_mode & 0o077 == 0


def test_stop_words_are_function_words():
    words = set(resources.stopwords())
    assert {"the", "don't", "very", "have", "whom"} <= words
    assert not words & {"never", "nothing", "empty", "good", "film"}


def test_neighbour_table_excludes_antonyms():
    table = neighbours.load()
    nearest = {
        word: [other for other, _ in table.of(word)]
        for word in ("happy", "movie", "good", "bad", "boring")
    }
    assert "glad" in nearest["happy"]
    assert "film" in nearest["movie"][:5]
    assert "dull" in nearest["boring"]
    assert "bad" not in nearest["good"] and "good" not in nearest["bad"]
    assert neighbours.TABLE.stat().st_size <= 8e6 and len(table.words) == 20_000
    assert all(0.5 <= neighbour[1] <= 1 for neighbour in table.of("film", 5))
    assert table.of("qwxyz") == []
    similarities = [similarity for _, similarity in table.of("film")]
    assert similarities == sorted(similarities, reverse=True)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "nltk_data"
OUTCOMES_SCRIPT = """
import sys, tiny
from test_attacks import attack
from prune_core.attacks.engine import load_textattack
from prune_core.data.examples import Examples
import nltk
model, tokenizer = tiny.model(), tiny.tokenizer()
outcomes = attack((model, tokenizer), "DeepWordBug", Examples(tiny.SENTENCES[:6], labels=[0] * 6))
outcomes += attack((model, tokenizer), "DeepWordBug", Examples(tiny.SENTENCES[:6], labels=[1] * 6))
print([(row.outcome, row.perturbed) for row in outcomes])
"""


def test_stop_words_are_those_published_by_nltk():
    words = resources.stopwords()
    assert len(words) == len(set(words)) == 179 and {"not", "don't", "wouldn"} <= set(words)
    assert not {"never", "nothing", "without"} & set(words)


@pytest.mark.skipif(not SHARED.is_dir(), reason="NLTK's own data is not next to this checkout")
def test_outcomes_match_those_with_nltks_own_stop_words(tmp_path):
    """Compare the bundled list with NLTK's download, each in its own process.

    NLTK reads only files that no other user may write.
    """
    shutil.copytree(SHARED, tmp_path / "nltk")
    for path in [tmp_path / "nltk", *(tmp_path / "nltk").rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert (
        SHARED / "corpora" / "stopwords" / "english"
    ).read_text().split() == resources.stopwords()
    outputs = []
    for settings in ({}, {"NLTK_DATA": str(tmp_path / "nltk")}):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        process = subprocess.run(
            [sys.executable, "-c", OUTCOMES_SCRIPT],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **settings},
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr[-2000:]
        outputs.append(process.stdout)
    assert outputs[0] == outputs[1] and "success" in outputs[0]
