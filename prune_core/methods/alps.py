"""ALPS: masks by ADMM with a rising penalty, then conjugate gradients on the kept weights."""

from dataclasses import dataclass

from torch import Tensor

from ..plugins import option
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved, damping_option
from ..pruning.solvers import admm, refit, spectrum


@dataclass(frozen=True)
class ALPS(LayerwiseMethod):
    """ADMM over all masks, then a preconditioned fit to the layer's own outputs (Meng et al.
    2024).
    """

    name = "alps"
    title = "ALPS"
    summary = "Chooses the mask while fitting the weights (ADMM), then refits the kept weights"
    paper = (
        "Meng et al., ALPS: Improved Optimization for Highly Sparse One-Shot Pruning, NeurIPS 2024"
    )
    rounds: int = option(30, "Rounds in which the mask can change", low=1, high=1000)
    refit_steps: int = option(
        10,
        "Conjugate-gradient steps that fit the kept weights to the layer's outputs (0 = none)",
        low=0,
        high=1000,
    )
    damping: float = damping_option()

    @property
    def needs(self) -> set[str]:
        """Inputs of the pruned model only, on which the fit is made."""
        return {"gram"}

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """min tr((W−W̄)H(W−W̄)ᵀ) over masks and weights."""
        H, _, used = stats.damped(self.damping)
        pruned = admm(
            weight,
            stats.once("spectrum", lambda: spectrum(H)),
            lambda scores: self.choose(scores, per_row=False),
            steps=self.rounds,
        )
        return Solved(refit(pruned, weight, H, steps=self.refit_steps), bias, used)

    fit = solve  # includes the refit
