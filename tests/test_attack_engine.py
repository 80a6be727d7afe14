"""The attack engine resumes where it was killed, keeps to a person's limits, and ends in rows
whatever the model or the text.
"""

import json
import random
from dataclasses import replace

import pandas as pd
import pytest
import tiny
import torch

from prune_core import Cancelled, PruneError
from prune_core.analysis import takeaways
from prune_core.analysis.compared_models import ComparedModel
from prune_core.attacks.budget import AttackBudget, BudgetExceeded, Clock, ProgressReporter
from prune_core.attacks.catalogue import CATALOGUE, WORDS, missing
from prune_core.data.examples import Examples
from prune_core.data.tasks import Task
from prune_core.measures.attack import Attack, summarize
from prune_core.plugins import no_report

NAMES = [name for name, entry in CATALOGUE.items() if not missing(entry)]


def nothing() -> None: ...


class Wrapped(torch.nn.Module):
    """The tiny model, its logits changed on the way out."""

    def __init__(self, change):
        super().__init__()
        self.model, self.change, self.calls = tiny.model(), change, 0
        self.config, self.get_input_embeddings = self.model.config, self.model.get_input_embeddings

    def forward(self, **batch):
        self.calls += 1
        output = self.model(**batch)
        output.logits = self.change(self, batch["input_ids"], output.logits)
        return output


@pytest.fixture(scope="module")
def attacked():
    """The sentences labelled as the tiny model sees them, so that all are attacked."""
    from prune_core.attacks.victim import Victim

    labels = Victim(tiny.model(), tiny.tokenizer(), nothing)(tiny.SENTENCES).argmax(-1).tolist()
    return Examples(tiny.SENTENCES, labels=labels)


def measured(examples, folder=None, report=no_report, model=None, batch_size=32, **options):
    model = model or tiny.model()
    pair = replace(
        tiny.pair(model, model),
        task=Task("tiny", ("no", "yes"), examples, evaluation=examples),
        folder=folder,
        batch_size=batch_size,
    )
    found = Attack(**{"recipes": "DeepWordBug", "examples": 12, **options}).measure(pair, report)[
        "attack_example"
    ]
    return found.drop(columns="seconds").to_dict("records")


def run(recipe, model, examples, budget=AttackBudget(queries=60, seconds=60)):  # noqa: B008
    from prune_core.attacks import engine
    from prune_core.attacks.victim import Victim

    reporter = ProgressReporter(no_report)
    victim = Victim(model, tiny.tokenizer(), reporter.report_if_due, max_length=64)
    return sorted(
        engine.run(
            recipe,
            victim,
            reporter,
            examples=examples,
            indices=range(len(examples)),
            budget=budget,
            seed=0,
        ),
        key=lambda row: row.example,
    )


@pytest.fixture
def searched(monkeypatch):
    """The examples that are searched, in turn."""
    from prune_core.attacks import engine

    seen, real = [], engine.attack_one

    def attack_one(*arguments, **keywords):
        seen.append(keywords["index"])
        return real(*arguments, **keywords)

    monkeypatch.setattr(engine, "attack_one", attack_one)
    return seen


def same(some, others):
    """Equal but for the rounding of other batches."""
    rounded = ("original_probabilities", "perturbed_probabilities")
    for a, b in zip(some, others, strict=True):
        assert all(a[key] == pytest.approx(b[key], abs=1e-5) for key in rounded)
        assert {**a, **dict.fromkeys(rounded)} == pytest.approx(
            {**b, **dict.fromkeys(rounded)}, nan_ok=True
        )


def test_a_killed_run_goes_on_with_what_is_left(attacked, tmp_path, monkeypatch, searched):
    monkeypatch.setattr(
        "prune_core.attacks.budget._INTERVAL", 0
    )  # the attacks here are over too soon to be noticed
    whole = measured(attacked)

    def kill(progress, message):
        if progress > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        measured(attacked, tmp_path, kill)
    file = tmp_path / "attack.jsonl"
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    done = {line["example"] for line in kept}
    assert 0 < len(done) < 12 and {line["recipe"] for line in kept} == {"DeepWordBug"}
    with file.open("a") as torn:
        torn.write('{"recipe": "DeepW')  # the process died while it wrote
    searched.clear()
    same(measured(attacked, tmp_path), whole)
    assert sorted(searched) == sorted(set(range(12)) - done)
    searched.clear()
    model = Wrapped(lambda self, ids, logits: logits)
    same(measured(attacked, tmp_path, model=model), whole)
    assert not searched and model.calls == 0 and len(file.read_text().splitlines()) == 12
    measured(attacked, tmp_path, protected_words="the")
    assert len(searched) == 12  # other options, other outcomes


