"""The attack engine resumes after a kill, respects user limits and records errors as rows."""

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
from prune_core.measures.attack import Attack, summarize
from prune_core.plugins import no_report
from prune_core.tasks.task_data import Task

NAMES = [name for name, entry in CATALOGUE.items() if not missing(entry)]


def no_op() -> None: ...


class Wrapped(torch.nn.Module):
    """The tiny model with its logits transformed by `change`."""

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
def correct_examples():
    """Examples labeled with the tiny model's predictions, so that all are attacked."""
    from prune_core.attacks.victim import Victim

    labels = Victim(tiny.model(), tiny.tokenizer(), no_op)(tiny.SENTENCES).argmax(-1).tolist()
    return Examples(tiny.SENTENCES, labels=labels)


def measure_attack(examples, folder=None, report=no_report, model=None, batch_size=32, **options):
    model = model or tiny.model()
    pair = replace(
        tiny.pair(model, model),
        task=Task("tiny", ("no", "yes"), examples, evaluation=examples),
        folder=folder,
        batch_size=batch_size,
    )
    rows = Attack(**{"recipes": "DeepWordBug", "examples": 12, **options}).measure(pair, report)[
        "attack_example"
    ]
    return rows.drop(columns="seconds").to_dict("records")


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
def searched_indices(monkeypatch):
    """Indices of the searched examples, in order."""
    from prune_core.attacks import engine

    seen, real = [], engine.attack_one

    def attack_one(*arguments, **keywords):
        seen.append(keywords["index"])
        return real(*arguments, **keywords)

    monkeypatch.setattr(engine, "attack_one", attack_one)
    return seen


def assert_equal_rows(first, second):
    """Assert that rows are equal, up to rounding differences between batch sizes."""
    rounded = ("original_probabilities", "perturbed_probabilities")
    for row, expected in zip(first, second, strict=True):
        assert all(row[key] == pytest.approx(expected[key], abs=1e-5) for key in rounded)
        assert {**row, **dict.fromkeys(rounded)} == pytest.approx(
            {**expected, **dict.fromkeys(rounded)}, nan_ok=True
        )


def test_a_killed_run_resumes_with_the_remaining_examples(
    correct_examples, tmp_path, monkeypatch, searched_indices
):
    monkeypatch.setattr(
        "prune_core.attacks.budget._INTERVAL", 0
    )  # report every time: these attacks are too short
    uninterrupted = measure_attack(correct_examples)

    def kill(progress, message):
        if progress > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_attack(correct_examples, tmp_path, kill)
    file = tmp_path / "attack.jsonl"
    saved = [json.loads(line) for line in file.read_text().splitlines()]
    done = {line["example"] for line in saved}
    assert 0 < len(done) < 12 and {line["recipe"] for line in saved} == {"DeepWordBug"}
    with file.open("a") as stream:
        stream.write('{"recipe": "DeepW')  # the process was killed while writing
    searched_indices.clear()
    assert_equal_rows(measure_attack(correct_examples, tmp_path), uninterrupted)
    assert sorted(searched_indices) == sorted(set(range(12)) - done)
    searched_indices.clear()
    model = Wrapped(lambda self, ids, logits: logits)
    assert_equal_rows(measure_attack(correct_examples, tmp_path, model=model), uninterrupted)
    assert not searched_indices and model.calls == 0 and len(file.read_text().splitlines()) == 12
    measure_attack(correct_examples, tmp_path, protected_words="the")
    assert len(searched_indices) == 12  # changed options: nothing is reused


def test_attack_resumes_after_out_of_memory_with_half_the_batch(
    correct_examples, tmp_path, searched_indices
):
    file = tmp_path / "attack.jsonl"

    def too_big(self, ids, logits):
        if file.is_file() and len(ids) > 4:
            raise torch.OutOfMemoryError("too big")
        return logits

    with pytest.raises(torch.OutOfMemoryError):
        measure_attack(correct_examples, tmp_path, model=Wrapped(too_big), batch_size=8)
    done = {json.loads(line)["example"] for line in file.read_text().splitlines()}
    searched_indices.clear()
    rows = measure_attack(correct_examples, tmp_path, model=Wrapped(too_big), batch_size=4)
    assert done and sorted(searched_indices) == sorted(set(range(12)) - done)
    assert_equal_rows(rows, measure_attack(correct_examples))


