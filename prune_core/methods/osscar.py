"""OSSCAR: in every sub-layer the same share of units goes, chosen by local search over which ones and refitted by least squares."""

from __future__ import annotations

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
    """One-shot structured pruning by combinatorial optimisation (Meng et al., ICML 2024): each sub-layer's own outputs are kept."""

    name = "osscar"
    title = "OSSCAR"
    summary = "Removes the same share of every sub-layer's heads and neurons, chosen by local search, and refits the others"
    paper = "Meng et al., OSSCAR: One-Shot Structured Pruning in Vision and Language Models with Combinatorial Optimization, ICML 2024"
    exchanges: int = option(
        50,
        "Exchanges of a kept unit for a removed one in each sub-layer, as long as they help",
        low=0,
        high=10**4,
    )
    together: int = option(
        8, "Neurons that leave at a time before the exchanges begin", low=1, high=1024, expert=True
    )
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """From the bottom: the gram of what a sub-layer's units say in the pruned model, the choice, the fit, and on to the next."""
        plan = UnitPlan(self, model, batches, budget=budget)
        alike = [
            plan.rank(sub, torch.linspace(1.0, 0.0, sub.units, device=sub.output.weight.device))
            for sub in plan.subs
        ]
        groups = plan.search(
            alike
        ).groups  # a unit in the middle of its sub-layer goes with those in the middle of others
        dense = stream(model, batches)
        pruned = dense.twin()
        for place, sub in enumerate(plan.subs):
            report(
                place / len(plan.subs),
                f"block {sub.index + 1} of {plan.subs[-1].index + 1}: {sub.kind}s",
            )
            gram, _ = sublayer_moments(sub, dense, pruned)
            tableau = UnitRegression(gram, sub.output.weight, sub.width, damping=self.damping)
            lost = tableau.changes().float()
            tableau.remove_to(groups[place] * alike[place].size, self.together)
            tableau.exchange(self.exchanges, max(1, sub.units // 10))
            refit = partial(self.refit, gram, sub.output.weight.clone(), sub.columns(tableau.kept))
            damping = refit_sublayer(sub, tableau.kept, dense, pruned=pruned, solve=refit)
            plan.settle(sub, tableau.kept, damping, score=lost)
        report(1.0, "pruned")
        return plan.rows()

    def refit(self, gram: Tensor, weight: Tensor, kept: Tensor, *_: Tensor) -> tuple[Tensor, float]:
        """To what all units said on the same inputs."""
        return fit(gram, weight, kept, damping=self.damping)
