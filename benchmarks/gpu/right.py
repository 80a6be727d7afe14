"""Is a GPU right? The demo checkpoint pruned on the device and on the CPU with one seed, and every measure on one pruned model.

A method that looks once must choose the same. One that goes on from its own choices does not: sums in another order round
otherwise, where two weights are worth the same to the last digits another one goes, and every later choice sees that. How far
that leads apart, the device says itself: it prunes again from batches of another size, which is the same but for the order of
sums. The device's model must be as near to the CPU's as that, and no worse: its reconstruction error is the CPU's within 1%.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from prune_core.data import tasks, tokens
from prune_core.data.examples import DataSource
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.devices import matrix_precision, seed_everything
from prune_core.models.inference.predict import probabilities
from prune_core.plugins import build, no_report

from .setting import Row, Setting

LIMIT = 120.0  # seconds
SENTENCES, EVALUATION, BATCH = 64, 200, 32
# a structured method rounds widths on a GPU and takes bf16 where that is fast: here both do the same
SAME = {"multiple": 8}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("magnitude", {}),
    ("wanda", {}),
    ("sparsegpt", {}),
    ("akr", {}),
    ("akr", {"solver": "admm"}),
    ("akr_plus", {}),
    ("kprune", {**SAME, "precision": "fp32"}),
    ("kwon", {**SAME, "precision": "fp32"}),
    ("unit_magnitude", SAME),
    ("unit_random", SAME),
    ("magnitude", {"pattern": "2:4"}),
    ("sparsegpt", {"pattern": "2:4"}),
    ("akr", {"pattern": "2:4"}),
]
ONE_LOOK = ("magnitude", "wanda", "unit_magnitude", "unit_random")
EQUAL = 1e-4  # share of other choices, and ‖A − B‖/‖A‖ of the weights that both keep, that is nothing but rounding
AS_FAR = 2.0  # times as far apart as the device's two models, at most
AS_GOOD = 0.01  # of the reconstruction error, relative
# of a measure's table: its figures, and how far apart they may be, relative to the larger
MEASURED = {
    "accuracy": ("accuracy", ("score", "difference", "agreement", "divergence"), 1e-3),
    "reconstruction": ("reconstruction", ("own", "inherited", "total", "sparsity"), 1e-3),
    "drift": ("drift", ("cka", "cosine", "procrustes", "overlap"), 5e-3),
    "cost": ("cost", ("parameters", "nonzeros", "macs", "bytes", "sparsity"), 0.0),
}


def run(setting: Setting) -> Iterator[Row]:
    """A row a method, then a row a measure; AKR's model, pruned on the CPU, is the one that is measured."""
    with matrix_precision(tf32=False):
        model, tokenizer = setting.demo()
        task = tasks.load(DataSource("demo"), ("negative", "positive")).subsample(
            *((16, 16) if setting.tiny else (SENTENCES, EVALUATION)), 0
        )
        measured: nn.Module | None = None
        for name, options in SETTINGS:
            pruned, row = _method(setting, model, tokenizer, task=task, name=name, options=options)
            yield row
            if (name, options) == ("akr", {}):
                measured = pruned
        assert measured is not None, "AKR is among the settings"
        yield from _measures(setting, Pair(model, measured, tokenizer, task=task))