def test_protected_words_are_unchanged(correct_examples):
    words = {
        word.strip(".,").lower()
        for row in measure_attack(correct_examples)
        for word in row["text"].split()
        if word not in row["perturbed"].split()
    }
    assert len(words) > 3  # words that the attack changes unless they are protected
    for row in measure_attack(correct_examples, protected_words=", ".join(sorted(words)).upper()):
        perturbed = row["perturbed"].lower()
        assert all(word in perturbed for word in words if word in row["text"].lower().split())


def test_minimum_similarity_is_enforced(correct_examples):
    from prune_core.attacks.sentence_similarity import encode

    def similarity(rows):
        changed = [row for row in rows if row["perturbed"] != row["text"]]
        original, perturbed = (
            encode([row[key] for row in changed], torch.device("cpu"))
            for key in ("text", "perturbed")
        )
        return (original * perturbed).sum(-1).tolist()

    unconstrained, constrained = (
        similarity(measure_attack(correct_examples, similarity=minimum)) for minimum in (0.0, 0.85)
    )
    assert min(unconstrained) < 0.85 <= min(constrained) and len(constrained) < 12


@pytest.mark.parametrize(
    ("column", "changes"),
    [("first", (True, False)), ("second", (False, True)), ("both", (True, True))],
)
def test_only_the_selected_column_of_a_pair_is_perturbed(column, changes):
    texts, pairs = (
        [tiny.SENTENCES[1], tiny.SENTENCES[4]] * 2,
        [tiny.SENTENCES[4], tiny.SENTENCES[5]] * 2,
    )
    rows = measure_attack(Examples(texts, pairs, [0, 0, 1, 1]), column=column, similarity=0.2)
    rows = [row for row in rows if row["outcome"] != "skipped"]
    assert len(rows) == 2 and not any(row["outcome"] == "error" for row in rows)
    assert any(row["text"] != row["perturbed"] for row in rows) is changes[0]
    assert any(row["pair"] != row["perturbed_pair"] for row in rows) is changes[1]


def test_second_column_is_refused_for_single_texts(correct_examples):
    with pytest.raises(PruneError, match="no text pairs"):
        measure_attack(correct_examples, column="second")


@pytest.mark.parametrize("recipe", NAMES)
def test_model_errors_are_recorded_as_rows_with_a_note(recipe, correct_examples):
    correct_examples = correct_examples.take([1, 2, 4])
    plot = tiny.tokenizer().convert_tokens_to_ids("plot")

    def crash(self, ids, logits):
        if (ids == plot).any():
            raise ValueError("no plots, please")
        return logits

    rows = run(recipe, Wrapped(crash), correct_examples)
    assert [row.outcome == "error" for row in rows] == [
        "plot" in text for text in correct_examples.texts
    ]
    assert "ValueError: no plots, please" in next(
        row.note for row in rows if row.outcome == "error"
    )
    rows = run(recipe, Wrapped(lambda self, ids, logits: logits * float("nan")), correct_examples)
    assert {(row.outcome, "NaN or infinite" in row.note) for row in rows} == {("error", True)}
    rows = run(
        recipe,
        Wrapped(lambda self, ids, logits: logits * 0 + torch.tensor([0.0, 9.0])),
        correct_examples,
    )
    expected = (
        {"failed", "success"} if recipe == "Input reduction" else {"failed"}
    )  # whose goal is an unchanged prediction
    assert all(
        row.outcome in (expected if label else {"skipped"})
        for row, label in zip(rows, correct_examples.labels, strict=True)
    )
    rows = run(
        recipe,
        Wrapped(lambda self, ids, logits: logits[:, :1]),
        replace(correct_examples, labels=[0] * 3),
    )
    assert {row.outcome for row in rows} <= expected


