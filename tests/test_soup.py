"""Averages of fine-tunes: what may be averaged, what the greedy search takes, and that nothing
is measured twice.
"""

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.data.examples import DataSource
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report
from prune_core.training import model_soup


def candidates(*names: str) -> list[model_soup.Candidate]:
    return [model_soup.Candidate(name, name, {}) for name in names]


def walk(
    scores: dict[str, float], accuracies: dict[str, float] | None = None, floor: float = 0.0
) -> list[str]:
    """The names that greedy takes, in the order a, b, c, where an average's score is looked up
    by its names.
    """

    def measure(chosen, report):
        key = "".join(candidate.name for candidate in chosen)
        return {"under_attack": scores[key], "accuracy": (accuracies or {}).get(key, 1.0)}

    attempts = model_soup.greedy(
        candidates("a", "b", "c"), "under_attack", floor, measure=measure, report=no_report
    )
    assert [attempt["added"] for attempt in attempts] == ["a", "b", "c"]
    return [attempt["added"] for attempt in attempts if attempt["taken"]]


def test_greedy_takes_what_does_not_lower_the_score_and_goes_on_behind_what_does():
    assert walk({"a": 0.5, "ab": 0.4, "ac": 0.5}) == ["a", "c"]
    assert walk({"a": 0.5, "ab": 0.6, "abc": 0.55}) == ["a", "b"]


def test_greedy_never_takes_an_average_that_is_too_wrong():
    """A model that always says the same stands up to every attack."""
    assert walk({"a": 0.5, "b": 0.3, "bc": 0.4}, {"a": 0.5}, floor=0.9) == ["b", "c"]


def test_what_is_too_wrong_to_start_from_is_tried_last():
    found = {
        "constant": {"accuracy": 0.5, "under_attack": 0.5},
        "robust": {"accuracy": 0.88, "under_attack": 0.3},
        "plain": {"accuracy": 0.91, "under_attack": 0.2},
        "second": {"accuracy": 0.9, "under_attack": 0.1},
    }
    assert model_soup.ranking(found, "under_attack", 0.9) == [
        "plain",
        "second",
        "constant",
        "robust",
    ]
    assert model_soup.ranking(found, "under_attack", -0.09) == list(found), (
        "with any loss allowed, Algorithm 3's order"
    )


def test_the_mean_is_taken_in_fp32_and_whole_numbers_are_left_alone():
    first, second = (
        {"w": torch.tensor([w], dtype=torch.float16), "ids": torch.tensor([i])}
        for w, i in ((1.0, 3), (1.0009765625, 5))
    )
    found = model_soup.average([first, second])
    assert (
        found["w"].dtype == torch.float32 and found["w"].item() == 1.00048828125
    )  # which fp16 cannot hold
    assert found["ids"].tolist() == [3]


@pytest.fixture
def saved(tmp_path: Path):
    """A checkpoint of that name, changed by a function before it is saved."""

    def save(
        name: str, seed: int = 0, change=lambda model, tokenizer: None
    ) -> model_soup.Candidate:
        model, tokenizer = tiny.model(seed=seed), tiny.tokenizer()
        model.config.id2label = {0: "negative", 1: "positive"}
        change(model, tokenizer)
        loading.save(model, tokenizer, tmp_path / name)
        return model_soup.Candidate.of(str(tmp_path / name))

    return save


def turned(model, tokenizer):
    model.config.id2label = {0: "positive", 1: "negative"}


def worded(model, tokenizer):
    tokenizer.add_tokens(["prunescope"])
    model.resize_token_embeddings(len(tokenizer))


def diverged(model, tokenizer):
    model.classifier.bias.data[0] = float("nan")


@pytest.mark.parametrize(
    "change, words",
    [
        (turned, "b has the labels positive, negative but a has negative, positive"),
        (worded, "different vocabularies"),
        (diverged, "its training diverged"),
    ],
)
def test_what_does_not_fit_is_a_sentence_before_anything_is_measured(
    saved, tmp_path, change, words
):
    pair = [saved("a"), saved("b", change=change)]
    with pytest.raises(PruneError, match=words):
        model_soup.make_soup(
            model_soup.SoupPlan(),
            pair,
            DataSource("nowhere.csv"),
            folder=tmp_path / "out",
            report=no_report,
        )
    assert not (tmp_path / "out").exists()


def test_another_family_and_a_lonely_checkpoint_are_sentences(saved, tmp_path):
    loading.save(tiny.model("electra"), tiny.tokenizer(), tmp_path / "electra")
    first = saved(
        "a", change=lambda model, _: setattr(model.config, "id2label", {0: "LABEL_0", 1: "LABEL_1"})
    )
    with pytest.raises(PruneError, match="have different shapes"):
        model_soup.check_compatible([first, model_soup.Candidate.of(str(tmp_path / "electra"))])
    with pytest.raises(PruneError, match="at least two checkpoints"):
        model_soup.check_compatible([first])


