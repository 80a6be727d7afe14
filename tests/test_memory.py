"""Memory of a run: large calibration states in a file, and a check with advice before the start."""

from pathlib import Path

import pytest
import tiny
import torch

from prune_core import PruneError
from prune_core.experiments import memory
from prune_core.experiments.experiment import Experiment
from prune_core.methods import METHODS
from prune_core.models import devices
from prune_core.plugins import build, no_report
from prune_core.pruning import streams

LARGE = {"wide": 1024.0, "inside": 4096.0, "weights": 1.3e9}  # BERT-large


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert"])
@pytest.mark.parametrize("name", ["akr", "akr_plus", "kprune"])
def test_states_in_a_file_give_the_same_weights(name, family, monkeypatch):
    pruned = []
    for bound in (streams.IN_MEMORY, 0):
        monkeypatch.setattr(streams, "IN_MEMORY", bound)
        model = tiny.model(family)
        build(METHODS, name, {"sparsity": 0.5}).prune(model, tiny.calibration(family), no_report)
        pruned.append(model.state_dict())
    first, second = pruned
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_states_are_in_a_temporary_file_that_is_deleted(monkeypatch, tmp_path):
    monkeypatch.setattr(streams, "IN_MEMORY", 0)
    monkeypatch.setattr(streams.tempfile, "tempdir", str(tmp_path))
    model = tiny.model()
    stream = streams.stream(model, tiny.calibration())
    ranges = [
        line.split()[0]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "prunescope-states-" in line
    ]
    mapped = [tuple(int(number, 16) for number in line_range.split("-")) for line_range in ranges]
    assert all(any(low <= x.data_ptr() < high for low, high in mapped) for x in stream.inputs)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_option_to_lower(monkeypatch):
    monkeypatch.setattr(streams, "IN_MEMORY", 0)
    monkeypatch.setattr(
        streams.tempfile,
        "NamedTemporaryFile",
        lambda **_: Path("/dev/full").open("wb"),  # noqa: SIM115
    )
    model = tiny.model()
    with pytest.raises(PruneError, match="lower the calibration size"):
        streams.stream(model, tiny.calibration())


@pytest.mark.parametrize(
    "free, tokens, batch, advice",
    [
        (1e9, 1000, 8, "a smaller checkpoint"),
        (6e9, 10**6, 8, "lower the calibration size to"),
        (6e9, 10, 512, "lower the batch size to"),
    ],
)
def test_a_run_that_does_not_fit_names_an_option_and_a_value_that_fits(
    free, tokens, batch, advice, monkeypatch
):
    monkeypatch.setattr(devices, "free_memory", lambda: free)
    monkeypatch.setattr(memory, "COMPONENTS", 1000)  # as on a GPU, where states are not in a file
    method = build(METHODS, "akr", None)
    experiment = Experiment(method=method, device="cpu", batch_size=batch, calibration_size=1000)
    with pytest.raises(PruneError, match=advice) as raised:
        memory.check(experiment, LARGE | {"tokens": tokens, "longest": 128})
    if " to " not in advice:
        return
    value = int(str(raised.value).split(advice)[1].split(",")[0])
    if "calibration" in advice:
        tokens *= value / 1000
    else:
        batch = value
    memory.check(
        Experiment(method=method, device="cpu", batch_size=batch),
        LARGE | {"tokens": tokens, "longest": 128},
    )


def test_memory_on_a_cpu_does_not_grow_with_the_calibration_examples():
    experiment = Experiment(method=build(METHODS, "akr", None), device="cpu")
    few, many = (
        memory.estimate_memory(experiment, "cpu", **LARGE, tokens=count, longest=384).total
        for count in (10**5, 10**7)
    )
    assert few == many < 8e9