def test_attack_settings_are_summarized_and_differences_listed():
    default = Attack().to_dict()
    strict = Attack(
        query_budget=90,
        similarity=0.8,
        protected_words="good, bad",
        max_changed=0.2,
        precision="bf16",
    ).to_dict()
    assert takeaways.attack_settings({}) == ""
    default_summary = (
        "Limits per example: 500 queries, 30 s, any number of changed words. Precision: fp32."
    )
    assert takeaways.attack_settings({"Dense": default, "AKR 70%": default}) == default_summary
    summary = takeaways.attack_settings({"Dense": default, "AKR 70%": strict})
    assert "different settings" in summary and f"Dense: {default_summary}" in summary
    assert "AKR 70%: Limits per example: 90 queries" in summary
    assert "20.0% of words" in summary
    assert "0.8" in summary
    assert "without changes to good, bad" in summary and "bf16" in summary


def test_takeaway_states_that_no_example_was_attacked():
    rows = pd.DataFrame(
        [{"recipe": "DeepWordBug", **summarize([]), "n": 3, "errored": 3, "job": 1}]
    )
    takeaway = takeaways.attack(
        rows, pd.DataFrame(columns=["recipe", "job"]), [ComparedModel(1, "Dense")]
    )
    assert "attacked no example of the dense model" in takeaway
    assert "3 ended in an error" in takeaway


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
def test_any_text_produces_a_row(recipe, script):
    texts = [script, " ".join([script, *random.Random(0).choices(tiny.SENTENCES[2].split(), k=20)])]
    rows = run(recipe, tiny.model(), Examples(texts * 2, labels=[0, 0, 1, 1]))
    if "\ud800" in script:  # a lone surrogate is not valid Unicode
        assert {row.outcome for row in rows} <= {"error", "skipped"}
        assert all(row.note for row in rows)
    else:
        refused = {
            row.outcome for row in rows if "English word lists" in row.note
        }  # word-level attacks refuse non-English text
        assert {row.outcome for row in rows if "English word lists" not in row.note} <= {
            "success",
            "failed",
            "skipped",
        }
        assert refused <= {"error"}
        assert not refused or (CATALOGUE[recipe].changes == WORDS and not script.isascii())


def test_long_queries_are_split_and_the_time_budget_is_enforced(monkeypatch):
    from prune_core.attacks import scheduler

    monkeypatch.setattr(scheduler, "LETTERS_PER_ROUND", 12)
    rounds = []

    def model(batch):
        rounds.append(list(batch))
        return [text.upper() for text in batch]

    def query(batch):
        return lambda: scheduler.query_model(model, batch)

    def exceed_budget():
        try:
            scheduler.query_model(model, ["never"])
        except BudgetExceeded:
            return "stopped"

    texts = ["abc", "def", "ghi", "jkl"]
    assert list(
        scheduler.run_concurrently([scheduler.Search(query(texts), Clock(no_op), 0)], 4)
    ) == [[text.upper() for text in texts]]
    assert rounds == [texts]
    rounds.clear()
    searches = [
        scheduler.Search(query(texts), Clock(no_op), 0),
        scheduler.Search(query(["x"]), Clock(no_op), 1),
    ]
    assert sorted(scheduler.run_concurrently(searches, 4), key=len) == [
        ["X"],
        [text.upper() for text in texts],
    ]
    assert rounds == [["abc", "def", "x"], ["ghi", "jkl"]]
    assert list(
        scheduler.run_concurrently([scheduler.Search(exceed_budget, Clock(no_op, 0.0), 0)], 4)
    ) == ["stopped"]


def test_search_sizes_limit_concurrency():
    from prune_core.attacks.scheduler import Search, query_model, run_concurrently

    batch_sizes = []
    model = lambda texts: batch_sizes.append(len(texts)) or texts  # noqa: E731
    searches = [
        Search(lambda: query_model(model, ["a"]), Clock(no_op), 0, size=size)
        for size in (2.0, 2.0, 1.0, 9.0)
    ]
    assert len(list(run_concurrently(searches, 3))) == 4 and batch_sizes == [2, 2]
