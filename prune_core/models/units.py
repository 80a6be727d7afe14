"""Attention heads and FFN neurons: definition, FLOPs, removal, and gradients of a loss for unit
masks.

A sub-layer (the attention or the feed-forward network of a block) is a sum of units, each with its
own columns of the output projection; a unit is dead when these columns are all zero. "Block" means
a transformer layer here, to avoid confusion with nn.Linear.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..plugins import option
from .compact import live_units
from .families.layout import plain
from .replay import Block, Padding, blocks, head, linear_view

KINDS = ("head", "neuron")


@dataclass(frozen=True)
class Sublayer:
    """The heads or the neurons of one block, and the output projection with their columns."""

    index: int  # of the block
    kind: str  # "head" or "neuron"
    block: Block

    @property
    def group(self) -> int:
        """Index in `block.groups` of the projections that read the sub-layer's input."""
        return 2 * KINDS.index(self.kind)

    @property
    def output_name(self) -> str:
        """Name of the output projection."""
        return self.block.groups[self.group + 1][0]

    @property
    def output(self) -> nn.Linear:
        """The output projection, which sums over units."""
        return self.block.linears[self.output_name]

    @property
    def input_linears(self) -> dict[str, nn.Linear]:
        """The projections whose rows belong to units, by name.

        Units also own columns of `output`.
        """
        projections = self.block.groups[self.group]
        return {projection: self.block.linears[projection] for projection in projections} | (
            self.block.extra_linears if self.kind == "head" else {}
        )

    @property
    def units(self) -> int:
        """Number of units."""
        return self.block.heads if self.kind == "head" else self.output.in_features

    @property
    def width(self) -> int:
        """Columns of `output` per unit."""
        return self.output.in_features // self.units

    @property
    def rows_per_column(self) -> int:
        """Rows of each input projection per column of `output`: 2 for fused gates, else 1."""
        return 2 if self.kind == "neuron" and self.block.spec.fused_gate else 1

    def cost(self, length: float) -> float:
        """FLOPs of one unit for a text of `length` tokens, over all passes of a shared block.

        K-prune, appendix: 8·d·d_h·s + 4·s²·d_h per head, 4·s·d per neuron. A gated neuron has three
        vectors instead of two: 6·s·d.
        """
        d = self.output.out_features
        if self.kind == "head":
            flops_per_pass = 8 * d * self.width * length + 4 * length**2 * self.width
        else:
            rows = len(self.input_linears) * self.rows_per_column
            flops_per_pass = 2 * length * d * (1 + rows)
        return flops_per_pass * self.block.passes

    def features(self, x: Tensor, padding: Padding, first: int | None = None) -> Tensor:
        """Map the sub-layer's input (…, d) to the input of the output projection (…, columns).

        The input is packed (tokens, d), or padded (examples, tokens, d); of the latter only the
        `first` tokens are computed (None: all).
        """
        inputs = self.block.enter(x, self.group)
        if x.dim() == 2:
            return self.block.stage(self.group, inputs, x, padding)[0]
        selected = inputs[:, :first].contiguous()
        if self.kind == "neuron":
            return self.block.ffn_features(selected)
        query, key, value = (
            self.block.linears[projection](y)
            for projection, y in zip(self.block.groups[0], (selected, inputs, inputs), strict=True)
        )
        if self.block.spec.scores is not plain:
            # scores depend on positions: compute all queries, then select
            if first is not None:
                query = self.block.linears["query"](inputs)
            context = self.block.attention(query, key, value, padding.mask[:, None, None, :])
            return context[:, :first]
        if x.device.type == "cpu":
            return _attention(query, key, value, mask=padding.mask, block=self.block)
        return self.block.attention(query, key, value, padding.mask[:, None, None, :])

    def close(self, features: Tensor, x: Tensor) -> Tensor:
        """Residual stream after the sub-layer, before a post-norm: (tokens, d)."""
        return self.output(features) + x

    def norm(self, total: Tensor) -> Tensor:
        """Apply a post-norm after `close`; returns the next sub-layer's input."""
        return self.block.leave(total, self.group + 1)

    def columns(self, mask: Tensor, width: int | None = None) -> Tensor:
        """Expand a mask of units to columns: (units,) -> (columns,), both bool.

        With `width`, only the first `width` columns of a unit are kept.
        """
        columns = mask.repeat_interleave(self.width)
        if width is None:
            return columns
        place = torch.arange(self.width, device=mask.device)
        return columns & (place < width).repeat(self.units)

    def by_column(self, weight: Tensor) -> Tensor:
        """Regroup an input projection (rows, d) by column of the output: (columns, d *
        rows_per_unit).
        """
        return weight.unflatten(0, (self.rows_per_column, -1)).transpose(0, 1).flatten(1)

    def by_unit(self, values: Tensor) -> Tensor:
        """Average over each unit's columns: (..., columns) -> (..., units)."""
        return values.unflatten(-1, (self.units, self.width)).mean(-1)

    def only(self, kept: Tensor, width: int | None = None) -> Sublayer:
        """Return the sub-layer restricted to the kept units, with its own Linears.

        With `width`, only to the first `width` columns of each.
        """
        columns, block = self.columns(kept, width), copy.copy(self.block)
        rows = columns.repeat(self.rows_per_column)
        reduced = {
            projection: linear_view(
                linear.weight[rows], None if linear.bias is None else linear.bias[rows]
            )
            for projection, linear in self.input_linears.items()
        }
        if self.kind == "head":
            block.width = self.width if width is None else width
            block.extra_linears = {name: reduced.pop(name) for name in self.block.extra_linears}
            block.head_numbers = [
                number
                for number, is_kept in zip(self.block.head_numbers, kept.tolist(), strict=True)
                if is_kept
            ]
        block.linears = {
            **block.linears,
            **reduced,
            self.output_name: linear_view(self.output.weight[:, columns], self.output.bias),
        }
        return replace(self, block=block)

    @torch.no_grad()
    def fold(self, kept: Tensor, weight: Tensor | None = None, width: int | None = None) -> None:
        """Prune in place: zero the columns of removed units, set those of kept ones to `weight`.

        With `width`, only the first `width` columns of each unit are kept.
        """
        columns = self.columns(kept, width)
        if weight is not None:
            self.output.weight[:, columns] = weight
        self.output.weight[:, ~columns] = 0
        rows = ~columns.repeat(self.rows_per_column)
        for linear in self.input_linears.values():  # the output of a dead column is unused
            linear.weight[rows] = 0
            if linear.bias is not None:
                linear.bias[rows] = 0


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, block: Block) -> Tensor:
    """Block.attention as plain products.

    The CPU's fused kernel takes several times as long for its gradients in bf16.
    """
    heads = map(block.split, (query, key, value))
    # contiguous: products of views would copy them
    q, k, v = (x.to(torch.float32, memory_format=torch.contiguous_format) for x in heads)
    bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
    scores = (q * block.head_width**-0.5) @ k.transpose(2, 3) + bias[:, None, None, :]
    return (scores.softmax(-1) @ v).to(query.dtype).transpose(1, 2).flatten(2)


