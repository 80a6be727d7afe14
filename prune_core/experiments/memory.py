"""Estimate of a run's memory before it starts, and advice if too little is free.

Reads no weights.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from ..errors import PruneError
from ..models import devices
from ..models.checkpoints import folders
from ..pruning.layerwise import LayerwiseMethod
from ..pruning.streams import IN_MEMORY
from .experiment import Experiment

MODELS = 3  # the dense model, the pruned one, and matrices or gradients of the same size
# hidden sizes of state per token: inputs (four where the feed-forward part is read) and residual,
# dense and pruned
STATES = 10
COMPONENTS = 4  # number of states in memory at the same time
# matrices of the largest input size squared: gram, cross, carried, damped, inverse, scratch
SQUARES = 6


class MemoryEstimate(NamedTuple):
    """Estimated bytes by purpose."""

    models: float
    states: float  # of the calibration examples
    batch: float  # activations of a forward pass
    statistics: float

    @property
    def total(self) -> float:
        """Sum of all."""
        return sum(self)


def model_sizes(config: Mapping[str, Any]) -> dict[str, float]:
    """Return hidden and intermediate size and fp32 bytes of the weights from a model's config."""

    def first(*names: str) -> float:
        return float(next((config[name] for name in names if config.get(name)), 0))

    return {
        "wide": first("hidden_size", "dim"),
        "inside": first("intermediate_size", "hidden_dim"),
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
    """Estimate the memory of a run on a type of device.

    `tokens`: total of the calibration examples; `longest`: maximum tokens of an example;
    `wide`, `inside`, `weights`: see `widths`.
    """
    states, statistics = 0.0, 0.0
    if experiment.method is not None:
        states = 4.0 * tokens * wide * STATES
        if on == "cpu":
            states = min(states, COMPONENTS * IN_MEMORY)  # the rest is kept in a file
        method = experiment.method
        if isinstance(method, LayerwiseMethod) and method.statistic != "diagonal":
            statistics = SQUARES * 4.0 * max(inside, wide) ** 2
    batch = 4.0 * experiment.batch_size * longest * (4 * wide + 3 * inside)
    return MemoryEstimate(MODELS * weights, states, batch, statistics=statistics)


def check(experiment: Experiment, sizes: Mapping[str, Any]) -> float:
    """Return the estimated bytes of a run.

    Raise PruneError if they do not fit, with the option to lower and the value that fits.
    """
    device = devices.pick_device(experiment.device)
    estimate = estimate_memory(experiment, device.type, **sizes)
    free = float(
        torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else devices.free_memory()
    )
    if estimate.total <= free:
        return estimate.total
    room = free - estimate.models - estimate.statistics
    if room < 0:
        advice = "use a smaller checkpoint, or a machine with more memory"
    elif estimate.states > estimate.batch:
        fraction = max(0.0, room - estimate.batch) / estimate.states
        size = max(1, int(experiment.calibration_size * fraction))
        advice = f"lower the calibration size to {size:,}, or the max length"
    else:
        fraction = max(0.0, room - estimate.states) / estimate.batch
        size = max(1, int(experiment.batch_size * fraction))
        advice = f"lower the batch size to {size}, or the max length"
    raise PruneError(
        f"{experiment.label} takes about {estimate.total / 1e9:.1f} GB of memory on {device}, and "
        f"{free / 1e9:.1f} GB are free: {advice}."
    )
