"""K-prune-plus: K-prune's shares of the budget, but units chosen together, by what their loss does to the prediction after the refit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.units import Sublayer
from ..plugins import Batch, Report, option
from ..pruning.fisher import fisher
from ..pruning.layerwise import GRADIENTS, damping_option
from ..pruning.streams import Stream, spread
from ..pruning.unit_obs import UnitRegression
from ..pruning.unit_walk import sublayer_moments
from .kprune import Choose, KPrune

OUTPUTS = ("attention_output", "ffn_out")  # what sums the units up
STEPS = 24  # in which what goes of a sub-layer leaves, before the exchanges
RIDGE = 1e-3  # of the gram that a choice is made by: what is chosen by noise does not last


@dataclass(frozen=True)
class KPrunePlus(KPrune):
    """K-prune that chooses units by the error left once the others are refitted, where an error counts by what it does to the prediction.

    K-prune scores every unit by itself, so of two that say the same it keeps both or none. Here units leave by exact block removal
    and come back by exchange (unit_obs.py), on the pruned model's features, towards the dense model's outputs, in the metric of the
    Fisher information of those outputs (fisher.py). How many stay in which sub-layer is K-prune's choice.
    """

    name = "kprune_plus"
    title = "K-prune-plus"
    summary = "K-prune with units chosen together, by what their loss does to the predictions once the others are refitted"
    paper = "K-prune (Park, Choi and Kang, ICLR 2024) with this project's choice of units; see docs/methods.md"
    damping: float = damping_option(
        1e-2
    )  # K-prune's 1e-4 learns the sample: what is kept here is fitted to it twice
    exchanges: int = option(
        20,
        "Exchanges of kept units for removed ones in each sub-layer, as long as they help",
        low=0,
        high=10**4,
    )

    def choice(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Choose:
        """By least error of the prediction."""
        worth = fisher(model, spread(batches, GRADIENTS), report, parts=OUTPUTS)

        def chosen(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream) -> Tensor:
            if kept.all() or not kept.any():
                return kept
            gram, cross = sublayer_moments(sub, dense, pruned)
            whole, _ = self.refit(sub.output.weight, gram, cross)
            count, root = int(kept.sum()), torch.linalg.cholesky(worth[sub.index].outputs[sub.part])
            tableau = UnitRegression(gram, root.T @ whole, sub.width, damping=RIDGE)
            tableau.remove_to(count, max(1, (sub.units - count) // STEPS))
            tableau.exchange(self.exchanges, max(1, sub.units // 40))
            return tableau.kept

        return chosen
