"""ExactOBS: one weight at a time, always the cheapest, the others of its row making up for it exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..pruning.layerwise import LayerwiseMethod, Solved, damping_option
from ..pruning.masks import lowest
from ..pruning.moments import Stats
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
        _, factor, used = stats.damped(self.damping)
        inverse = stats.once("inverse", lambda: torch.cholesky_inverse(factor))
        return Solved(exact_obs(weight, inverse, int(lowest(weight[:1], self.sparsity).sum()), self.keep_of), bias, used)
