"""The sparsity of every matrix of an encoder, where it is not the same for all: one walk of the dense model, then allocation.py.

Knows nothing of methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import PruneError
from ..models.families import GROUPS, PROJECTIONS
from ..models.replay import Block
from ..plugins import Report
from .allocation import by_error, by_outliers, error_curve, kept_fractions, outliers
from .fisher import Fisher
from .input_statistics import InputStatistics
from .streams import Stream, collect

MEASURED = ("error", "owl")
CURVES = 128  # calibration sentences that the growth of errors is taken of; more tell no more
DAMPING = 0.01  # of the grams behind the curves


def projection_sparsities(
    allocation: str,
    sparsity: float,
    listed: Sequence[float],
    stack: Sequence[Block],
    dense: Stream,
    worth: Sequence[Fisher],
    report: Report,
) -> list[dict[str, float]]:
    """Of every block's parts; `listed` are the blocks' own, empty where `allocation` says them."""
    if allocation not in MEASURED:
        each = listed or [sparsity] * len(stack)
        if len(each) != len(stack):
            raise PruneError(
                f"The allocation lists {len(each)} blocks, but the model has {len(stack)}; list as many."
            )
        return [dict.fromkeys(PROJECTIONS, share) for share in each]
    if allocation == "owl":
        found = []
        for block, sums in _walked("diagonal", stack, dense, report=report):
            read = [
                (part, stats.diagonal)
                for parts, stats in zip(GROUPS, sums, strict=True)
                for part in parts
            ]
            found.append(
                outliers(
                    [(block.linears[part].weight.float(), diagonal) for part, diagonal in read]
                )
            )
        return [dict.fromkeys(PROJECTIONS, share) for share in by_outliers(found, sparsity)]
    kept = kept_fractions(sparsity)
    curves, sizes = [], []
    for (block, sums), own in zip(
        _walked("gram", stack, dense.some(CURVES), report=report), worth, strict=True
    ):
        for parts, stats in zip(GROUPS, sums, strict=True):
            H, _, _ = stats.centred().damped(DAMPING)
            curves += [
                error_curve(block.linears[part].weight.float(), H, kept, worth=own.worth(part))
                for part in parts
            ]
            sizes += [block.linears[part].weight.numel() for part in parts]
    shares = by_error(curves, kept, sizes, sparsity=sparsity)
    return [
        dict(zip(PROJECTIONS, shares[start : start + len(PROJECTIONS)], strict=True))
        for start in range(0, len(shares), len(PROJECTIONS))
    ]


def _walked(
    need: str, stack: Sequence[Block], dense: Stream, report: Report
) -> Iterator[tuple[Block, list[InputStatistics]]]:
    """Each block with the sums of its groups' inputs, over all passes."""
    for index, block in enumerate(stack):
        report(0.0, f"how errors grow: block {index + 1} of {len(stack)}")
        sums: list[InputStatistics] = []
        for turn in range(block.passes):
            dense.enter(block)
            for group in range(len(GROUPS)):
                stats = collect({need}, dense, None)
                sums[group : group + 1] = [sums[group].plus(stats) if turn else stats]
                dense.advance(block, group)
        yield block, sums
