"""Shrunk models say what the full-shape ones say: in this process, in a fresh one, and as ONNX."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import cycle

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import transformers

from prune_core import PruneError
from prune_core.cli.arguments import main
from prune_core.experiments import experiment, run
from prune_core.measures import MEASURES
from prune_core.measures.cost import macs
from prune_core.methods import METHODS
from prune_core.models import families, replay
from prune_core.models.checkpoints import loading
from prune_core.models.compact import alignment_neurons, compact_model, dead_units, live_units
from prune_core.models.export import onnx
from prune_core.models.inference.timing import Profile, speedup_limit
from prune_core.paths import ROOT
from prune_core.plugins import build, no_report
from prune_core.store.store import Store

KINDS = ("classification", "span")
# What each of the two blocks loses: its heads and neurons by lot, or all of a sub-layer.
ALL = "heads neurons"
LOSSES = {
    "some": ("", ""),
    "attention": ("heads", ""),
    "ffn": ("", "neurons"),
    "both": (ALL, ""),
    "all": (ALL, ALL),
}


def pruned(family="bert", kind="classification", losses=("", ""), seed=0):
    """A random model in which units are dead, at full shape."""
    model, dice = tiny.model(family, seed, kind), np.random.default_rng(seed)
    with torch.no_grad():
        for block, lost in zip(replay.blocks(model), losses, strict=True):
            heads = block.linears["attention_output"].weight.unflatten(
                1, (block.heads, block.head_width)
            )
            heads[:, range(4) if "heads" in lost else dice.permutation(4)[:2]] = 0
            block.linears["ffn_out"].weight[
                :, range(64) if "neurons" in lost else dice.permutation(64)[:37]
            ] = 0
    return model


@torch.no_grad()
def logits(model, family="bert"):
    """Of every batch; of a span's ends those at real tokens, as what DeBERTa says of padding
    hangs on padding.
    """
    found = []
    for batch in tiny.calibration(family):
        out = model(**batch)
        said = torch.stack([out[name] for name in out if "logits" in name])
        found.append(
            said.masked_fill(batch["attention_mask"] == 0, 0) if "start_logits" in out else said
        )
    return found


def close(one, two):
    return all(torch.allclose(x, y, rtol=0, atol=1e-5) for x, y in zip(one, two, strict=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Shrunk folders of all families and both kinds of head, with the logits of the models they
    were cut from.
    """
    home = tmp_path_factory.mktemp("shrunk")
    for family in families.FAMILIES:
        for kind in KINDS:
            model = pruned(family, kind, LOSSES["both"])
            loading.save(compact_model(model), tiny.tokenizer(family), home / f"{family}-{kind}")
            torch.save(logits(model, family), home / f"{family}-{kind}" / "expected.pt")
    return home


