"""Is a GPU right? The demo checkpoint pruned on the device and on the CPU with one seed, and every measure on one pruned model.

Sums in another order round otherwise, and where two weights are worth the same to the last digits another one goes. What a
method does after that is another path to as good a model: so the share of equal choices, the weights kept and the answers are
held to limits, and what is outside is a finding to explain, not a limit to widen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from prune_core.data import tasks, tokens
from prune_core.data.examples import Source
from prune_core.measures import MEASURES
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.devices import matrix_precision, seed_everything
from prune_core.models.predict import probabilities
from prune_core.plugins import build, quiet

from .setting import Row, Setting

LIMIT = 90.0  # seconds
SENTENCES, EVALUATION = 64, 200
# a structured method rounds widths on a GPU and takes bf16 where that is fast: here both do the same
SAME = {"multiple": 8}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("magnitude", {}), ("wanda", {}), ("sparsegpt", {}), ("akr", {}), ("akr", {"solver": "admm"}), ("akr_plus", {}),
    ("kprune", {**SAME, "precision": "fp32"}), ("kwon", {**SAME, "precision": "fp32"}), ("unit_magnitude", SAME), ("unit_random", SAME),
    ("magnitude", {"pattern": "2:4"}), ("sparsegpt", {"pattern": "2:4"}), ("akr", {"pattern": "2:4"}),
    ("akr", {"solver": "exact", "sparsity": 0.02}),  # one weight of a row at a time: little of it is enough to see, and slow
]  # fmt: skip
# share of equal choices, ‖A − B‖/‖A‖ of the weights that both keep, share of equal answers, points of accuracy
ONE_LOOK, WALK = (0.9999, 1e-4, 1.0, 0.0), (0.99, 0.02, 0.98, 1.0)
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
        task = tasks.load(Source("demo"), ("negative", "positive")).sampled(SENTENCES, 40 if setting.tiny else EVALUATION, 0)
        measured: nn.Module | None = None
        for name, options in SETTINGS:
            pruned, row = _method(setting, model, tokenizer, task, name, options)
            yield row
            if (name, options) == ("akr", {}):
                measured = pruned
        assert measured is not None, "AKR is among the settings"
        yield from _measures(setting, Pair(model, measured, tokenizer, task))


def _method(
    setting: Setting, model: nn.Module, tokenizer: Any, task: tasks.Task, name: str, options: dict[str, Any]
) -> tuple[nn.Module, Row]:
    """(the model pruned on the CPU, how the other compares)."""
    method = build(METHODS, name, options)
    pruned, seconds = [], []
    for place in (setting.on_cpu, setting):
        found = tokens.batches(tokenizer, task.calibration, 32, 128, place.device, labelled=True)
        batches = [batch for batch, _ in found]
        own = copy.deepcopy(model).to(place.device)
        seed_everything(0)
        seconds.append(place.seconds(lambda own=own, batches=batches: method.prune(own, batches, quiet)))
        pruned.append(own)
    pairs = [(a.weight, b.weight.cpu()) for (_, _, a), (_, _, b) in zip(*map(replay.linears, pruned), strict=True)]
    same = sum(int(((a == 0) == (b == 0)).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)
    apart = [(a - b).masked_fill((a == 0) | (b == 0), 0) for a, b in pairs]
    largest = max(float(gap.abs().max() / a.abs().max()) for gap, (a, _) in zip(apart, pairs, strict=True))
    overall = float(torch.stack([gap.norm() for gap in apart]).norm() / torch.stack([a.norm() for a, _ in pairs]).norm())
    said = [probabilities(each, tokenizer, task.evaluation, 64).argmax(-1) for each in pruned]
    agreement = float((said[0] == said[1]).mean())
    points = 100 * float(np.diff([(each == np.array(task.evaluation.labels)).mean() for each in said])[0])
    limits = ONE_LOOK if name in ("magnitude", "wanda", "unit_magnitude", "unit_random") else WALK
    fine = same >= limits[0] and overall <= limits[1] and agreement >= limits[2] and abs(points) <= limits[3]
    stated = ", ".join(f"{key} {value}" for key, value in options.items() if key not in ("multiple", "precision"))
    return pruned[0], {
        "table": "methods", "method": method.title + (f" ({stated})" if stated else ""), "equal choices": same,
        "largest difference of a kept weight": largest, "difference of kept weights": overall, "equal answers": agreement,
        "accuracy, points": points, "passes": fine, "seconds": seconds[1], "seconds on the CPU": seconds[0],
    }  # fmt: skip


def _measures(setting: Setting, pair: Pair) -> Iterator[Row]:
    there = replace(pair, dense=copy.deepcopy(pair.dense).to(setting.device), pruned=copy.deepcopy(pair.pruned).to(setting.device), memo={})
    for name, (table, figures, allowed) in MEASURED.items():
        measure = build(MEASURES, name, {"umap": False} if name == "drift" else {})
        found = []
        try:
            for each in (pair, there):
                seed_everything(0)
                found.append(measure.measure(each, quiet)[table])
        except ModuleNotFoundError as error:
            yield {"table": "measures", "measure": measure.title, "left out": f"{error.name} is not installed here."}
            continue
        a, b = (rows[list(figures)].to_numpy(float) for rows in found)
        largest = float(np.nanmax(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)).clip(1e-3)))
        yield {"table": "measures", "measure": measure.title, "figures": ", ".join(figures), "rows": len(a),
               "largest relative difference": largest, "allowed": allowed, "passes": largest <= allowed}  # fmt: skip