def test_cooked_whole_and_nothing_is_measured_twice(saved, tmp_path, monkeypatch):
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(tiny.SENTENCES)]
    pd.DataFrame(rows).to_csv(tmp_path / "held-out.csv", index=False)
    pair, calls = [saved("a"), saved("b", seed=1)], []
    attack = model_soup.Attack.measure
    monkeypatch.setattr(
        model_soup.Attack, "measure", lambda *arguments: calls.append(1) or attack(*arguments)
    )
    plan = {"attack": "DeepWordBug", "attack_examples": 4}
    record = model_soup.make_soup(
        model_soup.SoupPlan(way="uniform", **plan),
        pair,
        DataSource(str(tmp_path / "held-out.csv")),
        folder=tmp_path / "out",
        report=no_report,
    )
    assert (
        len(calls) == 3
        and record["ingredients"] == ["a", "b"]
        and record["candidates"][0]["n"] == 12
    )
    again = model_soup.make_soup(
        model_soup.SoupPlan(allowed_loss=1.0, **plan),
        pair,
        DataSource(str(tmp_path / "held-out.csv")),
        folder=tmp_path / "out",
        report=no_report,
    )
    assert len(calls) == 3, "another way asks for nothing new"
    assert [attempt["taken"] for attempt in again["attempts"]][0] and len(again["attempts"]) == 2
    model, _ = loading.load(str(tmp_path / "out" / "uniform"))
    mean = (tiny.model(seed=0).classifier.weight + tiny.model(seed=1).classifier.weight) / 2
    torch.testing.assert_close(model.classifier.weight, mean)
    assert json.loads((tmp_path / "out" / "uniform" / model_soup.RECORD).read_text()) == record
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "greedy-attack",
        "measurements.json",
        "uniform",
    ]


def test_a_cancelled_soup_leaves_its_measurements_and_no_checkpoint(saved, tmp_path):
    pd.DataFrame({"text": tiny.SENTENCES, "label": [0, 1] * 6}).to_csv(
        tmp_path / "held-out.csv", index=False
    )

    def stopped(progress: float, message: str) -> None:
        if message.startswith("b: "):
            raise KeyboardInterrupt

    plan = model_soup.SoupPlan(attack="DeepWordBug", attack_examples=2)
    with pytest.raises(KeyboardInterrupt):
        model_soup.make_soup(
            plan,
            [saved("a"), saved("b", seed=1)],
            DataSource(str(tmp_path / "held-out.csv")),
            folder=tmp_path / "out",
            report=stopped,
        )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["measurements.json"]


def test_the_command_makes_recipes_and_their_average(tmp_path, capsys):
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    rows = [
        {"text": f"{'one more ' * (i % 5)}{('bad', 'good')[i % 2]} film", "label": i % 2}
        for i in range(40)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "recipes.yaml").write_text("- {seed: 1}\n- {seed: 2, adversarial: freelb}\n")
    data = [
        "--task",
        tmp_path / "train.csv",
        "--validation",
        tmp_path / "train.csv",
        "--out",
        tmp_path / "out",
    ]
    made = [
        "--recipes",
        tmp_path / "recipes.yaml",
        "--each",
        f"checkpoint={tmp_path / 'backbone'}",
        "--each",
        "epochs=1",
    ]
    measured = ["--way", "uniform", "--set", "attack=DeepWordBug", "--set", "attack_examples=3"]
    assert main([str(word) for word in ("soup", *data, *made, *measured)]) == 0
    said = capsys.readouterr()
    assert (
        "+ all" in said.out
        and "fine-tune 02" in said.err
        and f"01 + 02: {tmp_path / 'out' / 'uniform'}" in said.out
    )
    record = json.loads((tmp_path / "out" / "uniform" / model_soup.RECORD).read_text())
    assert [row["recipe"]["seed"] for row in record["candidates"]] == [1, 2]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--way", "best"], "choose one of greedy-attack"),
        (["--recipes", "nothing.yaml"], "cannot be read as YAML"),
        (["--checkpoint", "demo"], "at least two checkpoints"),
        (["--checkpoint", "demo", "--checkpoint", "demo"], "same folder name"),
    ],
)
def test_mistakes_are_one_line(words, said, capsys, tmp_path):
    assert main(["soup", "--validation", "demo", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_recipes_are_read_scaled_and_overridden(tmp_path):
    (tmp_path / "recipes.yaml").write_text(
        "- {learning_rate: 5e-5, epochs: 30}\n- {name: robust, adversarial: freelb, epochs: 3}\n"
    )
    found = model_soup.read_recipes(tmp_path / "recipes.yaml", {"dropout": "0"}, epochs_scale=0.1)
    assert (
        list(found) == ["01", "robust"] and found["01"].epochs == 3 and found["robust"].epochs == 1
    )
    assert (
        found["01"].learning_rate == 5e-5
        and found["robust"].adversarial == "freelb"
        and found["robust"].dropout == 0
    )
    (tmp_path / "recipes.yaml").write_text("learning_rate: 5e-5")
    with pytest.raises(PruneError, match="is not a list of fine-tuning options"):
        model_soup.read_recipes(tmp_path / "recipes.yaml", {})
