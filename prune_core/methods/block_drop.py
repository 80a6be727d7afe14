"""Dropping whole blocks, a baseline for depth pruning. Norms and biases of a dropped block stay;
nothing is refitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.replay import blocks
from ..plugins import Batch, Report, Rows, option
from ..pruning.streams import stream
from ..pruning.targets import UnitBudget
from ..pruning.unitwise import SLACK, UnitMethod, UnitPlan


@dataclass(frozen=True)
class BlockDrop(UnitMethod):
    """Drop the blocks that change their input least (ShortGPT, Men et al. 2024), or the last
    ones (Sajjad et al. 2023).
    """

    name = "block_drop"
    title = "Block dropping"
    summary = (
        "Removes whole blocks: those that change their input least, or the last ones; no refit"
    )
    paper = (
        "Men et al., ShortGPT: Layers in Large Language Models are More Redundant Than You Expect, "
        "2024"
    )
    criterion: str = option(
        "influence",
        "influence: 1 − cosine similarity of a block's input and output; top: last blocks first",
        choices=("influence", "top"),
    )

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Keep the blocks with the highest scores that fit the budget."""
        plan = UnitPlan(self, model, batches, budget=budget)
        plan.check([plan.rank(sub, torch.ones(sub.units)) for sub in plan.subs])
        scores = self.scores(model, batches, report)
        minimum = [int(self.keep_one_head and sub.kind == "head") for sub in plan.subs]
        spare = plan.left * SLACK - sum(
            float(plan.price(sub)[count]) for sub, count in zip(plan.subs, minimum, strict=True)
        )
        for index in scores.argsort(descending=True, stable=True).tolist():
            places = [place for place, sub in enumerate(plan.subs) if sub.index == index]
            more = sum(
                float(
                    plan.price(plan.subs[place])[-1] - plan.price(plan.subs[place])[minimum[place]]
                )
                for place in places
            )
            if more <= spare:
                spare -= more
                for place in places:
                    minimum[place] = plan.subs[place].units
        for sub, count in zip(plan.subs, minimum, strict=True):
            unit = torch.arange(sub.units, device=sub.output.weight.device)
            plan.settle(sub, unit < count, score=float(scores[sub.index]))
        report(1.0, "pruned")
        return plan.rows()

    def scores(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Tensor:
        """(blocks,) importance of each block; the mean over its passes for a shared block."""
        stack = blocks(model)
        if self.criterion == "top":
            return torch.arange(len(stack), 0, -1)
        path = stream(model, batches)
        influence = torch.zeros(len(stack), dtype=torch.float64)
        for index, block in enumerate(stack):
            for _ in range(block.passes):
                report(index / len(stack), f"influence of block {index + 1}")
                similarity = torch.zeros((), dtype=torch.float64, device=path.inputs[0].device)
                for i, padding in enumerate(path.paddings):
                    x = path.inputs[i]
                    y = block.run_pass(x, padding)
                    similarity += F.cosine_similarity(x, y, dim=-1).sum()
                    path.inputs[i] = path.keep(y)
                influence[index] += (
                    1 - float(similarity) / sum(map(len, path.inputs))
                ) / block.passes
        return influence
