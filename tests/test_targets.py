"""Targets instead of a sparsity: speed-up, latency and bytes.

Latencies come from a formula; the benchmarks use a real clock.
"""

import copy
from dataclasses import replace

import pytest
import tiny
import torch
import yaml
from test_structured import FAMILIES, NAMES, labelled, pruned

from prune_core import PruneError
from prune_core.analysis.ablation import form_labels
from prune_core.analysis.compared_models import models_of
from prune_core.experiments.experiment import Experiment, stages
from prune_core.experiments.run import run
from prune_core.experiments.stage_keys import experiment_key
from prune_core.experiments.study import load
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.compact import compact_model
from prune_core.models.inference import latency as measured
from prune_core.models.inference import timing
from prune_core.models.inference.latency import measure_latency
from prune_core.plugins import build, no_report
from prune_core.store.results import Results
from prune_core.store.store import Store

FIXED, HEAD, NEURON = 2e-3, 5e-4, 2e-5  # seconds


def seconds(model: torch.nn.Module) -> float:
    """Return the seconds of a forward pass, computed from the units left in the model."""
    blocks, compact = replay.blocks(model), getattr(model.config, replay.COMPACT_KEY, None)
    remaining = (
        zip(compact["heads"], compact["neurons"], strict=True)
        if compact
        else ((range(block.heads), range(block.neurons)) for block in blocks)
    )
    costs = [
        len(heads) * HEAD + (len(heads) > 0) * 1e-4 + len(neurons) * NEURON
        for heads, neurons in remaining
    ]
    return FIXED + sum(cost * block.passes for cost, block in zip(costs, blocks, strict=True))


@pytest.fixture
def clock(monkeypatch, tmp_path) -> list[float]:
    """Return the list of timed passes; the clock slows down, which must not affect ratios."""
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    passes: list[float] = []

    def timed(model, batch):
        passes.append(seconds(model) * (1 + len(passes) / 40_000))
        return passes[-1]

    monkeypatch.setattr(timing, "time_forward", timed)
    return passes


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_method_reaches_the_requested_speedup(name: str, clock: list[float]) -> None:
    dense = tiny.model()
    model, rows = pruned(name, dense, speedup=1.6)
    speedup = seconds(dense) / seconds(compact_model(model))
    assert speedup == pytest.approx(1.6, rel=0.05)
    assert rows["budget"]["speedup"].iloc[0] == pytest.approx(speedup, rel=0.03)
    assert (
        f"a measured speed-up of {rows['budget']['speedup'].iloc[0]:.2f}"
        in rows["budget"]["note"].iloc[0]
    )
    columns = {"trials", "latency", "speedup", "deviation", "other_load", "note"}
    assert columns <= set(rows["budget"])


@pytest.mark.parametrize("family", FAMILIES)
def test_latency_target_is_reached_in_every_family(family: str, clock: list[float]) -> None:
    dense = tiny.model(family)
    model, _ = pruned("unit_magnitude", dense, latency_ms=600 * seconds(dense))
    assert seconds(compact_model(model)) / seconds(dense) == pytest.approx(
        0.6, rel=0.08
    )  # the step is a head of width 8 or eight neurons
    for batch in tiny.calibration(family):
        assert torch.isfinite(
            compact_model(model)(
                **{key: value for key, value in batch.items() if key != "labels"}
            ).logits
        ).all()


def test_latency_table_matches_the_clock_and_is_measured_once(clock: list[float]) -> None:
    model = tiny.model()
    table = measure_latency(model, 8, 16)
    assert table.fixed / table.whole == pytest.approx(FIXED / seconds(model), rel=0.02)
    assert table.heads[4] / table.whole == pytest.approx(
        (4 * HEAD + 1e-4) / seconds(model), rel=0.03
    )
    assert table.neurons[64] / table.whole == pytest.approx(64 * NEURON / seconds(model), rel=0.03)
    assert (table.heads.diff() >= 0).all()
    assert (table.neurons.diff() >= 0).all()
    assert table.heads[0] == table.neurons[0] == 0
    before = len(clock)
    assert measure_latency(copy.deepcopy(model), 8, 16).whole == table.whole
    assert len(clock) == before
    measure_latency(model, 8, 32)
    assert len(clock) > before and len(list((measured._folder()).iterdir())) == 2