def test_out_of_memory_goes_on_with_half_the_batch(attacked, tmp_path, searched):
    file = tmp_path / "attack.jsonl"

    def too_big(self, ids, logits):
        if file.is_file() and len(ids) > 4:
            raise torch.OutOfMemoryError("too big")
        return logits

    with pytest.raises(torch.OutOfMemoryError):
        measured(attacked, tmp_path, model=Wrapped(too_big), batch_size=8)
    done = {json.loads(line)["example"] for line in file.read_text().splitlines()}
    searched.clear()
    rows = measured(attacked, tmp_path, model=Wrapped(too_big), batch_size=4)
    assert done and sorted(searched) == sorted(set(range(12)) - done)
    same(rows, measured(attacked))


def test_words_never_to_touch(attacked):
    words = {
        word.strip(".,").lower()
        for row in measured(attacked)
        for word in row["text"].split()
        if word not in row["perturbed"].split()
    }
    assert len(words) > 3  # these an attack changes where it may
    for row in measured(attacked, protected_words=", ".join(sorted(words)).upper()):
        new = row["perturbed"].lower()
        assert all(word in new for word in words if word in row["text"].lower().split())


def test_least_similarity_to_the_original(attacked):
    from prune_core.attacks.sentence_similarity import encode

    def similarity(rows):
        tried = [row for row in rows if row["perturbed"] != row["text"]]
        one, two = (
            encode([row[key] for row in tried], torch.device("cpu"))
            for key in ("text", "perturbed")
        )
        return (one * two).sum(-1).tolist()

    free, held = (similarity(measured(attacked, similarity=least)) for least in (0.0, 0.85))
    assert min(free) < 0.85 <= min(held) and len(held) < 12


@pytest.mark.parametrize(
    ("column", "changes"),
    [("first", (True, False)), ("second", (False, True)), ("both", (True, True))],
)
def test_the_chosen_sentence_of_a_pair_changes(column, changes):
    texts, pairs = (
        [tiny.SENTENCES[1], tiny.SENTENCES[4]] * 2,
        [tiny.SENTENCES[4], tiny.SENTENCES[5]] * 2,
    )
    rows = measured(Examples(texts, pairs, [0, 0, 1, 1]), column=column, similarity=0.2)
    rows = [row for row in rows if row["outcome"] != "skipped"]
    assert len(rows) == 2 and not any(row["outcome"] == "error" for row in rows)
    assert any(row["text"] != row["perturbed"] for row in rows) is changes[0]
    assert any(row["pair"] != row["perturbed_pair"] for row in rows) is changes[1]


def test_single_sentences_have_no_second_column(attacked):
    with pytest.raises(PruneError, match="no text pairs"):
        measured(attacked, column="second")


@pytest.mark.parametrize("recipe", NAMES)
def test_a_broken_model_ends_in_rows_with_a_sentence(recipe, attacked):
    attacked = attacked.take([1, 2, 4])
    plot = tiny.tokenizer().convert_tokens_to_ids("plot")

    def crash(self, ids, logits):
        if (ids == plot).any():
            raise ValueError("no plots, please")
        return logits

    rows = run(recipe, Wrapped(crash), attacked)
    assert [row.outcome == "error" for row in rows] == ["plot" in text for text in attacked.texts]
    assert "ValueError: no plots, please" in next(
        row.note for row in rows if row.outcome == "error"
    )
    rows = run(recipe, Wrapped(lambda self, ids, logits: logits * float("nan")), attacked)
    assert {(row.outcome, "NaN or infinite" in row.note) for row in rows} == {("error", True)}
    rows = run(
        recipe, Wrapped(lambda self, ids, logits: logits * 0 + torch.tensor([0.0, 9.0])), attacked
    )
    held = (
        {"failed", "success"} if recipe == "Input reduction" else {"failed"}
    )  # which wants the same answer
    assert all(
        row.outcome in (held if label else {"skipped"})
        for row, label in zip(rows, attacked.labels, strict=True)
    )
    rows = run(
        recipe, Wrapped(lambda self, ids, logits: logits[:, :1]), replace(attacked, labels=[0] * 3)
    )
    assert {row.outcome for row in rows} <= held


