"""Checkpoints as people have them: found, read with every weight accounted for, or one sentence; never random in silence."""

import json
from pathlib import Path

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.models import folders, loading, replay, weights


@pytest.fixture(scope="module")
def dense() -> torch.nn.Module:
    return tiny.model()


def saved(folder: Path, model: torch.nn.Module, state: dict | None = None) -> Path:
    """A folder of save_pretrained, or one whose weights are a pickle of `state`."""
    loading.save(model, tiny.tokenizer(), folder)
    if state is not None:
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def same(folder: Path | str, model: torch.nn.Module) -> list[str]:
    """Every weight is the model's; what was said of the folder."""
    again, _ = loading.load(str(folder))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=0, rtol=0)
    return again.notes


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrapped_models_are_stripped_and_said(dense, tmp_path, prefix) -> None:
    folder = saved(tmp_path, dense, {prefix + name: tensor for name, tensor in dense.state_dict().items()})
    assert any(repr(prefix) in note for note in same(folder, dense)) == bool(prefix)


def test_a_prefix_is_stripped_of_safetensors_too_and_not_of_a_family_that_has_it(tmp_path) -> None:
    from safetensors.torch import save_file

    modern = tiny.model("modernbert")  # whose own names begin with "model."
    assert same(saved(tmp_path / "own", modern), modern) == []
    folder = saved(tmp_path / "wrapped", modern)
    save_file({f"module.{name}": tensor.clone() for name, tensor in modern.state_dict().items()}, folder / "model.safetensors")
    assert "'module.'" in same(folder, modern)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: {k: v for k, v in state.items() if ".layer.1." not in k},
            r"lacks weights .*bert\.encoder\.layer\.1\..* and \d+ more",
        ),
        (lambda state: {k: v for k, v in state.items() if "classifier" not in k}, "lacks weights .*classifier.bias, classifier.weight"),
        (lambda state: {k: v for k, v in state.items() if "pooler" not in k}, "lacks weights .*pooler"),
        (lambda state: state | {f"bert.encoder.layer.2.{i}": torch.ones(1) for i in range(9)}, "has no place for: bert.encoder.layer.2.0"),
        (lambda state: {k: v for k, v in state.items() if "word_embeddings" not in k}, "lacks weights .*word_embeddings"),
    ],
)
def test_no_weight_is_random_in_silence(dense, tmp_path, change, words) -> None:
    with pytest.raises(PruneError, match=words):
        loading.load(str(saved(tmp_path, dense, change(dense.state_dict()))))


def test_harmless_extras_are_listed(dense, tmp_path) -> None:
    extras = {"bert.embeddings.position_ids": torch.arange(130)[None], "cls.predictions.bias": torch.ones(4)}
    assert "cls.predictions.bias" in same(saved(tmp_path, dense, dense.state_dict() | extras), dense)[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_and_sharded_weights(dense, tmp_path, dtype) -> None:
    import copy

    half = copy.deepcopy(dense).to(dtype)
    half.save_pretrained(tmp_path, max_shard_size="200KB")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same(tmp_path, half.float())
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    with pytest.raises(PruneError, match="which is not there"):
        loading.load(str(tmp_path))


def test_a_file_cut_short_is_a_sentence(dense, tmp_path) -> None:
    file = saved(tmp_path / "safe", dense) / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    pickle = saved(tmp_path / "bin", dense, dense.state_dict()) / "pytorch_model.bin"
    pickle.write_bytes(pickle.read_bytes()[: pickle.stat().st_size // 2])
    for folder in (tmp_path / "safe", tmp_path / "bin"):
        with pytest.raises(PruneError, match="cut short|cannot be read") as told:
            loading.load(str(folder))
        assert "\n" not in str(told.value)


def edited(folder: Path, **changes) -> str:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 10_000_000}, "GB of weights .hidden_size 10,000,000."),
        ({"vocab_size": 20_000}, "its tokenizer has 30,522 tokens, its embedding 20,000"),
        ({"num_hidden_layers": 3}, "lacks weights"),
        ({"num_hidden_layers": 1}, "no place for"),
        ({"hidden_size": 64}, "cannot be read"),
        ({"architectures": ["BertForMaskedLM"]}, "not a classifier"),
        ({"model_type": "gpt2"}, "is a gpt2 model"),
        ({"is_decoder": True}, "decoder"),
    ],
)
def test_a_configuration_that_does_not_fit_is_a_sentence(dense, tmp_path, changes, words) -> None:
    with pytest.raises(PruneError, match=words):
        loading.load(edited(saved(tmp_path, dense), **changes))


def test_families_say_what_they_do_not_support(tmp_path) -> None:
    for family, changes, words in (
        ("albert", {"inner_group_num": 2}, "inner_group_num"),
        ("deberta-v2", {"conv_kernel_size": 3}, "convolution"),
    ):
        with pytest.raises(PruneError, match=words):
            loading.load(edited(saved(tmp_path / family, tiny.model(family)), **changes))


def test_a_trainers_output_and_an_outer_folder(dense, tmp_path) -> None:
    for step in (500, 1500):
        saved(tmp_path / f"checkpoint-{step}", dense if step == 500 else tiny.model(seed=1))
    assert "checkpoint-1500 was taken, the last one" in same(tmp_path, tiny.model(seed=1))[0]
    (tmp_path / "checkpoint-1500" / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": "/elsewhere/checkpoint-500"}))
    assert "checkpoint-500 was taken, the best one" in same(tmp_path, dense)[0]
    saved(tmp_path / "outer" / "files" / "model", dense)
    assert "found in files/model" in same(tmp_path / "outer", dense)[0]
    saved(tmp_path / "outer" / "other", dense)
    with pytest.raises(PruneError, match=r"holds 2 models \(files/model, other\)"):
        loading.load(str(tmp_path / "outer"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PruneError, match="no config.json there"):
        loading.load(str(tmp_path / "empty"))


def test_a_sentence_transformers_folder_says_what_it_lacks(dense, tmp_path) -> None:
    dense.bert.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(PruneError, match="sentence-transformers folder: it embeds sentences and has no classifier; fine-tune it first"):
        loading.load(str(tmp_path))


def test_an_adapter_is_merged(dense, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    base = saved(tmp_path / "base", dense)
    model, _ = loading.load(str(base))
    settings = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
    adapted = peft.get_peft_model(model, settings)
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_B" in name:
                tensor.normal_()
    adapted.save_pretrained(tmp_path / "adapter")
    batch = tiny.calibration()[0]
    with torch.no_grad():
        expected = adapted(**batch).logits
    merged, _ = loading.load(str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(merged(**batch).logits, expected, atol=1e-5, rtol=1e-4)
    assert "merged into" in merged.notes[0] and not any("lora" in name for name in merged.state_dict())


def test_checkpoints_are_found_to_be_offered(dense, tmp_path, monkeypatch) -> None:
    saved(tmp_path / "models" / "mine", dense)
    dense.bert.save_pretrained(tmp_path / "models" / "bare")
    saved(tmp_path / "hub" / "models--someone--reviews" / "snapshots" / "abc", dense)
    monkeypatch.setenv("PRUNESCOPE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert folders.known() == [str(tmp_path / "models" / "mine"), "someone/reviews"]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "token", "regression", "span"])
def test_the_kind_is_the_heads(kind, tmp_path) -> None:
    folder = saved(tmp_path, tiny.model(kind=kind))
    model, _ = loading.load(str(folder))
    config, _ = loading.described(str(folder))
    assert replay.kind_of(model) == loading.kind_of(config) == kind
    assert weights.keys(folder)
