"""RIA: what a weight is worth within its row and its column, times the size of the input that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..plugins import option
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved


@dataclass(frozen=True)
class RIA(LayerwiseMethod):
    """Relative importance and activations (Zhang et al. 2024, eq. 4 and 5); the lowest of the whole matrix go, nothing is refitted."""

    name = "ria"
    title = "RIA"
    summary = "Removes weights that are small beside those of their row and column, and see small inputs; nothing is refitted"
    paper = (
        "Zhang et al., Plug-and-Play: An Efficient Post-training Pruning Method for LLMs, ICLR 2024"
    )
    statistic = "diagonal"
    power: float = option(
        0.5,
        "Power of the inputs' size, the paper's a: 0 looks at weights alone",
        low=0.0,
        high=4.0,
        expert=True,
    )

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Zero the lowest (|W_ij|/Σ|W_*j| + |W_ij|/Σ|W_i*|)·‖X_j‖ᵃ."""
        size, least = weight.abs(), torch.finfo(weight.dtype).tiny
        relative = size / size.sum(0).clamp_min(least) + size / size.sum(1, keepdim=True).clamp_min(
            least
        )
        return Solved(
            weight.masked_fill(
                self.choose(relative * stats.diagonal.sqrt() ** self.power, per_row=False), 0
            ),
            bias,
        )