def sublayers(model: nn.Module) -> list[Sublayer]:
    """All sub-layers from the bottom, attention and feed-forward alternating."""
    return [
        Sublayer(index, kind, block) for index, block in enumerate(blocks(model)) for kind in KINDS
    ]


def execution_order(subs: Sequence[Sublayer]) -> list[int]:
    """Indices of the sub-layers in the order of the forward pass; shared blocks are repeated."""
    path: list[int] = []
    index = 0
    while index < len(subs):
        group = range(index, index + (2 if subs[index].kind == "head" else 1))
        path += [*group] * (subs[index].block.passes if len(group) == 2 else 1)
        index += len(group)
    return path


def flops(model: nn.Module, length: float) -> tuple[float, float]:
    """Return (FLOPs of live units, FLOPs of all units) of the encoder for a text of `length`
    tokens.
    """
    live = total = 0.0
    for sub in sublayers(model):
        units = live_units(sub.block)
        if sub.kind == "head":
            live += len(units.heads) * sub.cost(length) * units.width / sub.width
        else:
            live += len(units.neurons) * sub.cost(length)
        total += sub.units * sub.cost(length)
    return live, total


Observer = Callable[[int, Tensor], None]  # called with (index of a sub-layer, its features)


def forward(subs: Sequence[Sublayer], x: Tensor, padding: Padding, seen: Observer) -> Tensor:
    """Compute final hidden states from the padded input of the first sub-layer.

    `seen` is called with the features of every sub-layer on the way.
    """
    for index in execution_order(subs):
        a = subs[index].features(x, padding)
        seen(index, a)
        x = subs[index].norm(subs[index].close(a, x))
    return x


