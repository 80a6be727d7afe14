"""Driver of methods that prune one Linear after another from statistics of its inputs.

Two streams of packed hidden states, dense and pruned, pass through the encoder one group of Linears
at a time: every stage of a block runs once per stream, and only one group's statistics are in
memory.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.devices import device_of
from ..models.inference.timing import Stopwatch
from ..models.replay import Block, blocks, linears
from ..plugins import Batch, Report, Rows, option
from .fisher import NO_FISHER, Fisher, fisher
from .input_statistics import InputStatistics, OutputFisher, adaptive_weight
from .layer_sparsities import MEASURED, projection_sparsities
from .masks import WeightMethod
from .solvers import refit
from .streams import Stream, collect, spread, stream

ONTO_RESIDUAL = (1, 3)  # groups whose outputs are added to a residual that is not their own input
GRADIENTS = 256  # calibration examples for gradients; more do not change the result
REFIT_DAMPING = 0.01  # ridge of the refit, towards the dense weights


class Solved(NamedTuple):
    """Result of a method for one Linear."""

    weight: Tensor
    bias: Tensor
    damping: float = 0.0  # added to the diagonal of the gram, relative to its mean


@dataclass(frozen=True)
class LayerwiseMethod(WeightMethod):
    """Base of methods that prune each Linear from statistics of its inputs."""

    statistic: ClassVar[str] = "gram"  # or "diagonal", if `solve` needs only that
    refit_steps: int = option(
        0,
        "Conjugate-gradient steps that refit the kept weights to the dense outputs (0 = none; 20 "
        "are nearly exact)",
        low=0,
        high=1000,
    )
    allocation: str = option(
        "uniform",
        "How sparsity is distributed. uniform: the same everywhere (always for patterns); error: "
        "higher where the error grows more slowly, same total; owl: lower in blocks with more "
        "outliers, same mean; or one sparsity per block: 0.8, 0.9, …",
    )
    recollect: bool = option(
        True, "Recompute statistics after each group of a block; off: once per block"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern:
            object.__setattr__(self, "allocation", "uniform")
        if self.block_sparsities:
            object.__setattr__(
                self, "sparsity", sum(self.block_sparsities) / len(self.block_sparsities)
            )

    @property
    def block_sparsities(self) -> list[float]:
        """Sparsities per block, if the allocation lists them."""
        if self.allocation in ("uniform", *MEASURED):
            return []
        try:
            listed = [float(sparsity) for sparsity in self.allocation.split(",")]
        except ValueError:
            listed = []
        if not listed or not all(0 <= sparsity <= 0.99 for sparsity in listed):
            raise PruneError(
                f"{self.name}: allocation is {self.allocation!r}; write uniform, error, owl, or a "
                "sparsity from 0 to 0.99 for every block, joined by commas."
            )
        return listed

    @property
    def needs(self) -> Collection[str]:
        """Fields of InputStatistics to compute; "cross" includes the means and the dense stream."""
        return {"gram", "cross"} if self.refit_steps else {self.statistic}

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """New weight (rows, columns) with zeros and new bias (rows,); a pure function."""
        raise NotImplementedError

    def fit(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Result of `solve`, with the kept weights refitted if requested."""
        solved = self.solve(weight, bias, stats)
        if not self.refit_steps:
            return solved
        target, _ = adaptive_weight(weight, stats, REFIT_DAMPING)
        H, _, _ = stats.damped(REFIT_DAMPING)
        return solved._replace(weight=refit(solved.weight, target, H, steps=self.refit_steps))

    def finish(self, model: nn.Module, dense: Stream, pruned: Stream) -> None:
        """Hook after the last block, for methods with both streams."""

    @torch.no_grad()
    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Prune in place. The table `prune` has one row per weight matrix."""
        return {"prune": pd.DataFrame(_prune_blocks(self, model, batches, report=report))}


def _report_group(report: Report, stack: Sequence[Block], index: int, group: int) -> None:
    """Report that a group of a block is being pruned."""
    groups = stack[index].groups
    names = ", ".join(groups[group]).replace("_", " ")
    fraction = (index + group / len(groups)) / len(stack)
    report(fraction, f"block {index + 1} of {len(stack)}: {names}")


def _prune_blocks(
    method: LayerwiseMethod, model: nn.Module, batches: Sequence[Batch], report: Report
) -> list[dict[str, Any]]:
    """Prune block by block, then the head; return one row per projection."""
    rows: list[dict[str, Any]] = []
    watch = Stopwatch(device_of(model))
    pruned = stream(model, batches)
    dense = pruned.twin() if "cross" in method.needs else None
    stack = blocks(model)
    fishers = (
        fisher(model, spread(batches, GRADIENTS), report)
        if "fisher" in method.needs
        else [NO_FISHER] * len(stack)
    )
    sparsities = projection_sparsities(
        method.allocation,
        method.sparsity,
        method.block_sparsities,
        stack=stack,
        dense=pruned.twin(),
        fishers=fishers,
        report=report,
    )
    for index, block in enumerate(stack):
        pruners = {
            projection: replace(method, sparsity=sparsity, allocation="uniform")
            for projection, sparsity in sparsities[index].items()
        }
        solve = partial(
            _solve,
            block=block,
            methods=pruners,
            block_fisher=fishers[index],
            watch=watch,
        )
        report_group = partial(_report_group, report, stack, index)
        prune_block = _prune_block if block.passes == 1 else _prune_shared_block
        for rows_of_group in prune_block(
            method, block, pruned, dense, solve, report_group, index == 0
        ):
            rows += [{"block": index, **row} for row in rows_of_group]
        fishers[index] = NO_FISHER  # frees its matrices
    if dense is not None:
        report(1.0, "refitting the head")
        method.finish(model, dense, pruned)
    report(1.0, "pruned")
    return _finished_rows(rows, model, watch)


def _finished_rows(
    rows: Sequence[dict[str, Any]], model: nn.Module, watch: Stopwatch
) -> list[dict[str, Any]]:
    """Rows with sparsity and seconds in place of `kept`, a count that is still on the device."""
    kept = torch.stack([row["kept"] for row in rows]).tolist()  # one synchronization for all
    return [
        {
            "block": row["block"],
            "projection": row["projection"],
            "sparsity": 1 - count / max(1, linear.weight.numel()),
            "damping": row["damping"],
            "seconds": seconds,
        }
        for row, count, (_, _, linear), seconds in zip(
            rows, kept, linears(model), watch.laps()[1::2], strict=True
        )
    ]


# (projections of a group, statistics of their input) -> one row each
Solve = Callable[[Sequence[str], InputStatistics], list[dict[str, Any]]]


def _prune_block(
    method: LayerwiseMethod,
    block: Block,
    pruned: Stream,
    dense: Stream | None,
    solve: Solve,
    report_group: Callable[[int], None],
    is_first: bool,  # of the encoder: nothing has been pruned, so the streams are equal
) -> Iterator[list[dict[str, Any]]]:
    """Prune group by group; yield the rows of each.

    For each group: collect statistics, advance the dense stream, prune, advance the pruned stream.
    """
    # without re-collection, statistics are those of this stream, which passes the dense weights
    ahead = None if method.recollect else pruned.twin()
    for states in filter(None, (dense, pruned, ahead)):
        states.enter(block)
    for group, projections in enumerate(block.groups):
        report_group(group)
        stats = collect(
            method.needs,
            ahead or pruned,
            None if is_first and group == 0 else dense,
            onto_residual=group in ONTO_RESIDUAL,
        )
        for states in filter(None, (dense, ahead)):
            states.advance(block, group)  # with the dense weights
        yield solve(projections, stats)
        pruned.advance(block, group)


def _prune_shared_block(
    method: LayerwiseMethod,
    block: Block,
    pruned: Stream,
    dense: Stream | None,
    solve: Solve,
    report_group: Callable[[int], None],
    is_first: bool,  # of the encoder: nothing has been pruned, so the streams are equal
) -> Iterator[list[dict[str, Any]]]:
    """Prune a block that the encoder uses several times; yield the rows of each group.

    It is pruned once, from the inputs of all its passes through the dense weights.
    """
    ahead, sums = pruned.twin(), list[InputStatistics]()
    for index_of_pass in range(block.passes):
        for states in filter(None, (dense, ahead)):
            states.enter(block)
        for group in range(len(block.groups)):
            report_group(group)
            stats = collect(
                method.needs,
                ahead,
                None if is_first else dense,
                onto_residual=group in ONTO_RESIDUAL,
            )
            sums[group : group + 1] = [sums[group].plus(stats) if index_of_pass else stats]
            for states in filter(None, (dense, ahead)):
                states.advance(block, group)
    for projections, stats in zip(block.groups, sums, strict=True):
        yield solve(projections, stats)
    for _ in range(block.passes):
        pruned.enter(block)
        for group in range(len(block.groups)):
            pruned.advance(block, group)


def _solve(
    projections: Sequence[str],
    stats: InputStatistics,
    block: Block,
    methods: Mapping[str, LayerwiseMethod],
    block_fisher: Fisher,
    watch: Stopwatch,
) -> list[dict[str, Any]]:
    """Prune the projections of one group; one row each."""
    rows = []
    # position embeddings that queries and keys project too (DeBERTa)
    positions = block.spec.extra_input_rows(block) if "query" in projections else None
    with_positions = stats if positions is None else stats.with_rows(positions, stats.examples)
    for projection in projections:
        watch.mark()
        result = _solve_one(
            methods[projection],
            block.linears[projection],
            with_positions if projection in ("query", "key") else stats,
            outputs=block_fisher.of(projection),
        )
        rows.append({"projection": projection, **result})
        watch.mark()
    return rows


def _solve_one(
    method: LayerwiseMethod, linear: nn.Linear, stats: InputStatistics, outputs: OutputFisher | None
) -> dict[str, Any]:
    """Prune one Linear in place; return `damping` and `kept`, the number of nonzero weights."""
    if not linear.weight.numel():  # a block of a compact model without heads or neurons
        return {
            "damping": 0.0,
            "kept": torch.zeros((), dtype=torch.long, device=linear.weight.device),
        }
    if linear.bias is None and getattr(method, "bias", False):
        method = replace(method, bias=False)
    bias = linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
    solved = method.fit(linear.weight.float(), bias.float(), replace(stats, outputs=outputs))
    linear.weight.copy_(solved.weight).add_(0.0)  # -0 becomes 0, as in the saved file
    if linear.bias is not None:
        linear.bias.copy_(solved.bias)
    return {"damping": solved.damping, "kept": torch.count_nonzero(linear.weight)}


def damping_option(default: float = 0.01) -> Any:
    """The damping option, with one help text for all methods."""
    return option(
        default,
        "Added to the diagonal of the gram before inversion, relative to its mean",
        low=0.0,
        high=10.0,
        expert=True,
    )
