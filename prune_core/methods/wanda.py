"""Wanda: magnitude times the norm of the input that the weight sees, compared within each row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved


@dataclass(frozen=True)
class Wanda(LayerwiseMethod):
    """Pruning by Weights and Activations (Sun et al. 2024): score |W_ij|·‖X_j‖, lowest of each row go, nothing is refitted."""

    name = "wanda"
    title = "Wanda"
    summary = "Removes weights that are small and see small inputs; nothing is refitted"
    paper = "Sun et al., A Simple and Effective Pruning Approach for LLMs, ICLR 2024"
    statistic = "diagonal"

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Zero the lowest |W_ij|·‖X_j‖ of each row."""
        return Solved(
            weight.masked_fill(self.choose(weight.abs() * stats.diagonal.sqrt()), 0), bias
        )
