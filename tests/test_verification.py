"""Verification of loaded checkpoints: passes for every family and detects every type of error."""

from pathlib import Path

import pytest
import tiny
import torch

import prune_core as pc
from prune_core import PruneError
from prune_core.data.examples import Examples
from prune_core.models import families, replay
from prune_core.models.checkpoints import loading, tokenizers, verification, weights
from prune_core.tasks import TASK_TYPES

PAIRS = Examples(
    ["a good film", "dull", "the long and clever story stays with you"],
    ["it is fine", "no joy here at all", "yes"],
    [0, 1, 0],
)


def saved(folder: Path, family: str = "bert", kind: str = "classification") -> str:
    loading.save(tiny.model(family, kind=kind), tiny.tokenizer(family), folder)
    return str(folder)


@pytest.mark.parametrize("family", families.FAMILIES)
@pytest.mark.parametrize("kind", TASK_TYPES)
def test_every_family_and_task_type_agrees_with_plain_transformers(
    kind: str, family: str, tmp_path: Path
) -> None:
    checkpoint = saved(tmp_path, family, kind)
    model, tokenizer = loading.load(checkpoint)
    if kind != "span":
        verification.check(
            checkpoint, model, tokenizer, examples=tiny.examples(kind=kind), max_length=64
        )
    verification.check(
        checkpoint, model, tokenizer, examples=verification.sample_examples(kind), max_length=64
    )


@pytest.mark.parametrize("name", ["demo", "demo-robust", "demo-guard"])
def test_bundled_checkpoints_agree_with_plain_transformers(name: str) -> None:
    model, tokenizer = loading.load(name)
    verification.check(
        name,
        model,
        tokenizer,
        examples=verification.sample_examples("classification"),
        max_length=128,
    )


def test_randomly_initialized_weights_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = saved(tmp_path)
    state = {
        name: tensor for name, tensor in tiny.model().state_dict().items() if "pooler" not in name
    }
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    monkeypatch.setattr(
        weights, "_check_coverage", lambda *_, **__: []
    )  # skip the earlier check for missing weights
    model, tokenizer = loading.load(checkpoint)
    with pytest.raises(PruneError, match=r"two loads give different weights in .*pooler\.dense"):
        verification.check(checkpoint, model, tokenizer, examples=PAIRS, max_length=64)


def test_left_padding_is_detected(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    tokenizer.padding_side = "left"
    with pytest.raises(PruneError, match="in a padded batch differ by"):
        verification.check(checkpoint, model, tokenizer, examples=PAIRS, max_length=64)


def test_missing_token_types_are_detected(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    with pytest.raises(PruneError, match="in a padded batch differ by"):
        verification.check(checkpoint, model, tokenizer, examples=PAIRS, max_length=64)


def test_reversed_positions_are_detected(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    model.bert.embeddings.position_ids = model.bert.embeddings.position_ids.flip(1)
    with pytest.raises(PruneError, match="in a padded batch differ by"):
        verification.check(checkpoint, model, tokenizer, examples=PAIRS, max_length=64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_is_detected(tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    with pytest.raises(PruneError, match="different weights|differ by"):
        verification.check(checkpoint, model.to(dtype), tokenizer, examples=PAIRS, max_length=64)


def test_changed_weight_and_changed_tokenizer_are_detected(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    with torch.no_grad():
        model.classifier.weight[0, 0] += 1
    with pytest.raises(PruneError, match=r"different weights in classifier\.weight"):
        verification.check(checkpoint, model, tokenizer, examples=PAIRS, max_length=64)
    model, tokenizer = loading.load(checkpoint)
    tokenizer.backend_tokenizer.normalizer = None
    with pytest.raises(PruneError, match="differently from the tokenizer itself"):
        verification.check(
            checkpoint, model, tokenizer, examples=Examples(["A GOOD Film"]), max_length=64
        )


def test_replayed_layers_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    monkeypatch.setattr(replay.Block, "leave", lambda self, total, group: total)  # without norms
    with pytest.raises(PruneError, match="replayed block by block differ by"):
        verification.check(checkpoint, model, tokenizer, examples=PAIRS, max_length=64)


def test_tolerance_for_exported_models_can_be_set(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path)
    model, tokenizer = loading.load(checkpoint)
    rough = loading.load(checkpoint)[0]
    with torch.no_grad():
        rough.classifier.bias += 1e-3
    verification.check_outputs(
        "rough", model, tokenizer, examples=PAIRS, max_length=64, deployed=rough, tolerance=1e-2
    )
    with pytest.raises(PruneError, match="rough: the outputs"):
        verification.check_outputs(
            "rough", model, tokenizer, examples=PAIRS, max_length=64, deployed=rough
        )


@pytest.mark.parametrize("family", families.FAMILIES)
def test_texts_are_truncated_to_the_models_positions(family: str) -> None:
    model, tokenizer = tiny.model(family), tiny.tokenizer(family)
    tokenizer.model_max_length = 10**30
    tokenizer.padding_side = "left"
    prepared = tokenizers.prepare_tokenizer(tokenizer, model.config)
    assert prepared.model_max_length == replay.max_tokens(model)
    assert prepared.padding_side == "right"
    assert tokenizer.model_max_length == 10**30 and tokenizer.padding_side == "left", (
        "the caller's tokenizer is unchanged"
    )
    base = getattr(model, families.layout(model).base)
    table = dict(base.named_modules()).get("embeddings.position_embeddings")
    if table is not None and family != "modernbert":
        assert replay.max_tokens(model) == table.num_embeddings - (
            0 if table.padding_idx is None else table.padding_idx + 1
        )
    longest = prepared("word " * 1000, truncation=True, return_tensors="pt")
    model(**tokenizers.accepted_inputs(model, longest))  # fails on any longer input


def test_accuracy_is_independent_of_the_batch_size_with_left_padding() -> None:
    model, tokenizer = loading.load("demo")
    tokenizer.padding_side = "left"
    rows = [("a fine film " * (i % 9 + 1), i % 2) for i in range(24)]
    tables = [
        pc.compare(model, model, tokenizer, rows, batch_size=size).rows["prediction"]
        for size in (1, 24)
    ]
    one, other = (list(table["dense_probabilities"]) for table in tables)
    torch.testing.assert_close(torch.tensor(one), torch.tensor(other), atol=1e-5, rtol=1e-4)


def test_training_mode_is_ignored_when_measuring_and_preserved() -> None:
    model, tokenizer = loading.load("demo")
    rows = [(f"a fine film number {i}", i % 2) for i in range(24)]
    expected = pc.compare(model, model, tokenizer, rows).rows["prediction"]
    model.train()
    model.bert.encoder.eval()
    wrapped = torch.nn.DataParallel(model)
    actual = pc.compare(wrapped, torch.compile(model), tokenizer, rows).rows["prediction"]
    assert actual["dense_probabilities"].tolist() == expected["dense_probabilities"].tolist()
    assert model.training and not model.bert.encoder.training and model.classifier.training
    pruned = pc.prune(
        wrapped, tokenizer, [text for text, _ in rows], method="magnitude", sparsity=0.5
    )
    assert type(pruned) is type(model) and model.training
