"""Wanda: magnitude times the norm of the input, compared within each row."""

from dataclasses import dataclass

from torch import Tensor

from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved


@dataclass(frozen=True)
class Wanda(LayerwiseMethod):
    """Pruning by weights and activations (Sun et al., ICLR 2024), without a refit."""

    name = "wanda"
    title = "Wanda"
    summary = "Removes weights with small magnitude and small inputs; no refit"
    paper = "Sun et al., A Simple and Effective Pruning Approach for LLMs, ICLR 2024"
    statistic = "diagonal"

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Zero the weights with the lowest |W_ij|·‖X_j‖ in each row."""
        scores = weight.abs() * stats.diagonal.sqrt()
        return Solved(weight.masked_fill(self.choose(scores), 0), bias)
