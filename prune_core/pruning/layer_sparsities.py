"""Sparsity of every weight matrix for non-uniform allocations, from one pass of the dense model."""

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
CURVES = 128  # calibration examples for error curves; more do not change the result
DAMPING = 0.01  # of the grams of the error curves


def projection_sparsities(
    allocation: str,
    sparsity: float,
    listed: Sequence[float],
    stack: Sequence[Block],
    dense: Stream,
    worth: Sequence[Fisher],
    report: Report,
) -> list[dict[str, float]]:
    """Sparsity of every projection of every block.

    `listed` are sparsities per block given by the user; they apply if `allocation` is not a
    measured one.
    """
    if allocation not in MEASURED:
        each = listed or [sparsity] * len(stack)
        if len(each) != len(stack):
            raise PruneError(
                f"The allocation lists {len(each)} blocks, but the model has {len(stack)}; list as "
                "many."
            )
        return [dict.fromkeys(PROJECTIONS, value) for value in each]
    if allocation == "owl":
        fractions = [
            outliers(
                [
                    (block.linears[projection].weight.float(), stats.diagonal)
                    for projections, stats in zip(GROUPS, sums, strict=True)
                    for projection in projections
                ]
            )
            for block, sums in _walk("diagonal", stack, dense, report=report)
        ]
        return [dict.fromkeys(PROJECTIONS, value) for value in by_outliers(fractions, sparsity)]
    kept = kept_fractions(sparsity)
    curves, sizes = [], []
    for (block, sums), fisher in zip(
        _walk("gram", stack, dense.some(CURVES), report=report), worth, strict=True
    ):
        for projections, stats in zip(GROUPS, sums, strict=True):
            H, _, _ = stats.centered().damped(DAMPING)
            curves += [
                error_curve(
                    block.linears[projection].weight.float(),
                    H,
                    kept,
                    worth=fisher.worth(projection),
                )
                for projection in projections
            ]
            sizes += [block.linears[projection].weight.numel() for projection in projections]
    values = by_error(curves, kept, sizes, sparsity=sparsity)
    return [
        dict(zip(PROJECTIONS, values[start : start + len(PROJECTIONS)], strict=True))
        for start in range(0, len(values), len(PROJECTIONS))
    ]


def _walk(
    need: str, stack: Sequence[Block], dense: Stream, report: Report
) -> Iterator[tuple[Block, list[InputStatistics]]]:
    """Each block with the input statistics of its groups, summed over all passes."""
    for index, block in enumerate(stack):
        report(0.0, f"error curves: block {index + 1} of {len(stack)}")
        sums: list[InputStatistics] = []
        for turn in range(block.passes):
            dense.enter(block)
            for group in range(len(GROUPS)):
                stats = collect({need}, dense, None)
                sums[group : group + 1] = [sums[group].plus(stats) if turn else stats]
                dense.advance(block, group)
        yield block, sums
