"""K-prune-plus: K-prune's number of units per sub-layer, but units chosen jointly by the
prediction error after refitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor, nn

from ..models.units import Sublayer, sublayers
from ..plugins import Batch, Report, option
from ..pruning.fisher import fisher
from ..pruning.head_basis import possible_widths, sort_dimensions
from ..pruning.layerwise import GRADIENTS, damping_option
from ..pruning.solvers import add_damping
from ..pruning.streams import Stream, spread
from ..pruning.unit_obs import UnitRegression
from ..pruning.unit_walk import Moments, sublayer_moments
from .kprune import Choose, KeptUnits, KPrune

STEPS = 24  # removal steps per sub-layer before exchanges
RIDGE = 1e-3  # of the gram used for selection, against fitting noise


@dataclass(frozen=True)
class KPrunePlus(KPrune):
    """K-prune with units chosen by the error after refitting the others, weighted by the output
    Fisher.

    K-prune scores units separately, so of two redundant units it keeps both or neither. Here units
    are removed by exact block removal and exchanged (unit_obs.py), using features of the pruned
    model and dense outputs as targets. The number of units per sub-layer is K-prune's.
    """

    name = "kprune_plus"
    title = "K-prune-plus"
    version = 2  # 2: narrower heads, refitted output biases
    summary = (
        "K-prune with units chosen jointly, by their effect on the prediction after refitting the "
        "others"
    )
    paper = (
        "K-prune (Park, Choi and Kang, ICLR 2024) with another choice of units; see docs/methods.md"
    )
    # K-prune's 1e-4 overfits: the kept units are fitted to the sample twice
    damping: float = damping_option(1e-2)
    exchanges: int = option(
        20,
        "Maximum number of exchanges of kept for removed units per sub-layer",
        low=0,
        high=10**4,
    )
    bias: bool = option(True, "Refit the biases of the output projections too")
    narrow_heads: bool = option(
        True,
        "Also try more but narrower heads of the same cost in every block, in a basis in which the "
        "last dimensions of a head matter least",
    )

    @property
    def fits_bias(self) -> bool:
        """Whether the refit moves the output bias too."""
        return self.bias

    def choice(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Choose:
        """Choose the units with the smallest error of the prediction."""
        outputs = list(dict.fromkeys(sub.output_name for sub in sublayers(model)))
        fishers = fisher(model, spread(batches, GRADIENTS), report, projections=outputs)

        def select(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream) -> KeptUnits:
            if kept.all() or not kept.any():
                return KeptUnits(kept, sub.width)
            _, root, _ = add_damping(fishers[sub.index].outputs[sub.output_name], 0.0)
            widths = possible_widths(sub) if self.narrow_heads else [sub.width]
            if len(widths) > 1:
                sort_dimensions(sub, pruned, root)
            columns = int(kept.sum()) * sub.width
            # narrower heads than all of these would leave columns unused
            widths = [width for width in widths if width * sub.units >= columns]
            moments = sublayer_moments(sub, dense, pruned, widths)
            tried = [
                self._best_units(sub, columns // width, each, root, width)
                for width, each in zip(widths, moments, strict=True)
            ]
            return min(tried, key=itemgetter(0))[1]

        return select

    def _best_units(
        self, sub: Sublayer, count: int, moments: Moments, root: Tensor, width: int
    ) -> tuple[float, KeptUnits]:
        """The best `count` units of this width, and their error after the refit, up to a constant.

        The error is weighted by R = `root` (d, d).
        """
        has_bias = self.bias and sub.output.bias is not None and sub.block.passes == 1
        gram, cross = moments.centered() if has_bias else (moments.gram, moments.cross)
        every = torch.ones(sub.units, dtype=torch.bool, device=gram.device)
        weight = sub.output.weight[:, sub.columns(every, width)]
        columns, _ = self.refit(weight, gram, cross)
        regression = UnitRegression(gram, root.T @ columns, width, damping=RIDGE)
        regression.remove_to(count, max(1, (sub.units - count) // STEPS))
        regression.exchange(self.exchanges, max(1, sub.units // 40))
        kept = regression.kept.repeat_interleave(width)
        fitted, _ = self.refit(weight[:, kept], gram[kept][:, kept], cross[kept])
        outputs = root.T @ fitted
        error = (outputs @ gram[kept][:, kept] * outputs).sum()
        error -= 2 * (outputs * (cross[kept] @ root).T).sum()
        return float(error), KeptUnits(regression.kept, width)
