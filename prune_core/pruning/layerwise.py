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
from ..models.families import GROUPS, PROJECTIONS
from ..models.inference.timing import Stopwatch
from ..models.replay import Block, blocks, linears
from ..plugins import Batch, Report, Rows, option
from .fisher import ALL_ALIKE, Fisher, fisher
from .input_statistics import InputStatistics, OutputFisher, adaptive_weight
from .layer_sparsities import MEASURED, projection_sparsities
from .masks import WeightMethod
from .solvers import refit
from .streams import Stream, collect, spread, stream

ONTO_RESIDUAL = (1, 3)  # groups whose outputs are added to a residual that is not their own input
GRADIENTS = 256  # calibration sentences that gradients are taken of; more tell no more
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
        0,
        "Steps that refit the kept weights to the dense model's outputs by least squares (0 = none; 20 are nearly exact)",
        low=0,
        high=1000,
    )
    allocation: str = option(
        "uniform",
        "uniform, as patterns always are; error: more where the error grows slower, same total; owl: less in blocks with more "
        "outliers (OWL), same mean; or each block's own: 0.8, 0.9, …",
    )
    recollect: bool = option(
        True, "Take the statistics anew behind each part of a block; off: once for the whole block"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern:
            object.__setattr__(self, "allocation", "uniform")
        if self.of_blocks:
            object.__setattr__(self, "sparsity", sum(self.of_blocks) / len(self.of_blocks))

    @property
    def of_blocks(self) -> list[float]:
        """Each block's own sparsity, where the allocation lists them."""
        if self.allocation in ("uniform", *MEASURED):
            return []
        try:
            listed = [float(share) for share in self.allocation.split(",")]
        except ValueError:
            listed = []
        if not listed or not all(0 <= share <= 0.99 for share in listed):
            wanted = "write uniform, error, owl, or a sparsity from 0 to 0.99 for every block, joined by commas"
            raise PruneError(f"{self.name}: allocation is {self.allocation!r}; {wanted}.")
        return listed

    @property
    def needs(self) -> Collection[str]:
        """Which fields of Stats are summed; "cross" brings the means and the dense stream along."""
        return {"gram", "cross"} if self.refit_steps else {self.statistic}

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """New weight (rows, columns) with zeros, and bias (rows,); pure."""
        raise NotImplementedError

    def fit(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """What `solve` says, its kept weights refitted where that is asked for."""
        solved = self.solve(weight, bias, stats)
        if not self.refit_steps:
            return solved
        target, _ = adaptive_weight(weight, stats, REFIT_DAMPING)
        H, _, _ = stats.damped(REFIT_DAMPING)
        return solved._replace(weight=refit(solved.weight, target, H, steps=self.refit_steps))

    def finish(self, model: nn.Module, dense: Stream, pruned: Stream) -> None:
        """Called once behind the last block where there are both streams."""

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Walk the encoder; the table `prune` has a row a weight matrix."""
        with torch.no_grad():
            return {"prune": pd.DataFrame(_walk(self, model, batches, report=report))}


def _report_group(
    report: Report, index: int, blocks: int, group: int, parts: Sequence[str]
) -> None:
    names = ", ".join(parts).replace("_", " ")
    report((index + group / len(GROUPS)) / blocks, f"block {index + 1} of {blocks}: {names}")


def _walk(
    method: LayerwiseMethod, model: nn.Module, batches: Sequence[Batch], report: Report
) -> list[dict[str, Any]]:
    """The driver: collect, let the dense stream pass, prune the group, let the pruned stream pass."""
    rows: list[dict[str, Any]] = []
    watch = Stopwatch(device_of(model))
    pruned = stream(model, batches)
    dense = pruned.twin() if "cross" in method.needs else None
    stack = blocks(model)
    worth = (
        fisher(model, spread(batches, GRADIENTS), report)
        if "fisher" in method.needs
        else [ALL_ALIKE] * len(stack)
    )
    sparsities = projection_sparsities(
        method.allocation,
        method.sparsity,
        method.of_blocks,
        stack=stack,
        dense=pruned.twin(),
        worth=worth,
        report=report,
    )
    for index, block in enumerate(stack):
        own = [
            replace(method, sparsity=sparsities[index][part], allocation="uniform")
            for part in PROJECTIONS
        ]
        solve = partial(
            _solve,
            block=block,
            methods=dict(zip(PROJECTIONS, own, strict=True)),
            worth=worth[index],
            watch=watch,
        )
        say = partial(_report_group, report, index, len(stack))
        walk = _walk_block if block.passes == 1 else _walk_shared
        for of_group in walk(method, block, pruned, dense, solve, say, index == 0):
            rows += [{"block": index, **row} for row in of_group]
        worth[index] = ALL_ALIKE  # its matrices are not needed any more
    if dense is not None:
        report(1.0, "refitting what lies behind the encoder")
        method.finish(model, dense, pruned)
    report(1.0, "pruned")
    kept = torch.stack([row.pop("kept") for row in rows]).tolist()  # one look at the device for all
    found = zip(rows, kept, linears(model), watch.laps()[1::2], strict=True)
    return [
        {
            "block": row["block"],
            "part": row["part"],
            "sparsity": 1 - count / max(1, linear.weight.numel()),
            "damping": row["damping"],
            "seconds": seconds,
        }
        for row, count, (_, _, linear), seconds in found
    ]


Solve = Callable[[Sequence[str], InputStatistics], list[dict[str, Any]]]


def _walk_block(
    method: LayerwiseMethod,
    block: Block,
    pruned: Stream,
    dense: Stream | None,
    solve: Solve,
    say: Callable[[int, Sequence[str]], None],
    same: bool,
) -> Iterator[list[dict[str, Any]]]:
    """Group by group; `same`: both streams are still one. Rows of each group."""
    ahead = None if method.recollect else pruned.twin()  # passes each group before it is pruned
    for path in filter(None, (dense, pruned, ahead)):
        path.enter(block)
    for group, parts in enumerate(GROUPS):
        say(group, parts)
        stats = collect(
            method.needs,
            ahead or pruned,
            None if same and group == 0 else dense,
            onto_residual=group in ONTO_RESIDUAL,
        )
        for path in filter(None, (dense, ahead)):
            path.advance(block, group)  # with the dense weights, which the next line replaces
        yield solve(parts, stats)
        pruned.advance(block, group)


def _walk_shared(
    method: LayerwiseMethod,
    block: Block,
    pruned: Stream,
    dense: Stream | None,
    solve: Solve,
    say: Callable[[int, Sequence[str]], None],
    same: bool,
) -> Iterator[list[dict[str, Any]]]:
    """A block that is passed several times: the inputs of all passes through the dense weights count, and it is pruned once."""
    ahead, sums = pruned.twin(), list[InputStatistics]()
    for turn in range(block.passes):
        for path in filter(None, (dense, ahead)):
            path.enter(block)
        for group, parts in enumerate(GROUPS):
            say(group, parts)
            stats = collect(
                method.needs, ahead, None if same else dense, onto_residual=group in ONTO_RESIDUAL
            )
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
    parts: Sequence[str],
    stats: InputStatistics,
    block: Block,
    methods: Mapping[str, LayerwiseMethod],
    worth: Fisher,
    watch: Stopwatch,
) -> list[dict[str, Any]]:
    """Prune the parts of one group; a row each."""
    rows = []
    also = block.spec.extra_input_rows(block) if parts == GROUPS[0] else None
    read = stats if also is None else stats.with_rows(also, stats.sentences)
    for part in parts:
        watch.mark()
        seen = read if part in ("query", "key") else stats
        rows.append(
            {
                "part": part,
                **_solve_one(methods[part], block.linears[part], seen, outputs=worth.of(part)),
            }
        )
        watch.mark()
    return rows


def _solve_one(
    method: LayerwiseMethod, linear: nn.Linear, stats: InputStatistics, outputs: OutputFisher | None
) -> dict[str, Any]:
    if not linear.weight.numel():  # of a cut model whose block lost all heads or all neurons
        return {
            "damping": 0.0,
            "kept": torch.zeros((), dtype=torch.long, device=linear.weight.device),
        }
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
    return option(
        default,
        "Added to the gram's diagonal, relative to its mean, before it is inverted",
        low=0.0,
        high=10.0,
        expert=True,
    )
