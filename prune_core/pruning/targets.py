"""Cost of heads and neurons in the unit of a target (FLOPs, bytes, measured seconds), and the
budget it leaves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PruneError
from ..models.inference.latency import Latency
from ..models.units import Sublayer


class UnitBudget(NamedTuple):
    """Cost of every sub-layer's units, and how much may stay."""

    prices: list[Tensor]  # (units + 1,) cost of 0, 1, … units
    allowed: float

    @property
    def total(self) -> float:
        """Cost of all units."""
        return float(sum(price[-1] for price in self.prices))


def flops_budget(subs: Sequence[Sublayer], length: float, sparsity: float) -> UnitBudget:
    """Budget that removes a fraction `sparsity` of the encoder's FLOPs for examples of `length`
    tokens.
    """
    prices = [torch.arange(sub.units + 1, dtype=torch.float64) * sub.cost(length) for sub in subs]
    return UnitBudget(prices, (1 - sparsity) * float(sum(price[-1] for price in prices)))


def bytes_budget(subs: Sequence[Sublayer], size: int, whole: int) -> UnitBudget:
    """Budget for a file of `size` bytes; `whole` is the size of the unpruned file."""
    prices = [torch.arange(sub.units + 1, dtype=torch.float64) * _bytes(sub) for sub in subs]
    fixed = whole - float(sum(price[-1] for price in prices))
    if size <= fixed:
        raise PruneError(
            f"The target is a file of {size / 1e6:.1f} MB, but everything except heads and neurons "
            f"takes {fixed / 1e6:.1f} of {whole / 1e6:.1f} MB; choose a larger file, or export in "
            "half "
            "precision."
        )
    return UnitBudget(prices, size - fixed)


def _bytes(sub: Sublayer) -> float:
    """Bytes of one unit: its rows with biases, and its columns of the output projection."""
    rows = sum(
        linear.weight[0].nbytes + (0 if linear.bias is None else linear.bias[0].nbytes)
        for linear in sub.input_linears.values()
    )
    return sub.width * (rows * sub.rows_per_column + sub.output.weight[:, 0].nbytes)


def latency_budget(subs: Sequence[Sublayer], table: Latency, seconds: float) -> UnitBudget:
    """Budget for a forward pass of `seconds`, from measured latencies."""
    if seconds <= table.fixed:
        raise PruneError(
            f"The target is {1e3 * seconds:.2f} ms per forward pass, a speed-up of "
            f"{table.whole / seconds:.1f}, but without any head or neuron it takes "
            f"{1e3 * table.fixed:.2f} ms, a speed-up of {table.whole / table.fixed:.1f}; choose a "
            "lower target."
        )
    prices = [
        (table.heads if sub.kind == "head" else table.neurons) * sub.block.passes for sub in subs
    ]
    return UnitBudget(prices, seconds - table.fixed)
