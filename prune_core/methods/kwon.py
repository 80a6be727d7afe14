"""Kwon et al.: heads and neurons whose masks the task loss minds least go; the rest are rescaled towards the dense model.

Mask search on the diagonal of the Fisher information, rearrangement on its blocks, tuning layer by layer.
"""

from __future__ import annotations

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
    summary = "Removes heads and neurons that the task loss minds least, and rescales the others; needs labels"
    paper = "Kwon et al., A Fast Post-Training Pruning Framework for Transformers, NeurIPS 2022"
    labelled = True
    rearrange: bool = option(
        True, "Swap units within a sub-layer where the Fisher information of pairs says so"
    )
    tune: bool = option(
        True, "Rescale the survivors towards the dense model's outputs, sub-layer by sub-layer"
    )
    precision: str = precision_option()
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Search masks by the Fisher's diagonal, rearrange them by its blocks, rescale the survivors."""
        plan = UnitPlan(self, model, batches, budget=budget)
        gradients = self._gradients(model, batches, subrange(report, 0.0, 0.7))
        importance = [
            each.square().sum(0) for each in gradients
        ]  # the diagonal of the Fisher information
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
        """(sentences, units) of every sub-layer: the task loss's gradient for a mask of ones on the units."""
        if not all("labels" in batch for batch in batches):
            raise PruneError(
                "kwon measures the task loss: its calibration sentences need labels; give labelled ones, or choose kprune."
            )
        dtype = gradient_dtype(self.precision, device_of(model))
        subs = frozen_sublayers(model, dtype)
        found: list[list[Tensor]] = [[] for _ in subs]
        for count, batch in enumerate(batches):
            report(count / len(batches), f"Fisher information, batch {count + 1} of {len(batches)}")
            x, padding = embed(model, batch)
            loss = partial(task_loss, model, batch["labels"])
            gradients = mask_gradients(
                subs, padding.unpack(x.to(dtype)), padding, loss=loss, reads=tokens_read(model)
            )
            for sub, gradient, rows in zip(subs, gradients, found, strict=True):
                rows.append(sub.by_unit(gradient.float()) * sub.width)
        return [torch.cat(rows) for rows in found]

    def rescale(
        self, weight: Tensor, gram: Tensor, cross: Tensor, width: int
    ) -> tuple[Tensor, float]:
        """Least squares for one factor per survivor; the ridge pulls towards 1. What Σ r_i·unit_i(x) needs of x is AᵀA, AᵀB."""
        units = (-1, width)
        H = (gram * (weight.T @ weight)).unflatten(1, units).sum(2).unflatten(0, units).sum(1)
        target = (cross * weight.T).sum(1).unflatten(0, units).sum(1)
        ridge, factor, used = add_damping(H, self.damping)
        scale = torch.cholesky_solve((target + (ridge - H).sum(1))[:, None], factor)
        return weight * scale.repeat_interleave(width), used


def task_loss(model: nn.Module, labels: Tensor, hidden: Tensor, padding: Padding) -> Tensor:
    """The loss that the model was fine-tuned with, summed over the sentences."""
    found = logits(model, hidden, padding)
    if task_type_of(model) == "regression":
        return F.mse_loss(found.squeeze(-1), labels, reduction="sum")
    if task_type_of(model) == "multilabel":
        return F.binary_cross_entropy_with_logits(found, labels, reduction="sum")
    if task_type_of(model) == "token":
        return F.cross_entropy(
            found, padding.pack(labels[..., None])[:, 0], reduction="sum"
        )  # which leaves out IGNORED, -100
    ends = 2 if task_type_of(model) == "span" else 1  # of a span: the mean of start and end
    return F.cross_entropy(found.flatten(0, -2), labels.flatten(), reduction="sum") / ends


def least_fisher(rankings: Sequence[Ranking], budget: float) -> list[int]:
    """Groups to keep of each ranking: for every number of heads, neurons fill the budget; the least information lost wins."""
    heads, neurons = merge_rankings(rankings[::2]), merge_rankings(rankings[1::2])
    left = budget * SLACK - F.pad(heads.costs.cumsum(0), (1, 0))  # beside the best 0, 1, 2 … heads
    fitting = torch.searchsorted(neurons.costs.cumsum(0), left, right=True)
    lost = _behind(heads.scores) + _behind(neurons.scores * rankings[1].size)[fitting]
    lost[left < 0] = torch.inf
    count = int(lost.argmin())
    kept = [
        torch.bincount(line.owner[:n], minlength=len(rankings) // 2)
        for line, n in ((heads, count), (neurons, int(fitting[count])))
    ]
    return torch.stack(kept, 1).flatten().tolist()


def _behind(scores: Tensor) -> Tensor:
    """What is lost without all but the best 0, 1, 2 … of them."""
    return F.pad(scores.flip(0).cumsum(0).flip(0), (0, 1))


def rearranged(fisher: Tensor, kept: Tensor) -> Tensor:
    """Each pruned unit in turn changes places with the survivor that lowers the information lost, zᵀFz, most."""
    fisher, gone = fisher.cpu().double(), ~kept.cpu()
    diagonal, pull = fisher.diagonal(), fisher[gone].sum(0)  # pull = Fz, z marks what is gone
    for i in gone.nonzero().flatten().tolist():
        change = diagonal[i] + diagonal + 2 * (pull - pull[i] - fisher[i])
        change[gone] = torch.inf
        j = int(change.argmin())
        if change[j] < 0:
            gone[i], gone[j] = False, True
            pull += fisher[j] - fisher[i]
    return ~gone.to(kept.device)
