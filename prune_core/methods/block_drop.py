"""Dropping whole blocks: the plainest way to a shallower encoder. Of a dropped block its norms and biases stay, nothing is tuned."""

from __future__ import annotations

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
    """Blocks that turn their input least go (ShortGPT, Men et al. 2024), or those on top (Sajjad et al. 2023), until the budget is met."""

    name = "block_drop"
    title = "Block dropping"
    summary = (
        "Removes whole blocks, those that change their input least or those on top; tunes nothing"
    )
    paper = "Men et al., ShortGPT: Layers in Large Language Models are More Redundant Than You Expect, 2024"
    by: str = option(
        "influence",
        "influence: one less the cosine of a block's input and output; top: the last blocks go first",
        choices=("influence", "top"),
    )

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Keep the blocks of the highest scores that fit together."""
        plan = UnitPlan(self, model, batches, budget=budget)
        plan.check([plan.rank(sub, torch.ones(sub.units)) for sub in plan.subs])
        scores = self.scores(model, batches, report)
        least = [int(self.keep_one_head and sub.kind == "head") for sub in plan.subs]
        spare = plan.left * SLACK - sum(
            float(plan.price(sub)[count]) for sub, count in zip(plan.subs, least, strict=True)
        )
        for index in scores.argsort(descending=True, stable=True).tolist():
            own = [place for place, sub in enumerate(plan.subs) if sub.index == index]
            more = sum(
                float(plan.price(plan.subs[place])[-1] - plan.price(plan.subs[place])[least[place]])
                for place in own
            )
            if more <= spare:
                spare -= more
                for place in own:
                    least[place] = plan.subs[place].units
        for sub, count in zip(plan.subs, least, strict=True):
            unit = torch.arange(sub.units, device=sub.output.weight.device)
            plan.settle(sub, unit < count, score=float(scores[sub.index]))
        report(1.0, "pruned")
        return plan.rows()

    def scores(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Tensor:
        """(blocks,) what speaks for keeping each; of a shared block the mean over its passes."""
        stack = blocks(model)
        if self.by == "top":
            return torch.arange(len(stack), 0, -1)
        path, found = stream(model, batches), torch.zeros(len(stack), dtype=torch.float64)
        for index, block in enumerate(stack):
            for _ in range(block.passes):
                report(index / len(stack), f"what block {index + 1} changes")
                alike = torch.zeros((), dtype=torch.float64, device=path.inputs[0].device)
                for i, padding in enumerate(path.paddings):
                    x = path.inputs[i]
                    y = block.run_pass(x, padding)
                    alike += F.cosine_similarity(x, y, dim=-1).sum()
                    path.inputs[i] = path.keep(y)
                found[index] += (1 - float(alike) / sum(map(len, path.inputs))) / block.passes
        return found
