"""Refit the remaining heads and neurons of one sub-layer after another.

A dense and a pruned stream of hidden states pass through the encoder together. Which units remain
is decided by the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.units import Sublayer
from .streams import Stream

# (columns (d, k), AᵀA (k, k), AᵀB (k, d)) -> new columns (d, k) and the damping used
Solve = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]


def refit_sublayer(
    sub: Sublayer,
    kept: Tensor,
    dense: Stream,
    pruned: Stream,
    solve: Solve | None,
    width: int | None = None,
    bias: bool = False,
) -> float:
    """Remove units of a sub-layer, refit the others, and advance both streams through it.

    `kept` is a (units,) mask; with `width`, only the first `width` columns of each are kept.
    A (tokens, k) are the features of the kept units in the pruned model,
    and B (tokens, d) is what their columns must add to its residual stream for the dense output.
    Without `solve`, the columns keep their values. Returns the damping used.
    """
    if sub.block.passes > 1:
        return _refit_shared(sub, kept, dense, pruned=pruned, solve=solve)
    if kept.all() and dense.inputs[0] is pruned.inputs[0]:  # nothing has been removed yet
        dense.inputs = [
            dense.keep(sub.norm(sub.close(sub.features(x, padding), x)))
            for x, padding in zip(dense.inputs, dense.paddings, strict=True)
        ]
        pruned.inputs = list(dense.inputs)
        return 0.0
    small, damping = sub.only(kept, width), 0.0
    weight, features = small.output.weight, []
    moments = Moments.zeros(weight)
    for i, padding in enumerate(dense.paddings):
        x, x_hat = dense.inputs[i], pruned.inputs[i]
        total = sub.close(sub.features(x, padding), x)
        dense.inputs[i] = dense.keep(sub.norm(total))
        A = pruned.keep(small.features(x_hat, padding))
        features.append(A)
        if solve is not None:
            moments.add(A, _target(sub, total, x_hat))
    if solve is not None:
        has_bias = bias and sub.output.bias is not None
        gram, cross = moments.centered() if has_bias else (moments.gram, moments.cross)
        fitted, damping = solve(weight, gram, cross)
        weight.copy_(fitted)
        if has_bias:
            sub.output.bias.add_(moments.offset(fitted))
    sub.fold(kept, weight, width)
    for i, A in enumerate(features):
        pruned.inputs[i] = pruned.keep(sub.norm(small.close(A, pruned.inputs[i])))
    return damping


def _target(sub: Sublayer, dense_total: Tensor, x_hat: Tensor) -> Tensor:
    """B (tokens, d): the dense residual stream after the sub-layer, minus the pruned one before
    it and the output bias.
    """
    target = dense_total - x_hat
    return target if sub.output.bias is None else target - sub.output.bias


def _refit_shared(
    sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream, solve: Solve | None
) -> float:
    """`refit_sublayer` for a block that the encoder uses several times.

    The columns are fitted to the dense features of all passes, for which AᵀB is AᵀA times the dense
    columns. The pruned stream passes the block once both of its sub-layers are pruned.
    """
    gram, columns, damping, fitted = _shared_gram(sub, dense), sub.columns(kept), 0.0, None
    if solve is not None and not kept.all():
        weight = sub.output.weight
        fitted, damping = solve(
            weight[:, columns], gram[columns][:, columns], (gram @ weight.T)[columns]
        )
    sub.fold(kept, fitted)
    if sub.kind == "neuron":
        dense.shared = []
        for _ in range(sub.block.passes):
            pruned.inputs = [
                pruned.keep(sub.block.run_pass(x, padding))
                for x, padding in zip(pruned.inputs, pruned.paddings, strict=True)
            ]
    return damping


def _shared_gram(sub: Sublayer, dense: Stream) -> Tensor:
    """Gram AᵀA (columns, columns) of a shared sub-layer, over all passes through the dense
    weights.

    The first call, for the heads of a block, also computes the gram of its neurons, and advances
    the dense stream through the block.
    """
    if not dense.shared:
        heads_and_neurons = [sub, replace(sub, kind="neuron")]
        dense.shared = [
            sublayer.output.weight.new_zeros(
                sublayer.output.in_features, sublayer.output.in_features
            )
            for sublayer in heads_and_neurons
        ]
        for _ in range(sub.block.passes):
            for sublayer, gram in zip(heads_and_neurons, dense.shared, strict=True):
                add_features(sublayer, gram, dense)
    return dense.shared[sub.kind == "neuron"]


def add_features(sub: Sublayer, gram: Tensor, dense: Stream) -> None:
    """Add AᵀA of a sub-layer's features to `gram` (columns, columns), in place, and advance the
    dense stream through it.
    """
    for i, padding in enumerate(dense.paddings):
        x = dense.inputs[i]
        A = sub.features(x, padding)
        gram.addmm_(A.T, A)
        dense.inputs[i] = dense.keep(sub.norm(sub.close(A, x)))


class Moments(NamedTuple):
    """Sums over tokens for the features A of all units and the target B of `refit_sublayer`."""

    gram: Tensor  # AᵀA (columns, columns)
    cross: Tensor  # AᵀB (columns, d)
    features: Tensor  # (columns,) sum of A
    target: Tensor  # (d,) sum of B
    tokens: Tensor  # () their number

    @classmethod
    def zeros(cls, weight: Tensor) -> Moments:
        """Empty sums for output columns `weight` (d, columns)."""
        d, columns = weight.shape
        sizes = ((columns, columns), (columns, d), (columns,), (d,), ())
        return cls(*(weight.new_zeros(size) for size in sizes))

    def add(self, A: Tensor, B: Tensor) -> None:
        """Add tokens, in place."""
        self.gram.addmm_(A.T, A)
        self.cross.addmm_(A.T, B)
        self.features.add_(A.sum(0))
        self.target.add_(B.sum(0))
        self.tokens.add_(len(A))

    def centered(self) -> tuple[Tensor, Tensor]:
        """Gram and cross about the means."""
        mean = self.features / self.tokens
        return (
            self.gram - torch.outer(mean, self.features),
            self.cross - torch.outer(mean, self.target),
        )

    def offset(self, weight: Tensor) -> Tensor:
        """(d,) what the bias must gain if the columns are `weight` (d, columns)."""
        return (self.target - weight @ self.features) / self.tokens


def sublayer_moments(
    sub: Sublayer, dense: Stream, pruned: Stream, widths: Sequence[int]
) -> list[Moments]:
    """Moments with all units of a sub-layer, cut to each of these numbers of columns.

    Methods choose among the units with these before the streams advance.
    """
    weight = sub.output.weight
    if sub.block.passes > 1:
        gram = _shared_gram(sub, dense)
        empty = Moments.zeros(weight)
        return [empty._replace(gram=gram, cross=gram @ weight.T)]
    every = torch.ones(sub.units, dtype=torch.bool, device=weight.device)
    cut = [sub if width == sub.width else sub.only(every, width) for width in widths]
    moments = [Moments.zeros(each.output.weight) for each in cut]
    for i, padding in enumerate(dense.paddings):
        x, x_hat = dense.inputs[i], pruned.inputs[i]
        target = _target(sub, sub.close(sub.features(x, padding), x), x_hat)
        for each, sums in zip(cut, moments, strict=True):
            sums.add(each.features(x_hat, padding), target)
    return moments
