"""How much memory a run takes, about, before it starts; and what to lower where that is more than is free. Reads no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..errors import PruneError
from ..models import devices
from ..models.checkpoints import folders
from ..pruning.layerwise import LayerwiseMethod
from ..pruning.streams import IN_MEMORY
from .experiment import Experiment

MODELS = 3  # the dense model, the pruned one, and matrices or gradients of as many weights
STATES = 10  # hidden widths of states a token: inputs (four where the feed-forward part is read) and residual, dense and pruned
COMPONENTS = 4  # of states that lie in memory at once
SQUARES = 6  # matrices of the widest inputs squared: gram, cross, carried, damped, inverse, scratch


class MemoryEstimate(NamedTuple):
    """Bytes, about."""

    models: float
    states: float  # of the calibration sentences
    batch: float  # what a forward pass holds besides
    statistics: float

    @property
    def total(self) -> float:
        """Of all."""
        return sum(self)


def widths(config: Mapping[str, Any]) -> dict[str, float]:
    """What of a configuration memory depends on: hidden and inner width, bytes of the weights in fp32."""
    get = lambda *names: float(next((config[name] for name in names if config.get(name)), 0))  # noqa: E731
    return {
        "wide": get("hidden_size", "dim"),
        "inside": get("intermediate_size", "hidden_dim"),
        "weights": folders.weight_bytes(config)[1],
    }


def estimate_memory(
    experiment: Experiment,
    on: str,
    wide: float,
    inside: float,
    weights: float,
    tokens: int,
    longest: int,
) -> MemoryEstimate:
    """What the run takes on that kind of device; `tokens` of the calibration sentences, `longest` of them and of the evaluation ones."""
    states, statistics = 0.0, 0.0
    if experiment.method is not None:
        states = 4.0 * tokens * wide * STATES
        if on == "cpu":
            states = min(states, COMPONENTS * IN_MEMORY)  # more lie in a file
        if (
            isinstance(experiment.method, LayerwiseMethod)
            and experiment.method.statistic != "diagonal"
        ):
            statistics = SQUARES * 4.0 * max(inside, wide) ** 2
    batch = 4.0 * experiment.batch_size * longest * (4 * wide + 3 * inside)
    return MemoryEstimate(MODELS * weights, states, batch, statistics=statistics)


def free_bytes(device: torch.device) -> float:
    """Bytes that are free there."""
    return float(
        torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else devices.free_memory()
    )


def check(experiment: Experiment, sizes: Mapping[str, Any]) -> float:
    """Bytes that the run takes, about; PruneError where it cannot fit, with the option to lower and to what."""
    device = devices.pick_device(experiment.device)
    wanted, there = estimate_memory(experiment, device.type, **sizes), free_bytes(device)
    if wanted.total <= there:
        return wanted.total
    room = there - wanted.models - wanted.statistics
    if wanted.models + wanted.statistics > there:
        advice = "a smaller checkpoint, or a machine with more of it, is needed"
    elif wanted.states > wanted.batch:
        share = max(0.0, room - wanted.batch) / wanted.states
        advice = f"lower the calibration size to {max(1, int(experiment.calibration * share)):,}, or the max length"
    else:
        share = max(0.0, room - wanted.states) / wanted.batch
        advice = f"lower the batch size to {max(1, int(experiment.batch_size * share))}, or the max length"
    raise PruneError(
        f"{experiment.label} takes about {wanted.total / 1e9:.1f} GB of memory on {device}, and {there / 1e9:.1f} GB are free: {advice}."
    )
