"""The attack engine gives TextAttack's own outcomes, keeps to its budgets, survives odd texts
and needs no network.
"""

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
from prune_core.attacks.catalogue import CATALOGUE, missing
from prune_core.attacks.scheduler import Search, query_model, run_concurrently
from prune_core.data.examples import Examples
from prune_core.measures.attack import Attack, summarize
from prune_core.models.devices import seed_everything
from prune_core.paths import ROOT
from prune_core.plugins import no_report

NAMED = [
    "Michael Johnson spent 12 days in New York and he didn't like it.",
    "There is no film by Will Reading that I'd see 3 times in China.",
]
NAMES = [
    name for name, entry in CATALOGUE.items() if not missing(entry)
]  # PWWS where there is a WordNet
SEED = 3
WIDE = AttackBudget(queries=10**6, seconds=10**6)
ODD = {
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
    """A random BERT with the real tokenizer, and the sentences labelled as it sees them, so that
    all but one are attacked.
    """
    from prune_core.attacks.victim import Victim

    model, tokenizer = tiny.model(), tiny.tokenizer()
    tokenizer.model_max_length = 64
    texts = [*tiny.SENTENCES[:6], *NAMED]
    labels = Victim(model, tokenizer, nothing)(texts).argmax(-1).tolist()
    labels[1] = 1 - labels[1]
    return model, tokenizer, Examples(texts, labels=labels)


def nothing() -> None: ...


def attack(
    victim, recipe=NAMES[0], examples=None, budget=WIDE, report=no_report, model=None, most=4
):
    from prune_core.attacks import engine
    from prune_core.attacks.victim import Victim

    reporter = ProgressReporter(report)
    examples = examples or victim[2]
    asked = Victim(model or victim[0], victim[1], reporter.report_if_due)
    found = engine.run(
        recipe,
        asked,
        reporter,
        examples=examples,
        indices=range(len(examples)),
        budget=budget,
        seed=SEED,
        concurrency=most,
    )
    return sorted(found, key=lambda outcome: outcome.example)


@pytest.mark.parametrize("recipe", NAMES)
def test_outcomes_are_those_of_textattacks_own_wrapper(victim, recipe):
    from textattack.attack_results import SkippedAttackResult
    from textattack.models.wrappers import HuggingFaceModelWrapper

    from prune_core.attacks.engine import example_seed
    from prune_core.attacks.recipes import RECIPES, goal_reached
    from prune_core.attacks.sentence_similarity import Encoder
    from prune_core.attacks.victim import Victim

    model, tokenizer, examples = victim
    wrapper = HuggingFaceModelWrapper(model, tokenizer)
    wrapper.get_grad = Victim(
        model, tokenizer, nothing
    ).get_grad  # its own leaves dropout on, which no two runs agree on
    reference = RECIPES[recipe](wrapper, Encoder(torch.device("cpu"), nothing))
    budget = (
        AttackBudget(queries=300, seconds=10**6) if recipe == "LEAP" else WIDE
    )  # a swarm asks many thousand times
    reference.goal_function.query_budget = budget.queries
    ours = attack(victim, recipe, budget=budget)
    for index, outcome in enumerate(ours):
        seed_everything(example_seed(SEED, index))
        result = reference.attack(examples.texts[index], examples.labels[index])
        skipped = isinstance(result, SkippedAttackResult)
        assert outcome.outcome == (
            "skipped" if skipped else "success" if goal_reached(result) else "failed"
        )
        assert outcome.queries == result.num_queries
        if outcome.outcome != "skipped":
            assert outcome.perturbed == result.perturbed_text()
            assert outcome.perturbed_prediction == result.perturbed_result.output
    assert {"skipped", "success"} <= {outcome.outcome for outcome in ours}


@pytest.mark.parametrize("name", ODD)
def test_our_text_edits_as_textattacks_does(name):
    from textattack.shared import AttackedText

    from prune_core.attacks.attacked_text import FastAttackedText

    mine, reference = (
        FastAttackedText(OrderedDict(text=ODD[name]), Clock(nothing)),
        AttackedText(ODD[name]),
    )
    assert mine.words == reference.words
    for index in range(len(mine.words)):
        for new in ("", "x", "two words", "hy-phen", "-", "Ünï"):
            a, b = (text.replace_word_at_index(index, new) for text in (mine, reference))
            for again in (False, True):
                assert a.text == b.text and a.words == b.words
                for key in ("modified_indices", "newly_modified_indices"):
                    assert a.attack_attrs[key] == b.attack_attrs[key]
                assert (
                    a.attack_attrs["original_index_map"].tolist()
                    == b.attack_attrs["original_index_map"].tolist()
                )
                if again or not a.words:
                    break
                a, b = (text.replace_word_at_index(0, "first one") for text in (a, b))


@pytest.mark.parametrize("recipe", NAMES)
def test_odd_texts_end_in_rows(victim, recipe):
    texts = [
        *ODD.values(),
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


def test_sentence_pairs_change_only_the_text(victim):
    examples = Examples(tiny.SENTENCES[:3], pairs=tiny.SENTENCES[3:6], labels=[0, 0, 0])
    both = attack(victim, examples=examples) + attack(
        victim, examples=Examples(examples.texts, examples.pairs, [1, 1, 1])
    )
    tried = [row for row in both if row.outcome in ("success", "failed")]
    assert len(tried) == 3 and not any(row.outcome == "error" for row in both)
    assert all(
        "\n" not in row.perturbed and len(row.perturbed.split()) == len(row.text.split())
        for row in tried
    )


def test_budgets_are_kept(victim):
    few = attack(victim, budget=AttackBudget(queries=5))
    assert all(row.queries <= 5 for row in few)
    assert any("query budget of 5" in row.note for row in few if row.outcome == "failed")
    late = attack(victim, budget=AttackBudget(seconds=1e-9))
    notes = {
        "failed": "Stopped by the time budget of 1e-09 s.",
        "skipped": "Misclassified before the attack.",
    }
    assert {row.outcome for row in late} == set(notes) and all(
        row.note == notes[row.outcome] for row in late
    )
    gentle = attack(victim, budget=AttackBudget(share=0.1))
    assert all(
        row.words_changed <= max(1, -(-len(row.text.split()) // 10))
        for row in gentle
        if row.words_changed is not None
    )


def test_an_example_that_raises_is_a_row_and_the_run_goes_on(victim):
    class Broken(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.config = model, model.config

        def forward(self, **batch):
            output = self.model(**batch)
            odd = (batch["input_ids"] == victim[1].convert_tokens_to_ids("plot")).any(1)
            output.logits[odd] = float("nan")
            return output

    rows = attack(victim, model=Broken(victim[0]))
    assert [row.outcome == "error" for row in rows] == ["plot" in text for text in victim[2].texts]
    bad = next(row for row in rows if row.outcome == "error")
    assert "NaN or infinite" in bad.note and bad.perturbed is None


@pytest.mark.parametrize("recipe", NAMES)
def test_outcomes_are_the_same_however_many_are_attacked_at_once(victim, recipe):
    one, *others = (
        [vars(row) | {"seconds": 0} for row in attack(victim, recipe, most=most)]
        for most in (1, 3, 100)
    )
    rounded = ("original_probabilities", "perturbed_probabilities")  # other batches round otherwise
    for other in others:
        for a, b in zip(one, other, strict=True):
            assert all(a[key] == pytest.approx(b[key], abs=1e-5) for key in rounded)
            assert {**a, **dict.fromkeys(rounded)} == {**b, **dict.fromkeys(rounded)}


def test_searches_that_wait_together_are_asked_together_and_keep_their_dice():
    rounds = []

    def double(texts):
        rounds.append(list(texts))
        return [2 * text for text in texts]

    def work(times: int) -> list[float]:
        return [random.random() + query_model(double, [times, turn])[0] for turn in range(times)]

    def alone(times: int) -> list[float]:
        random.seed(times)
        return [random.random() + 2 * times for _ in range(times)]

    searches = [
        Search(lambda times=times: work(times), Clock(nothing), times) for times in (2, 1, 3)
    ]
    assert sorted(run_concurrently(searches, 2), key=len) == [alone(1), alone(2), alone(3)]
    # the third starts as soon as the second has ended
    assert rounds == [[2, 0, 1, 0], [2, 1, 3, 0], [3, 1], [3, 2]]


def test_an_error_of_torch_in_a_search_can_be_caught():
    """Torch's errors walk the C stack, which ended the whole process where a search was begun
    deeper than it was resumed.
    """

    def work() -> str:
        query_model(list, [1])
        with pytest.raises(RuntimeError):
            torch.nn.functional.cosine_similarity(
                torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
            )
        return query_model(list, ["caught"])[0]

    assert (
        list(run_concurrently([Search(work, Clock(nothing), 0) for _ in range(4)], 4))
        == ["caught"] * 4
    )


def test_cancel_passes_through_a_search(victim, monkeypatch):
    monkeypatch.setattr(
        "prune_core.attacks.budget._INTERVAL", 0
    )  # the attacks here are over too soon to be noticed
    calls = []

    def report(progress, message):
        calls.append(progress)
        if len(calls) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        attack(victim, report=report)


def test_same_seed_same_outcomes_and_the_global_generator_is_left_alone(victim):
    random.seed(11)
    before = random.getstate()
    one, two = ([vars(row) | {"seconds": 0} for row in attack(victim)] for _ in range(2))
    assert one == two and random.getstate() == before


TOTAL = (
    "recipe n accuracy accuracy_low accuracy_high under_attack under_attack_low under_attack_high "
    "success_rate success_low "
    "success_high attacked succeeded failed skipped errored words_changed queries precision seconds"
)
SINGLE = (
    "recipe example outcome text label perturbed original_prediction perturbed_prediction "
    "original_probabilities "
    "perturbed_probabilities words_changed share_changed queries seconds note pair perturbed_pair "
    "similarity grammar meaning"
)


def test_tables_and_the_same_sample_for_every_recipe():
    pair = tiny.pair(tiny.model(), tiny.model(seed=1))
    tables = Attack(examples=5, word_examples=3).measure(pair, no_report)
    total, single = tables["attack"], tables["attack_example"]
    assert list(total.columns) == TOTAL.split() and list(single.columns) == SINGLE.split()
    names = ["DeepWordBug", "TextFooler (MiniLM)"]
    assert total.recipe.tolist() == names and total.n.tolist() == [5, 3]
    letters, words = (single[single.recipe == name].example.tolist() for name in names)
    assert letters[:3] == words
    assert (total.accuracy >= total.under_attack).all()


def test_what_a_machine_lacks_is_said_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("prune_core.attacks.requirements.WORDNET_FILES", tmp_path)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("prune_core.attacks.requirements._PREFIXES", ())
    assert {"PWWS", "LEAP"} <= Attack.lacking().keys()
    with pytest.raises(PruneError, match="apt install wordnet-base"):
        Attack(recipes="DeepWordBug, PWWS").measure(
            tiny.pair(tiny.model(), tiny.model()), no_report
        )
    with pytest.raises(PruneError, match="'Nobody'; choose one or more of DeepWordBug"):
        Attack(recipes="DeepWordBug,Nobody")
    assert Attack(recipes="Pruthi,DeepWordBug,Pruthi").recipes == "Pruthi, DeepWordBug"


def test_half_precision_is_an_option_that_leaves_the_model_alone(victim):
    model = tiny.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    single = Attack(recipes="DeepWordBug", examples=4, precision="bf16").measure(
        tiny.pair(model, model), no_report
    )["attack_example"]
    assert len(single) == 4 and (single.outcome != "error").all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_summary_counts():
    class Row:
        def __init__(self, outcome, share=None):
            self.outcome, self.share_changed, self.queries = outcome, share, 10

    rows = [Row("success", 0.2), Row("success", 0.4), Row("failed"), Row("skipped"), Row("error")]
    got = summarize(rows)
    assert (got["n"], got["attacked"], got["succeeded"], got["errored"]) == (5, 3, 2, 1)
    assert (
        got["accuracy"] == 0.75
        and got["under_attack"] == 0.25
        and got["success_rate"] == pytest.approx(2 / 3)
    )
    assert (
        got["words_changed"] == pytest.approx(0.3)
        and got["success_low"] < 2 / 3 < got["success_high"]
    )
    nothing = summarize([Row("skipped")])
    assert nothing["success_rate"] is None and nothing["attacked"] == 0


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
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(len(resources.stopwords())), "False"]
    assert (
        tmp_path / "attacks" / "nltk_data" / "corpora" / "stopwords" / "english"
    ).stat().st_mode & 0o077 == 0


def test_stop_words_are_function_words():
    words = set(resources.stopwords())
    assert {"the", "don't", "very", "have", "whom"} <= words
    assert not words & {"never", "nothing", "empty", "good", "film"}


def test_neighbour_table_keeps_antonyms_out():
    table = neighbours.load()
    near = {
        word: [other for other, _ in table.of(word)]
        for word in ("happy", "movie", "good", "bad", "boring")
    }
    assert "glad" in near["happy"] and "film" in near["movie"][:5] and "dull" in near["boring"]
    assert "bad" not in near["good"] and "good" not in near["bad"]
    assert neighbours.TABLE.stat().st_size <= 8e6 and len(table.words) == 20_000
    assert all(0.5 <= a[1] <= 1 for a in table.of("film", 5)) and table.of("qwxyz") == []
    similarities = [similarity for _, similarity in table.of("film")]
    assert similarities == sorted(similarities, reverse=True)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "nltk_data"
OUTCOMES = """
import sys, tiny
from test_attacks import attack
from prune_core.attacks.engine import load_textattack
from prune_core.data.examples import Examples
import nltk
model, tokenizer = tiny.model(), tiny.tokenizer()
found = attack((model, tokenizer), "DeepWordBug", Examples(tiny.SENTENCES[:6], labels=[0] * 6))
found += attack((model, tokenizer), "DeepWordBug", Examples(tiny.SENTENCES[:6], labels=[1] * 6))
print([(row.outcome, row.perturbed) for row in found])
"""


def test_the_stop_words_are_the_published_ones():
    words = resources.stopwords()
    assert len(words) == len(set(words)) == 179 and {"not", "don't", "wouldn"} <= set(words)
    assert not {"never", "nothing", "without"} & set(words)


@pytest.mark.skipif(not SHARED.is_dir(), reason="NLTK's own data is not beside this checkout")
def test_outcomes_are_those_of_nltks_own_list(tmp_path):
    """The bundled list in one process, NLTK's download in another; NLTK reads only what nobody
    else may write.
    """
    shutil.copytree(SHARED, tmp_path / "nltk")
    for path in [tmp_path / "nltk", *(tmp_path / "nltk").rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert (
        SHARED / "corpora" / "stopwords" / "english"
    ).read_text().split() == resources.stopwords()
    said = []
    for own in ({}, {"NLTK_DATA": str(tmp_path / "nltk")}):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        done = subprocess.run(
            [sys.executable, "-c", OUTCOMES],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **own},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(done.stdout)
    assert said[0] == said[1] and "success" in said[0]