@pytest.mark.parametrize("losses", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", families.FAMILIES)
def test_the_same_logits_from_less(family, kind, losses):
    model = pruned(family, kind, LOSSES[losses])
    small = compact_model(model)
    assert close(logits(small, family), logits(model, family))
    heads, neurons = dead_units(model)
    assert dead_units(small) == (0, 0)
    batch = tiny.calibration(family)[0]
    real = batch["attention_mask"] if kind == "span" else 1
    assert torch.allclose(
        small(**batch)[0] * real, model(**batch)[0] * real, rtol=0, atol=1e-5
    )  # with gradients too
    # a head of 8 has 4 matrices 32 x 8 and 3 biases of 8; a neuron two vectors of 32 and a bias, a
    # gated one three and none
    bare = family == "modernbert"
    gone = heads * (4 * 32 * 8 + (0 if bare else 3 * 8)) + neurons * (
        3 * 32 if bare else 2 * 32 + 1
    )
    assert (
        sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
        == gone
        > 0
    )
    for batch in tiny.calibration(family):
        for (x, _), (y, _) in zip(
            replay.hidden_states(small, batch), replay.hidden_states(model, batch), strict=True
        ):
            torch.testing.assert_close(x, y, rtol=0, atol=1e-5)


def test_a_sublayer_that_lost_everything_runs_no_kernel():
    small, batch = compact_model(pruned(losses=LOSSES["all"])), tiny.calibration()[0]
    with torch.no_grad(), torch.autograd.profiler.profile(use_kineto=False) as profile:
        own, place = replay.block_modules(small)[0]
        own[place](torch.randn(2, 5, 32))
    ran = {event.key for event in profile.key_averages()}
    assert "aten::native_layer_norm" in ran and not any(
        word in name for name in ran for word in ("mm", "gelu", "attention")
    )
    assert small(**batch).logits.isfinite().all()


def test_dead_means_all_columns_are_zero():
    model = pruned()
    block = replay.blocks(model)[1]
    before = live_units(block)
    with torch.no_grad():
        head = next(i for i in range(4) if i not in before.heads)
        block.linears["attention_output"].weight[3, head * 8 + 7] = (
            1e-30  # a single weight keeps a head alive
        )
        block.linears["ffn_in"].weight[before.neurons[0]] = (
            0  # a neuron without input still says its bias
        )
    assert live_units(block) == (sorted([*before.heads, head]), before.neurons)


def test_a_fresh_process_loads_every_folder(folders):
    code = (
        "import sys, torch, tiny, prune_core; from pathlib import Path\n"
        "from test_shrink import close, logits\n"
        "for folder in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    model, _ = prune_core.load(folder)\n"
        "    print(folder.name, close(logits(model, folder.name.rsplit('-', 1)[0]), "
        "torch.load(folder / 'expected.pt')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(folders)],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    lines = found.stdout.splitlines()
    assert len(lines) == 2 * len(families.FAMILIES) and all(
        line.endswith(" True") for line in lines
    ), found.stderr[-2000:]


def test_a_copy_and_a_second_save_stay_what_they_were(folders, tmp_path):
    model, tokenizer = loading.load(str(folders / "bert-classification"))
    assert close(logits(copy.deepcopy(model)), logits(model))
    loading.save(model, tokenizer, tmp_path)
    again, _ = loading.load(str(tmp_path))
    assert close(logits(again), logits(model))
    kept = json.loads((tmp_path / "config.json").read_text())["prunescope"]
    assert [len(heads) for heads in kept["heads"]] == [0, 2] and [
        len(neurons) for neurons in kept["neurons"]
    ] == [0, 32]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_from_pretrained_still_loads_the_full_shape(family, tmp_path):
    model = pruned(family, losses=LOSSES["both"])
    loading.save(model, tiny.tokenizer(family), tmp_path)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert close(logits(plain, family), logits(model, family))


def _edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config["prunescope"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: _edit(folder, lambda kept: kept["heads"][1].pop()),
        lambda folder: _edit(folder, lambda kept: kept["neurons"][1].append(64)),
        lambda folder: _edit(folder, lambda kept: kept["heads"].pop()),
        lambda folder: _edit(folder, lambda kept: kept.pop("neurons")),
        lambda folder: _edit(folder, lambda kept: kept.update(heads=3)),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"),
    ],
    ids=[
        "a head less",
        "a neuron more",
        "a block less",
        "no neurons",
        "no list",
        "no weights",
        "no safetensors",
    ],
)
def test_a_folder_that_contradicts_itself_is_a_sentence(folders, tmp_path, harm):
    model, tokenizer = loading.load(str(folders / "bert-classification"))
    loading.save(model, tokenizer, tmp_path)
    harm(tmp_path)
    with pytest.raises(
        PruneError, match="disagree on the removed heads and neurons; export it again|truncated"
    ):
        loading.load(str(tmp_path))


@pytest.mark.parametrize("method", METHODS)
def test_no_method_prunes_a_shrunk_checkpoint(folders, tmp_path, method):
    asked = experiment.Experiment(
        str(folders / "bert-classification"), method=build(METHODS, method)
    )
    with pytest.raises(PruneError, match=r"is already compact \(shrunk\): measure or deploy it"):
        list(run.run(asked, tmp_path, no_report))


def test_nor_does_finetune_or_a_second_cut(folders):
    folder = str(folders / "bert-classification")
    with pytest.raises(PruneError, match=r"is already compact \(shrunk\)"):
        loading.load(folder, new_head="classification")
    with pytest.raises(PruneError, match=r"is already compact \(shrunk\)"):
        compact_model(loading.load(folder)[0])


def test_every_measure_takes_a_shrunk_checkpoint(folders):
    model, _ = loading.load(str(folders / "bert-classification"))
    options = {
        "drift": {"neighbours": 3, "umap": False},
        "cost": {"repeats": 3, "length": 16},
        "attack": {"examples": 2, "recipes": "DeepWordBug", "query_budget": 20},
    }
    slow = {"formats", "quantization"}  # writes ONNX, which is tried below for every family
    for name in set(MEASURES) - slow - (set() if find_spec("textattack") else {"attack"}):
        tables = build(MEASURES, name, options.get(name, {})).measure(
            tiny.pair(model, model, copies=2), no_report
        )
        assert all(len(frame) for frame in tables.values()), name


def test_cost_measures_the_shrunk_model():
    model = pruned(losses=LOSSES["attention"])
    tables = build(MEASURES, "cost", {"repeats": 3, "length": 16, "grid": True}).measure(
        tiny.pair(tiny.model(), model), no_report
    )
    dense, small = (row for _, row in tables["cost"].iterrows())
    heads, neurons = dead_units(model)
    assert (
        small.shrunk
        and not dense.shrunk
        and f"{heads} dead heads and {neurons} dead neurons" in small.note
    )
    assert (
        small.parameters
        == sum(p.numel() for p in compact_model(model).parameters())
        < dense.parameters
    )
    assert (
        small.macs == macs(compact_model(model), 16)
        and small.speedup_theoretical == dense.macs / small.macs > 1.5
    )
    assert (
        small.bytes < dense.bytes and 4 * small.parameters < small.peak_memory < dense.peak_memory
    )
    assert bool(small.limit) == (small.speedup_measured < 0.95 * small.speedup_theoretical)
    grid = tables["latency"]
    assert len(grid) == 2 * 9 and set(zip(grid.batch, grid.length, strict=True)) == {
        (b, n) for b in (1, 8, 32) for n in (32, 128, 384)
    }
    beyond = grid.length > 130
    assert (
        grid[beyond].latency_p50.isna().all()
        and grid[beyond].limit.str.contains("accepts at most 130 tokens").all()
    )
    assert (grid[~beyond].latency_p50 <= grid[~beyond].latency_p95).all() and (
        grid[~beyond].passes == 3
    ).all()


@pytest.mark.parametrize(
    "pruned, seconds, words",
    [
        (
            Profile(4.0, Counter(gelu=1.0), 0),
            5.0,
            "its smaller matrix products reach 50% of the dense ones' rate",
        ),
        (
            Profile(2.0, Counter(gelu=1.0, layer_norm=2.0), 0),
            5.0,
            "60% of its time is spent in operations other than matrix products (layer",
        ),
        (Profile(2.0, Counter(gelu=1.0), 0), 12.0, "75% of its time is spent between operations"),
        (
            Profile(6.0, Counter(gelu=2.0), 0),
            4.0,
            "its smaller matrix products reach 67% of",
        ),  # twice as slow under the profiler
        (None, 5.0, "does not support this device"),
    ],
)
def test_a_limit_is_the_largest_part_of_the_time_beyond(pruned, seconds, words):
    dense = Profile(8.0, Counter(gelu=4.0), 0)  # of which a quarter would be 2 and 1
    assert words in speedup_limit(dense, pruned, (12.0, seconds), theoretical=4.0)


def test_cost_refuses_what_the_model_cannot_take():
    with pytest.raises(PruneError, match="length is 131, but the model accepts at most 130 tokens"):
        build(MEASURES, "cost", {"length": 131}).measure(
            tiny.pair(tiny.model(), tiny.model()), no_report
        )
    assert (
        replay.max_tokens(tiny.model("roberta")) == 129
    )  # positions count from behind the padding index


@pytest.mark.parametrize(
    "family, kind", zip(families.FAMILIES, cycle(KINDS), strict=False)
)  # an export takes five seconds
def test_onnx_gives_the_logits_at_every_shape(folders, family, kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = folders / f"{family}-{kind}"
    assert "the largest difference is" in onnx.write_onnx(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert {given.name for given in session.get_inputs()} == set(
        tiny.tokenizer(family).model_input_names
    )
    for batch, expected in zip(
        tiny.calibration(family), torch.load(folder / "expected.pt"), strict=True
    ):
        found = np.stack(
            session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        )
        real = batch["attention_mask"].numpy() if kind == "span" else 1
        np.testing.assert_allclose(found * real, expected.numpy(), rtol=0, atol=1e-4)


def test_onnx_of_the_full_shape(tmp_path):
    pytest.importorskip("onnxruntime")
    loading.save(tiny.model(kind="span"), tiny.tokenizer(), tmp_path)
    assert "the largest difference is" in onnx.write_onnx(tmp_path)


def test_a_wrong_export_is_noticed():
    model, other, tokenizer = tiny.model(), tiny.model(seed=1), tiny.tokenizer()
    with pytest.raises(PruneError, match="does not return the model's outputs"):
        onnx.largest_difference(
            model, tokenizer, onnx.OnnxWrapper(other, tokenizer).outputs_for, name="model.onnx"
        )


def test_export_on_the_command_line(tmp_path, capsys):
    pytest.importorskip("onnxruntime")

    def run(*arguments):
        return main([str(argument) for argument in arguments])

    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "dense")
    assert (
        run(
            "run",
            "--checkpoint",
            tmp_path / "dense",
            "--method",
            "magnitude",
            "--calibration-size",
            8,
        )
        == 0
    )
    assert run("export", 1, tmp_path / "scattered", "--shrink") == 2
    assert (
        "no dead heads or neurons to remove" in capsys.readouterr().err
        and not (tmp_path / "scattered").exists()
    )
    model = pruned()
    shutil.rmtree(Store().folder(1) / "checkpoint")
    loading.save(
        model, tiny.tokenizer(), Store().folder(1) / "checkpoint"
    )  # as a structured method leaves it
    assert run("export", 1, tmp_path / "small", "--shrink", "--onnx") == 0
    said = capsys.readouterr().out
    assert (
        "Removed 4 heads and 64 neurons" in said
        and said.count("largest difference") == 2
        and (tmp_path / "small" / "model.onnx").is_file()
    )
    parts = pd.DataFrame(
        {"part": ["bert.encoder.layer.0.output.dense", "b"], "proposed": [True, False]}
    )
    Store().add_rows(1, {"quantization": parts}, "quantization", seconds=1.0, facts={})
    assert run("export", 1, tmp_path / "rounded", "--shrink", "--int8") == 0
    assert (
        "bert.encoder.layer.0.output.dense stay in fp32, as proposed by the quantization "
        "sensitivity " in capsys.readouterr().out
    )
    sizes = [
        (tmp_path / "rounded" / name).stat().st_size for name in ("model.int8.onnx", "model.onnx")
    ]
    assert sizes[0] < sizes[1]
    small, _ = loading.load(str(tmp_path / "small"))
    assert (
        close(logits(small), logits(model)) and (tmp_path / "small" / "prunescope.json").is_file()
    )
    assert run("run", "--checkpoint", tmp_path / "small", "--method", "wanda") == 2
    assert "is already compact (shrunk)" in capsys.readouterr().err
    assert (
        run(
            "run",
            "--checkpoint",
            tmp_path / "small",
            "--measure",
            "accuracy",
            "--evaluation-size",
            20,
        )
        == 0
    )


@pytest.mark.parametrize("dead, gone", [(4, 0), (8, 8), (13, 8), (64, 64)])
def test_widths_stay_at_multiples_of_eight(dead, gone):
    model = tiny.model()
    with torch.no_grad():
        replay.blocks(model)[0].linears["ffn_out"].weight[:, :dead] = 0
    assert dead_units(model) == (0, gone) and alignment_neurons(model) == dead - gone
    small = compact_model(model)
    assert (
        close(logits(small), logits(model))
        and replay.blocks(small)[0].linears["ffn_out"].in_features == 64 - gone
    )