def test_settings_are_told_and_a_difference_among_models_is_said():
    plain = Attack().to_dict()
    strict = Attack(
        query_budget=90,
        similarity=0.8,
        protected_words="good, bad",
        max_changed=0.2,
        precision="bf16",
    ).to_dict()
    assert takeaways.attack_settings({}) == ""
    one = "Limits per example: 500 queries, 30 s, any number of changed words. Precision: fp32."
    assert takeaways.attack_settings({"Dense": plain, "AKR 70%": plain}) == one
    told = takeaways.attack_settings({"Dense": plain, "AKR 70%": strict})
    assert "different settings" in told and f"Dense: {one}" in told
    assert (
        "AKR 70%: Limits per example: 90 queries" in told
        and "20.0% of words" in told
        and "0.8" in told
    )
    assert "without changes to good, bad" in told and "bf16" in told


def test_where_nothing_could_be_attacked_the_page_says_so():
    rows = pd.DataFrame(
        [{"recipe": "DeepWordBug", **summarize([]), "n": 3, "errored": 3, "job": 1}]
    )
    told = takeaways.attack(
        rows, pd.DataFrame(columns=["recipe", "job"]), [ComparedModel(1, "Dense")]
    )
    assert "attacked no example of the dense model" in told and "3 ended in an error" in told


@pytest.mark.parametrize(
    "script",
    [
        "English",
        "中文电影非常精彩",
        "هذا الفيلم كان ممتعا",
        "यह फिल्म अच्छी थी",
        "😀🎬",
        "",
        "\ud800 lone",
    ],
)
@pytest.mark.parametrize("recipe", NAMES)
def test_any_text_ends_in_a_row(recipe, script):
    texts = [script, " ".join([script, *random.Random(0).choices(tiny.SENTENCES[2].split(), k=20)])]
    rows = run(recipe, tiny.model(), Examples(texts * 2, labels=[0, 0, 1, 1]))
    if "\ud800" in script:  # no text at all: half of a character
        assert {row.outcome for row in rows} <= {"error", "skipped"} and all(
            row.note for row in rows
        )
    else:
        refused = {
            row.outcome for row in rows if "English word lists" in row.note
        }  # a word attack of a text in another script
        assert {row.outcome for row in rows if "English word lists" not in row.note} <= {
            "success",
            "failed",
            "skipped",
        }
        assert refused <= {"error"} and (
            not refused or (CATALOGUE[recipe].changes == WORDS and not script.isascii())
        )


def test_a_long_question_is_asked_in_parts_and_the_time_is_kept(monkeypatch):
    from prune_core.attacks import scheduler

    monkeypatch.setattr(scheduler, "LETTERS_PER_ROUND", 12)
    rounds = []

    def shout(texts):
        rounds.append(list(texts))
        return [text.upper() for text in texts]

    def work(texts):
        return lambda: scheduler.query_model(shout, texts)

    def stopped():
        try:
            scheduler.query_model(shout, ["never"])
        except BudgetExceeded:
            return "stopped"

    long = ["abc", "def", "ghi", "jkl"]
    assert list(
        scheduler.run_concurrently([scheduler.Search(work(long), Clock(nothing), 0)], 4)
    ) == [[text.upper() for text in long]]
    assert rounds == [long]
    rounds.clear()
    searches = [
        scheduler.Search(work(long), Clock(nothing), 0),
        scheduler.Search(work(["x"]), Clock(nothing), 1),
    ]
    assert sorted(scheduler.run_concurrently(searches, 4), key=len) == [
        ["X"],
        [text.upper() for text in long],
    ]
    assert rounds == [["abc", "def", "x"], ["ghi", "jkl"]]
    assert list(
        scheduler.run_concurrently([scheduler.Search(stopped, Clock(nothing, 0.0), 0)], 4)
    ) == ["stopped"]


def test_large_searches_leave_room():
    from prune_core.attacks.scheduler import Search, query_model, run_concurrently

    together = []
    answer = lambda texts: together.append(len(texts)) or texts  # noqa: E731
    searches = [
        Search(lambda: query_model(answer, ["a"]), Clock(nothing), 0, size=size)
        for size in (2.0, 2.0, 1.0, 9.0)
    ]
    assert len(list(run_concurrently(searches, 3))) == 4 and together == [2, 2]
