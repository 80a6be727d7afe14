"""A run's memory: calibration states beyond a bound lie in a file, and what cannot fit is refused before it starts, with what to lower."""

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
    assert all(
        torch.equal(one, two) for one, two in zip(*(each.values() for each in pruned), strict=True)
    )


def test_the_states_lie_in_a_file_and_leave_none(monkeypatch, tmp_path):
    monkeypatch.setattr(streams, "IN_MEMORY", 0)
    monkeypatch.setattr(streams.tempfile, "tempdir", str(tmp_path))
    model = tiny.model()
    found = streams.stream(model, tiny.calibration())
    places = [
        line.split()[0]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "prunescope-states-" in line
    ]
    within = [tuple(int(part, 16) for part in place.split("-")) for place in places]
    assert all(any(low <= x.data_ptr() < high for low, high in within) for x in found.inputs)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_says_what_to_lower(monkeypatch):
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
def test_what_cannot_fit_names_the_option_and_its_advice_fits(
    free, tokens, batch, advice, monkeypatch
):
    monkeypatch.setattr(devices, "free_memory", lambda: free)
    monkeypatch.setattr(memory, "COMPONENTS", 1000)  # as on a GPU, where states have no file
    asked = Experiment(
        method=build(METHODS, "akr", None), device="cpu", batch_size=batch, calibration=1000
    )
    with pytest.raises(PruneError, match=advice) as said:
        memory.check(asked, LARGE | {"tokens": tokens, "longest": 128})
    if " to " in advice:
        lower = int(str(said.value).split(advice)[1].split(",")[0].replace(",", "").rstrip(","))
        share = lower / (1000 if "calibration" in advice else batch)
        told = (
            {"tokens": tokens * share, "longest": 128}
            if "calibration" in advice
            else {"tokens": tokens, "longest": 128}
        )
        memory.check(
            Experiment(
                method=asked.method, device="cpu", batch_size=lower if "batch" in advice else batch
            ),
            LARGE | told,
        )


def test_memory_does_not_grow_with_the_calibration_sentences_on_a_cpu():
    asked = Experiment(method=build(METHODS, "akr", None), device="cpu")
    few, many = (
        memory.estimate_memory(asked, "cpu", **LARGE, tokens=count, longest=384).total
        for count in (10**5, 10**7)
    )
    assert few == many < 8e9
