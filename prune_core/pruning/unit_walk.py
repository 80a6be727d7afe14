"""Dense and pruned streams pass through the encoder one sub-layer at a time, for methods that
refit the remaining units.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..models.units import Sublayer
from .streams import Stream

Solve = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]


def refit_sublayer(
    sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream, solve: Solve | None
) -> float:
    """Advance both streams through a sub-layer of which only `kept` stays, and refit its columns;
    returns the damping used.

    With A (tokens, k) the features of the kept units and B (tokens, d) the sum that reproduces the
    dense output of the sub-layer, `solve` maps their columns (d, k), AᵀA (k, k) and AᵀB (k, d) to
    new columns and a damping.
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
    small, damping = sub.only(kept), 0.0
    weight, features = small.output.weight, []
    gram, cross = weight.new_zeros(len(weight.T), len(weight.T)), torch.zeros_like(weight.T)
    for i, padding in enumerate(dense.paddings):
        x, x_hat = dense.inputs[i], pruned.inputs[i]
        total = sub.close(sub.features(x, padding), x)
        dense.inputs[i] = dense.keep(sub.norm(total))
        A = pruned.keep(small.features(x_hat, padding))
        features.append(A)
        if solve is not None:
            gram.addmm_(A.T, A)
            target = total - x_hat
            if sub.output.bias is not None:
                target = target - sub.output.bias
            cross.addmm_(A.T, target)
    if solve is not None:
        fitted, damping = solve(weight, gram, cross)
        weight.copy_(fitted)
    sub.fold(kept, weight)
    for i, A in enumerate(features):
        pruned.inputs[i] = pruned.keep(sub.norm(small.close(A, pruned.inputs[i])))
    return damping


def _refit_shared(
    sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream, solve: Solve | None
) -> float:
    """Same for a block that is used several times: fitted to the dense features of all passes.

    It is passed once both of its sub-layers are pruned. Since the inputs are dense, AᵀB is AᵀA
    times the dense columns.
    """
    gram, columns, damping, fitted = _shared_gram(sub, dense), sub.columns(kept), 0.0, None
    if solve is not None and not kept.all():
        whole = sub.output.weight
        fitted, damping = solve(
            whole[:, columns], gram[columns][:, columns], (gram @ whole.T)[columns]
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
    """Gram of the features of a shared sub-layer over all passes through the dense weights,
    computed once.
    """
    if not dense.shared:
        both = [sub, replace(sub, kind="neuron")]
        dense.shared = [
            each.output.weight.new_zeros(each.output.in_features, each.output.in_features)
            for each in both
        ]
        for _ in range(sub.block.passes):
            for each, gram in zip(both, dense.shared, strict=True):
                add_features(each, gram, dense)
    return dense.shared[sub.kind == "neuron"]


def add_features(sub: Sublayer, gram: Tensor, dense: Stream) -> None:
    """Add AᵀA of the features of a sub-layer to a gram, and advance the dense stream through it."""
    for i, padding in enumerate(dense.paddings):
        x = dense.inputs[i]
        A = sub.features(x, padding)
        gram.addmm_(A.T, A)
        dense.inputs[i] = dense.keep(sub.norm(sub.close(A, x)))


def sublayer_moments(sub: Sublayer, dense: Stream, pruned: Stream) -> tuple[Tensor, Tensor]:
    """(AᵀA, AᵀB) of `refit_sublayer` with all units, to choose among them before the streams
    advance.
    """
    weight = sub.output.weight
    if sub.block.passes > 1:
        gram = _shared_gram(sub, dense)
        return gram, gram @ weight.T
    gram, cross = weight.new_zeros(len(weight.T), len(weight.T)), torch.zeros_like(weight.T)
    same = dense.inputs[0] is pruned.inputs[0]  # nothing has been removed yet
    for i, padding in enumerate(dense.paddings):
        x, x_hat = dense.inputs[i], pruned.inputs[i]
        A = sub.features(x_hat, padding)
        gram.addmm_(A.T, A)
        if not same:
            missing = sub.close(sub.features(x, padding), x) - x_hat
            cross.addmm_(A.T, missing if sub.output.bias is None else missing - sub.output.bias)
    return gram, gram @ weight.T if same else cross
