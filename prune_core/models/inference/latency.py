"""Latency of a forward pass by the number of heads and neurons, measured on compact copies and
cached on disk.

Every point is timed alternately with the full model, so that a machine that slows down slows both.
A table measured while other processes used processor time is used once and not cached.
"""

import copy
import hashlib
import json
import os
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...plugins import Report, no_report, subrange
from ..compact import WIDTH, Units, remove_units
from ..devices import device_of, device_title
from ..replay import blocks
from .contention import disturbance
from .timing import refuse_longer, time_interleaved, timing_batch

# fractions of the units at which latency is measured; linear interpolation in between
FRACTIONS = (0.0, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0)
PASSES = 7


class Latency(NamedTuple):
    """Seconds of a pass: of a block's heads and neurons by their number, and of everything else."""

    whole: float
    fixed: float  # without any head or neuron
    heads: Tensor  # (heads + 1,) of one block, non-decreasing
    neurons: Tensor  # (neurons + 1,) of one block, non-decreasing
    other_load: float | None  # mean over the points, see Contention; None if unknown


def measure_latency(
    model: nn.Module, batch: int, length: int, report: Report = no_report, anew: bool = False
) -> Latency:
    """Latency of this model's shape on its device for a batch of `batch` texts of `length` tokens.

    Read from the cache if available, unless `anew`.
    """
    refuse_longer(model, length, "at_length")
    file = _folder() / f"{_key(model, batch, length)}.json"
    if file.is_file() and not anew:
        known = json.loads(file.read_text())
    else:
        known = _measure(model, batch, length, report=report)
        if not disturbance(known["other_load"]):
            _write(file, known)
    heads, neurons = (
        torch.tensor(known[kind], dtype=torch.float64) for kind in ("heads", "neurons")
    )
    # earlier versions did not store the load
    return Latency(
        known["whole"], known["fixed"], heads, neurons=neurons, other_load=known.get("other_load")
    )


def _write(file: Path, known: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(f".{os.getpid()}")
    partial_file.write_text(json.dumps(known))
    partial_file.replace(file)


def _folder() -> Path:
    if home := os.environ.get("PRUNESCOPE_HOME"):
        return Path(home).expanduser() / "latency"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "prunescope" / "latency"


def _key(model: Any, batch: int, length: int) -> str:
    device, config = device_of(model), model.config
    sizes = [
        (block.heads, block.head_width, block.neurons, block.passes) for block in blocks(model)
    ]
    content = [
        device_title(device),
        torch.__version__,
        str(next(model.parameters()).dtype),
        [type(model).__name__, config.vocab_size, *sizes],
        batch,
        length,
        FRACTIONS,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _measure(model: nn.Module, batch: int, length: int, report: Report) -> dict[str, Any]:
    """Time compact copies.

    Heads are varied with all neurons, neurons with all heads, all blocks alike, so that the time of
    a block is a mean over many.
    """
    first, passes = blocks(model)[0], sum(block.passes for block in blocks(model))
    heads = sorted({round(fraction * first.heads) for fraction in FRACTIONS})
    neurons = sorted(
        {
            min(first.neurons, -(-round(fraction * first.neurons) // WIDTH) * WIDTH)
            for fraction in FRACTIONS
        }
    )
    points = list(
        dict.fromkeys(
            [
                (0, 0),
                *((count, first.neurons) for count in heads),
                *((first.heads, count) for count in neurons),
            ]
        )
    )
    tokens = timing_batch(model, batch, length)
    ratio: dict[tuple[int, int], float] = {}  # time relative to the full model
    full_times: list[float] = []
    loads: list[float] = []
    for place, (head_count, neuron_count) in enumerate(points):
        compact = copy.deepcopy(model)
        kept = [
            Units(
                list(range(min(head_count, block.heads))),
                list(range(min(neuron_count, block.neurons))),
                block.width,
            )
            for block in blocks(compact)
        ]
        remove_units(compact, kept)
        (full, reduced), other_load = time_interleaved(
            [model, compact],
            tokens,
            PASSES,
            report=partial(
                _report_with_message,
                subrange(report, place / len(points), (place + 1) / len(points)),
                f"timing a model with {head_count} heads and {neuron_count} neurons per block",
            ),
        )
        loads += [] if np.isnan(other_load) else [other_load]
        full_times.append(min(full))
        ratio[head_count, neuron_count] = min(reduced) / min(full)
    seconds, fixed = median(full_times), ratio[0, 0]
    by_heads = _non_decreasing(
        [ratio[count, first.neurons] - ratio[0, first.neurons] for count in heads]
    )
    by_neurons = _non_decreasing(
        [ratio[first.heads, count] - ratio[first.heads, 0] for count in neurons]
    )
    # scale the parts such that they add up to the whole
    scale = max(0.0, 1 - fixed) / max(by_heads[-1] + by_neurons[-1], 1e-9)
    scale *= seconds / passes
    return {
        "whole": seconds,
        "fixed": fixed * seconds,
        "other_load": float(np.mean(loads)) if loads else None,
        "heads": (np.interp(range(first.heads + 1), heads, by_heads) * scale).tolist(),
        "neurons": (np.interp(range(first.neurons + 1), neurons, by_neurons) * scale).tolist(),
    }


def _non_decreasing(values: list[float]) -> list[float]:
    """Remove noise: more units never take less time."""
    return list(np.maximum.accumulate(np.maximum(values, 0.0)).tolist())


def _report_with_message(report: Report, message: str, progress: float, _: str) -> None:
    report(progress, message)
