"""Kwon et al.: remove the heads and neurons with the least Fisher information, and rescale the
others.

Mask search on the diagonal of the Fisher information, rearrangement on its blocks, layer-wise
tuning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import PruneError
from ..models.devices import device_of
from ..models.replay import Padding, embed, task_type_of, tokens_read
from ..models.units import (
    frozen_sublayers,
    gradient_dtype,
    logits,
    mask_gradients,
    precision_option,
)
from ..plugins import Batch, Report, Rows, option, subrange
from ..pruning.layerwise import damping_option
from ..pruning.solvers import add_damping
from ..pruning.streams import stream
from ..pruning.targets import UnitBudget
from ..pruning.unit_walk import refit_sublayer
from ..pruning.unitwise import SLACK, Ranking, UnitMethod, UnitPlan, merge_rankings


@dataclass(frozen=True)
class Kwon(UnitMethod):
    """A fast post-training pruning framework (Kwon et al., NeurIPS 2022; sections 4.1 to 4.3)."""

    name = "kwon"
    title = "Kwon et al."
    summary = (
        "Removes the heads and neurons with the least effect on the task loss, and rescales the "
        "others; needs labels"
    )
    paper = "Kwon et al., A Fast Post-Training Pruning Framework for Transformers, NeurIPS 2022"
    labelled = True
    rearrange: bool = option(
        True, "Swap units within a sub-layer by the Fisher information of pairs"
    )
    tune: bool = option(
        True, "Rescale the remaining units to match the dense outputs of each sub-layer"
    )
    precision: str = precision_option()
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Search masks, rearrange them, and rescale the remaining units."""
        plan = UnitPlan(self, model, batches, budget=budget)
        gradients = self._gradients(model, batches, subrange(report, 0.0, 0.7))
        # diagonal of the Fisher information
        importance = [gradient.square().sum(0) for gradient in gradients]
        rankings = [plan.rank(sub, each) for sub, each in zip(plan.subs, importance, strict=True)]
        plan.check(rankings)
        groups = least_fisher(rankings, plan.left)
        dense = stream(model, batches)
        pruned = dense.twin()
        for place, sub in enumerate(plan.subs):
            report(0.7 + 0.3 * place / len(plan.subs), f"tuning block {sub.index + 1}: {sub.kind}s")
            kept = rankings[place].kept(groups[place])
            if self.rearrange:
                kept = rearranged(gradients[place].T @ gradients[place], kept)
            damping = 0.0
            if self.tune:
                damping = refit_sublayer(
                    sub, kept, dense, pruned=pruned, solve=partial(self.rescale, width=sub.width)
                )
            plan.settle(sub, kept, damping, predictive=importance[place], score=importance[place])
        report(1.0, "pruned")
        return plan.rows()

    def _gradients(
        self, model: nn.Module, batches: Sequence[Batch], report: Report
    ) -> list[Tensor]:
        """(examples, units) for every sub-layer: gradients of the task loss with respect to a
        mask of ones.
        """
        if not all("labels" in batch for batch in batches):
            raise PruneError(
                "kwon measures the task loss, so its calibration examples need labels; provide "
                "labeled "
                "ones, or choose kprune."
            )
        dtype = gradient_dtype(self.precision, device_of(model))
        subs = frozen_sublayers(model, dtype)
        by_sublayer: list[list[Tensor]] = [[] for _ in subs]
        for count, batch in enumerate(batches):
            report(count / len(batches), f"Fisher information, batch {count + 1} of {len(batches)}")
            x, padding = embed(model, batch)
            loss = partial(task_loss, model, batch["labels"])
            gradients = mask_gradients(
                subs, padding.unpack(x.to(dtype)), padding, loss=loss, reads=tokens_read(model)
            )
            for sub, gradient, rows in zip(subs, gradients, by_sublayer, strict=True):
                rows.append(sub.by_unit(gradient.float()) * sub.width)
        return [torch.cat(rows) for rows in by_sublayer]

    def rescale(
        self, weight: Tensor, gram: Tensor, cross: Tensor, width: int
    ) -> tuple[Tensor, float]:
        """Least squares for one factor per remaining unit; the ridge pulls towards 1.

        The fit of Σ r_i·unit_i(x) needs only AᵀA and AᵀB.
        """
        units = (-1, width)
        H = (gram * (weight.T @ weight)).unflatten(1, units).sum(2).unflatten(0, units).sum(1)
        target = (cross * weight.T).sum(1).unflatten(0, units).sum(1)
        ridge, factor, used = add_damping(H, self.damping)
        scale = torch.cholesky_solve((target + (ridge - H).sum(1))[:, None], factor)
        return weight * scale.repeat_interleave(width), used


def task_loss(model: nn.Module, labels: Tensor, hidden: Tensor, padding: Padding) -> Tensor:
    """The fine-tuning loss, summed over examples."""
    return task_type_of(model).loss(logits(model, hidden, padding), labels, padding)


def least_fisher(rankings: Sequence[Ranking], budget: float) -> list[int]:
    """Groups to keep per ranking: for every number of heads, neurons fill the budget; the least
    loss wins.
    """
    heads, neurons = merge_rankings(rankings[::2]), merge_rankings(rankings[1::2])
    left = budget * SLACK - F.pad(heads.costs.cumsum(0), (1, 0))  # after the best 0, 1, 2 … heads
    fitting = torch.searchsorted(neurons.costs.cumsum(0), left, right=True)
    lost = _loss_without(heads.scores) + _loss_without(neurons.scores * rankings[1].size)[fitting]
    lost[left < 0] = torch.inf
    count = int(lost.argmin())
    kept = [
        torch.bincount(line.owner[:n], minlength=len(rankings) // 2)
        for line, n in ((heads, count), (neurons, int(fitting[count])))
    ]
    return torch.stack(kept, 1).flatten().tolist()


def _loss_without(scores: Tensor) -> Tensor:
    """Loss if only the best 0, 1, 2 … groups stay."""
    return F.pad(scores.flip(0).cumsum(0).flip(0), (0, 1))


def rearranged(fisher: Tensor, kept: Tensor) -> Tensor:
    """Each removed unit is swapped with the kept unit that lowers the lost information zᵀFz
    most.
    """
    fisher, gone = fisher.cpu().double(), ~kept.cpu()
    diagonal, pull = fisher.diagonal(), fisher[gone].sum(0)  # pull = Fz, z marks removed units
    for i in gone.nonzero().flatten().tolist():
        change = diagonal[i] + diagonal + 2 * (pull - pull[i] - fisher[i])
        change[gone] = torch.inf
        j = int(change.argmin())
        if change[j] < 0:
            gone[i], gone[j] = False, True
            pull += fisher[j] - fisher[i]
    return ~gone.to(kept.device)
