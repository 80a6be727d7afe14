"""Heads and neurons: what a unit is, what it costs, how it leaves the weights, and how much a loss minds it.

A sub-layer (the attention or the feed-forward part of a block) is a sum of units, each with its own columns of the output
projection; a unit is dead when those columns are all zero. Knows nothing of budgets or of how a method scores units.
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
from .families import GROUPS
from .families.layout import plain
from .replay import Block, Padding, blocks, head, view

KINDS = ("head", "neuron")


@dataclass(frozen=True)
class Sublayer:
    """The heads or the neurons of one block, and the output projection whose columns they own."""

    index: int  # of the block
    kind: str  # "head" or "neuron"
    block: Block

    @property
    def group(self) -> int:
        """Of GROUPS, the one that reads the sub-layer's input."""
        return 2 * KINDS.index(self.kind)

    @property
    def part(self) -> str:
        """The Linear that sums the units up, by name."""
        return "attention_output" if self.kind == "head" else "ffn_out"

    @property
    def output(self) -> nn.Linear:
        """That Linear."""
        return self.block.linears[self.part]

    @property
    def own(self) -> dict[str, nn.Linear]:
        """The Linears whose rows belong to the units, as the output's columns do, by name."""
        return {part: self.block.linears[part] for part in GROUPS[self.group]} | (
            self.block.more if self.kind == "head" else {}
        )

    @property
    def units(self) -> int:
        """How many there are."""
        return self.block.heads if self.kind == "head" else self.output.in_features

    @property
    def width(self) -> int:
        """Columns of one unit."""
        return self.output.in_features // self.units

    @property
    def rows_a_unit(self) -> int:
        """Rows of each own matrix for a column of the output: two of a gated neuron."""
        return 2 if self.kind == "neuron" and self.block.spec.gated else 1

    def cost(self, length: float) -> float:
        """FLOPs of one unit for a sentence of that many tokens, in all passes (K-prune, appendix: 8·d·d_h·s + 4·s²·d_h; 4·s·d; of
        a gated neuron, which has three vectors, half as much again)."""
        d = self.output.out_features
        one = (
            8 * d * self.width * length + 4 * length**2 * self.width
            if self.kind == "head"
            else 2 * length * d * (1 + self.rows_a_unit)
        )
        return one * self.block.passes

    def features(self, x: Tensor, padding: Padding, first: int | None = None) -> Tensor:
        """Sub-layer input (…, d) -> input of the output projection (…, columns); packed, or padded and then of the first tokens."""
        seen = self.block.enter(x, self.group)
        if x.dim() == 2:
            return self.block.stage(self.group, seen, x, padding)[0]
        some = seen[:, :first].contiguous()
        if self.kind == "neuron":
            return self.block.activated(self.block.linears["ffn_in"](some))
        query, key, value = (
            self.block.linears[part](y)
            for part, y in zip(GROUPS[0], (some, seen, seen), strict=True)
        )
        if (
            self.block.spec.scores is not plain
        ):  # whose positions count: all queries, of which the first are taken
            whole = query if first is None else self.block.linears["query"](seen)
            return self.block.attention(whole, key, value, padding.mask[:, None, None, :])[
                :, :first
            ]
        if x.device.type == "cpu":
            return _attention(query, key, value, mask=padding.mask, width=self.width)
        return self.block.attention(query, key, value, padding.mask[:, None, None, :])

    def close(self, features: Tensor, x: Tensor) -> Tensor:
        """The residual stream behind the sub-layer, before a norm that comes last: (tokens, d)."""
        return self.output(features) + x

    def norm(self, total: Tensor) -> Tensor:
        """What comes after `close`: the next sub-layer's input."""
        return self.block.leave(total, self.group + 1)

    def columns(self, kept: Tensor) -> Tensor:
        """(units,) -> (columns,), both bool."""
        return kept.repeat_interleave(self.width)

    def by_column(self, weight: Tensor) -> Tensor:
        """(rows, d) of an own matrix -> (columns of the output, d for each row that belongs to one)."""
        return weight.unflatten(0, (self.rows_a_unit, -1)).transpose(0, 1).flatten(1)

    def by_unit(self, values: Tensor) -> Tensor:
        """(..., columns) -> (..., units): the mean over each unit's columns."""
        return values.unflatten(-1, (self.units, self.width)).mean(-1)

    def only(self, kept: Tensor) -> Sublayer:
        """The sub-layer of these units alone, with Linears of its own."""
        columns, block = self.columns(kept), copy.copy(self.block)
        rows = columns.repeat(self.rows_a_unit)
        small = {
            part: view(linear.weight[rows], None if linear.bias is None else linear.bias[rows])
            for part, linear in self.own.items()
        }
        block.more = (
            {name: small.pop(name) for name in self.block.more}
            if self.kind == "head"
            else self.block.more
        )
        if self.kind == "head":
            block.head_numbers = [
                number
                for number, stays in zip(self.block.head_numbers, kept.tolist(), strict=True)
                if stays
            ]
        block.linears = {
            **block.linears,
            **small,
            self.part: view(self.output.weight[:, columns], self.output.bias),
        }
        return replace(self, block=block)

    @torch.no_grad()
    def fold(self, kept: Tensor, weight: Tensor | None = None) -> None:
        """Write the choice into the weights: the kept units' new columns, zeros where the others were."""
        columns = self.columns(kept)
        if weight is not None:
            self.output.weight[:, columns] = weight
        self.output.weight[:, ~columns] = 0
        rows = ~columns.repeat(self.rows_a_unit)
        for linear in self.own.values():  # what a dead unit computes goes nowhere
            linear.weight[rows] = 0
            if linear.bias is not None:
                linear.bias[rows] = 0


