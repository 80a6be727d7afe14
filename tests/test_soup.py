"""Model soups: compatible checkpoints, the greedy search, and reuse of measurements."""

import copy
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


def greedy_selection(
    scores: dict[str, float], accuracies: dict[str, float] | None = None, floor: float = 0.0
) -> list[str]:
    """Return the names that the greedy search adds, tried in the order a, b, c.

    The score of an average is looked up by its joined names.
    """

    def measure(chosen, report):
        key = "".join(candidate.name for candidate in chosen)
        return {"under_attack": scores[key], "accuracy": (accuracies or {}).get(key, 1.0)}

    attempts = model_soup.greedy(
        candidates("a", "b", "c"), "under_attack", floor, measure=measure, report=no_report
    )
    assert [attempt["added"] for attempt in attempts] == ["a", "b", "c"]
    return [attempt["added"] for attempt in attempts if attempt["taken"]]


def test_greedy_adds_all_candidates_that_do_not_lower_the_score():
    assert greedy_selection({"a": 0.5, "ab": 0.4, "ac": 0.5}) == ["a", "c"]
    assert greedy_selection({"a": 0.5, "ab": 0.6, "abc": 0.55}) == ["a", "b"]


def test_greedy_rejects_averages_below_the_accuracy_floor():
    """Without a floor, constant models would win: they are robust against every attack."""
    assert greedy_selection({"a": 0.5, "b": 0.3, "bc": 0.4}, {"a": 0.5}, floor=0.9) == ["b", "c"]


def test_candidates_below_the_accuracy_floor_are_ranked_last():
    measurements = {
        "constant": {"accuracy": 0.5, "under_attack": 0.5},
        "robust": {"accuracy": 0.88, "under_attack": 0.3},
        "plain": {"accuracy": 0.91, "under_attack": 0.2},
        "second": {"accuracy": 0.9, "under_attack": 0.1},
    }
    assert model_soup.ranking(measurements, "under_attack", 0.9) == [
        "plain",
        "second",
        "constant",
        "robust",
    ]
    assert model_soup.ranking(measurements, "under_attack", -0.09) == list(measurements), (
        "if any loss is allowed, the order of Algorithm 3"
    )


def test_average_is_in_fp32_and_leaves_integers_unchanged():
    first, second = (
        {"w": torch.tensor([w], dtype=torch.float16), "ids": torch.tensor([i])}
        for w, i in ((1.0, 3), (1.0009765625, 5))
    )
    mean = model_soup.average([first, second])
    # not representable in fp16
    assert mean["w"].dtype == torch.float32
    assert mean["w"].item() == 1.00048828125
    assert mean["ids"].tolist() == [3]


@pytest.fixture
def save_candidate(tmp_path: Path):
    """Return a function that saves a tiny checkpoint, after an optional change of it."""

    def save(
        name: str, seed: int = 0, change=lambda model, tokenizer: None
    ) -> model_soup.Candidate:
        model, tokenizer = tiny.model(seed=seed), copy.deepcopy(tiny.tokenizer())
        model.config.id2label = {0: "negative", 1: "positive"}
        change(model, tokenizer)
        loading.save(model, tokenizer, tmp_path / name)
        return model_soup.Candidate.of(str(tmp_path / name))

    return save


def swap_labels(model, tokenizer):
    model.config.id2label = {0: "positive", 1: "negative"}


def add_token(model, tokenizer):
    tokenizer.add_tokens(["prunescope"])
    model.resize_token_embeddings(len(tokenizer))


def set_bias_to_nan(model, tokenizer):
    model.classifier.bias.data[0] = float("nan")


@pytest.mark.parametrize(
    "change, message",
    [
        (swap_labels, "b has the labels positive, negative but a has negative, positive"),
        (add_token, "different vocabularies"),
        (set_bias_to_nan, "its training diverged"),
    ],
)
def test_incompatible_checkpoints_are_rejected_before_measuring(
    save_candidate, tmp_path, change, message
):
    pair = [save_candidate("a"), save_candidate("b", change=change)]
    with pytest.raises(PruneError, match=message):
        model_soup.make_soup(
            model_soup.SoupPlan(),
            pair,
            DataSource("nowhere.csv"),
            folder=tmp_path / "out",
            report=no_report,
        )
    assert not (tmp_path / "out").exists()


def test_mixed_families_and_single_checkpoints_are_rejected(save_candidate, tmp_path):
    loading.save(tiny.model("electra"), tiny.tokenizer(), tmp_path / "electra")
    first = save_candidate(
        "a", change=lambda model, _: setattr(model.config, "id2label", {0: "LABEL_0", 1: "LABEL_1"})
    )
    with pytest.raises(PruneError, match="have different shapes"):
        model_soup.check_compatible([first, model_soup.Candidate.of(str(tmp_path / "electra"))])
    with pytest.raises(PruneError, match="at least two checkpoints"):
        model_soup.check_compatible([first])


