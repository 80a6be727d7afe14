"""Loading checkpoints in many layouts: all weights are loaded, or a message says why not."""

import json
from pathlib import Path

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.models import replay
from prune_core.models.checkpoints import folders, loading, weights


@pytest.fixture(scope="module")
def dense() -> torch.nn.Module:
    return tiny.model()


def save_checkpoint(folder: Path, model: torch.nn.Module, state: dict | None = None) -> Path:
    """Save a model as save_pretrained does, or with a pickle of `state` as its weights."""
    loading.save(model, tiny.tokenizer(), folder)
    if state is not None:
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def check_loaded(folder: Path | str, model: torch.nn.Module) -> list[str]:
    """Check that every weight loads exactly, and return the notes on the folder."""
    loaded, _ = loading.load(str(folder))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=0, rtol=0)
    return loaded.notes


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_prefixes_of_wrapped_models_are_stripped_and_noted(dense, tmp_path, prefix) -> None:
    folder = save_checkpoint(
        tmp_path, dense, {prefix + name: tensor for name, tensor in dense.state_dict().items()}
    )
    assert any(repr(prefix) in note for note in check_loaded(folder, dense)) == bool(prefix)


def test_prefixes_in_safetensors_are_stripped_unless_native_to_the_family(tmp_path) -> None:
    from safetensors.torch import save_file

    modern = tiny.model("modernbert")  # its native names begin with "model."
    assert check_loaded(save_checkpoint(tmp_path / "native", modern), modern) == []
    folder = save_checkpoint(tmp_path / "wrapped", modern)
    save_file(
        {f"module.{name}": tensor.clone() for name, tensor in modern.state_dict().items()},
        folder / "model.safetensors",
    )
    assert "'module.'" in check_loaded(folder, modern)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {k: v for k, v in state.items() if ".layer.1." not in k},
            r"lacks weights .*bert\.encoder\.layer\.1\..* and \d+ more",
        ),
        (
            lambda state: {k: v for k, v in state.items() if "classifier" not in k},
            "lacks weights .*classifier.bias, classifier.weight",
        ),
        (
            lambda state: {k: v for k, v in state.items() if "pooler" not in k},
            "lacks weights .*pooler",
        ),
        (
            lambda state: state | {f"bert.encoder.layer.2.{i}": torch.ones(1) for i in range(9)},
            "do not exist in its configuration: bert.encoder.layer.2.0",
        ),
        (
            lambda state: {k: v for k, v in state.items() if "word_embeddings" not in k},
            "lacks weights .*word_embeddings",
        ),
    ],
)
def test_missing_and_unexpected_weights_raise(dense, tmp_path, change, message) -> None:
    with pytest.raises(PruneError, match=message):
        loading.load(str(save_checkpoint(tmp_path, dense, change(dense.state_dict()))))


def test_harmless_extra_weights_are_noted(dense, tmp_path) -> None:
    extras = {
        "bert.embeddings.position_ids": torch.arange(130)[None],
        "cls.predictions.bias": torch.ones(4),
    }
    assert (
        "cls.predictions.bias"
        in check_loaded(save_checkpoint(tmp_path, dense, dense.state_dict() | extras), dense)[0]
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_sharded_weights_are_loaded(dense, tmp_path, dtype) -> None:
    import copy

    half_precision = copy.deepcopy(dense).to(dtype)
    half_precision.save_pretrained(tmp_path, max_shard_size="200KB")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    check_loaded(tmp_path, half_precision.float())
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    with pytest.raises(PruneError, match="which is missing"):
        loading.load(str(tmp_path))


def test_truncated_weight_files_raise_a_one_line_error(dense, tmp_path) -> None:
    file = save_checkpoint(tmp_path / "safe", dense) / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    pickle = save_checkpoint(tmp_path / "bin", dense, dense.state_dict()) / "pytorch_model.bin"
    pickle.write_bytes(pickle.read_bytes()[: pickle.stat().st_size // 2])
    for folder in (tmp_path / "safe", tmp_path / "bin"):
        with pytest.raises(PruneError, match="truncated|cannot be read") as excinfo:
            loading.load(str(folder))
        assert "\n" not in str(excinfo.value)


def edit_config(folder: Path, **changes) -> str:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10_000_000}, "GB for weights .hidden_size 10,000,000."),
        ({"vocab_size": 20_000}, "its tokenizer has 30,522 tokens, its embedding 20,000"),
        ({"num_hidden_layers": 3}, "lacks weights"),
        ({"num_hidden_layers": 1}, "do not exist in its configuration"),
        (
            {"hidden_size": 64},
            r"bert\.\S+ has the shape .32,. .* .64,. by its config.json .and \d+ more.; correct",
        ),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}},
            r"classifier\.\w+ .*shape .2,.* by its config.json .*; give config.json 2 labels",
        ),
        (
            {"architectures": None},
            r'no architectures.*"architectures": '
            r'\["BertForSequenceClassification"\].*BertForTokenClass',
        ),
        ({"architectures": ["BertForMaskedLM"]}, "has no head for text classification"),
        ({"model_type": "gpt2"}, "is a gpt2 model"),
        ({"is_decoder": True}, "decoder"),
    ],
)
def test_a_configuration_that_does_not_match_the_weights_raises(
    dense, tmp_path, changes, message
) -> None:
    with pytest.raises(PruneError, match=message):
        loading.load(edit_config(save_checkpoint(tmp_path, dense), **changes))