@pytest.mark.parametrize("name", NAMES)
def test_byte_target_is_met_within_eight_neurons(name: str) -> None:
    dense = tiny.model()
    dense_bytes = sum(tensor.nbytes for tensor in dense.state_dict().values())
    model, _ = pruned(name, dense, bytes=dense_bytes - 20_000)
    pruned_bytes = sum(tensor.nbytes for tensor in compact_model(model).state_dict().values())
    step = dense_bytes if name == "block_drop" else 8 * 4 * (32 + 1 + 32)  # removed together
    assert dense_bytes - 20_000 - step < pruned_bytes <= dense_bytes - 20_000


def test_unreachable_and_invalid_targets_are_rejected(clock: list[float]) -> None:
    with pytest.raises(
        PruneError,
        match="without any head or neuron it takes 2.* ms, a speed-up of .* choose a lower target",
    ):
        pruned("unit_magnitude", tiny.model(), speedup=50)
    with pytest.raises(PruneError, match="everything except heads and neurons takes"):
        pruned("unit_magnitude", tiny.model(), bytes=1000)
    with pytest.raises(PruneError, match="speedup and bytes cannot be combined; choose one"):
        build(METHODS, "kprune", {"speedup": 2, "bytes": 10**6})
    with pytest.raises(PruneError, match="slower than dense"):
        build(METHODS, "kprune", {"speedup": 0.5})
    with pytest.raises(PruneError, match="accepts at most"):
        build(METHODS, "unit_magnitude", {"speedup": 2, "at_length": 4000}).prune(
            tiny.model(), labelled(tiny.model()), no_report
        )
    with pytest.raises(
        PruneError,
        match=(
            "one head per layer takes .* of the cost of heads and neurons, but 3.2 times faster "
            "leaves"
        ),
    ):
        pruned("kprune", tiny.model(), speedup=3.2)


def test_sweep_has_a_labelled_run_for_each_target(tmp_path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "checkpoint": "demo",
                "task": "demo",
                "methods": ["kprune", "akr"],
                "sparsities": [0.5],
                "targets": [{"speedup": 3}, {"latency_ms": 12.5}, {"bytes": 60_000_000}],
            }
        )
    )
    labels = [each.label for each in load(file)]
    assert labels == [
        "Dense",
        "K-prune −50% FLOPs",
        "AKR 50%",
        "K-prune 3 times faster",
        "K-prune 12.5 ms",
        "K-prune 60 MB",
    ]
    assert len({experiment_key(each) for each in load(file)}) == 6
    assert [
        each.label for each in load(file, {"sweeps": [{"methods": ["akr"], "targets": []}]})
    ] == ["Dense", "AKR 50%"]
    with pytest.raises(
        PruneError, match="none of akr removes heads and neurons; leave the targets out"
    ):
        load(file, {"methods": ["akr"]})
    with pytest.raises(PruneError, match="each must be one of speedup, latency_ms, bytes"):
        load(file, {"targets": [{"speed": 3}]})


def test_target_changes_the_key_and_its_options_only_apply_with_a_target(tmp_path) -> None:
    plans = {
        number: build(METHODS, "kprune", options).to_dict()
        for number, options in enumerate(({"speedup": 2}, {"speedup": 3}, {}))
    }
    assert set(form_labels(plans).values()) == {""}
    old = Experiment(method=build(METHODS, "kprune", {"sparsity": 0.6}))
    assert experiment_key(
        replace(old, method=build(METHODS, "kprune", {"sparsity": 0.6, "at_batch": 2}))
    ) == experiment_key(old), "no effect without a time target"
    assert experiment_key(
        replace(old, method=build(METHODS, "kprune", {"bytes": 10**6}))
    ) != experiment_key(old)


def test_run_reports_the_speedup_that_its_target_reached(clock: list[float], tmp_path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "checkpoint": "demo",
                "task": "demo",
                "methods": ["unit_magnitude"],
                "dense": False,
                "calibration_size": 8,
                "evaluation_size": 8,
                "targets": [{"speedup": 2}],
            }
        )
    )
    store = Store()
    (experiment,) = load(file)
    id = store.submit(
        experiment.to_dict(), experiment.label, experiment_key(experiment), experiment.study, "auto"
    )
    results = Results(tmp_path, {name: name for name in stages(experiment)})
    stage = next(run(experiment, results, tmp_path, no_report))
    assert any(
        "Target 2 times faster" in note and "a measured speed-up of" in note
        for note in stage.facts["notes"]
    )
    (model,) = models_of([store.job(id)])
    assert (model.level, model.family, model.structured) == (
        "2 times faster",
        "Unit magnitude",
        True,
    )
