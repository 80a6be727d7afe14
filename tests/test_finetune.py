"""Fine-tuning: accuracy, label names, resuming, and FreeLB adversarial training."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from torch.nn import functional as F

from prune_core import Cancelled, PruneError
from prune_core.data.examples import DataSource, Examples
from prune_core.data.masked_words import DELETE
from prune_core.models.checkpoints import loading
from prune_core.plugins import no_report
from prune_core.tasks.task_data import label_names, load
from prune_core.training import freelb
from prune_core.training.finetune import STATE, Trainer, TrainingRecipe, finetune


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """A tiny encoder whose classification head has another size."""
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "backbone")
    return str(tmp_path / "backbone")


@pytest.fixture
def reviews(tmp_path: Path) -> DataSource:
    """Three classes, each identified by a single word."""
    words = ("bad", "fair", "good")
    rows = [
        {"text": f"{'one more ' * (i % 5)}{words[i % 3]} film", "label": words[i % 3]}
        for i in range(90)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "train.csv", index=False)
    return DataSource(str(tmp_path / "train.csv"))


@pytest.mark.parametrize("average", [0.0, 0.8])
def test_fine_tuning_learns_and_the_checkpoint_loads(
    tmp_path: Path, backbone: str, reviews: DataSource, average: float
) -> None:
    recipe = TrainingRecipe(
        checkpoint=backbone, epochs=8, batch_size=8, learning_rate=3e-3, average=average, half=True
    )
    seen: list[float] = []
    card = finetune(
        recipe,
        reviews,
        reviews,
        folder=tmp_path / "out",
        report=lambda progress, _: seen.append(progress),
    )
    assert card["accuracy"] == max(evaluation["accuracy"] for evaluation in card["history"]) > 0.9
    assert seen == sorted(seen) and seen[-1] == 1.0
    model, _ = loading.load(str(tmp_path / "out"))
    assert tuple(model.config.id2label.values()) == ("bad", "fair", "good")
    assert json.loads((tmp_path / "out" / "finetune.json").read_text()) == card


def test_a_new_head_has_the_given_label_names(
    tmp_path: Path, backbone: str, reviews: DataSource
) -> None:
    rows = pd.read_csv(reviews.task)
    rows["label"] = rows["label"].map({"bad": 0, "fair": 1, "good": 2})
    rows.to_csv(tmp_path / "train.csv", index=False)
    source = replace(reviews, labels="2=World news,0=Sport,1=leave out")
    finetune(
        TrainingRecipe(checkpoint=backbone, epochs=1),
        source,
        source,
        folder=tmp_path / "out",
        report=no_report,
    )
    model, _ = loading.load(str(tmp_path / "out"))
    assert tuple(model.config.id2label.values()) == ("Sport", "World news")
    task = load(source, ("Sport", "World news"))
    assert task.counts == {"0": 30, "1": 30, "2": 30}
    assert task.label_map == {
        "0": 0,
        "1": None,
        "2": 1,
    }


def test_numeric_labels_get_generic_names(reviews: DataSource) -> None:
    rows = pd.read_csv(reviews.task)
    rows.assign(label=(rows["label"] == "good").astype(int)).to_csv(
        reviews.task, index=False
    )  # the meaning of 1 is unknown: it may be "same" or "spam"
    assert label_names(reviews, "classification") == ("label 0", "label 1")
    assert load(reviews, ("label 0", "label 1")).label_map == {"0": 0, "1": 1}


def test_numbers_in_a_label_mapping_are_indices(reviews: DataSource) -> None:
    source = replace(reviews, labels="good=0,bad=1,fair=2")
    names = label_names(source, "classification")
    assert names == ("good", "bad", "fair")
    assert load(source, names).label_map == {
        "bad": 1,
        "fair": 2,
        "good": 0,
    }


def test_training_on_the_demo_data_is_refused(
    tmp_path: Path, backbone: str, reviews: DataSource
) -> None:
    with pytest.raises(PruneError, match="fine-tune on a known task or your own file"):
        finetune(
            TrainingRecipe(checkpoint=backbone),
            DataSource("demo"),
            reviews,
            folder=tmp_path / "out",
            report=no_report,
        )


def cancel_after(limit: float):
    """Return a report callback that cancels the run once its progress exceeds `limit`."""

    def report(progress: float, message: str) -> None:
        if progress > limit:
            raise Cancelled

    return report


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return loading.load(str(folder))[0].state_dict()


@pytest.mark.parametrize(("average", "mask_words"), [(0.0, 0.0), (0.8, 0.5)])
def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, backbone: str, reviews: DataSource, average: float, mask_words: float
) -> None:
    recipe = TrainingRecipe(
        checkpoint=backbone,
        epochs=2,
        checks=2,
        batch_size=8,
        learning_rate=2e-3,
        average=average,
        mask_words=mask_words,
        adversarial="freelb",
    )
    uninterrupted = finetune(recipe, reviews, reviews, folder=tmp_path / "whole", report=no_report)
    with pytest.raises(Cancelled):
        finetune(recipe, reviews, reviews, folder=tmp_path / "parts", report=cancel_after(0.6))
    card = json.loads((tmp_path / "parts" / "finetune.json").read_text())
    assert not card["finished"]
    assert len(card["history"]) == 2
    assert (tmp_path / "parts" / "README.md").is_file()
    seen: list[float] = []
    resumed = finetune(
        recipe,
        reviews,
        reviews,
        folder=tmp_path / "parts",
        report=lambda progress, _: seen.append(progress),
    )
    assert min(seen) > 0.5 and not (tmp_path / "parts" / STATE).exists()
    for expected_row, row in zip(uninterrupted["history"], resumed["history"], strict=True):
        assert {**expected_row, "seconds": 0} == {**row, "seconds": 0}
    expected, actual = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(expected[key], actual[key]) for key in expected)
    assert (
        finetune(recipe, reviews, reviews, folder=tmp_path / "parts", report=cancel_after(1.0))
        == resumed
    ), "a finished run must not be repeated"


def test_a_folder_with_another_recipe_is_refused(
    tmp_path: Path, backbone: str, reviews: DataSource
) -> None:
    finetune(
        TrainingRecipe(checkpoint=backbone, epochs=1),
        reviews,
        reviews,
        folder=tmp_path / "out",
        report=no_report,
    )
    with pytest.raises(
        PruneError,
        match=r"contains a fine-tune with learning_rate 5e-05, not 0\.001; give another folder",
    ):
        finetune(
            TrainingRecipe(checkpoint=backbone, epochs=1, learning_rate=1e-3),
            reviews,
            reviews,
            folder=tmp_path / "out",
            report=no_report,
        )


def test_initial_perturbation_is_in_the_norm_ball_and_zero_at_padding() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    perturbation = freelb.initial_perturbation(mask, 9, max_norm=0.6)
    assert not perturbation[1, 1:].any()
    assert perturbation[1, 0].all()
    assert (freelb.norms(perturbation) <= 0.6).all()
    # 36 entries, 9 entries
    assert perturbation[0].abs().max() <= 0.6 / 6
    assert 0.6 / 6 < perturbation[1].abs().max() <= 0.6 / 3


def test_ascent_follows_each_gradient_and_stays_in_the_norm_ball() -> None:
    perturbation, gradient = (
        torch.zeros(3, 1, 2),
        torch.tensor([[[3.0, 4.0]], [[0.0, 1e-9]], [[0.0, 0.0]]]),
    )
    torch.testing.assert_close(
        freelb.ascend(perturbation, gradient, 0.5, max_norm=1.0),
        torch.tensor([[[0.3, 0.4]], [[0.0, 0.5]], [[0.0, 0.0]]]),
    )
    perturbation[0, 0] = torch.tensor([0.6, 0.8])  # already on the boundary of the ball
    torch.testing.assert_close(
        freelb.ascend(perturbation, gradient, 0.5, max_norm=1.0)[0], torch.tensor([[0.6, 0.8]])
    )
    assert not freelb.ascend(perturbation, gradient, 0.5, max_norm=0.0).any()


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_gradients_with_zero_norm_equal_plain_gradients(family: str) -> None:
    model, batch = tiny.model(family), tiny.calibration(family)[0]
    labels = torch.arange(len(batch["input_ids"])) % 2
    loss = lambda: F.cross_entropy(model(**batch).logits, labels)  # noqa: E731
    loss().backward()
    plain = {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    for steps, norm, equal in ((1, 0.0, True), (3, 0.0, True), (3, 1.0, False)):
        model.zero_grad()
        total = freelb.add_gradients(
            model, batch["attention_mask"], loss, steps=steps, step_size=0.1, max_norm=norm
        )
        close = all(
            torch.allclose(weight, dict(model.named_parameters())[name].grad, rtol=1e-3, atol=1e-6)
            for name, weight in plain.items()
        )
        assert close == equal and (abs(total - loss().item()) < 1e-5) == equal


def test_perturbations_increase_the_loss_and_share_one_dropout_mask() -> None:
    model, batch = tiny.model().train(), tiny.calibration()[0]
    labels, losses = torch.arange(len(batch["input_ids"])) % 2, []

    def loss() -> torch.Tensor:
        value = F.cross_entropy(model(**batch).logits, labels)
        losses.append(value.item())
        return value

    freelb.add_gradients(model, batch["attention_mask"], loss, steps=3, step_size=0.0, max_norm=0.0)
    assert losses[0] == losses[1] == losses[2]
    freelb.add_gradients(model, batch["attention_mask"], loss, steps=3, step_size=0.0, max_norm=0.0)
    assert losses[3] != losses[2], "the next step draws a new mask"
    freelb.add_gradients(
        model.eval(), batch["attention_mask"], loss, steps=5, step_size=0.3, max_norm=2.0
    )
    assert losses[-1] > losses[-5]


def test_words_are_masked_anew_in_every_epoch(backbone: str) -> None:
    """Each epoch encodes the same number of masked words at other places."""
    model, tokenizer = loading.load(backbone, "classification", ("bad", "good"))
    texts = [*tiny.SENTENCES, "one two three four five six seven eight nine ten"]
    train = Examples(texts, labels=[0] * len(texts))
    recipe = TrainingRecipe(checkpoint=backbone, mask_words=0.7)
    trainer = Trainer(recipe, model, tokenizer, train)
    seen = []
    for epoch in (0, 1, 1):
        trainer.begin_epoch(epoch)
        seen.append(trainer.features.inputs["input_ids"])
    assert seen[0] != seen[1] == seen[2]
    for ids, text in zip(seen[0], texts, strict=True):
        assert ids.count(tokenizer.mask_token_id) == int(0.7 * len(text.split()) + 1e-9)


def test_fine_tuning_on_deleted_words_learns(tmp_path: Path, backbone: str) -> None:
    """The label word occurs three times, so that it survives deletion of half of the words."""
    rows = [{"text": f"{word} film {word} plot {word}", "label": word} for word in ("bad", "good")]
    pd.DataFrame(rows * 30).to_csv(tmp_path / "train.csv", index=False)
    source = DataSource(str(tmp_path / "train.csv"))
    options = {"mask_words": 0.5, "removal": DELETE, "learning_rate": 3e-3, "batch_size": 8}
    recipe = TrainingRecipe(checkpoint=backbone, epochs=8, **options)
    card = finetune(recipe, source, source, folder=tmp_path / "out", report=no_report)
    assert card["accuracy"] > 0.9 and card["recipe"]["removal"] == DELETE


def test_words_are_masked_for_classifiers_only(
    tmp_path: Path, backbone: str, reviews: DataSource
) -> None:
    recipe = TrainingRecipe(checkpoint=backbone, kind="multilabel", mask_words=0.5)
    with pytest.raises(PruneError, match="mask_words is 0.5, but the task type is multilabel"):
        finetune(recipe, reviews, reviews, folder=tmp_path / "out", report=no_report)
