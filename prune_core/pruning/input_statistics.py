"""Sums over the real tokens of a calibration sample, and the least-squares fits that need only
these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .solvers import Spectrum, add_damping


class OutputFisher(NamedTuple):
    """Output Fisher G of a Linear: diagonal, matrix and eigendecomposition.

    Matrices with more outputs than inputs have only a diagonal.
    """

    diagonal: Tensor  # (outputs,) of G
    gram: Tensor | None  # (outputs, outputs) G
    spectrum: Callable[[], Spectrum | None]


@dataclass
class InputStatistics:
    """Sums for Linears that share an input of width d; all fp32.

    x is the input in the dense model, x̂ in the pruned one. `gram` is (d, d), or its diagonal (d,)
    for methods that need no more.
    """

    gram: Tensor  # Σ x̂x̂ᵀ
    cross: Tensor | None = None  # Σ x x̂ᵀ; None while the inputs are equal
    total: Tensor = field(
        default_factory=lambda: torch.zeros(0)
    )  # Σ x̂; empty if gram is a diagonal
    dense_total: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ x
    # Σ (r − r̂)x̂ᵀ, (outputs, d): error of the residual r that is added to the output, if there is
    # one
    carry: Tensor | None = None
    carry_total: Tensor | None = None  # Σ (r − r̂)
    tokens: int = 0
    dense_gram: Tensor | None = None  # Σ xxᵀ, if requested
    outputs: OutputFisher | None = None  # of one Linear (fisher.py); None: all errors count alike
    examples: int = 0
    memo: dict[Any, Any] = field(default_factory=dict)

    @property
    def diagonal(self) -> Tensor:
        """(d,) Σ x̂²."""
        return self.gram if self.gram.dim() == 1 else self.gram.diagonal()

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Cache a result that Linears with the same input share."""
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]

    def plus(self, other: InputStatistics) -> InputStatistics:
        """Sums over the inputs of both."""
        names = ("gram", "cross", "total", "dense_total", "carry", "carry_total", "dense_gram")
        both = {name: (getattr(self, name), getattr(other, name)) for name in names}
        sums: dict[str, Any] = {name: _sum(*pair) for name, pair in both.items()}
        return InputStatistics(**sums, tokens=self.tokens + other.tokens, examples=self.examples)

    def with_rows(self, rows: Tensor, times: int) -> InputStatistics:
        """Add inputs (rows, d) that are equal in both models, `times` times each."""
        rows = rows.float()
        if self.gram.dim() == 1:
            return InputStatistics(
                self.gram + times * rows.square().sum(0), tokens=self.tokens + times * len(rows)
            )
        gram, total = times * rows.T @ rows, times * rows.sum(0)
        added = {
            name: value + gram
            for name in ("gram", "cross", "dense_gram")
            if (value := getattr(self, name)) is not None
        }
        return replace(
            self,
            **added,
            total=self.total + total,
            dense_total=self.dense_total + total,
            tokens=self.tokens + times * len(rows),
            memo={},
        )

    def damped(self, ridge: float) -> tuple[Tensor, Tensor, float]:
        """`solvers.add_damping` of the gram, cached per ridge."""
        return self.once(("damped", ridge), lambda: add_damping(self.gram, ridge))

    def inverse(self, ridge: float) -> Tensor:
        """Inverse of the damped gram, cached per ridge."""
        return self.once(("inverse", ridge), lambda: torch.cholesky_inverse(self.damped(ridge)[1]))

    def centered(self) -> InputStatistics:
        """Statistics of centered inputs, for fits with a free bias."""
        if "centered" not in self.memo:
            mean, dense_mean = self.total / self.tokens, self.dense_total / self.tokens
            self.memo["centered"] = InputStatistics(
                self.gram - torch.outer(self.total, mean),
                _center(self.cross, self.dense_total, mean),
                mean,
                dense_total=dense_mean,
                carry=_center(self.carry, self.carry_total, mean),
                carry_total=None if self.carry_total is None else self.carry_total / self.tokens,
                tokens=1,
                dense_gram=_center(self.dense_gram, self.dense_total, dense_mean),
            )
        return replace(self.memo["centered"], outputs=self.outputs)


def _center(product: Tensor | None, total: Tensor | None, mean: Tensor) -> Tensor | None:
    """Sum of products of centered inputs, from that of the inputs."""
    return None if product is None or total is None else product - torch.outer(total, mean)


def _sum(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def adaptive_weight(weight: Tensor, stats: InputStatistics, epsilon: float) -> tuple[Tensor, float]:
    """Target weights W̄ = (W·Σxx̂ᵀ + εW)(Σx̂x̂ᵀ + εI)⁻¹ (AKR, eq. 5); W itself without an inherited
    error.

    The paper's ridge pulls towards 0; this one pulls towards W, which is equal for ε → 0 and better
    with few inputs. For outputs that are added to a residual, the residual's error Σ(r − r̂)x̂ᵀ is
    part of the target: the paper corrects only the error inherited through the input. K-prune's
    tuning has the same target. Returns (W̄, damping used).
    """
    if stats.cross is None:
        return weight, 0.0
    cross, carry = stats.cross, stats.carry
    H, factor, used = stats.damped(epsilon)
    # maps W to W̄
    adapt = stats.once(
        "adapt", lambda: torch.cholesky_solve((cross + (H - stats.gram)).T, factor).T
    )
    target = weight @ adapt
    if carry is not None:
        target = target + stats.once("lift", lambda: torch.cholesky_solve(carry.T, factor).T)
    return target, used


def fitted_bias(weight: Tensor, new: Tensor, bias: Tensor, centered: InputStatistics) -> Tensor:
    """Bias that preserves the mean output of the dense layer, including its residual."""
    # the totals of centered statistics are means
    fitted = bias + weight @ centered.dense_total - new @ centered.total
    return fitted if centered.carry_total is None else fitted + centered.carry_total
