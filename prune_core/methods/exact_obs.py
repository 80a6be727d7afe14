"""ExactOBS: one weight at a time, always the cheapest, the others of its row making up for it exactly."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..pruning.input_statistics import Stats
from ..pruning.layerwise import LayerwiseMethod, Solved, damping_option
from ..pruning.masks import count_of
from ..pruning.solvers import exact_obs


@dataclass(frozen=True)
class ExactOBS(LayerwiseMethod):
    """The exact greedy solver of Optimal Brain Compression (Frantar & Alistarh 2022), as many weights from every row."""

    name = "exact_obs"
    title = "ExactOBS"
    summary = "Removes one weight at a time, each time the one whose loss the rest of its row makes up best; slow"
    paper = "Frantar & Alistarh, Optimal Brain Compression, NeurIPS 2022"
    damping: float = damping_option()

    def solve(self, weight: Tensor, bias: Tensor, stats: Stats) -> Solved:
        """Algorithm 1 on every row, damped by `damping`."""
        gone = count_of(self.sparsity, weight.shape[1])
        return Solved(
            exact_obs(weight, stats.inverse(self.damping), gone, group=self.keep_of),
            bias,
            stats.damped(self.damping)[2],
        )
