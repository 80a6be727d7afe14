"""The one driver for methods that prune weights layer by layer from statistics of each Linear's inputs.

Two streams of packed hidden states (dense and pruned) walk through the encoder side by side, one block and one group
of Linears at a time, so every stage of a block runs once per stream and only one group's statistics live at a time.
Knows nothing of how a method chooses or fits weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.devices import device_of
from ..models.families import GROUPS, PARTS
from ..models.replay import Block, Padding, blocks, embed, linears
from ..models.timing import Stopwatch
from ..plugins import Batch, Report, Rows, option
from .allocation import by_error, curve, kept_shares
from .fisher import ALL_ALIKE, Fisher, fisher
from .masks import WeightMethod
from .moments import Outputs, Stats, adaptive_weight
from .solvers import refit

ONTO_RESIDUAL = (1, 3)  # groups whose outputs are added to a residual that is not their own input
REFIT_DAMPING = 0.01  # of the fit to dense outputs, which it pulls towards the dense weights


class Solved(NamedTuple):
    """What a method makes of one Linear."""

    weight: Tensor
    bias: Tensor
    damping: float = 0.0  # what was added to the gram's diagonal, relative to its mean


@dataclass(frozen=True)
class LayerwiseMethod(WeightMethod):
    """A method that prunes each Linear from statistics of its inputs."""

    statistic: ClassVar[str] = "gram"  # or "diagonal", where `solve` looks at no more
    refit_steps: int = option(
        0, "Steps that refit the kept weights to the dense model's outputs by least squares (0 = none; 20 are nearly exact)",
        low=0, high=1000,
    )  # fmt: skip
    allocation: str = option(
        "uniform", "uniform, as patterns always are; error: more where the error grows slower, same total; or each block's own: 0.8, 0.9, …"
    )
    recollect: bool = option(True, "Take the statistics anew behind each part of a block; off: once for the whole block")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern:
            object.__setattr__(self, "allocation", "uniform")
        if self.of_blocks:
            object.__setattr__(self, "sparsity", sum(self.of_blocks) / len(self.of_blocks))

    @property
    def of_blocks(self) -> list[float]:
        """Each block's own sparsity, where the allocation lists them."""
        if self.allocation in ("uniform", "error"):
            return []
        try:
            listed = [float(share) for share in self.allocation.split(",")]
        except ValueError:
            listed = []
        if not listed or not all(0 <= share <= 0.99 for share in listed):
            wanted = "write uniform, error, or a sparsity from 0 to 0.99 for every block, joined by commas"
            raise PruneError(f"{self.name}: allocation is {self.allocation!r}; {wanted}.")
        return listed

    @property
    def needs(self) -> Collection[str]:
        """Which fields of Stats are summed; "cross" brings the means and the dense stream along."""
        return {"gram", "cross"} if self.refit_steps else {self.statistic}

    def solve(self, weight: Tensor, bias: Tensor, stats: Stats) -> Solved:
        """New weight (rows, columns) with zeros, and bias (rows,); pure."""
        raise NotImplementedError

    def fit(self, weight: Tensor, bias: Tensor, stats: Stats) -> Solved:
        """What `solve` says, its kept weights refitted where that is asked for."""
        solved = self.solve(weight, bias, stats)
        if not self.refit_steps:
            return solved
        target, _ = adaptive_weight(weight, stats, REFIT_DAMPING)
        H, _, _ = stats.damped(REFIT_DAMPING)
        return solved._replace(weight=refit(solved.weight, target, H, self.refit_steps))

    def finish(self, model: nn.Module, dense: Stream, pruned: Stream) -> None:
        """Called once behind the last block where there are both streams."""

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Walk the encoder; the table `prune` has a row a weight matrix."""
        with torch.no_grad():
            return {"prune": pd.DataFrame(_walk(self, model, batches, report))}


class Stream:
    """The packed states of one path through the encoder, batch by batch."""

    def __init__(self, states: Sequence[tuple[Tensor, Padding]]):
        self.paddings = [padding for _, padding in states]
        self.inputs = [x for x, _ in states]  # input of the current group, (tokens, width) each
        self.residuals = self.inputs
        self.shared: list[Tensor] = []  # what unitwise.py keeps of a block that is passed several times

    def twin(self) -> Stream:
        """A second stream from the same states; nothing is written in place, so they share memory until they part."""
        return Stream(list(zip(self.inputs, self.paddings, strict=True)))

    def enter(self, block: Block) -> None:
        """Turn the residual stream into the input of the block's first group: nothing to do where norms come last."""
        if block.spec.pre_norm:
            self.residuals = list(self.inputs)
            self.inputs = [block.enter(x) for x in self.inputs]

    def advance(self, block: Block, group: int) -> None:
        """Push every batch through one stage of the block."""
        for i, padding in enumerate(self.paddings):
            self.inputs[i], residual = block.stage(group, self.inputs[i], self.residuals[i], padding)
            if self.residuals is self.inputs:
                self.residuals = list(self.inputs)
            self.residuals[i] = residual


