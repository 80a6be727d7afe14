"""Compact models have the outputs of full-shape models, also in a new process and as ONNX."""

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
from prune_core.store.results import Results
from prune_core.store.store import Store

KINDS = ("classification", "span")
# What is removed from each of the two layers: random heads and neurons, or a whole sublayer.
ALL = "heads neurons"
REMOVALS = {
    "some": ("", ""),
    "attention": ("heads", ""),
    "ffn": ("", "neurons"),
    "both": (ALL, ""),
    "all": (ALL, ALL),
}


def pruned(family="bert", kind="classification", removals=("", ""), seed=0):
    """Return a random model of full shape in which units are dead."""
    model, rng = tiny.model(family, seed, kind), np.random.default_rng(seed)
    with torch.no_grad():
        for block, removed in zip(replay.blocks(model), removals, strict=True):
            heads = block.linears["attention_output"].weight.unflatten(
                1, (block.heads, block.head_width)
            )
            heads[:, range(4) if "heads" in removed else rng.permutation(4)[:2]] = 0
            block.linears["ffn_out"].weight[
                :, range(64) if "neurons" in removed else rng.permutation(64)[:37]
            ] = 0
    return model


@torch.no_grad()
def logits(model, family="bert"):
    """Return the logits of every batch; for spans only those at real tokens.

    DeBERTa's logits at padding depend on the amount of padding.
    """
    outputs = []
    for batch in tiny.calibration(family):
        out = model(**batch)
        stacked = torch.stack([out[name] for name in out if "logits" in name])
        outputs.append(
            stacked.masked_fill(batch["attention_mask"] == 0, 0)
            if "start_logits" in out
            else stacked
        )
    return outputs


