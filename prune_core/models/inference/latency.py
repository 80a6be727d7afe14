"""How long a forward pass takes by the heads and neurons that are left, measured on cut copies and kept on disk.

Every point is timed in turn with the whole model, so a machine that slows down slows both. A table that was measured
while other processes took processor time is used once and not written to disk. Knows nothing of pruning.
"""

from __future__ import annotations

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

SHARES = (
    0.0,
    1 / 16,
    1 / 8,
    1 / 4,
    3 / 8,
    1 / 2,
    3 / 4,
    1.0,
)  # of the units, at which is measured; between them a line
PASSES = 7


class Latency(NamedTuple):
    """Seconds of a pass in parts: of a block's heads and neurons by how many are left, and of everything else."""

    whole: float
    fixed: float  # without any head or neuron
    heads: Tensor  # (heads + 1,) of a block, rising
    neurons: Tensor  # (neurons + 1,) of a block, rising
    other_load: float | None  # mean over the points, see Contention; None if unknown


def measure_latency(
    model: nn.Module, batch: int, length: int, report: Report = no_report, anew: bool = False
) -> Latency:
    """Of this model's shape on its device for that many sentences of that many tokens; measured once, then read, unless `anew`."""
    refuse_longer(model, length, "at_length")
    file = _folder() / f"{_key(model, batch, length)}.json"
    if file.is_file() and not anew:
        known = json.loads(file.read_text())
    else:
        known = _measured(model, batch, length, report=report)
        if not disturbance(known["other_load"]):
            _write(file, known)
    heads, neurons = (
        torch.tensor(known[kind], dtype=torch.float64) for kind in ("heads", "neurons")
    )
    # earlier versions wrote no load
    return Latency(
        known["whole"], known["fixed"], heads, neurons=neurons, other_load=known.get("other_load")
    )


def _write(file: Path, known: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(known))
    part.replace(file)


def _folder() -> Path:
    home = os.environ.get("PRUNESCOPE_HOME")
    return (
        Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "prunescope"
    ).expanduser() / "latency"


def _key(model: Any, batch: int, length: int) -> str:
    device, config = device_of(model), model.config
    sizes = [
        (block.heads, block.head_width, block.neurons, block.passes) for block in blocks(model)
    ]
    shape = [type(model).__name__, config.vocab_size, *sizes]
    stated = [
        device_title(device),
        torch.__version__,
        str(next(model.parameters()).dtype),
        shape,
        batch,
        length,
        SHARES,
    ]
    return hashlib.sha256(json.dumps(stated).encode()).hexdigest()[:16]


def _measured(model: nn.Module, batch: int, length: int, report: Report) -> dict[str, Any]:
    """Heads go with all neurons there, neurons with all heads; blocks alike, so that a block's share is of many."""
    first, passes = blocks(model)[0], sum(block.passes for block in blocks(model))
    heads = sorted({round(share * first.heads) for share in SHARES})
    neurons = sorted(
        {min(first.neurons, -(-round(share * first.neurons) // WIDTH) * WIDTH) for share in SHARES}
    )
    points = [
        (0, 0),
        *((count, first.neurons) for count in heads),
        *((first.heads, count) for count in neurons),
    ]
    points = list(dict.fromkeys(points))
    tokens, found, whole, loads = timing_batch(model, batch, length), {}, [], []
    for place, (left, width) in enumerate(points):
        part = subrange(report, place / len(points), (place + 1) / len(points))
        small = copy.deepcopy(model)
        remove_units(
            small,
            [
                Units(list(range(min(left, block.heads))), list(range(min(width, block.neurons))))
                for block in blocks(small)
            ],
        )
        said = partial(_told, part, f"timing a model of {left} heads and {width} neurons a block")
        (dense, own), other_load = time_interleaved([model, small], tokens, PASSES, report=said)
        loads += [] if np.isnan(other_load) else [other_load]
        whole.append(min(dense))
        found[left, width] = min(own) / min(dense)
    scale = median(whole)
    fixed = found[0, 0]
    by_heads = _rising(
        heads, [found[count, first.neurons] - found[0, first.neurons] for count in heads]
    )
    by_neurons = _rising(
        neurons, [found[first.heads, count] - found[first.heads, 0] for count in neurons]
    )
    apart = max(0.0, 1 - fixed) / max(
        by_heads[-1] + by_neurons[-1], 1e-9
    )  # the parts must make the whole
    return {
        "whole": scale,
        "fixed": fixed * scale,
        "other_load": float(np.mean(loads)) if loads else None,
        **{
            kind: (np.interp(range(count + 1), places, values) * apart * scale / passes).tolist()
            for kind, count, places, values in (
                ("heads", first.heads, heads, by_heads),
                ("neurons", first.neurons, neurons, by_neurons),
            )
        },
    }


def _rising(places: list[int], values: list[float]) -> list[float]:
    """Noise aside, more takes no less."""
    return np.maximum.accumulate(np.maximum(values, 0.0)).tolist() if places else []


def _told(report: Report, message: str, progress: float, _: str) -> None:
    report(progress, message)