def _method(
    setting: Setting,
    model: nn.Module,
    tokenizer: Any,
    task: tasks.Task,
    name: str,
    options: dict[str, Any],
) -> tuple[nn.Module, Row]:
    """(the model pruned on the CPU, how the other compares)."""
    method = build(METHODS, name, options)
    pruned, seconds = [], []
    for place, batch in ((setting.on_cpu, BATCH), (setting, BATCH), (setting, BATCH // 2)):
        found = tokens.batches(
            tokenizer, task.calibration, batch, max_length=128, device=place.device, labelled=True
        )
        batches = [each for each, _ in found]
        own = copy.deepcopy(model).to(place.device)
        seed_everything(0)
        seconds.append(
            place.seconds(lambda own=own, batches=batches: method.prune(own, batches, no_report))
        )
        pruned.append(own)
    cpu, device, other = pruned
    gap, own = (
        _apart(cpu, device, tokenizer, task=task),
        _apart(device, other, tokenizer, task=task),
    )
    errors = [
        _error(setting, model, each, tokenizer=tokenizer, task=task) for each in (cpu, device)
    ]
    error = errors[1] / errors[0] - 1
    if name in ONE_LOOK:
        fine = max(gap.choices, gap.weights) <= EQUAL and gap.answers == 0
    else:
        fine = (
            all(a <= AS_FAR * b + EQUAL for a, b in zip(gap, own, strict=True))
            and abs(error) <= AS_GOOD
        )
    stated = ", ".join(
        f"{key} {value}" for key, value in options.items() if key not in ("multiple", "precision")
    )
    return cpu, {
        "table": "methods",
        "method": method.title + (f" ({stated})" if stated else ""),
        "other choices": gap.choices,
        "the device's own": own.choices,
        "difference of kept weights": gap.weights,
        "its own": own.weights,
        "other answers": gap.answers,
        "own": own.answers,
        "reconstruction error": errors[1],
        "relative to the CPU's": error,
        "passes": fine,
        "seconds": seconds[1],
        "seconds on the CPU": seconds[0],
    }


class Gap(NamedTuple):
    """How far apart two pruned models are; each a share."""

    choices: float  # of the weights, zero in one alone
    weights: float  # ‖A − B‖/‖A‖ of the weights that both keep
    answers: float  # of the evaluation sentences


def _apart(one: nn.Module, two: nn.Module, tokenizer: Any, task: tasks.Task) -> Gap:
    pairs = [
        (a.weight.cpu(), b.weight.cpu())
        for (_, _, a), (_, _, b) in zip(replay.linears(one), replay.linears(two), strict=True)
    ]
    other = sum(int(((a == 0) != (b == 0)).sum()) for a, b in pairs) / sum(
        a.numel() for a, _ in pairs
    )
    kept = [(a - b).masked_fill((a == 0) | (b == 0), 0).norm() for a, b in pairs]
    overall = float(torch.stack(kept).norm() / torch.stack([a.norm() for a, _ in pairs]).norm())
    said = [
        probabilities(each, tokenizer, task.evaluation, batch_size=64).argmax(-1)
        for each in (one, two)
    ]
    return Gap(other, overall, float((said[0] != said[1]).mean()))


def _error(
    setting: Setting, dense: nn.Module, pruned: nn.Module, tokenizer: Any, task: tasks.Task
) -> float:
    """The mean over the matrices of the error that stands at their outputs, measured on the device."""
    pair = Pair(
        *(copy.deepcopy(each).to(setting.device) for each in (dense, pruned)), tokenizer, task
    )
    return float(
        build(MEASURES, "reconstruction", {})
        .measure(pair, no_report)["reconstruction"]["total"]
        .mean()
    )


def _measures(setting: Setting, pair: Pair) -> Iterator[Row]:
    there = replace(
        pair,
        dense=copy.deepcopy(pair.dense).to(setting.device),
        pruned=copy.deepcopy(pair.pruned).to(setting.device),
        memo={},
    )
    for name, (table, figures, allowed) in MEASURED.items():
        measure = build(MEASURES, name, {"umap": False} if name == "drift" else {})
        found = []
        try:
            for each in (pair, there):
                seed_everything(0)
                found.append(measure.measure(each, no_report)[table])
        except ModuleNotFoundError as error:
            yield {
                "table": "measures",
                "measure": measure.title,
                "left out": f"{error.name} is not installed here.",
            }
            continue
        a, b = (rows[list(figures)].to_numpy(float) for rows in found)
        largest = float(np.nanmax(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)).clip(1e-3)))
        yield {
            "table": "measures",
            "measure": measure.title,
            "figures": ", ".join(figures),
            "rows": len(a),
            "largest relative difference": largest,
            "allowed": allowed,
            "passes": largest <= allowed,
        }
