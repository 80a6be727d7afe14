"""RIA: weights scored relative to their row and column, times the norm of their input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..plugins import option
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved


@dataclass(frozen=True)
class RIA(LayerwiseMethod):
    """Relative importance and activations (Zhang et al. 2024, eq. 4 and 5), compared within the
    whole matrix; no refit.
    """

    name = "ria"
    title = "RIA"
    summary = (
        "Removes weights that are small relative to their row and column and have small inputs; "
        "no refit"
    )
    paper = (
        "Zhang et al., Plug-and-Play: An Efficient Post-training Pruning Method for LLMs, ICLR 2024"
    )
    statistic = "diagonal"
    power: float = option(
        0.5,
        "Exponent a of the input norm; 0 ignores inputs",
        low=0.0,
        high=4.0,
        expert=True,
    )

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Zero the lowest (|W_ij|/Σ|W_*j| + |W_ij|/Σ|W_i*|)·‖X_j‖ᵃ."""
        size, tiny = weight.abs(), torch.finfo(weight.dtype).tiny
        by_column = size / size.sum(0).clamp_min(tiny)
        by_row = size / size.sum(1, keepdim=True).clamp_min(tiny)
        scores = (by_column + by_row) * stats.diagonal.sqrt() ** self.power
        return Solved(weight.masked_fill(self.choose(scores, per_row=False), 0), bias)