def test_second_soup_reuses_the_measurements_of_the_first(save_candidate, tmp_path, monkeypatch):
    rows = [{"text": text, "label": i % 2} for i, text in enumerate(tiny.SENTENCES)]
    pd.DataFrame(rows).to_csv(tmp_path / "held-out.csv", index=False)
    pair, calls = [save_candidate("a"), save_candidate("b", seed=1)], []
    attack = model_soup.Attack.measure
    monkeypatch.setattr(
        model_soup.Attack, "measure", lambda *arguments: calls.append(1) or attack(*arguments)
    )
    plan = {"attack": "DeepWordBug", "attack_examples": 4}
    first = model_soup.make_soup(
        model_soup.SoupPlan(way="uniform", **plan),
        pair,
        DataSource(str(tmp_path / "held-out.csv")),
        folder=tmp_path / "out",
        report=no_report,
    )
    assert len(calls) == 3
    assert first["ingredients"] == ["a", "b"]
    assert first["candidates"][0]["n"] == 12
    second = model_soup.make_soup(
        model_soup.SoupPlan(allowed_loss=1.0, **plan),
        pair,
        DataSource(str(tmp_path / "held-out.csv")),
        folder=tmp_path / "out",
        report=no_report,
    )
    assert len(calls) == 3, "the greedy search reuses all measurements"
    assert [attempt["taken"] for attempt in second["attempts"]][0] and len(second["attempts"]) == 2
    model, _ = loading.load(str(tmp_path / "out" / "uniform"))
    mean = (tiny.model(seed=0).classifier.weight + tiny.model(seed=1).classifier.weight) / 2
    torch.testing.assert_close(model.classifier.weight, mean)
    assert json.loads((tmp_path / "out" / "uniform" / model_soup.RECORD).read_text()) == first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "greedy-attack",
        "measurements.json",
        "uniform",
    ]


def test_a_cancelled_soup_leaves_its_measurements_and_no_checkpoint(save_candidate, tmp_path):
    pd.DataFrame({"text": tiny.SENTENCES, "label": [0, 1] * 6}).to_csv(
        tmp_path / "held-out.csv", index=False
    )

    def interrupt(progress: float, message: str) -> None:
        if message.startswith("b: "):
            raise KeyboardInterrupt

    plan = model_soup.SoupPlan(attack="DeepWordBug", attack_examples=2)
    with pytest.raises(KeyboardInterrupt):
        model_soup.make_soup(
            plan,
            [save_candidate("a"), save_candidate("b", seed=1)],
            DataSource(str(tmp_path / "held-out.csv")),
            folder=tmp_path / "out",
            report=interrupt,
        )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["measurements.json"]


def test_command_finetunes_recipes_and_averages_them(tmp_path, capsys):
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    rows = [
        {"text": f"{'one more ' * (i % 5)}{('bad', 'good')[i % 2]} film", "label": i % 2}
        for i in range(40)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "recipes.yaml").write_text("- {seed: 1}\n- {seed: 2, adversarial: freelb}\n")
    data_options = [
        "--task",
        tmp_path / "train.csv",
        "--validation",
        tmp_path / "train.csv",
        "--out",
        tmp_path / "out",
    ]
    recipe_options = [
        "--recipes",
        tmp_path / "recipes.yaml",
        "--each",
        f"checkpoint={tmp_path / 'backbone'}",
        "--each",
        "epochs=1",
    ]
    soup_options = ["--way", "uniform", "--set", "attack=DeepWordBug", "--set", "attack_examples=3"]
    assert (
        main([str(word) for word in ("soup", *data_options, *recipe_options, *soup_options)]) == 0
    )
    captured = capsys.readouterr()
    assert "+ all" in captured.out
    assert "fine-tune 02" in captured.err
    assert f"01 + 02: {tmp_path / 'out' / 'uniform'}" in captured.out
    record = json.loads((tmp_path / "out" / "uniform" / model_soup.RECORD).read_text())
    assert [row["recipe"]["seed"] for row in record["candidates"]] == [1, 2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--way", "best"], "choose one of greedy-attack"),
        (["--recipes", "nothing.yaml"], "cannot be read as YAML"),
        (["--checkpoint", "demo"], "at least two checkpoints"),
        (["--checkpoint", "demo", "--checkpoint", "demo"], "same folder name"),
    ],
)
def test_invalid_arguments_give_a_one_line_error(arguments, message, capsys, tmp_path):
    assert main(["soup", "--validation", "demo", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_recipes_are_read_scaled_and_overridden(tmp_path):
    (tmp_path / "recipes.yaml").write_text(
        "- {learning_rate: 5e-5, epochs: 30}\n- {name: robust, adversarial: freelb, epochs: 3}\n"
    )
    recipes = model_soup.read_recipes(tmp_path / "recipes.yaml", {"dropout": "0"}, epochs_scale=0.1)
    assert list(recipes) == ["01", "robust"]
    assert recipes["01"].epochs == 3
    assert recipes["robust"].epochs == 1
    assert recipes["01"].learning_rate == 5e-5
    assert recipes["robust"].adversarial == "freelb"
    assert recipes["robust"].dropout == 0
    (tmp_path / "recipes.yaml").write_text("learning_rate: 5e-5")
    with pytest.raises(PruneError, match="is not a list of fine-tuning options"):
        model_soup.read_recipes(tmp_path / "recipes.yaml", {})
