"""The walk of methods that tune what is left of whole units: as layerwise.py walks from Linear to Linear, a dense and a pruned stream
walk here from sub-layer to sub-layer. Knows nothing of budgets, or of how a method chooses units or refits them.
"""

from __future__ import annotations

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
    """Push both streams through a sub-layer of which only `kept` is left, its columns tuned on the way; the damping used.

    With A (tokens, k) the survivors' features and B (tokens, d) what their sum has to reach for the sub-layer's output to
    be the dense one, `solve` takes their columns (d, k), AᵀA (k, k) and AᵀB (k, d), and gives new columns and a damping.
    """
    if sub.block.passes > 1:
        return _pass_on_shared(sub, kept, dense, pruned=pruned, solve=solve)
    if (
        kept.all() and dense.inputs[0] is pruned.inputs[0]
    ):  # nothing has been removed so far: the streams stay one
        pairs = zip(dense.inputs, dense.paddings, strict=True)
        dense.inputs = [
            dense.keep(sub.norm(sub.close(sub.features(x, padding), x))) for x, padding in pairs
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
            cross.addmm_(
                A.T, total - x_hat if sub.output.bias is None else total - x_hat - sub.output.bias
            )
    if solve is not None:
        fitted, damping = solve(weight, gram, cross)
        weight.copy_(fitted)
    sub.fold(kept, weight)
    for i, A in enumerate(features):
        pruned.inputs[i] = pruned.keep(sub.norm(small.close(A, pruned.inputs[i])))
    return damping


def _pass_on_shared(
    sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream, solve: Solve | None
) -> float:
    """Of a block that is passed several times: tuned to the dense model's features of all passes, and passed once both of its
    sub-layers are pruned. As paths are the dense one's, AᵀB is AᵀA times the columns that were there."""
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
    """The gram of a shared sub-layer's features over all passes of its block through the dense weights, which are passed once."""
    if not dense.shared:
        both = [sub, replace(sub, kind="neuron")]
        dense.shared = [
            each.output.weight.new_zeros(each.output.in_features, each.output.in_features)
            for each in both
        ]
        for _ in range(sub.block.passes):
            for each, gram in zip(both, dense.shared, strict=True):
                for i, padding in enumerate(dense.paddings):
                    x = dense.inputs[i]
                    A = each.features(x, padding)
                    gram.addmm_(A.T, A)
                    dense.inputs[i] = dense.keep(each.norm(each.close(A, x)))
    return dense.shared[sub.kind == "neuron"]


def sublayer_moments(sub: Sublayer, dense: Stream, pruned: Stream) -> tuple[Tensor, Tensor]:
    """(AᵀA, AᵀB) of `pass_on` with all units: what a choice among them can be made by, before the streams pass."""
    weight = sub.output.weight
    if sub.block.passes > 1:
        gram = _shared_gram(sub, dense)
        return gram, gram @ weight.T
    gram, cross = weight.new_zeros(len(weight.T), len(weight.T)), torch.zeros_like(weight.T)
    same = dense.inputs[0] is pruned.inputs[0]  # nothing has been removed so far
    for i, padding in enumerate(dense.paddings):
        x, x_hat = dense.inputs[i], pruned.inputs[i]
        A = sub.features(x_hat, padding)
        gram.addmm_(A.T, A)
        if not same:
            lacking = sub.close(sub.features(x, padding), x) - x_hat
            cross.addmm_(A.T, lacking if sub.output.bias is None else lacking - sub.output.bias)
    return gram, gram @ weight.T if same else cross
