"""AKR, adaptive knowledge retention: each layer is pruned towards what the dense model said at that place.

Statistics come from the sparse path (adaptive Hessian), and before a layer is pruned its weights become the
least-squares map from sparse-path inputs to dense outputs (adaptive dense weights), so inherited error is corrected too, also
that which the residual stream carries past the layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor, nn

from ..encoders import head, head_linears
from ..layerwise import LayerwiseMethod, Solved, Stats, Stream, damping_option
from ..masks import lowest
from ..plugins import option
from ..solvers import Choose, admm, column_sweep, damped, exact_obs, jointly, refit, separately, spectrum, upper_factor

JOINT_WAYS = 100  # to choose the weights of one group together


@dataclass(frozen=True)
class AKR(LayerwiseMethod):
    """Robust post-training pruning (Li et al., EMNLP 2023, section 4.3 and Algorithm 1)."""

    name = "akr"
    title = "AKR"
    summary = "Like SparseGPT, but corrects the error inherited from earlier layers and refits the head"
    paper = "Li et al., Towards Robust Pruning, EMNLP 2023"
    needs = "cross"
    solver: str = option(
        "blocked", "blocked: SparseGPT's column sweep; exact: ExactOBS, one weight at a time, slow; admm: the mask moves for some rounds",
        choices=("blocked", "exact", "admm"),
    )  # fmt: skip
    epsilon: float = option(
        1e-2, "ε of eq. 5, relative to the mean of the gram's diagonal: keeps the fit near the dense weights", low=0.0, high=10.0
    )
    residual: str = option(
        "auto", "Make up for what the residual stream lacks, too (the paper does not); auto: for patterns, and from 80% on",
        choices=("auto", "on", "off"),
    )  # fmt: skip
    bias: bool = option(True, "Fit the biases too")
    refit_steps: int = option(
        20, "Conjugate-gradient steps on the kept weights after the sweep or ADMM (0 = none)", low=0, high=1000
    )
    rounds: int = option(30, "Rounds in which the mask may move (admm solver)", low=1, high=1000)
    refit_head: bool = option(True, "Refit pooler and classifier to the dense model's outputs")
    damping: float = damping_option()
    block_size: int = option(128, "Columns whose weights are compared at once (blocked solver)", low=1, high=4096, expert=True)

    @property
    def takes_residual(self) -> bool:
        """By the option. It brings predictions nearer to dense at 70% too (12% less divergence), but accuracy on SST-2 gained
        only from patterns and high sparsities."""
        return self.residual == "on" or self.residual == "auto" and (bool(self.pattern) or self.sparsity >= 0.8)

    def solve(self, weight: Tensor, bias: Tensor, stats: Stats) -> Solved:
        fit = stats.centred() if self.bias else stats
        target, _ = adaptive_weight(weight, fit, self.epsilon)
        pruned, used = self._prune(target, fit)
        return Solved(pruned, fitted_bias(weight, pruned, bias, fit) if self.bias else bias, used)

    def _prune(self, target: Tensor, fit: Stats) -> tuple[Tensor, float]:
        if not self.sparsity:
            return target, 0.0
        if self.solver == "exact":
            if "inverse" not in fit.memo:
                _, factor, used = damped(fit.gram, self.damping)
                fit.memo["inverse"] = torch.cholesky_inverse(factor), used
            inverse, used = fit.memo["inverse"]
            count = int(lowest(target[:1], self.sparsity).sum())
            return exact_obs(target, inverse, count, self.keep_of), used
        if self.solver == "admm":
            if "spectrum" not in fit.memo:
                H, _, used = damped(fit.gram, self.damping)
                fit.memo["spectrum"] = spectrum(H), H, used
            basis, H, used = fit.memo["spectrum"]
            pruned = admm(target, basis, lambda scores: self.choose(scores, per_row=False), self.rounds)
            return refit(pruned, target, H, self.refit_steps), used
        if "upper" not in fit.memo:
            fit.memo["upper"] = upper_factor(fit.gram, self.damping)
        U, H, used = fit.memo["upper"]
        pruned = column_sweep(target, U, self._choice(), self.block_size, self.keep_of[1])
        return refit(pruned, target, H, self.refit_steps), used

    def _choice(self) -> Choose:
        """Weights of a small pattern's group are judged together, as 2:4 has 6 ways and 4:8 has 70; others one by one."""
        keep, group = self.keep_of
        if group and comb(group, keep) <= JOINT_WAYS:
            return jointly(keep, group)
        return separately(lambda scores: self.choose(scores, per_row=False))

    def finish(self, model: nn.Module, dense: Stream, pruned: Stream) -> None:
        """Algorithm 1's last lines: the layers that are not pruned are refitted with eq. 5 as well."""
        if self.refit_head:
            originals = [head_inputs(model, linear, dense) for _, linear in head_linears(model)]
            for (_, linear), x in zip(head_linears(model), originals, strict=True):
                self._refit(linear, x, head_inputs(model, linear, pruned))

    def _refit(self, linear: nn.Linear, x: Tensor, x_hat: Tensor) -> None:
        stats = Stats(x_hat.T @ x_hat, x.T @ x_hat, x_hat.sum(0), x.sum(0), tokens=len(x))
        stats = stats.centred() if self.bias else stats
        weight, _ = adaptive_weight(linear.weight, stats, self.epsilon)
        if self.bias:
            linear.bias.copy_(fitted_bias(linear.weight, weight, linear.bias, stats))
        linear.weight.copy_(weight)


def adaptive_weight(weight: Tensor, stats: Stats, epsilon: float) -> tuple[Tensor, float]:
    """Eq. 5: W̄ = (W·Σxx̂ᵀ + εW)(Σx̂x̂ᵀ + εI)⁻¹, W itself where nothing is inherited.

    The paper's ridge pulls towards 0; ours pulls towards W, which is the same for ε → 0 and better when inputs are few.
    Where the output goes onto a residual, what that lacks (Σ(r − r̂)x̂ᵀ) is part of the target: the paper corrects the error
    that a layer inherits through its input, and as much comes past it. K-prune's tuning aims at the same sum.
    """
    if stats.cross is None:
        return weight, 0.0
    if "adapt" not in stats.memo:
        H, factor, used = damped(stats.gram, epsilon)
        cross = stats.cross + (H - stats.gram)
        lift = None if stats.carry is None else torch.cholesky_solve(stats.carry.T, factor).T
        stats.memo["adapt"] = torch.cholesky_solve(cross.T, factor).T, lift, used  # maps W to W̄, one for Q, K and V
    adapt, lift, used = stats.memo["adapt"]
    return weight @ adapt if lift is None else weight @ adapt + lift, used


def fitted_bias(weight: Tensor, new: Tensor, bias: Tensor, centred: Stats) -> Tensor:
    """The bias that keeps the mean output of the dense layer, its residual's included, whatever was pruned."""
    kept = bias + weight @ centred.dense_total - new @ centred.total  # a centred Stats holds means for totals
    return kept if centred.carry_total is None else kept + centred.carry_total


def head_inputs(model: nn.Module, linear: nn.Linear, stream: Stream) -> Tensor:
    """(sentences, width) what reaches this Linear behind the encoder."""
    seen: list[Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        for x, mask in zip(stream.inputs, stream.masks, strict=True):
            head(model, x, mask)
    finally:
        hook.remove()
    return torch.cat(seen).flatten(0, -2)