def test_unsupported_configurations_of_a_family_raise(tmp_path) -> None:
    for family, changes, message in (
        ("albert", {"inner_group_num": 2}, "inner_group_num"),
        ("deberta-v2", {"conv_kernel_size": 3}, "convolution"),
    ):
        with pytest.raises(PruneError, match=message):
            loading.load(
                edit_config(save_checkpoint(tmp_path / family, tiny.model(family)), **changes)
            )


def test_trainer_output_and_nested_folders_are_resolved(dense, tmp_path) -> None:
    for step in (500, 1500):
        save_checkpoint(
            tmp_path / f"checkpoint-{step}", dense if step == 500 else tiny.model(seed=1)
        )
    assert "checkpoint-1500 is used, the last one" in check_loaded(tmp_path, tiny.model(seed=1))[0]
    (tmp_path / "checkpoint-1500" / "trainer_state.json").write_text(
        json.dumps({"best_model_checkpoint": "/elsewhere/checkpoint-500"})
    )
    assert "checkpoint-500 is used, the best one" in check_loaded(tmp_path, dense)[0]
    save_checkpoint(tmp_path / "outer" / "files" / "model", dense)
    assert "found in files/model" in check_loaded(tmp_path / "outer", dense)[0]
    save_checkpoint(tmp_path / "outer" / "other", dense)
    with pytest.raises(PruneError, match=r"contains 2 models \(files/model, other\)"):
        loading.load(str(tmp_path / "outer"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PruneError, match="it has no config.json"):
        loading.load(str(tmp_path / "empty"))


def test_a_model_without_a_head_is_refused_with_two_remedies(dense, tmp_path) -> None:
    dense.bert.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(PruneError, match=r"fine-tune it first.*name its pooling: --pooling mean"):
        loading.load(str(tmp_path))
    model, _ = loading.load(str(tmp_path), pooling="mean")
    assert type(model).__name__ == "BertForSentenceEmbedding"


def test_an_adapter_is_merged(dense, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    base = save_checkpoint(tmp_path / "base", dense)
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
    assert "merged into" in merged.notes[0]
    assert not any("lora" in name for name in merged.state_dict())


def test_known_checkpoints_are_listed_from_local_and_hub_folders(
    dense, tmp_path, monkeypatch
) -> None:
    save_checkpoint(tmp_path / "models" / "mine", dense)
    dense.bert.save_pretrained(tmp_path / "models" / "bare")
    save_checkpoint(tmp_path / "hub" / "models--someone--reviews" / "snapshots" / "abc", dense)
    monkeypatch.setenv("PRUNESCOPE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert folders.known_checkpoints() == [str(tmp_path / "models" / "mine"), "someone/reviews"]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "token", "regression", "span"])
def test_task_type_is_detected_from_the_head(kind, tmp_path) -> None:
    folder = save_checkpoint(tmp_path, tiny.model(kind=kind))
    model, _ = loading.load(str(folder))
    config = loading.describe(str(folder)).config
    assert replay.task_type_of(model).name == loading.task_type_of(config).name == kind
    assert weights.keys(folder)


def save_adapter(folder: Path, base: Path, **config: object) -> Path:
    """Save a LoRA adapter with a head for the model in `base`."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    wrapped = get_peft_model(
        model, LoraConfig(r=2, task_type="SEQ_CLS", target_modules=["query"], **config)
    )
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_adapter_and_base_must_contain_every_weight(dense, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    base = save_checkpoint(tmp_path / "base", dense)
    complete = save_adapter(tmp_path / "good", base)
    expected = loading.load(str(complete))[0].state_dict()
    legacy = save_adapter(tmp_path / "old", base)  # PEFT's format before safetensors
    torch.save(load_file(legacy / "adapter_model.safetensors"), legacy / "adapter_model.bin")
    (legacy / "adapter_model.safetensors").unlink()
    for name, tensor in loading.load(str(legacy))[0].state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)
    weights_of = load_file(complete / "adapter_model.safetensors")
    for removed, message in (
        ("classifier", "no weights of the head"),
        ("layer.1.", "the adapter lacks .*layer.1.*lora_A"),
    ):
        broken = save_adapter(tmp_path / removed.strip("."), base)
        remaining = {name: tensor for name, tensor in weights_of.items() if removed not in name}
        save_file(remaining, broken / "adapter_model.safetensors")
        with pytest.raises(PruneError, match=message):
            loading.load(str(broken))
    dense.bert.save_pretrained(tmp_path / "bare")  # a base without a head and without a pooler
    state = {
        name: tensor
        for name, tensor in load_file(tmp_path / "bare" / "model.safetensors").items()
        if "pooler" not in name
    }
    save_file(state, tmp_path / "bare" / "model.safetensors", metadata={"format": "pt"})
    incomplete = save_adapter(tmp_path / "random", tmp_path / "bare")
    with pytest.raises(
        PruneError, match=r"neither the adapter nor its base .* contains .*pooler\.dense"
    ):
        loading.load(str(incomplete))
    with_pooler = save_adapter(
        tmp_path / "whole", tmp_path / "bare", modules_to_save=["classifier", "pooler"]
    )
    assert loading.load(str(with_pooler))[0].notes  # as the message suggests


def test_legacy_layer_norm_names_are_read_with_a_prefix(dense, tmp_path) -> None:
    legacy_names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {f"module.{name}": tensor for name, tensor in dense.state_dict().items()}
    for current, legacy in legacy_names.items():
        state = {name.replace(current, legacy): tensor for name, tensor in state.items()}
    assert "'module.'" in check_loaded(save_checkpoint(tmp_path, dense, state), dense)[0]


def test_a_missing_attention_kernel_falls_back_with_a_note(dense, tmp_path) -> None:
    folder = save_checkpoint(tmp_path, dense)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "_attn_implementation": "flash_attention_2"})
    )
    assert "'flash_attention_2'" in check_loaded(folder, dense)[0]


def test_duplicate_label_names_are_made_unique(dense, tmp_path) -> None:
    folder = save_checkpoint(tmp_path, dense)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "id2label": {"0": "other", "1": "other"}})
    )
    model, _ = loading.load(str(folder))
    assert loading.label_names(model.config) == ("other (0)", "other (1)")
    assert "other (0), other (1)" in model.notes[0]


class Pickled(torch.nn.Module):
    """A module to pickle as a whole."""


FOREIGN_FORMATS = {
    "onnx": ({"model.onnx": b"x"}, {}, "an ONNX export .*checkpoint that it was exported from"),
    "onnx in a folder": ({"onnx/model_quantized.onnx": b"x"}, {}, "an ONNX export"),
    "openvino": (
        {"openvino_model.xml": b"<net/>", "openvino_model.bin": b"x"},
        {},
        "an OpenVINO export",
    ),
    "gguf": ({"model-q8_0.gguf": b"GGUF"}, {}, "a GGUF file"),
    "tensorflow": ({"tf_model.h5": b"x"}, {}, "TensorFlow weights .*from_tf=True"),
    "flax": ({"flax_model.msgpack": b"x"}, {}, "Flax weights .*from_flax=True"),
    "lightning": ({"epoch=3.ckpt": b"x"}, {}, r"model\.save_pretrained\(FOLDER\)"),
    "torch.save": ({"best.pt": b"x"}, {}, "a torch.save file"),
    "8 bits": (
        {},
        {"quantization_config": {"load_in_8bit": True, "quant_method": "bitsandbytes"}},
        r"to 8 bits \(bitsandbytes\)",
    ),
    "4 bits": (
        {},
        {"quantization_config": {"bits": 4, "quant_method": "gptq"}},
        r"to 4 bits \(gptq\)",
    ),
    "setfit": (
        {"model_head.pkl": b"x", "modules.json": b"[]"},
        {"architectures": ["BertModel"]},
        "a SetFit model.*prune_core finetune",
    ),
}


@pytest.mark.parametrize("name", FOREIGN_FORMATS)
def test_foreign_formats_are_recognized_and_refused(name, dense, tmp_path) -> None:
    files, config, message = FOREIGN_FORMATS[name]
    folder = save_checkpoint(tmp_path, dense)
    if files and name != "setfit":
        (folder / "model.safetensors").unlink()
    for file, content in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
    original = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(original | config))
    with pytest.raises(PruneError, match=message) as excinfo:
        loading.load(str(folder))
    assert "save it again with save_pretrained" not in str(excinfo.value)
    (folder / "config.json").unlink()
    if files and name != "setfit":
        with pytest.raises(PruneError, match=message):
            loading.load(str(folder))


def test_pickled_models_and_quantized_weights_are_refused(dense, tmp_path) -> None:
    whole = save_checkpoint(tmp_path / "whole", dense, {})
    torch.save(dense, whole / "pytorch_model.bin")
    with pytest.raises(PruneError, match=r"a whole pickled model .*torch\.nn\.modules"):
        loading.load(str(whole))
    int8 = save_checkpoint(
        tmp_path / "int8",
        dense,
        torch.ao.quantization.quantize_dynamic(dense, {torch.nn.Linear}, torch.qint8).state_dict(),
    )
    with pytest.raises(PruneError, match="a quantized state dict"):
        loading.load(str(int8))


def test_git_lfs_pointers_are_refused(dense, tmp_path) -> None:
    folder = save_checkpoint(tmp_path, dense)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (folder / "model.safetensors").write_bytes(pointer)
    with pytest.raises(
        PruneError, match="model.safetensors is only a Git LFS pointer; run `git lfs pull`"
    ):
        loading.load(str(folder))


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "span"), ("roberta", "classification"), ("distilbert", "classification")],
)
def test_a_missing_architecture_is_inferred_from_the_weights(family, kind, tmp_path) -> None:
    model = tiny.model(family, kind=kind)
    folder = save_checkpoint(tmp_path, model)
    edit_config(folder, architectures=None)
    assert (
        "lists no architectures; according to its weights it is" in check_loaded(folder, model)[0]
    )
    edit_config(folder, architectures=[type(model).__name__])
    assert check_loaded(folder, model) == []


def test_adding_the_requested_architecture_resolves_the_error(dense, tmp_path) -> None:
    folder = save_checkpoint(tmp_path, dense)
    edit_config(folder, architectures=None)
    with pytest.raises(PruneError, match="architectures"):
        loading.load(str(folder))
    edit_config(folder, architectures=["BertForSequenceClassification"])
    assert check_loaded(folder, dense) == []


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_weights_nested_in_a_training_checkpoint_are_read(dense, tmp_path, prefix, key) -> None:
    state = {prefix + name: tensor for name, tensor in dense.state_dict().items()}
    check_loaded(save_checkpoint(tmp_path, dense, {"epoch": 3, key: state}), dense)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_weight_names_without_the_base_model_prefix_are_read(dense, tmp_path, prefix) -> None:
    state = {name.removeprefix("bert."): tensor for name, tensor in dense.state_dict().items()}
    folder = save_checkpoint(
        tmp_path / "bin", dense, {prefix + name: tensor for name, tensor in state.items()}
    )
    assert check_loaded(folder, dense)
    with pytest.raises(PruneError, match=r"lacks weights .*classifier"):
        loading.load(
            str(
                save_checkpoint(
                    tmp_path / "bare",
                    dense,
                    {name: t for name, t in state.items() if "classifier" not in name},
                )
            )
        )


def test_a_wrapped_model_with_mismatched_shapes_raises(dense, tmp_path) -> None:
    folder = save_checkpoint(
        tmp_path, dense, {f"module.{name}": tensor for name, tensor in dense.state_dict().items()}
    )
    edit_config(folder, id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(PruneError, match=r"classifier\.\w+ .*shape .*by its config.json"):
        loading.load(str(folder))