def _attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, width: int) -> Tensor:
    """Block.attention in plain products: the CPU's fused kernel takes several times as long for its gradients in bf16."""
    parts = (x.unflatten(-1, (-1, width)).transpose(1, 2) for x in (query, key, value))
    q, k, v = (
        x.to(torch.float32, memory_format=torch.contiguous_format) for x in parts
    )  # products of views would copy them
    padding = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)[
        :, None, None, :
    ]
    scores = (q * width**-0.5) @ k.transpose(2, 3) + padding
    return (scores.softmax(-1) @ v).to(query.dtype).transpose(1, 2).flatten(2)


def sublayers(model: nn.Module) -> list[Sublayer]:
    """All sub-layers from the bottom, attention and feed-forward alternating."""
    return [
        Sublayer(index, kind, block) for index, block in enumerate(blocks(model)) for kind in KINDS
    ]


def execution_order(subs: Sequence[Sublayer]) -> list[int]:
    """Indices of the sub-layers in the order of the forward pass: those of a shared block as often as it is passed."""
    path: list[int] = []
    place = 0
    while place < len(subs):
        own = range(place, place + (2 if subs[place].kind == "head" else 1))
        path += [*own] * (subs[place].block.passes if len(own) == 2 else 1)
        place += len(own)
    return path


def flops(model: nn.Module, length: float) -> tuple[float, float]:
    """(FLOPs of the units that are alive, of all units) of the encoder for a sentence of that many tokens."""
    left = whole = 0.0
    for sub in sublayers(model):
        units = live_units(sub.block)
        left += len(units.heads if sub.kind == "head" else units.neurons) * sub.cost(length)
        whole += sub.units * sub.cost(length)
    return left, whole


Seen = Callable[[int, Tensor], None]  # index of the sub-layer, its features of a pass


def forward(subs: Sequence[Sublayer], x: Tensor, padding: Padding, seen: Seen) -> Tensor:
    """Final hidden states from the first one's padded input; `seen` is shown every sub-layer's features on the way."""
    for place in execution_order(subs):
        a = subs[place].features(x, padding)
        seen(place, a)
        x = subs[place].norm(subs[place].close(a, x))
    return x


def mask_gradients(
    subs: Sequence[Sublayer],
    x: Tensor,
    padding: Padding,
    loss: Callable[[Tensor, Padding], Tensor],
    reads: int | None,
    seen: Seen | None = None,
) -> list[Tensor]:
    """The loss's gradients for masks of ones on each sub-layer's features, (sentences, columns) each; of shared ones over all passes.

    x is the first one's padded input; `loss` takes final padded hidden states and where they are real, of the first `reads` tokens.
    Nothing below the first features is differentiated, no weight, and in the last block no token that the loss cannot see.
    `seen` is shown the features of each sub-layer, (sentences, tokens, columns), and then of the last block's unseen tokens
    too. Features and gradients are reduced as soon as they are there: a pass over memory that is out of the cache again
    costs as much as a matrix product.
    """
    found: list[Tensor | None] = [None] * len(subs)

    def watch(place: int, a: Tensor) -> None:
        features = a.detach()

        def add(gradient: Tensor) -> None:
            own, before = (features * gradient).sum(1), found[place]
            found[place] = own if before is None else before + own

        a.register_hook(add)

    whole, path = x, execution_order(subs)
    for step, place in enumerate(path):
        sub = subs[place]
        first = reads if step >= len(path) - 2 else None  # in the last block
        with torch.enable_grad():
            a = sub.features(x, padding, first)
            if step == 0:
                bottom = a.requires_grad_()
            watch(place, a)
            x = sub.norm(sub.close(a, x[:, :first]))
        if seen is not None:
            with torch.no_grad():
                features = sub.features(whole, padding) if first else a.detach()
                seen(place, features)
                whole = sub.norm(sub.close(features, whole)) if first else x
    with torch.enable_grad():
        torch.autograd.grad(loss(x, padding.first(reads)), bottom)
    assert all(each is not None for each in found), "every sub-layer is on the path"
    return found  # type: ignore[return-value]


def logits(model: nn.Module, hidden: Tensor, padding: Padding) -> Tensor:
    """Of padded final hidden states in any precision, by the model's own head in its own."""
    return head(model, padding.pack(hidden).float(), padding)


def frozen_sublayers(model: nn.Module, dtype: torch.dtype) -> list[Sublayer]:
    """The sub-layers of a copy that never changes, for passes that need neither weight gradients nor full precision."""
    return sublayers(copy.deepcopy(model).requires_grad_(False).to(dtype))


def precision_option() -> Any:
    """The option that says how exact gradient passes are, one wording for all methods."""
    help = "Of the gradient passes: auto takes bf16 where the device is fast at it, else fp32"
    return option("auto", help, choices=("auto", "bf16", "fp32"), expert=True)


def gradient_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bf16 where asked for, or with "auto" where the device multiplies it much faster; else fp32."""
    if precision == "auto":
        cuda = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        known = torch.cpu.get_capabilities() if device.type == "cpu" else {}
        native = known.get("amx_bf16", False) or known.get("avx512_bf16", False)
        precision = "bf16" if cuda or native else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
