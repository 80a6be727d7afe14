"""Pruned weights saved as differences: exact, small, verified, and re-pruned from the seed."""

import copy
import json
from pathlib import Path

import external_checkpoints
import pytest
import tiny
import torch
from safetensors.torch import load_file
from test_methods import calibration

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.methods import METHODS
from prune_core.models.checkpoints import difference, loading
from prune_core.plugins import build, no_report
from prune_core.store import studies
from prune_core.store.store import Store


def bits(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    loading.save(tiny.model(), tiny.tokenizer(), folder)
    return folder


def save_and_load(model: torch.nn.Module, dense: Path, folder: Path) -> torch.nn.Module:
    difference.save(model, loading.load(str(dense))[0], str(dense), folder=folder)
    return loading.load(str(folder))[0]


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_every_method_round_trip_exactly_and_are_small(name, dense, tmp_path) -> None:
    model = loading.load(str(dense))[0]
    build(METHODS, name, {"sparsity": 0.7}).prune(model, calibration(), no_report)
    assert bits(save_and_load(model, dense, tmp_path)) == bits(model)
    encoder = sum(tensor.nbytes for key, tensor in model.state_dict().items() if ".layer." in key)
    saved = sum(tensor.nbytes for tensor in load_file(tmp_path / difference.FILE).values())
    # 0.3 for values, 0.03 for masks, and biases and a head that were fitted
    assert saved < 0.45 * encoder


def test_signed_zeros_nans_and_dense_changes_round_trip_exactly(dense, tmp_path) -> None:
    model = loading.load(str(dense))[0]
    with torch.no_grad():
        first, second, third = [
            weight
            for name, weight in model.named_parameters()
            if "query.weight" in name or "key.weight" in name
        ][:3]
        first[0, :3] = torch.tensor([-0.0, float("nan"), float("inf")])
        second[1] = 0.0
        third.add_(1)
    assert bits(save_and_load(model, dense, tmp_path)) == bits(model)


def test_changed_dense_weights_and_broken_files_are_refused(dense, tmp_path) -> None:
    model = loading.load(str(dense))[0]
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    difference.save(model, other, str(dense), folder=tmp_path)
    with pytest.raises(PruneError, match="whose weights have changed since"):
        loading.load(str(tmp_path))
    (tmp_path / difference.FILE).write_bytes(b"cut short")
    with pytest.raises(PruneError, match="damaged or truncated"):
        loading.load(str(tmp_path))


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("keep", ["difference", "full", "none"])
def test_deleted_weights_are_repruned_bit_for_bit(keep, dense, tmp_path, capsys) -> None:
    options = [
        *("--checkpoint", dense),
        *("--method", "akr"),
        *("--sparsity", 0.5),
        *("--calibration-size", 8),
        *("--evaluation-size", 20),
    ]
    assert run("run", *options, "--measure", "accuracy", "--keep", keep) == 0
    store, folder = Store(), Store().weights(Store().job(1))
    assert store.has_weights(1) == (keep != "none")
    assert (folder / "model.safetensors").is_file() == (keep == "full")
    first = bits(loading.load(str(folder))[0]) if keep != "none" else None
    studies.delete_weights(store, "Command line")
    assert not store.has_weights(1)
    assert run("export", 1, tmp_path / "out") == 0
    assert "identical bit for bit" in capsys.readouterr().out
    assert store.has_weights(1)
    assert run("reprune", 1) == 0 and "identical bit for bit" in capsys.readouterr().out
    assert first is None or bits(loading.load(str(tmp_path / "out"))[0]) == first
    store.update(1, facts=store.job(1).facts | {"weights": "of another machine"})
    assert run("reprune", 1) == 0 and "differ from the recorded hash" in capsys.readouterr().out


def test_repruning_a_dense_baseline_is_refused(dense, capsys) -> None:
    assert run("run", "--checkpoint", dense, "--measure", "accuracy", "--evaluation-size", 20) == 0
    assert run("reprune", 1) == 2 and "dense baseline" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["german-intents", "french-ner"])
def test_an_export_has_a_model_card_for_the_hub(case, tmp_path, capsys) -> None:
    from huggingface_hub import ModelCard

    external = external_checkpoints.ALL[case](tmp_path)
    options = [
        *("--checkpoint", external.folder),
        *("--task", external.file),
        *external.arguments,
        *("--calibration-size", 8),
        *("--method", "wanda"),
        *("--measure", "accuracy"),
        *("--measure", "reconstruction"),
    ]
    assert run("run", *options) == 0, capsys.readouterr().err
    assert run("export", 1, tmp_path / "out") == 0
    card, row = ModelCard.load(tmp_path / "out" / "README.md"), Store().records(1)["accuracy"][0]
    # a local folder is not a base model on the Hub
    assert card.data.tags == ["prunescope"] and card.data.base_model is None
    assert card.data.eval_results[0].metric_value == row["score"]
    assert "Wanda 50%" in card.text and "| 95" not in card.text
    record = json.loads((tmp_path / "out" / "prunescope.json").read_text())
    assert record["experiment"]["method"]["name"] == "wanda"


def test_a_saved_difference_can_be_used_as_a_checkpoint(dense, tmp_path, capsys) -> None:
    options = ("--evaluation-size", 20, "--measure", "accuracy")
    assert run("run", "--checkpoint", dense, "--method", "magnitude", *options) == 0
    saved = Store().weights(Store().job(1))
    assert run("run", "--checkpoint", saved, *options) == 0, capsys.readouterr().err
    first, second = (Store().records(id)["accuracy"][0]["score"] for id in (1, 2))
    assert first == second
    with pytest.raises(PruneError, match="export it first"):
        loading.load(str(saved), new_head="classification")


def test_the_model_card_warns_if_the_weights_are_not_the_measured_ones(
    dense, tmp_path, capsys
) -> None:
    options = [
        *("--checkpoint", dense),
        *("--method", "wanda"),
        *("--calibration-size", 8),
        *("--keep", "none"),
    ]
    assert run("run", *options) == 0
    store = Store()
    store.update(1, facts=store.job(1).facts | {"weights": "of another machine"})
    assert run("export", 1, tmp_path / "out") == 0
    assert "differ from the evaluated ones" in (tmp_path / "out" / "README.md").read_text()
