"""SparseGPT: column by column; later columns compensate for removed weights."""

from dataclasses import dataclass

from torch import Tensor

from ..plugins import option
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved, damping_option
from ..pruning.solvers import column_sweep, separately, upper_factor


@dataclass(frozen=True)
class SparseGPT(LayerwiseMethod):
    """One-shot pruning with second-order updates (Frantar & Alistarh 2023)."""

    name = "sparsegpt"
    title = "SparseGPT"
    summary = "Removes weights column by column and updates the remaining ones to compensate"
    paper = "Frantar & Alistarh, SparseGPT, ICML 2023"
    damping: float = damping_option()
    block_size: int = option(
        128, "Columns per block, within which weights are compared", low=1, high=4096, expert=True
    )

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Algorithm 1 on one matrix, with the gram damped by `damping`."""
        U, _, used = stats.once("upper", lambda: upper_factor(stats.gram, self.damping))
        # every block of columns has the same sparsity; rows are compared
        choose = separately(lambda scores: self.choose(scores, per_row=False))
        return Solved(
            column_sweep(weight, U, choose, width=self.block_size, group=self.keep_of[1]),
            bias,
            used,
        )
