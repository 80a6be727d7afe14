"""K-prune-plus: K-prune's number of units per sub-layer, but units chosen jointly by the
prediction error after refitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.units import Sublayer, sublayers
from ..plugins import Batch, Report, option
from ..pruning.fisher import fisher
from ..pruning.layerwise import GRADIENTS, damping_option
from ..pruning.streams import Stream, spread
from ..pruning.unit_obs import UnitRegression
from ..pruning.unit_walk import sublayer_moments
from .kprune import Choose, KPrune

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

    def choice(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Choose:
        """Choose the units with the smallest error of the prediction."""
        outputs = list(dict.fromkeys(sub.output_name for sub in sublayers(model)))
        fishers = fisher(model, spread(batches, GRADIENTS), report, projections=outputs)

        def select(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream) -> Tensor:
            if kept.all() or not kept.any():
                return kept
            gram, cross = sublayer_moments(sub, dense, pruned)
            columns, _ = self.refit(sub.output.weight, gram, cross)
            count = int(kept.sum())
            root = torch.linalg.cholesky(fishers[sub.index].outputs[sub.output_name])
            regression = UnitRegression(gram, root.T @ columns, sub.width, damping=RIDGE)
            regression.remove_to(count, max(1, (sub.units - count) // STEPS))
            regression.exchange(self.exchanges, max(1, sub.units // 40))
            return regression.kept

        return select
