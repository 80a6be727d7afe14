"""Sparsity of every weight matrix for non-uniform allocations, from one pass of the dense model."""

from collections.abc import Iterator, Sequence

from ..errors import PruneError
from ..models.replay import Block
from ..plugins import Report
from .allocation import by_error, by_outliers, error_curve, kept_fractions, outliers
from .fisher import Fisher
from .input_statistics import InputStatistics
from .streams import Stream, collect

MEASURED = ("error", "owl")
CURVES = 128  # calibration examples for error curves; more do not change the result
DAMPING = 0.01  # added to the diagonal of the grams of the error curves, relative to its mean


def projection_sparsities(
    allocation: str,
    sparsity: float,
    listed: Sequence[float],
    stack: Sequence[Block],
    dense: Stream,
    fishers: Sequence[Fisher],
    report: Report,
) -> list[dict[str, float]]:
    """Sparsity of every projection, one dictionary per block.

    `allocation` is "error" or "owl", which measure the dense model; for any other, `listed` has one
    sparsity per block, or is empty for `sparsity` everywhere. PruneError if its length is not the
    number of blocks.
    """
    if allocation == "error":
        return _by_error(sparsity, stack, dense, fishers=fishers, report=report)
    if allocation == "owl":
        by_block = _by_outliers(sparsity, stack, dense, report=report)
    else:
        by_block = list(listed) or [sparsity] * len(stack)
    if len(by_block) != len(stack):
        raise PruneError(
            f"The allocation lists {len(by_block)} blocks, but the model has {len(stack)}; list as "
            "many."
        )
    return [
        dict.fromkeys(block.linears, value) for block, value in zip(stack, by_block, strict=True)
    ]


def _by_outliers(
    sparsity: float, stack: Sequence[Block], dense: Stream, report: Report
) -> list[float]:
    """Sparsity of every block, lower in blocks with more outliers (OWL)."""
    fractions = [
        outliers(
            [
                (block.linears[projection].weight.float(), stats.diagonal)
                for projections, stats in zip(block.groups, sums, strict=True)
                for projection in projections
            ]
        )
        for block, sums in _block_statistics("diagonal", stack, dense, report=report)
    ]
    return by_outliers(fractions, sparsity)


def _by_error(
    sparsity: float,
    stack: Sequence[Block],
    dense: Stream,
    fishers: Sequence[Fisher],
    report: Report,
) -> list[dict[str, float]]:
    """Sparsity of every projection that minimizes the sum of the output errors."""
    kept = kept_fractions(sparsity)
    curves, sizes = [], []
    statistics = _block_statistics("gram", stack, dense.some(CURVES), report=report)
    for (block, sums), fisher in zip(statistics, fishers, strict=True):
        for projections, stats in zip(block.groups, sums, strict=True):
            H, _, _ = stats.centered().damped(DAMPING)
            for projection in projections:
                weight = block.linears[projection].weight
                curves.append(error_curve(weight.float(), H, kept, fisher.diagonal(projection)))
                sizes.append(weight.numel())
    values = iter(by_error(curves, kept, sizes, sparsity=sparsity))
    return [{projection: next(values) for projection in block.linears} for block in stack]


def _block_statistics(
    need: str, stack: Sequence[Block], dense: Stream, report: Report
) -> Iterator[tuple[Block, list[InputStatistics]]]:
    """Yield each block with the input statistics of its groups, summed over all passes."""
    for index, block in enumerate(stack):
        report(0.0, f"error curves: block {index + 1} of {len(stack)}")
        sums: list[InputStatistics] = []
        for index_of_pass in range(block.passes):
            dense.enter(block)
            for group in range(len(block.groups)):
                stats = collect({need}, dense, None)
                sums[group : group + 1] = [sums[group].plus(stats) if index_of_pass else stats]
                dense.advance(block, group)
        yield block, sums
