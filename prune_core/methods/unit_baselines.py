"""Baselines for structured pruning: units with the smallest weights, and random units."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.units import Sublayer
from ..plugins import Batch, Report, Rows
from ..pruning.targets import UnitBudget
from ..pruning.unitwise import UnitMethod, UnitPlan


@dataclass(frozen=True)
class UnitMagnitude(UnitMethod):
    """Remove the units with the smallest weights, as Li et al. 2017 do with filters; no refit."""

    name = "unit_magnitude"
    title = "Unit magnitude"
    summary = "Removes the heads and neurons with the smallest weights; no refit"
    paper = "Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017"

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Rank all units by score and keep the best within the budget."""
        plan = UnitPlan(self, model, batches, budget=budget)
        scores = [self.score(sub) for sub in plan.subs]
        rankings = [plan.rank(sub, score) for sub, score in zip(plan.subs, scores, strict=True)]
        result = plan.search(rankings)
        for place, sub in enumerate(plan.subs):
            kept = rankings[place].kept(result.groups[place])
            plan.settle(sub, kept, score=scores[place], threshold=result.threshold)
            report((place + 1) / len(plan.subs), f"block {sub.index + 1}: {sub.kind}s")
        return plan.rows()

    def score(self, sub: Sublayer) -> Tensor:
        """(units,) root mean square of each unit's weights, comparable between heads and
        neurons.
        """
        weights = [
            sub.output.weight.T,
            *(sub.by_column(linear.weight) for linear in sub.input_linears.values()),
        ]
        return sub.by_unit(torch.cat(weights, dim=1).square().mean(1)).sqrt()


@dataclass(frozen=True)
class UnitRandom(UnitMagnitude):
    """Remove random units."""

    name = "unit_random"
    title = "Random units"
    summary = "Removes random heads and neurons; no refit"
    paper = "the null hypothesis"

    def score(self, sub: Sublayer) -> Tensor:
        """(units,) random scores."""
        return torch.rand(sub.units).to(sub.output.weight.device)
