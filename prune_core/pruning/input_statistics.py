"""Sums over the real tokens of a calibration sample, and the least squares that needs no more than these.

Knows nothing of models, streams or methods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .solvers import Spectrum, add_damping


class OutputFisher(NamedTuple):
    """What errors at a Linear's outputs are worth: G, and its eigenvectors for who asks; where outputs are many, its diagonal alone."""

    worth: Tensor  # (outputs,) G's diagonal
    gram: Tensor | None  # (outputs, outputs)
    spectrum: Callable[[], Spectrum | None]


@dataclass
class InputStatistics:
    """The sums for Linears that share one input of width d; all fp32.

    x is the dense path's input, x̂ the pruned path's. `gram` is (d, d), or its diagonal (d,) for methods that need no more.
    """

    gram: Tensor  # Σ x̂x̂ᵀ
    cross: Tensor | None = None  # Σ x x̂ᵀ; None where the paths are still the same
    total: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ x̂; empty beside a diagonal
    dense_total: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ x
    carry: Tensor | None = (
        None  # Σ (r − r̂)x̂ᵀ, (outputs, d): what the residual added to the output lacks; None without one
    )
    carry_total: Tensor | None = None  # Σ (r − r̂)
    tokens: int = 0
    dense_gram: Tensor | None = None  # Σ xxᵀ, where a method asks for it
    outputs: OutputFisher | None = (
        None  # what errors at the outputs of one Linear are worth (fisher.py); None: all alike
    )
    sentences: int = 0
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def diagonal(self) -> Tensor:
        """(d,) Σ x̂²."""
        return self.gram if self.gram.dim() == 1 else self.gram.diagonal()

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Something that Q, K and V share, computed for the first of them."""
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]

    def plus(self, other: InputStatistics) -> InputStatistics:
        """Of the inputs of both."""
        names = ("gram", "cross", "total", "dense_total", "carry", "carry_total", "dense_gram")
        both = {name: (getattr(self, name), getattr(other, name)) for name in names}
        sums = {
            name: one if other is None else other if one is None else one + other
            for name, (one, other) in both.items()
        }
        return InputStatistics(**sums, tokens=self.tokens + other.tokens, sentences=self.sentences)

    def with_rows(self, rows: Tensor, times: int) -> InputStatistics:
        """Also of these inputs (rows, d), which are the same on both paths, that many times each."""
        rows = rows.float()
        if self.gram.dim() == 1:
            return InputStatistics(
                self.gram + times * rows.square().sum(0), tokens=self.tokens + times * len(rows)
            )
        gram, total = times * rows.T @ rows, times * rows.sum(0)
        grown = {
            name: value + gram
            for name in ("gram", "cross", "dense_gram")
            if (value := getattr(self, name)) is not None
        }
        return replace(
            self,
            **grown,
            total=self.total + total,
            dense_total=self.dense_total + total,
            tokens=self.tokens + times * len(rows),
            memo={},
        )

    def damped(self, ridge: float) -> tuple[Tensor, Tensor, float]:
        """The gram as `solvers.damped` gives it, once for each ridge."""
        return self.once(("damped", ridge), lambda: add_damping(self.gram, ridge))

    def inverse(self, ridge: float) -> Tensor:
        """The inverse of the damped gram, once for each ridge."""
        return self.once(("inverse", ridge), lambda: torch.cholesky_inverse(self.damped(ridge)[1]))

    def centred(self) -> InputStatistics:
        """The same with the means taken out: the statistics of a fit that has a free bias."""
        if "centred" not in self.memo:
            mean, dense_mean = self.total / self.tokens, self.dense_total / self.tokens
            gram = self.gram - torch.outer(self.total, mean)
            cross = None if self.cross is None else self.cross - torch.outer(self.dense_total, mean)
            dense_gram = (
                None
                if self.dense_gram is None
                else self.dense_gram - torch.outer(self.dense_total, dense_mean)
            )
            carry = carry_mean = None
            if self.carry is not None and self.carry_total is not None:
                carry, carry_mean = (
                    self.carry - torch.outer(self.carry_total, mean),
                    self.carry_total / self.tokens,
                )
            self.memo["centred"] = InputStatistics(
                gram,
                cross,
                mean,
                dense_total=dense_mean,
                carry=carry,
                carry_total=carry_mean,
                tokens=1,
                dense_gram=dense_gram,
            )
        return replace(self.memo["centred"], outputs=self.outputs)


def adaptive_weight(weight: Tensor, stats: InputStatistics, epsilon: float) -> tuple[Tensor, float]:
    """Eq. 5: W̄ = (W·Σxx̂ᵀ + εW)(Σx̂x̂ᵀ + εI)⁻¹, W itself where nothing is inherited.

    The paper's ridge pulls towards 0; ours pulls towards W, which is the same for ε → 0 and better when inputs are few.
    Where the output goes onto a residual, what that lacks (Σ(r − r̂)x̂ᵀ) is part of the target: the paper corrects the error
    that a layer inherits through its input, and as much comes past it. K-prune's tuning aims at the same sum.
    """
    if stats.cross is None:
        return weight, 0.0
    cross, carry = stats.cross, stats.carry
    H, factor, used = stats.damped(epsilon)
    adapt = stats.once(
        "adapt", lambda: torch.cholesky_solve((cross + (H - stats.gram)).T, factor).T
    )  # maps W to W̄
    lift = (
        None
        if carry is None
        else stats.once("lift", lambda: torch.cholesky_solve(carry.T, factor).T)
    )
    return weight @ adapt if lift is None else weight @ adapt + lift, used


def fitted_bias(weight: Tensor, new: Tensor, bias: Tensor, centred: InputStatistics) -> Tensor:
    """The bias that keeps the mean output of the dense layer, its residual's included, whatever was pruned."""
    kept = (
        bias + weight @ centred.dense_total - new @ centred.total
    )  # a centred Stats holds means for totals
    return kept if centred.carry_total is None else kept + centred.carry_total
