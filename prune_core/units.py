"""Heads and neurons: what a unit is, what it costs, how it leaves the weights, and how much a loss minds it.

A sub-layer (the attention or the feed-forward part of a block) is a sum of units, each with its own columns of the output
projection; a unit is dead when those columns are all zero. Knows nothing of budgets or of how a method scores units.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .encoders import GROUPS, Block, blocks
from .plugins import option
from .shrink import alive

KINDS = ("head", "neuron")


@dataclass(frozen=True)
class Sublayer:
    """The heads or the neurons of one block, and the output projection whose columns they own."""

    index: int  # of the block
    kind: str  # "head" or "neuron"
    block: Block

    @property
    def part(self) -> str:
        """The Linear that sums the units up, by name."""
        return "attention_output" if self.kind == "head" else "ffn_out"

    @property
    def output(self) -> nn.Linear:
        """That Linear."""
        return self.block.linears[self.part]

    @property
    def own(self) -> list[nn.Linear]:
        """The Linears whose rows belong to the units, as the output's columns do."""
        return [self.block.linears[part] for part in GROUPS[2 * KINDS.index(self.kind)]]

    @property
    def units(self) -> int:
        """How many there are."""
        return self.block.heads if self.kind == "head" else self.output.in_features

    @property
    def width(self) -> int:
        """Columns of one unit."""
        return self.output.in_features // self.units

    def cost(self, length: float) -> float:
        """FLOPs of one unit for a sentence of that many tokens (K-prune, appendix: 8·d·d_h·s + 4·s²·d_h; 4·s·d)."""
        d = self.output.out_features
        return 8 * d * self.width * length + 4 * length**2 * self.width if self.kind == "head" else 4 * length * d

    def features(self, x: Tensor, mask: Tensor) -> Tensor:
        """Packed sub-layer input (tokens, d) -> packed input of the output projection (tokens, columns)."""
        return self.block.stage(2 * KINDS.index(self.kind), x, x, mask)[0]

    def close(self, features: Tensor, x: Tensor) -> Tensor:
        """The sub-layer's output, before its norm: (tokens, d)."""
        return self.output(features) + x

    def norm(self, total: Tensor) -> Tensor:
        """What comes after `close`: the next sub-layer's input."""
        return (self.block.norm1 if self.kind == "head" else self.block.norm2)(total)

    def columns(self, kept: Tensor) -> Tensor:
        """(units,) -> (columns,), both bool."""
        return kept.repeat_interleave(self.width)

    def by_unit(self, values: Tensor) -> Tensor:
        """(..., columns) -> (..., units): the mean over each unit's columns."""
        return values.unflatten(-1, (self.units, self.width)).mean(-1)

    @torch.no_grad()
    def fold(self, kept: Tensor, weight: Tensor | None = None) -> None:
        """Write the choice into the weights: the kept units' new columns, zeros where the others were."""
        columns = self.columns(kept)
        if weight is not None:
            self.output.weight[:, columns] = weight
        self.output.weight[:, ~columns] = 0
        for linear in self.own:  # what a dead unit computes goes nowhere
            linear.weight[~columns] = 0
            linear.bias[~columns] = 0


def sublayers(model: nn.Module) -> list[Sublayer]:
    """All sub-layers from the bottom, attention and feed-forward alternating."""
    return [Sublayer(index, kind, block) for index, block in enumerate(blocks(model)) for kind in KINDS]


def flops(model: nn.Module, length: float) -> tuple[float, float]:
    """(FLOPs of the units that are alive, of all units) of the encoder for a sentence of that many tokens."""
    left = whole = 0.0
    for sub in sublayers(model):
        units = alive(sub.block)
        left += len(units.heads if sub.kind == "head" else units.neurons) * sub.cost(length)
        whole += sub.units * sub.cost(length)
    return left, whole



def forward(subs: Sequence[Sublayer], x: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
    """(features of each sub-layer, (tokens, columns) each; final hidden states), packed, from the first one's input."""
    found = []
    for sub in subs:
        found.append(sub.features(x, mask))
        x = sub.norm(sub.close(found[-1], x))
    return found, x


def mask_gradients(
    subs: Sequence[Sublayer], x: Tensor, mask: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """(features, the loss's gradients for them) of each sub-layer, (tokens, columns) each, from the first one's input.

    A gradient for a mask of ones on some features is the sum of features times gradients. `loss` takes final hidden states.
    Nothing below the first features is differentiated, and no weight: a backward costs what a forward costs.
    """
    with torch.no_grad():
        first = subs[0].features(x, mask)
    with torch.enable_grad():
        features, x = forward(subs[1:], subs[0].norm(subs[0].close(first.requires_grad_(), x)), mask)
        features = [first, *features]
        gradients = torch.autograd.grad(loss(x), features)
    return [each.detach() for each in features], list(gradients)


def frozen(model: nn.Module, dtype: torch.dtype) -> list[Sublayer]:
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
        amx = device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
        precision = "bf16" if cuda or amx else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
