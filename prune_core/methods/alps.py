"""ALPS: the mask moves while ADMM's penalty rises, then conjugate gradients fit what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..plugins import option
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved, damping_option
from ..pruning.solvers import admm, refit, spectrum


@dataclass(frozen=True)
class ALPS(LayerwiseMethod):
    """ADMM over every choice of zeros, then a preconditioned fit on the mask found (Meng et al. 2024), to the layer's own outputs."""

    name = "alps"
    title = "ALPS"
    summary = "Lets the choice of weights move for some rounds while it fits them (ADMM), then fits what is kept"
    paper = (
        "Meng et al., ALPS: Improved Optimization for Highly Sparse One-Shot Pruning, NeurIPS 2024"
    )
    rounds: int = option(30, "Rounds in which the mask may move", low=1, high=1000)
    refit_steps: int = option(
        10,
        "Steps that fit the kept weights to the layer's own outputs (0 = none)",
        low=0,
        high=1000,
    )
    damping: float = damping_option()

    @property
    def needs(self) -> set[str]:
        """The inputs of the pruned path alone, to which also the fit is made."""
        return {"gram"}

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """min tr((W−W̄)H(W−W̄)ᵀ) over masks and weights."""
        H, _, used = stats.damped(self.damping)
        inputs = stats.once("spectrum", lambda: spectrum(H))
        found = admm(
            weight, inputs, lambda scores: self.choose(scores, per_row=False), steps=self.rounds
        )
        return Solved(refit(found, weight, H, steps=self.refit_steps), bias, used)

    fit = solve  # which refits already
