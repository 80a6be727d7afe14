"""OSSCAR: remove the same fraction of heads and neurons everywhere, chosen by local search."""

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
    """One-shot structured pruning by combinatorial optimization (Meng et al., ICML 2024).

    The remaining units are fitted to the output of the whole sub-layer on the same inputs.
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
        """From the first sub-layer up: measure features, choose units, refit the others."""
        plan = UnitPlan(self, model, batches, budget=budget)
        # equal ranks have equal scores, so that every sub-layer loses the same fraction
        rankings = [
            plan.rank(sub, torch.linspace(1.0, 0.0, sub.units, device=sub.output.weight.device))
            for sub in plan.subs
        ]
        groups = plan.search(rankings).groups
        dense = stream(model, batches)
        pruned = dense.twin()
        for index, sub in enumerate(plan.subs):
            report(
                index / len(plan.subs),
                f"block {sub.index + 1} of {plan.subs[-1].index + 1}: {sub.kind}s",
            )
            gram = sublayer_moments(sub, dense, pruned, [sub.width])[0].gram
            regression = UnitRegression(gram, sub.output.weight, sub.width, damping=self.damping)
            errors = regression.changes().float()  # (units,) if each is removed alone
            regression.remove_to(groups[index] * rankings[index].size, self.units_per_step)
            regression.exchange(self.exchanges, max(1, sub.units // 10))
            refit = partial(
                self.refit, gram, sub.output.weight.clone(), sub.columns(regression.kept)
            )
            damping = refit_sublayer(sub, regression.kept, dense, pruned=pruned, solve=refit)
            plan.settle(sub, regression.kept, damping, score=errors)
        report(1.0, "pruned")
        return plan.rows()

    def refit(self, gram: Tensor, weight: Tensor, kept: Tensor, *_: Tensor) -> tuple[Tensor, float]:
        """Fit the kept columns to the sum of all units; return them (d, k) and the damping.

        `gram` (columns, columns) and `weight` (d, columns) are of all units, `kept` is a (columns,)
        mask.
        """
        return fit(gram, weight, kept, damping=self.damping)
