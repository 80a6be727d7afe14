"""What heads and neurons cost in the currency of a target (FLOPs, bytes, measured seconds), and what a target leaves for them.

Knows nothing of how a method scores units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PruneError
from ..models.inference.latency import Latency
from ..models.units import Sublayer


class UnitBudget(NamedTuple):
    """Prices of every sub-layer's units, and how much of them may stay."""

    prices: list[Tensor]  # (units + 1,) with 0, 1, … units left, rising from 0
    allowed: float

    @property
    def total(self) -> float:
        """The price of all units."""
        return float(sum(price[-1] for price in self.prices))


def flops_budget(subs: Sequence[Sublayer], length: float, sparsity: float) -> UnitBudget:
    """All but a share of the encoder's FLOPs for a sentence of that many tokens."""
    prices = [torch.arange(sub.units + 1, dtype=torch.float64) * sub.cost(length) for sub in subs]
    return UnitBudget(prices, (1 - sparsity) * float(sum(price[-1] for price in prices)))


def bytes_budget(subs: Sequence[Sublayer], size: int, whole: int) -> UnitBudget:
    """A file of that many bytes; `whole` is that of the model as it is."""
    prices = [torch.arange(sub.units + 1, dtype=torch.float64) * _bytes(sub) for sub in subs]
    fixed = whole - float(sum(price[-1] for price in prices))
    if size <= fixed:
        raise PruneError(
            f"A file of {size / 1e6:.1f} MB is asked for, but what is no head or neuron takes {fixed / 1e6:.1f} MB of the "
            f"{whole / 1e6:.1f}; ask for more, or export in half precision."
        )
    return UnitBudget(prices, size - fixed)


def _bytes(sub: Sublayer) -> float:
    """Of a unit: its rows with their biases, and its columns of the output."""
    rows = sum(
        linear.weight[0].nbytes + (0 if linear.bias is None else linear.bias[0].nbytes)
        for linear in sub.input_linears.values()
    )
    return sub.width * (rows * sub.rows_per_column + sub.output.weight[:, 0].nbytes)


def latency_budget(subs: Sequence[Sublayer], table: Latency, seconds: float) -> UnitBudget:
    """A pass of that many seconds, by measured latencies."""
    if seconds <= table.fixed:
        raise PruneError(
            f"A pass of {1e3 * seconds:.2f} ms is asked for, {table.whole / seconds:.1f} times faster than dense, but without any head "
            f"or neuron it takes {1e3 * table.fixed:.2f} ms, {table.whole / table.fixed:.1f} times faster; ask for less."
        )
    prices = [
        (table.heads if sub.kind == "head" else table.neurons) * sub.block.passes for sub in subs
    ]
    return UnitBudget(prices, seconds - table.fixed)