def mask_gradients(
    subs: Sequence[Sublayer],
    x: Tensor,
    padding: Padding,
    loss: Callable[[Tensor, Padding], Tensor],
    reads: int | None,
    seen: Observer | None = None,
) -> list[Tensor]:
    """Gradients of the loss for masks of ones on each sub-layer's features.

    Returns (examples, columns) per sub-layer. x is the padded input of the first sub-layer; `loss`
    takes the final padded hidden states and their padding, both of the first `reads` tokens.
    Gradients of a shared block are summed over its passes. Nothing below the first features is
    differentiated, no weight, and in the last block no token that the loss does not read.

    `seen` is called with the features of each sub-layer, (examples, tokens, columns), in the last
    block including the tokens that the loss does not read. Features and gradients are reduced as
    soon as they are available: a pass over memory that has left the cache costs as much as a matrix
    product.
    """
    gradients: list[Tensor | None] = [None] * len(subs)

    def accumulate(index: int, features: Tensor) -> None:
        values = features.detach()

        def add(gradient: Tensor) -> None:
            product, total = (values * gradient).sum(1), gradients[index]
            gradients[index] = product if total is None else total + product

        features.register_hook(add)

    full, order = x, execution_order(subs)
    for step, index in enumerate(order):
        sub = subs[index]
        first = reads if step >= len(order) - 2 else None  # in the last block
        with torch.enable_grad():
            a = sub.features(x, padding, first)
            if step == 0:
                bottom = a.requires_grad_()
            accumulate(index, a)
            x = sub.norm(sub.close(a, x[:, :first]))
        if seen is not None:
            with torch.no_grad():
                features = sub.features(full, padding) if first else a.detach()
                seen(index, features)
                full = sub.norm(sub.close(features, full)) if first else x
    with torch.enable_grad():
        torch.autograd.grad(loss(x, padding.first(reads)), bottom)
    assert all(gradient is not None for gradient in gradients), "every sub-layer is executed"
    return gradients  # type: ignore[return-value]


def logits(model: nn.Module, hidden: Tensor, padding: Padding) -> Tensor:
    """Logits from padded final hidden states in any precision.

    The head runs in its own precision.
    """
    return head(model, padding.pack(hidden).float(), padding)


def frozen_sublayers(model: nn.Module, dtype: torch.dtype) -> list[Sublayer]:
    """Sub-layers of a frozen copy in `dtype`, for passes without weight gradients."""
    return sublayers(copy.deepcopy(model).requires_grad_(False).to(dtype))


def precision_option() -> Any:
    """Option for the precision of gradient passes; the same wording for all methods."""
    return option(
        "auto",
        "Precision of gradient passes: auto uses bf16 if the device accelerates it, else fp32",
        choices=("auto", "bf16", "fp32"),
        expert=True,
    )


def gradient_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return bf16 if requested, or for "auto" if the device accelerates it; else fp32."""
    if precision == "auto":
        is_ampere = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        has_bf16_units = capabilities.get("amx_bf16", False) or capabilities.get(
            "avx512_bf16", False
        )
        precision = "bf16" if is_ampere or has_bf16_units else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
