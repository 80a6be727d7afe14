"""Statistics of each Linear's inputs, and the one driver for methods that prune weights layer by layer.

Two streams of packed hidden states (dense and pruned) walk through the encoder side by side, one block and one group
of Linears at a time, so every stage of a block runs once per stream and only one group's statistics live at a time.
Knows nothing of how a method chooses or fits weights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from . import PruneError
from .encoders import GROUPS, Block, blocks, embed
from .masks import WeightMethod
from .plugins import Batch, Report, Rows, option


@dataclass
class Stats:
    """Sums over the real tokens of a calibration sample, for Linears that share one input of width d; all fp32.

    x is the dense path's input, x̂ the pruned path's. `gram` is (d, d), or its diagonal (d,) for methods that need no more.
    """

    gram: Tensor  # Σ x̂x̂ᵀ
    cross: Tensor | None = None  # Σ x x̂ᵀ; None where the paths are still the same
    total: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ x̂; empty beside a diagonal
    dense_total: Tensor = field(default_factory=lambda: torch.zeros(0))  # Σ x
    carry: Tensor | None = None  # Σ (r − r̂)x̂ᵀ, (outputs, d): what the residual added to the output lacks; None without one
    carry_total: Tensor | None = None  # Σ (r − r̂)
    tokens: int = 0
    memo: dict[Any, Any] = field(default_factory=dict)  # factors that Q, K and V share

    def centred(self) -> Stats:
        """The same with the means taken out: the statistics of a fit that has a free bias."""
        if "centred" not in self.memo:
            mean, dense_mean = self.total / self.tokens, self.dense_total / self.tokens
            gram = self.gram - torch.outer(self.total, mean)
            cross = None if self.cross is None else self.cross - torch.outer(self.dense_total, mean)
            carry = carry_mean = None
            if self.carry is not None and self.carry_total is not None:
                carry, carry_mean = self.carry - torch.outer(self.carry_total, mean), self.carry_total / self.tokens
            self.memo["centred"] = Stats(gram, cross, mean, dense_mean, carry, carry_mean, 1)
        return self.memo["centred"]


class Solved(NamedTuple):
    """What a method makes of one Linear."""

    weight: Tensor
    bias: Tensor
    damping: float = 0.0  # what was added to the gram's diagonal, relative to its mean


@dataclass(frozen=True)
class LayerwiseMethod(WeightMethod):
    """A method that prunes each Linear from statistics of its inputs."""

    needs: ClassVar[str] = "gram"  # "diagonal", "gram", or "cross" (gram, cross and means)

    @property
    def takes_residual(self) -> bool:
        """Whether the statistics of what the residual lacks (`carry`) are wanted, besides "cross"."""
        return False

    def solve(self, weight: Tensor, bias: Tensor, stats: Stats) -> Solved:
        """New weight (rows, columns) with zeros, and bias (rows,); pure."""
        raise NotImplementedError

    def finish(self, model: nn.Module, dense: Stream, pruned: Stream) -> None:
        """Called once behind the last block with both streams there; only methods that need "cross"."""

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        with torch.no_grad():
            return {"prune": pd.DataFrame(_walk(self, model, batches, report))}


class Stream:
    """The packed states of one path through the encoder, batch by batch."""

    def __init__(self, states: Sequence[tuple[Tensor, Tensor]]):
        self.masks = [mask for _, mask in states]
        self.inputs = [x for x, _ in states]  # input of the current group, (tokens, width) each
        self.residuals = self.inputs

    def twin(self) -> Stream:
        """A second stream from the same states; nothing is written in place, so they share memory until they part."""
        return Stream(list(zip(self.inputs, self.masks, strict=True)))

    def advance(self, block: Block, group: int) -> None:
        """Push every batch through one stage of the block."""
        for i, mask in enumerate(self.masks):
            self.inputs[i], residual = block.stage(group, self.inputs[i], self.residuals[i], mask)
            if self.residuals is self.inputs:
                self.residuals = list(self.inputs)
            self.residuals[i] = residual


def stream(model: nn.Module, batches: Sequence[Batch]) -> Stream:
    """The states behind the embeddings."""
    if not batches:
        raise PruneError("There are no calibration sentences; give at least one.")
    return Stream([embed(model, batch) for batch in batches])


def collect(needs: str, pruned: Stream, dense: Stream | None, residual: bool = False) -> Stats:
    """One pass over the current inputs; `dense` is None where both paths are the same."""
    first = pruned.inputs[0]
    width = first.shape[-1]
    zeros = lambda *shape: torch.zeros(shape, device=first.device, dtype=torch.float32)  # noqa: E731
    if needs == "diagonal":
        gram = zeros(width)
        for x in pruned.inputs:
            gram += x.float().square().sum(0)
        return Stats(gram, tokens=sum(map(len, pruned.inputs)))
    stats = Stats(zeros(width, width), total=zeros(width), dense_total=zeros(width))
    if dense is not None:
        stats.cross = zeros(width, width)
        if residual and pruned.residuals[0] is not first:  # the output goes onto a residual that is not this input itself
            outputs = pruned.residuals[0].shape[-1]
            stats.carry, stats.carry_total = zeros(outputs, width), zeros(outputs)
    for i, x in enumerate(pruned.inputs):
        x = x.float()
        stats.gram.addmm_(x.T, x)
        stats.total += x.sum(0)
        stats.tokens += len(x)
        if dense is not None and stats.cross is not None:
            stats.cross.addmm_(dense.inputs[i].float().T, x)
            stats.dense_total += dense.inputs[i].sum(0)
        if dense is not None and stats.carry is not None and stats.carry_total is not None:
            lacking = (dense.residuals[i] - pruned.residuals[i]).float()
            stats.carry.addmm_(lacking.T, x)
            stats.carry_total += lacking.sum(0)
    if dense is None:
        stats.dense_total = stats.total
    if not torch.isfinite(stats.gram).all():
        raise PruneError("The model's hidden states are not finite on the calibration sentences; check the checkpoint and the data.")
    return stats


def _walk(method: LayerwiseMethod, model: nn.Module, batches: Sequence[Batch], report: Report) -> list[dict[str, Any]]:
    """The driver: collect, let the dense stream pass, prune the group, let the pruned stream pass."""
    rows: list[dict[str, Any]] = []
    pruned = stream(model, batches)
    dense = pruned.twin() if method.needs == "cross" else None
    stack = blocks(model)
    for index, block in enumerate(stack):
        for group, parts in enumerate(GROUPS):
            report((index + group / len(GROUPS)) / len(stack), f"block {index + 1} of {len(stack)}: {', '.join(parts).replace('_', ' ')}")
            same = index == 0 and group == 0
            stats = collect(method.needs, pruned, None if same else dense, method.takes_residual)
            if dense is not None:
                dense.advance(block, group)  # with the dense weights, which the next lines replace
            for part in parts:
                rows.append({"block": index, "part": part, **_solve(method, block.linears[part], stats)})
            last = index == len(stack) - 1 and group == len(GROUPS) - 1
            if not last or dense is not None:
                pruned.advance(block, group)
    if dense is not None:
        report(1.0, "refitting what lies behind the encoder")
        method.finish(model, dense, pruned)
    report(1.0, "pruned")
    return rows


def _solve(method: LayerwiseMethod, linear: nn.Linear, stats: Stats) -> dict[str, Any]:
    started = time.perf_counter()
    solved = method.solve(linear.weight.float(), linear.bias.float(), stats)
    linear.weight.copy_(solved.weight)
    linear.bias.copy_(solved.bias)
    zeros = 1 - torch.count_nonzero(linear.weight).item() / linear.weight.numel()
    return {"sparsity": zeros, "damping": solved.damping, "seconds": time.perf_counter() - started}


def damping_option(default: float = 0.01) -> Any:
    """The option that keeps a gram matrix invertible, one wording for all methods."""
    return option(default, "Added to the gram's diagonal, relative to its mean, before it is inverted", low=0.0, high=10.0, expert=True)
