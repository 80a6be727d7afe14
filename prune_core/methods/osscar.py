"""OSSCAR: remove the same fraction of units from every sub-layer, chosen by local search, and
refit the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..plugins import Batch, Report, Rows, option
from ..pruning.layerwise import damping_option
from ..pruning.streams import stream
from ..pruning.targets import UnitBudget
from ..pruning.unit_obs import UnitRegression, fit
from ..pruning.unit_walk import refit_sublayer, sublayer_moments
from ..pruning.unitwise import UnitMethod, UnitPlan


@dataclass(frozen=True)
class OSSCAR(UnitMethod):
    """One-shot structured pruning by combinatorial optimization (Meng et al., ICML 2024), to
    each sub-layer's own outputs.
    """

    name = "osscar"
    title = "OSSCAR"
    summary = (
        "Removes the same fraction of heads and neurons from every sub-layer, chosen by local "
        "search, and refits the others"
    )
    paper = (
        "Meng et al., OSSCAR: One-Shot Structured Pruning in Vision and Language Models with "
        "Combinatorial Optimization, ICML 2024"
    )
    exchanges: int = option(
        50,
        "Maximum number of exchanges of kept for removed units per sub-layer",
        low=0,
        high=10**4,
    )
    units_per_step: int = option(
        8, "Neurons removed per step before the exchanges", low=1, high=1024, expert=True
    )
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Bottom-up: features of each sub-layer in the pruned model, selection, refit."""
        plan = UnitPlan(self, model, batches, budget=budget)
        uniform = [
            plan.rank(sub, torch.linspace(1.0, 0.0, sub.units, device=sub.output.weight.device))
            for sub in plan.subs
        ]
        # the same rank in every sub-layer has the same score
        groups = plan.search(uniform).groups
        dense = stream(model, batches)
        pruned = dense.twin()
        for place, sub in enumerate(plan.subs):
            report(
                place / len(plan.subs),
                f"block {sub.index + 1} of {plan.subs[-1].index + 1}: {sub.kind}s",
            )
            gram, _ = sublayer_moments(sub, dense, pruned)
            regression = UnitRegression(gram, sub.output.weight, sub.width, damping=self.damping)
            lost = regression.changes().float()
            regression.remove_to(groups[place] * uniform[place].size, self.units_per_step)
            regression.exchange(self.exchanges, max(1, sub.units // 10))
            refit = partial(
                self.refit, gram, sub.output.weight.clone(), sub.columns(regression.kept)
            )
            damping = refit_sublayer(sub, regression.kept, dense, pruned=pruned, solve=refit)
            plan.settle(sub, regression.kept, damping, score=lost)
        report(1.0, "pruned")
        return plan.rows()

    def refit(self, gram: Tensor, weight: Tensor, kept: Tensor, *_: Tensor) -> tuple[Tensor, float]:
        """Fit to the sum of all units on the same inputs."""
        return fit(gram, weight, kept, damping=self.damping)