def stream(model: nn.Module, batches: Sequence[Batch]) -> Stream:
    """The states behind the embeddings."""
    if not batches:
        raise PruneError("There are no calibration sentences; give at least one.")
    return Stream([embed(model, batch) for batch in batches])


def collect(
    needs: Collection[str], pruned: Stream, dense: Stream | None, weights: Sequence[Tensor] | None = None, onto_residual: bool = False
) -> Stats:  # fmt: skip
    """The sums that a method needs, in one pass over the current inputs; `dense` is None where both paths are the same.

    `weights`, (tokens,) for each batch with a mean of 1, say how much each token counts.
    """
    first = pruned.inputs[0]
    width, sentences = first.shape[-1], sum(len(each.mask) for each in pruned.paddings)
    zeros = lambda *shape: torch.zeros(shape, device=first.device, dtype=torch.float32)  # noqa: E731
    if "diagonal" in needs:
        gram = zeros(width)
        for x in pruned.inputs:
            gram += x.float().square().sum(0)
        return Stats(gram, tokens=sum(map(len, pruned.inputs)), sentences=sentences)
    stats = Stats(zeros(width, width), total=zeros(width), dense_total=zeros(width), sentences=sentences)
    if dense is not None:
        stats.cross = zeros(width, width)
        if "dense_gram" in needs:
            stats.dense_gram = zeros(width, width)
        if "carry" in needs and onto_residual:
            outputs = pruned.residuals[0].shape[-1]
            stats.carry, stats.carry_total = zeros(outputs, width), zeros(outputs)
    counts = lambda x, i: x if weights is None else x * weights[i][:, None]  # noqa: E731
    for i, x in enumerate(pruned.inputs):
        x = x.float()
        counted = counts(x, i)
        stats.gram.addmm_(counted.T, x)
        stats.total += counted.sum(0)
        stats.tokens += len(x)
        if dense is None or stats.cross is None:
            continue
        dense_x = dense.inputs[i].float()
        stats.cross.addmm_(dense_x.T, counted)
        stats.dense_total += counts(dense_x, i).sum(0)
        if stats.dense_gram is not None:
            stats.dense_gram.addmm_(counts(dense_x, i).T, dense_x)
        if stats.carry is not None and stats.carry_total is not None:
            lacking = (dense.residuals[i] - pruned.residuals[i]).float()
            stats.carry.addmm_(lacking.T, counted)
            stats.carry_total += counts(lacking, i).sum(0)
    if dense is None:
        stats.dense_total = stats.total
    if not torch.isfinite(stats.gram).all():
        raise PruneError("The model's hidden states are not finite on the calibration sentences; check the checkpoint and the data.")
    return stats


def _walk(method: LayerwiseMethod, model: nn.Module, batches: Sequence[Batch], report: Report) -> list[dict[str, Any]]:
    """The driver: collect, let the dense stream pass, prune the group, let the pruned stream pass."""
    rows: list[dict[str, Any]] = []
    watch = Stopwatch(device_of(model))
    pruned = stream(model, batches)
    dense = pruned.twin() if "cross" in method.needs else None
    stack = blocks(model)
    worth = fisher(model, batches, report) if "fisher" in method.needs else [ALL_ALIKE] * len(stack)
    sparsities = _sparsities(method, stack, pruned.twin(), worth, report)
    for index, block in enumerate(stack):
        own = [replace(method, sparsity=sparsities[index][part], allocation="uniform") for part in PARTS]
        solve = partial(_solve, block=block, methods=dict(zip(PARTS, own, strict=True)), worth=worth[index], watch=watch)
        say = lambda group, parts: report(  # noqa: E731
            (index + group / len(GROUPS)) / len(stack), f"block {index + 1} of {len(stack)}: {', '.join(parts).replace('_', ' ')}"  # noqa: B023
        )  # fmt: skip
        walk = _walk_block if block.passes == 1 else _walk_shared
        for of_group in walk(method, block, pruned, dense, worth[index], solve, say, index == 0):
            rows += [{"block": index, **row} for row in of_group]
        worth[index] = ALL_ALIKE  # its matrices are not needed any more
    if dense is not None:
        report(1.0, "refitting what lies behind the encoder")
        method.finish(model, dense, pruned)
    report(1.0, "pruned")
    kept = torch.stack([row.pop("kept") for row in rows]).tolist()  # one look at the device for all
    found = zip(rows, kept, linears(model), watch.laps()[1::2], strict=True)
    return [
        {"block": row["block"], "part": row["part"], "sparsity": 1 - count / linear.weight.numel(), "damping": row["damping"],
         "seconds": seconds}
        for row, count, (_, _, linear), seconds in found
    ]  # fmt: skip


Solve = Callable[[Sequence[str], Stats], list[dict[str, Any]]]


