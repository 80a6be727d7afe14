"""GPU results compared with the CPU: pruned models of the same seed, and every measure.

One-shot methods must select the same weights. Sequential methods need not: summation order changes
rounding, a near-tie is resolved differently, and all later selections depend on it. The size of
this effect is measured by pruning again on the device with another batch size, which only changes
the order of sums. The device's model may differ from the CPU's by at most twice that effect, and
its reconstruction error must be within 1% of the CPU's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from prune_core.data.examples import DataSource
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.devices import matrix_precision, seed_everything
from prune_core.models.inference.predict import probabilities
from prune_core.plugins import build, no_report
from prune_core.tasks import encoding, task_data

from .device_setup import DeviceSetup, Row

LIMIT = 120.0  # seconds
CALIBRATION, EVALUATION, BATCH = 64, 200, 32
# structured methods round widths on a GPU and use bf16 where it is fast: make both devices equal
SAME_OPTIONS = {"multiple": 8}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("magnitude", {}),
    ("wanda", {}),
    ("sparsegpt", {}),
    ("akr", {}),
    ("akr", {"solver": "admm"}),
    ("akr_plus", {}),
    ("kprune", {**SAME_OPTIONS, "precision": "fp32"}),
    ("kwon", {**SAME_OPTIONS, "precision": "fp32"}),
    ("unit_magnitude", SAME_OPTIONS),
    ("unit_random", SAME_OPTIONS),
    ("magnitude", {"pattern": "2:4"}),
    ("sparsegpt", {"pattern": "2:4"}),
    ("akr", {"pattern": "2:4"}),
]
ONE_SHOT = ("magnitude", "wanda", "unit_magnitude", "unit_random")
# fraction of different selections, and ‖A − B‖/‖A‖ of the weights kept by both, that is only
# rounding
ROUNDING = 1e-4
MAX_RATIO = 2.0  # maximum difference, in multiples of that between the device's two models
MAX_ERROR_CHANGE = 0.01  # relative difference in reconstruction error
# measure: table, columns and maximum difference relative to the larger value
MEASURE_COLUMNS = {
    "accuracy": ("accuracy", ("score", "difference", "agreement", "divergence"), 1e-3),
    "reconstruction": ("reconstruction", ("own", "inherited", "total", "sparsity"), 1e-3),
    "drift": ("drift", ("cka", "cosine", "procrustes", "overlap"), 5e-3),
    "cost": ("cost", ("parameters", "nonzeros", "macs", "bytes", "sparsity"), 0.0),
}


def run(setup: DeviceSetup) -> Iterator[Row]:
    """Yield one row per method, then one row per measure of AKR's model pruned on the CPU."""
    with matrix_precision(tf32=False):
        model, tokenizer = setup.demo()
        task = task_data.load(DataSource("demo"), ("negative", "positive")).subsample(
            *((16, 16) if setup.tiny else (CALIBRATION, EVALUATION)), 0
        )
        measured: nn.Module | None = None
        # one method of each type is enough to test the section
        settings = [SETTINGS[0], SETTINGS[3], SETTINGS[6]] if setup.tiny else SETTINGS
        for name, options in settings:
            pruned, row = _method(setup, model, tokenizer, task=task, name=name, options=options)
            yield row
            if (name, options) == ("akr", {}):
                measured = pruned
        assert measured is not None, "AKR is among the settings"
        yield from _measures(setup, Pair(model, measured, tokenizer, task=task))


