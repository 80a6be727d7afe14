"""Processor time taken by other processes: injected clocks, and one real busy process."""

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from prune_core import views
from prune_core.analysis import cost_evidence, takeaways
from prune_core.analysis.compared_models import ComparedModel
from prune_core.models.inference import contention
from prune_core.models.inference.contention import Clocks, Contention


def measured_load(monkeypatch, threads, cores, seconds, total, this_process):
    """Return the load by other processes from the CPU seconds of all and of this process."""
    clocks = iter(
        [Clocks(5.0, 100.0, 10.0), Clocks(5.0 + seconds, 100.0 + total, 10.0 + this_process)]
    )
    monkeypatch.setattr(contention, "_read", lambda: next(clocks))
    monkeypatch.setattr(contention, "_cores", lambda: cores)
    return Contention(threads).other_load()


@pytest.mark.parametrize(
    "threads, cores, seconds, total, this_process, load",
    [
        (2, 2, 10.0, 20.0, 14.0, 0.6),  # a busy neighbor of two threads on two cores
        (2, 2, 10.0, 20.0, 19.6, 0.04),  # idle daemons
        (1, 16, 10.0, 20.0, 10.0, 0.0),  # a neighbor on one of 15 spare cores
        (1, 2, 10.0, 20.0, 6.0, 0.4),  # two neighbors, of which only one finds a spare core
        (
            16,
            16,
            10.0,
            160.0,
            120.0,
            1.0,
        ),  # never more than a core: a pass waits for its slowest thread
        (4, 2, 10.0, 20.0, 20.0, 0.0),  # more threads than cores
        (2, 2, 10.0, 19.9, 20.0, 0.0),  # rounding
        (2, 2, 0.1, 0.2, 0.1, np.nan),  # too short
        (2, 2, 10.0, 0.0, 20.0, np.nan),  # a system that reports no processor times
    ],
)
def test_load_is_processor_time_that_does_not_fit_on_spare_cores(
    monkeypatch, threads, cores, seconds, total, this_process, load
):
    assert measured_load(
        monkeypatch, threads, cores, seconds=seconds, total=total, this_process=this_process
    ) == pytest.approx(load, abs=1e-9, nan_ok=True)


def test_without_psutil_the_load_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert np.isnan(Contention(1).other_load())


def test_busy_processes_on_every_core_are_detected():
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(contention._cores() + 1)
    ]
    try:
        time.sleep(0.5)  # until they have started
        monitor, end = Contention(contention._cores()), time.perf_counter() + 1.5
        while time.perf_counter() < end:
            pass
        assert contention.disturbance(monitor.other_load())
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_disturbance_is_reported_only_from_the_threshold_on():
    assert [contention.disturbance(load) for load in (None, np.nan, 0.0, contention.DISTURBED)] == [
        ""
    ] * 4
    assert (
        contention.disturbance(1.0) == "other processes took a core or more from the timed passes"
    )
    assert (
        contention.disturbance(0.553) == "other processes took 55% of a core from the timed passes"
    )


def test_disturbed_models_are_named_and_older_tables_are_not():
    models = [
        ComparedModel(1, "Dense", "dense", sparsity=0.0),
        ComparedModel(2, "AKR 50%", "akr", sparsity=0.5),
        ComparedModel(3, "AKR 70%", "akr", sparsity=0.7),
    ]
    rows = pd.DataFrame(
        {
            "job": [1, 2, 2, 3, 3],
            "model": ["dense", *["dense", "pruned"] * 2],
            "other_load": [0.0, 0.1, 0.1, 0.4, 0.4],
        }
    )
    assert takeaways.busy_machine_note(rows, models) == (
        "The times of AKR at 70% are unreliable: other processes took 40% of a core from the timed "
        "passes. On an idle machine, measure "
        "again (python -m prune_core remeasure 3 cost)."
    )
    several = takeaways.busy_machine_note(rows.assign(other_load=[0.0, 0.4, 0.4, 0.6, 0.6]), models)
    assert several.startswith(
        "The times of AKR at 70% and 1 other model are unreliable: other processes took 60% of a "
        "core"
    )
    old = rows.drop(columns="other_load")
    assert takeaways.busy_machine_note(old, models) == cost_evidence.disturbance(old) == ""
    assert "other_load" in views.quantities({"cost": rows})
    assert "other_load" not in views.quantities({"cost": old})