def _walk_block(
    method: LayerwiseMethod, block: Block, pruned: Stream, dense: Stream | None, worth: Fisher, solve: Solve,
    say: Callable[[int, Sequence[str]], None], same: bool,
) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """Group by group; `same`: both streams are still one. Rows of each group."""
    ahead = None if method.recollect else pruned.twin()  # passes each group before it is pruned
    for path in filter(None, (dense, pruned, ahead)):
        path.enter(block)
    for group, parts in enumerate(GROUPS):
        say(group, parts)
        stats = collect(method.needs, ahead or pruned, None if same and group == 0 else dense, worth.tokens[group], group in ONTO_RESIDUAL)
        for path in filter(None, (dense, ahead)):
            path.advance(block, group)  # with the dense weights, which the next line replaces
        yield solve(parts, stats)
        pruned.advance(block, group)


def _walk_shared(
    method: LayerwiseMethod, block: Block, pruned: Stream, dense: Stream | None, worth: Fisher, solve: Solve,
    say: Callable[[int, Sequence[str]], None], same: bool,
) -> Iterator[list[dict[str, Any]]]:  # fmt: skip
    """A block that is passed several times: the inputs of all passes through the dense weights count, and it is pruned once."""
    ahead, sums = pruned.twin(), list[Stats]()
    for turn in range(block.passes):
        for path in filter(None, (dense, ahead)):
            path.enter(block)
        for group, parts in enumerate(GROUPS):
            say(group, parts)
            counts = worth.tokens[group]
            own = None if counts is None else counts[turn :: block.passes]
            stats = collect(method.needs, ahead, None if same else dense, own, group in ONTO_RESIDUAL)
            sums[group : group + 1] = [sums[group].plus(stats) if turn else stats]
            for path in filter(None, (dense, ahead)):
                path.advance(block, group)
    for parts, stats in zip(GROUPS, sums, strict=True):
        yield solve(parts, stats)
    for _ in range(block.passes):
        pruned.enter(block)
        for group in range(len(GROUPS)):
            pruned.advance(block, group)


def _solve(
    parts: Sequence[str], stats: Stats, block: Block, methods: Mapping[str, LayerwiseMethod], worth: Fisher, watch: Stopwatch
) -> list[dict[str, Any]]:  # fmt: skip
    """Prune the parts of one group; a row each."""
    rows = []
    also = block.spec.also_read(block) if parts == GROUPS[0] else None
    read = stats if also is None else stats.with_rows(also, stats.sentences)
    for part in parts:
        watch.mark()
        seen = read if part in ("query", "key") else stats
        rows.append({"part": part, **_solve_one(methods[part], block.linears[part], seen, worth.of(part))})
        watch.mark()
    return rows


def _sparsities(
    method: LayerwiseMethod, stack: Sequence[Block], dense: Stream, worth: Sequence[Fisher], report: Report
) -> list[dict[str, float]]:
    """The sparsity of every block's parts. By error, the dense model is walked once before, to measure how errors grow."""
    if method.allocation != "error":
        listed = method.of_blocks or [method.sparsity] * len(stack)
        if len(listed) != len(stack):
            raise PruneError(f"{method.name}: allocation lists {len(listed)} blocks, but the model has {len(stack)}; list as many.")
        return [dict.fromkeys(PARTS, share) for share in listed]
    kept = kept_shares(method.sparsity)
    curves, sizes = [], []
    for index, block in enumerate(stack):
        report(0.0, f"how errors grow: block {index + 1} of {len(stack)}")
        sums: list[Stats] = []
        for turn in range(block.passes):
            dense.enter(block)
            for group in range(len(GROUPS)):
                counts = worth[index].tokens[group]
                stats = collect({"gram"}, dense, None, None if counts is None else counts[turn :: block.passes])
                sums[group : group + 1] = [sums[group].plus(stats) if turn else stats]
                dense.advance(block, group)
        for parts, stats in zip(GROUPS, sums, strict=True):
            H, _, _ = stats.centred().damped(REFIT_DAMPING)
            curves += [curve(block.linears[part].weight.float(), H, kept, worth[index].outputs.get(part)) for part in parts]
            sizes += [block.linears[part].weight.numel() for part in parts]
    shares = by_error(curves, kept, sizes, method.sparsity)
    return [dict(zip(PARTS, shares[start : start + len(PARTS)], strict=True)) for start in range(0, len(shares), len(PARTS))]


def _solve_one(method: LayerwiseMethod, linear: nn.Linear, stats: Stats, outputs: Outputs | None) -> dict[str, Any]:
    if linear.bias is None and getattr(method, "bias", False):
        method = replace(method, bias=False)
    bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
    solved = method.fit(linear.weight.float(), bias.float(), replace(stats, outputs=outputs))
    linear.weight.copy_(solved.weight).add_(0.0)  # which makes a cut -0 a 0, as it is stored
    if linear.bias is not None:
        linear.bias.copy_(solved.bias)
    return {"damping": solved.damping, "kept": torch.count_nonzero(linear.weight)}


def damping_option(default: float = 0.01) -> Any:
    """The option that keeps a gram matrix invertible, one wording for all methods."""
    return option(default, "Added to the gram's diagonal, relative to its mean, before it is inverted", low=0.0, high=10.0, expert=True)