def _method(
    setup: DeviceSetup,
    model: nn.Module,
    tokenizer: Any,
    task: task_data.Task,
    name: str,
    options: dict[str, Any],
) -> tuple[nn.Module, Row]:
    """Return (model pruned on the CPU, row that compares the device)."""
    method = build(METHODS, name, options)
    pruned, seconds = [], []
    for run_setup, batch in ((setup.on_cpu, BATCH), (setup, BATCH), (setup, BATCH // 2)):
        encoded = encoding.batches(
            tokenizer,
            task.calibration,
            batch,
            max_length=128,
            device=run_setup.device,
            labelled=True,
        )
        batches = [inputs for inputs, _ in encoded]
        pruned_model = copy.deepcopy(model).to(run_setup.device)
        seed_everything(0)
        seconds.append(
            run_setup.seconds(
                lambda pruned_model=pruned_model, batches=batches: method.prune(
                    pruned_model, batches, no_report
                )
            )
        )
        pruned.append(pruned_model)
    cpu, device, other = pruned
    difference, device_difference = (
        _difference(cpu, device, tokenizer, task=task),
        _difference(device, other, tokenizer, task=task),
    )
    errors = [_error(setup, model, each, tokenizer=tokenizer, task=task) for each in (cpu, device)]
    error = errors[1] / errors[0] - 1
    if name in ONE_SHOT:
        passes = (
            max(difference.selections, difference.weights) <= ROUNDING
            and difference.predictions == 0
        )
    else:
        passes = (
            all(
                a <= MAX_RATIO * b + ROUNDING
                for a, b in zip(difference, device_difference, strict=True)
            )
            and abs(error) <= MAX_ERROR_CHANGE
        )
    settings = ", ".join(
        f"{key} {value}" for key, value in options.items() if key not in ("multiple", "precision")
    )
    return cpu, {
        "table": "methods",
        "method": method.title + (f" ({settings})" if settings else ""),
        "different selections": difference.selections,
        "between batch sizes, selections": device_difference.selections,
        "difference of kept weights": difference.weights,
        "between batch sizes, weights": device_difference.weights,
        "different predictions": difference.predictions,
        "between batch sizes, predictions": device_difference.predictions,
        "reconstruction error": errors[1],
        "relative to the CPU's": error,
        "passes": passes,
        "seconds": seconds[1],
        "seconds on the CPU": seconds[0],
    }


class Difference(NamedTuple):
    """Differences between two pruned models, as fractions."""

    selections: float  # weights that are zero in only one model
    weights: float  # ‖A − B‖/‖A‖ of the weights kept by both
    predictions: float  # evaluation examples with different predictions


def _difference(one: nn.Module, two: nn.Module, tokenizer: Any, task: task_data.Task) -> Difference:
    pairs = [
        (a.weight.cpu(), b.weight.cpu())
        for (_, _, a), (_, _, b) in zip(replay.linears(one), replay.linears(two), strict=True)
    ]
    selections = sum(int(((a == 0) != (b == 0)).sum()) for a, b in pairs) / sum(
        a.numel() for a, _ in pairs
    )
    kept = [(a - b).masked_fill((a == 0) | (b == 0), 0).norm() for a, b in pairs]
    overall = float(torch.stack(kept).norm() / torch.stack([a.norm() for a, _ in pairs]).norm())
    predictions = [
        probabilities(model, tokenizer, task.evaluation, batch_size=64).argmax(-1)
        for model in (one, two)
    ]
    return Difference(selections, overall, float((predictions[0] != predictions[1]).mean()))


def _error(
    setup: DeviceSetup, dense: nn.Module, pruned: nn.Module, tokenizer: Any, task: task_data.Task
) -> float:
    """Return the mean reconstruction error of all matrices, measured on the device."""
    pair = Pair(
        *(copy.deepcopy(each).to(setup.device) for each in (dense, pruned)), tokenizer, task
    )
    return float(
        build(MEASURES, "reconstruction", {})
        .measure(pair, no_report)["reconstruction"]["total"]
        .mean()
    )


def _measures(setup: DeviceSetup, pair: Pair) -> Iterator[Row]:
    device_pair = replace(
        pair,
        dense=copy.deepcopy(pair.dense).to(setup.device),
        pruned=copy.deepcopy(pair.pruned).to(setup.device),
        memo={},
    )
    for name, (table, columns, allowed) in MEASURE_COLUMNS.items():
        measure = build(MEASURES, name, {"umap": False} if name == "drift" else {})
        tables = []
        try:
            for each in (pair, device_pair):
                seed_everything(0)
                tables.append(measure.measure(each, no_report)[table])
        except ModuleNotFoundError as error:
            yield {
                "table": "measures",
                "measure": measure.title,
                "skipped": f"{error.name} is not installed here.",
            }
            continue
        a, b = (rows[list(columns)].to_numpy(float) for rows in tables)
        largest = float(np.nanmax(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)).clip(1e-3)))
        yield {
            "table": "measures",
            "measure": measure.title,
            "columns": ", ".join(columns),
            "rows": len(a),
            "largest relative difference": largest,
            "allowed": allowed,
            "passes": largest <= allowed,
        }