def close(one, two):
    return all(torch.allclose(x, y, rtol=0, atol=1e-5) for x, y in zip(one, two, strict=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Compact checkpoints of all families and task types, with the logits of their originals."""
    home = tmp_path_factory.mktemp("shrunk")
    for family in families.FAMILIES:
        for kind in KINDS:
            model = pruned(family, kind, REMOVALS["both"])
            loading.save(compact_model(model), tiny.tokenizer(family), home / f"{family}-{kind}")
            torch.save(logits(model, family), home / f"{family}-{kind}" / "expected.pt")
    return home


@pytest.mark.parametrize("removals", REMOVALS)
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        *((family, "classification") for family in families.FAMILIES),
        *(("bert", kind) for kind in KINDS if kind != "classification"),
    ],
)
def test_compact_model_has_the_same_logits_and_fewer_parameters(family, kind, removals):
    model = pruned(family, kind, REMOVALS[removals])
    small = compact_model(model)
    assert close(logits(small, family), logits(model, family))
    heads, neurons = dead_units(model)
    assert dead_units(small) == (0, 0)
    batch = tiny.calibration(family)[0]
    mask = batch["attention_mask"] if kind == "span" else 1
    assert torch.allclose(
        small(**batch)[0] * mask, model(**batch)[0] * mask, rtol=0, atol=1e-5
    )  # with gradients enabled
    # a head of width 8 has 4 matrices 32 x 8 and 3 biases of 8; a neuron has two vectors of 32 and
    # a bias, a gated neuron three vectors and no bias
    no_bias = replay.blocks(model)[0].linears["query"].bias is None
    removed_parameters = heads * (4 * 32 * 8 + (0 if no_bias else 3 * 8)) + neurons * (
        3 * 32 if no_bias else 2 * 32 + 1
    )
    assert (
        sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters())
        == removed_parameters
        > 0
    )
    for batch in tiny.calibration(family):
        for (x, _), (y, _) in zip(
            replay.hidden_states(small, batch), replay.hidden_states(model, batch), strict=True
        ):
            torch.testing.assert_close(x, y, rtol=0, atol=1e-5)


def test_empty_sublayers_run_no_matrix_kernels():
    small, batch = compact_model(pruned(removals=REMOVALS["all"])), tiny.calibration()[0]
    with torch.no_grad(), torch.autograd.profiler.profile(use_kineto=False) as profile:
        modules, index = replay.block_modules(small)[0]
        modules[index](torch.randn(2, 5, 32))
    operations = {event.key for event in profile.key_averages()}
    assert "aten::native_layer_norm" in operations
    assert not any(word in name for name in operations for word in ("mm", "gelu", "attention"))
    assert small(**batch).logits.isfinite().all()


def test_units_are_dead_only_if_all_their_columns_are_zero():
    model = pruned()
    block = replay.blocks(model)[1]
    before = live_units(block)
    with torch.no_grad():
        head = next(i for i in range(4) if i not in before.heads)
        block.linears["attention_output"].weight[3, head * 8 + 7] = (
            1e-30  # a single weight keeps a head alive
        )
        block.linears["ffn_in"].weight[before.neurons[0]] = (
            0  # a neuron without input still outputs its bias
        )
    assert live_units(block) == (sorted([*before.heads, head]), before.neurons, 8)


def test_new_process_loads_every_compact_checkpoint(folders):
    code = (
        "import sys, torch, tiny, prune_core; from pathlib import Path\n"
        "from test_shrink import close, logits\n"
        "for folder in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    model, _ = prune_core.load(folder)\n"
        "    print(folder.name, close(logits(model, folder.name.rsplit('-', 1)[0]), "
        "torch.load(folder / 'expected.pt')))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(folders)],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    )
    lines = process.stdout.splitlines()
    assert len(lines) == 2 * len(families.FAMILIES) and all(
        line.endswith(" True") for line in lines
    ), process.stderr[-2000:]


def test_copying_and_saving_again_preserve_a_compact_model(folders, tmp_path):
    model, tokenizer = loading.load(str(folders / "bert-classification"))
    assert close(logits(copy.deepcopy(model)), logits(model))
    loading.save(model, tokenizer, tmp_path)
    reloaded, _ = loading.load(str(tmp_path))
    assert close(logits(reloaded), logits(model))
    config = json.loads((tmp_path / "config.json").read_text())["prunescope"]
    assert [len(heads) for heads in config["heads"]] == [0, 2]
    assert [len(neurons) for neurons in config["neurons"]] == [0, 32]


@pytest.mark.parametrize("family", families.FAMILIES)
def test_from_pretrained_still_loads_full_shape_checkpoints(family, tmp_path):
    model = pruned(family, removals=REMOVALS["both"])
    loading.save(model, tiny.tokenizer(family), tmp_path)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert close(logits(plain, family), logits(model, family))


def _edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config["prunescope"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda folder: _edit(folder, lambda config: config["heads"][1].pop()),
        lambda folder: _edit(folder, lambda config: config["neurons"][1].append(64)),
        lambda folder: _edit(folder, lambda config: config["heads"].pop()),
        lambda folder: _edit(folder, lambda config: config.pop("neurons")),
        lambda folder: _edit(folder, lambda config: config.update(heads=3)),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"),
    ],
    ids=[
        "missing head",
        "extra neuron",
        "missing layer",
        "missing neurons",
        "not a list",
        "missing weights",
        "invalid safetensors",
    ],
)
def test_inconsistent_checkpoint_is_rejected(folders, tmp_path, corrupt):
    model, tokenizer = loading.load(str(folders / "bert-classification"))
    loading.save(model, tokenizer, tmp_path)
    corrupt(tmp_path)
    with pytest.raises(
        PruneError, match="disagree on the removed heads and neurons; export it again|truncated"
    ):
        loading.load(str(tmp_path))


@pytest.mark.parametrize("method", METHODS)
def test_no_method_prunes_a_compact_checkpoint(folders, tmp_path, method):
    pruning_run = experiment.Experiment(
        str(folders / "bert-classification"), method=build(METHODS, method)
    )
    with pytest.raises(PruneError, match=r"is already compact \(shrunk\): measure or deploy it"):
        list(run.run(pruning_run, Results(tmp_path, {"prune": "prune"}), tmp_path, no_report))


def test_compact_checkpoint_cannot_be_finetuned_or_compacted_again(folders):
    folder = str(folders / "bert-classification")
    with pytest.raises(PruneError, match=r"is already compact \(shrunk\)"):
        loading.load(folder, new_head="classification")
    with pytest.raises(PruneError, match=r"is already compact \(shrunk\)"):
        compact_model(loading.load(folder)[0])


def test_every_measure_accepts_a_compact_checkpoint(folders):
    model, _ = loading.load(str(folders / "bert-classification"))
    options = {
        "drift": {"neighbours": 3, "umap": False},
        "cost": {"repeats": 3, "length": 16},
        "attack": {"examples": 2, "recipes": "DeepWordBug", "query_budget": 20},
    }
    slow = {"formats", "quantization"}  # ONNX exports are tested below for every family
    for name in (
        set(MEASURES) - slow - tiny.OWN_DATA - (set() if find_spec("textattack") else {"attack"})
    ):
        tables = build(MEASURES, name, options.get(name, {})).measure(
            tiny.pair(model, model, copies=2), no_report
        )
        assert all(len(frame) for frame in tables.values()), name


def test_cost_measures_the_compact_model():
    model = pruned(removals=REMOVALS["attention"])
    tables = build(MEASURES, "cost", {"repeats": 3, "length": 16, "grid": True}).measure(
        tiny.pair(tiny.model(), model), no_report
    )
    dense, compact = (row for _, row in tables["cost"].iterrows())
    heads, neurons = dead_units(model)
    assert compact.shrunk
    assert not dense.shrunk
    assert f"lacks {heads} heads and {neurons} neurons" in compact.note
    assert (
        compact.parameters
        == sum(p.numel() for p in compact_model(model).parameters())
        < dense.parameters
    )
    assert compact.macs == macs(compact_model(model), 16)
    assert compact.speedup_theoretical == dense.macs / compact.macs > 1.5
    assert compact.bytes < dense.bytes
    assert 4 * compact.parameters < compact.peak_memory < dense.peak_memory
    assert bool(compact.limit) == (compact.speedup_measured < 0.95 * compact.speedup_theoretical)
    grid = tables["latency"]
    assert len(grid) == 2 * 9
    assert set(zip(grid.batch, grid.length, strict=True)) == {
        (b, n) for b in (1, 8, 32) for n in (32, 128, 384)
    }
    too_long = grid.length > 130
    assert grid[too_long].latency_p50.isna().all()
    assert grid[too_long].limit.str.contains("accepts at most 130 tokens").all()
    assert (grid[~too_long].latency_p50 <= grid[~too_long].latency_p95).all()
    assert (grid[~too_long].passes == 3).all()


@pytest.mark.parametrize(
    "pruned, seconds, expected",
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
def test_speedup_limit_names_the_largest_source_of_extra_time(pruned, seconds, expected):
    dense = Profile(8.0, Counter(gelu=4.0), 0)  # at a quarter of the work: 2 and 1
    assert expected in speedup_limit(dense, pruned, (12.0, seconds), theoretical=4.0)


def test_cost_rejects_lengths_above_the_maximum_of_the_model():
    with pytest.raises(PruneError, match="length is 131, but the model accepts at most 130 tokens"):
        build(MEASURES, "cost", {"length": 131}).measure(
            tiny.pair(tiny.model(), tiny.model()), no_report
        )
    assert (
        replay.max_tokens(tiny.model("roberta")) == 129
    )  # position ids start after the padding index


@pytest.mark.parametrize(
    "family, kind", zip(families.FAMILIES, cycle(KINDS), strict=False)
)  # one task type per family: an export takes five seconds
def test_onnx_model_has_the_same_logits_at_every_shape(folders, family, kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = folders / f"{family}-{kind}"
    assert "the largest difference is" in onnx.write_onnx(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert {model_input.name for model_input in session.get_inputs()} == set(
        tiny.tokenizer(family).model_input_names
    )
    for batch, expected in zip(
        tiny.calibration(family), torch.load(folder / "expected.pt"), strict=True
    ):
        outputs = np.stack(
            session.run(None, {name: tensor.numpy() for name, tensor in batch.items()})
        )
        mask = batch["attention_mask"].numpy() if kind == "span" else 1
        np.testing.assert_allclose(outputs * mask, expected.numpy(), rtol=0, atol=1e-4)


def test_onnx_export_of_a_full_shape_model(tmp_path):
    pytest.importorskip("onnxruntime")
    loading.save(tiny.model(kind="span"), tiny.tokenizer(), tmp_path)
    assert "the largest difference is" in onnx.write_onnx(tmp_path)


def test_wrong_export_is_detected():
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
    assert "no dead heads or neurons to remove" in capsys.readouterr().err
    assert not (tmp_path / "scattered").exists()
    model = pruned()
    shutil.rmtree(Store().weights(Store().job(1)))
    loading.save(
        model, tiny.tokenizer(), Store().weights(Store().job(1))
    )  # the result of a structured method
    assert run("export", 1, tmp_path / "small", "--shrink", "--onnx") == 0
    output = capsys.readouterr().out
    assert "Removed 4 heads and 64 neurons" in output
    assert output.count("largest difference") == 2
    assert (tmp_path / "small" / "model.onnx").is_file()
    matrices = pd.DataFrame(
        {"module": ["bert.encoder.layer.0.output.dense", "b"], "proposed": [True, False]}
    )
    Store().add_rows(1, {"quantization": matrices}, "quantization", seconds=1.0, facts={})
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
    assert close(logits(small), logits(model))
    assert (tmp_path / "small" / "prunescope.json").is_file()
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


@pytest.mark.parametrize("dead, removed", [(4, 0), (8, 8), (13, 8), (64, 64)])
def test_widths_stay_at_multiples_of_eight(dead, removed):
    model = tiny.model()
    with torch.no_grad():
        replay.blocks(model)[0].linears["ffn_out"].weight[:, :dead] = 0
    assert dead_units(model) == (0, removed) and alignment_neurons(model) == dead - removed
    small = compact_model(model)
    assert close(logits(small), logits(model))
    assert replay.blocks(small)[0].linears["ffn_out"].in_features == 64 - removed
