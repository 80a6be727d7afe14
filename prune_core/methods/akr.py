"""AKR, adaptive knowledge retention: each layer is pruned towards what the dense model said at that place.

Statistics come from the sparse path (adaptive Hessian), and before a layer is pruned its weights become the
least-squares map from sparse-path inputs to dense outputs (adaptive dense weights), so inherited error is corrected too, also
that which the residual stream carries past the layer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import comb

import torch
from torch import Tensor, nn

from ..models.replay import head, head_linears
from ..plugins import option
from ..pruning.input_statistics import InputStatistics, adaptive_weight, fitted_bias
from ..pruning.layerwise import LayerwiseMethod, Solved, damping_option
from ..pruning.masks import count_of
from ..pruning.solvers import (
    Choose,
    admm,
    column_sweep,
    exact_obs,
    jointly,
    refit,
    separately,
    spectrum,
    upper_factor,
)
from ..pruning.streams import Stream

ROUNDING = 1e-6  # of the mean square: a variance below is what fp32 sums leave of none
RELAX = 1.8  # of ADMM: 12 rounds reach what took 30
JOINT_WAYS = 100  # to choose the weights of one group together


@dataclass(frozen=True)
class AKR(LayerwiseMethod):
    """Robust post-training pruning (Li et al., EMNLP 2023, section 4.3 and Algorithm 1)."""

    name = "akr"
    title = "AKR"
    summary = (
        "Like SparseGPT, but corrects the error inherited from earlier layers and refits the head"
    )
    paper = "Li et al., Towards Robust Pruning, EMNLP 2023"
    solver: str = option(
        "blocked",
        "blocked: SparseGPT's column sweep; exact: ExactOBS, one weight at a time, slow; admm: ADMM with a moving mask",
        choices=("blocked", "exact", "admm"),
    )
    rounds: int = option(30, "Rounds in which the mask may move (admm solver)", low=1, high=1000)
    refit_steps: int = option(
        20,
        "Steps that refit the kept weights by least squares (0 = none; 20 are nearly exact)",
        low=0,
        high=1000,
    )
    adaptive_hessian: bool = option(
        True,
        "Judge weights by the inputs that they see in the pruned model; off: in the dense model",
    )
    adaptive_weights: bool = option(
        True, "Start from weights that map the pruned model's inputs to the dense outputs (eq. 5)"
    )
    epsilon: float = option(
        1e-2,
        "ε of eq. 5, relative to the mean of the gram's diagonal: keeps the fit near the dense weights",
        low=0.0,
        high=10.0,
    )
    residual: str = option(
        "auto",
        "Adaptive weights make up for what the residual stream lacks, too (not in the paper); auto: for patterns, and from 80% on",
        choices=("auto", "on", "off"),
    )
    fisher: bool = option(
        False,
        "Count an error by what it does to the prediction, by the gradients of the dense model (not in the paper)",
    )
    bias: bool = option(True, "Fit the biases too")
    refit_head: bool = option(True, "Refit pooler and classifier to the dense model's outputs")
    damping: float = damping_option()
    block_size: int = option(
        128,
        "Columns whose weights are compared at once (blocked solver)",
        low=1,
        high=4096,
        expert=True,
    )

    @property
    def needs(self) -> Collection[str]:
        """All of both streams; of the residual by the option. It brings predictions nearer to dense at 70% too (12% less
        divergence), but accuracy on SST-2 gained only from patterns and high sparsities."""
        high = bool(self.pattern) or self.sparsity >= 0.8
        wanted = {
            "carry": self.adaptive_weights
            and (self.residual == "on" or self.residual == "auto" and high),
            "dense_gram": not self.adaptive_hessian,
            "fisher": self.fisher,
        }
        return {"gram", "cross", *(name for name, yes in wanted.items() if yes)}

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Eq. 5 for the target, then the mask, the refit of what is kept, and the bias."""
        fit = stats.centred() if self.bias else stats
        target = adaptive_weight(weight, fit, self.epsilon)[0] if self.adaptive_weights else weight
        pruned, used = self._prune(target, fit) if self.sparsity else (target, 0.0)
        return Solved(
            pruned, fitted_bias(weight, pruned, bias, centred=fit) if self.bias else bias, used
        )

    fit = solve  # which refits before it fits the bias

    def _prune(self, target: Tensor, fit: InputStatistics) -> tuple[Tensor, float]:
        dense_gram, G = fit.dense_gram, fit.outputs and fit.outputs.gram
        # what is not weighed by all of G is by what each row is worth
        rows = 1.0 if fit.outputs is None else fit.outputs.worth.sqrt()[:, None]
        base = fit if dense_gram is None else fit.once("dense", lambda: InputStatistics(dense_gram))
        if self.solver == "exact":
            H, _, used = base.damped(self.damping)
            count = count_of(self.sparsity, target.shape[1])
            pruned = exact_obs(target, base.inverse(self.damping), count, group=self.keep_of)
            return pruned if G is None else refit(
                pruned, target, H, steps=self.refit_steps, G=G
            ), used
        if self.solver == "admm":
            H, _, used = base.damped(self.damping)
            inputs = base.once("spectrum", lambda: spectrum(H))
            outputs = fit.outputs and fit.outputs.spectrum()
            rows = rows if outputs is None else 1.0
            pruned = (
                admm(
                    target * rows,
                    inputs,
                    lambda scores: self.choose(scores, per_row=False),
                    steps=self.rounds,
                    outputs=outputs,
                    relax=RELAX,
                )
                / rows
            )
        else:
            U, H, used = base.once("upper", lambda: upper_factor(base.gram, self.damping))
            # the sweep compares rows, and does no more across them
            pruned = (
                column_sweep(
                    target * rows, U, self._choice(), width=self.block_size, group=self.keep_of[1]
                )
                / rows
            )
        return refit(pruned, target, H, steps=self.refit_steps, G=G), used

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
        raw = InputStatistics(
            x_hat.T @ x_hat, x.T @ x_hat, x_hat.sum(0), dense_total=x.sum(0), tokens=len(x)
        )
        fits_bias = self.bias and linear.bias is not None
        stats = raw.centred() if fits_bias else raw
        moves = (stats.diagonal > ROUNDING * raw.diagonal).to(
            x
        )  # an input that is the same in every sentence tells a fit nothing
        assert stats.cross is not None, "given above"
        stats = replace(
            stats, gram=stats.gram * torch.outer(moves, moves), cross=stats.cross * moves
        )
        weight, _ = adaptive_weight(linear.weight, stats, self.epsilon)
        if fits_bias:
            linear.bias.copy_(fitted_bias(linear.weight, weight, linear.bias, centred=stats))
        linear.weight.copy_(weight)


def head_inputs(model: nn.Module, linear: nn.Linear, stream: Stream) -> Tensor:
    """(sentences, width) what reaches this Linear behind the encoder."""
    seen: list[Tensor] = []
    hook = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        for x, padding in zip(stream.inputs, stream.paddings, strict=True):
            head(model, x, padding)
    finally:
        hook.remove()
    return torch.cat(seen).flatten(0, -2)
