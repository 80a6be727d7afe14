"""K-prune: heads and neurons that hold little of the model's knowledge go, and what stays is refitted to hold the rest.

From the bottom, sub-layer by sub-layer: measure knowledge, choose under the FLOPs budget, tune. Sub-layers below the
target are final, so their output is kept and a measurement starts at the target.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..models.devices import device_of
from ..models.replay import Padding, head, hidden_states, tokens_read
from ..models.units import (
    Sublayer,
    forward,
    frozen_sublayers,
    gradient_dtype,
    logits,
    mask_gradients,
    precision_option,
)
from ..plugins import Batch, Report, Rows, option, subrange
from ..pruning.distillation import divergence
from ..pruning.layerwise import damping_option
from ..pruning.solvers import ridge_fit
from ..pruning.streams import Stream, stream
from ..pruning.targets import UnitBudget
from ..pruning.unit_walk import refit_sublayer
from ..pruning.unitwise import UnitMethod, UnitPlan, mean_length

# The paper squares the gradient of a batch's mean divergence. A sentence's own gradient, over as many as the paper's batches
# have, is of the same size and does not change with ours, which memory may halve.
BATCH = 32
TRIES, PART = (64.0, 8.0), 6

Choose = Callable[
    [Sublayer, Tensor, Stream, Stream], Tensor
]  # of what scores best, (units,) bool, as many units that stay


@dataclass(frozen=True)
class KPrune(UnitMethod):
    """Knowledge-preserving pruning without retraining (Park, Choi, Kang, ICLR 2024; equations of section 3)."""

    name = "kprune"
    title = "K-prune"
    summary = "Removes heads and neurons that hold least of the model's knowledge, refitting after every sub-layer"
    paper = "Park, Choi and Kang, Accurate Retraining-free Pruning for Pretrained Encoder-based Language Models, ICLR 2024"
    keep_one_head: bool = option(
        True,
        "Keep at least one head in every block: without any, the token that is read hears of no other",
    )
    tokens: int = option(
        0,
        "Calibration tokens to use; the paper takes 100000; 0 = all of the sample",
        low=0,
        high=10**9,
        unit="tokens",
    )
    tune: bool = option(
        True, "Refit the surviving units after each sub-layer (knowledge-preserving weight tuning)"
    )
    lambda_pred: float = option(1.0, "Weight of the predictive knowledge", low=0.0, high=1e6)
    adapt: bool = option(
        True,
        "Try 8 and 64 times that weight on a sixth of the sample, and take what keeps the predictions best; off: as in the paper",
    )
    lambda_rep: float = option(
        2.5e-4, "Weight of the representational knowledge", low=0.0, high=1e6
    )
    mu: float = option(
        64.0, "How much more a head's knowledge counts than a neuron's", low=0.0, high=1e6
    )
    temperature: float = option(
        2.0, "γ, softens predictions before they are compared", low=0.01, high=100.0
    )
    precision: str = precision_option()
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Algorithm 1, with λ_pred chosen on a part of the batches where that is asked for."""
        batches = self._sample(batches)
        if self.adapt and len(batches) > PART:
            return self._adapted(model, batches, report, budget=budget)
        return self._once(
            model, batches, report, budget=budget, choose=self.choice(model, batches, report)
        )

    def choice(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Choose:
        """Which units of a sub-layer stay, when its share of the budget is found: those of the best scores."""
        return best

    def _once(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        report: Report,
        budget: UnitBudget | None,
        choose: Choose,
    ) -> Rows:
        plan = UnitPlan(self, model, batches, budget=budget)
        dense = stream(model, batches)
        pruned = dense.twin()
        gauge = KnowledgeLoss(self, model)
        for place, sub in enumerate(plan.subs):
            left = 1 - place / len(plan.subs)  # passes to come, each shorter than the last
            report(1 - left**2, f"block {sub.index + 1} of {plan.subs[-1].index + 1}: {sub.kind}s")
            knowledge = gauge.measure(place, pruned)
            scores = [
                self.score(each, known, plan.unit_price(each))
                for each, known in zip(plan.subs[place:], knowledge, strict=True)
            ]
            rankings = [
                plan.rank(each, score)
                for each, score in zip(plan.subs[place:], scores, strict=True)
            ]
            found = plan.search(rankings)
            kept = choose(sub, rankings[0].kept(found.groups[0]), dense, pruned)
            damping = refit_sublayer(
                sub, kept, dense, pruned=pruned, solve=self.refit if self.tune else None
            )
            gauge.follow(place, sub)
            facts = {
                "predictive": knowledge[0][0],
                "representational": knowledge[0][1],
                "score": scores[0],
            }
            plan.settle(sub, kept, damping, threshold=found.threshold, **facts)
        report(1.0, "pruned")
        rows = plan.rows()
        return rows | {"budget": rows["budget"].assign(lambda_pred=self.lambda_pred)}

    def _adapted(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """The larger λ_pred, unless a part of the batches prunes with the smaller one to less divergence from dense on another.

        It serves best until much of the budget is gone: then it starves the upper blocks, whose predictive knowledge is small
        as long as the lower ones are whole. "Less" is beyond the chance of the sentences seen, as a trial is noisier than
        the difference. Where all batches end worse than the part did, the smaller weight is tried too, and the best is kept.
        """
        seen, unseen = (
            batches[::PART],
            batches[1::PART],
        )  # sorted by length, so each part has all of them
        taught = [model_outputs(model, batch) for batch in unseen]
        weights = [factor * self.lambda_pred for factor in TRIES]
        cost = 1 + len(TRIES) / PART

        def pruned(
            weight: float, some: Sequence[Batch], part: Report, choose: Choose
        ) -> tuple[Tensor, nn.Module, Rows]:
            student, length = copy.deepcopy(model), self.length or mean_length(batches)
            rows = replace(self, length=length, lambda_pred=weight)._once(
                student, some, part, budget=budget, choose=choose
            )
            pairs = zip(unseen, taught, strict=True)
            lost = [
                divergence(
                    student, model_outputs(student, batch), teacher, temperature=self.temperature
                )
                for batch, teacher in pairs
            ]
            return torch.cat(lost), student, rows

        turns = [
            subrange(report, turn / PART / cost, (turn + 1) / PART / cost)
            for turn in range(len(TRIES))
        ]
        trials = [
            pruned(weight, seen, turn, best)[0] for weight, turn in zip(weights, turns, strict=True)
        ]
        more = trials[0] - trials[1]  # of each sentence
        place, whole = (
            int(more.mean() > 2 * more.std() / len(more) ** 0.5),
            subrange(report, 1 - 1 / cost, 1.0),
        )
        choose = self.choice(model, batches, subrange(report, 1 - 1 / cost, 1 - 1 / cost))
        taken = pruned(weights[place], batches, whole, choose)
        if place == 0 and taken[0].sum() > trials[0].sum():
            taken = min(
                taken,
                pruned(weights[1], batches, whole, choose),
                key=lambda each: float(each[0].sum()),
            )
        model.load_state_dict(taken[1].state_dict())
        return taken[2]

    def _sample(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Whole batches drawn until there are `tokens`; batches are sorted by length, so the first would not do."""
        if not self.tokens:
            return batches
        chosen, tokens = [], 0
        for place in torch.randperm(len(batches)).tolist():
            if tokens < self.tokens:
                chosen.append(place)
                tokens += int(batches[place]["attention_mask"].sum())
        return [batches[place] for place in sorted(chosen)]

    def score(self, sub: Sublayer, known: Tensor, price: float) -> Tensor:
        """(units,) knowledge per FLOP, or per what else the budget is in."""
        knowledge = self.lambda_pred * known[0] + self.lambda_rep * known[1]
        return (self.mu if sub.kind == "head" else 1.0) * knowledge / price

    def refit(self, weight: Tensor, gram: Tensor, cross: Tensor) -> tuple[Tensor, float]:
        """Least squares for the survivors' columns; the ridge pulls towards the columns that they had."""
        return ridge_fit(weight, gram, cross, damping=self.damping)


def best(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream) -> Tensor:
    """Those of the best scores, as they are."""
    return kept


class KnowledgeLoss:
    """Measures what the units from a target sub-layer upwards know; those are still the dense model's."""

    def __init__(self, method: KPrune, model: nn.Module):
        self.method, self.model = method, model
        self.dtype = gradient_dtype(method.precision, device_of(model))
        self.subs = frozen_sublayers(model, self.dtype)
        self.reads = tokens_read(model)
        self.teacher: list[Tensor] = []  # the dense model's logits

    def measure(self, place: int, pruned: Stream) -> list[Tensor]:
        """(2, units) predictive and representational knowledge of every sub-layer from the target on.

        Below the first sub-layer nothing is pruned, so student = teacher and predictive knowledge is 0.
        """
        lower = int(
            self.subs[place].block.passes > 1 and self.subs[place].kind == "neuron"
        )  # a shared block is passed from its start
        subs = self.subs[place - lower :]
        found = [
            torch.zeros(2, sub.output.in_features, device=device_of(self.model)) for sub in subs
        ]
        for i, (x, padding) in enumerate(zip(pruned.inputs, pruned.paddings, strict=True)):
            x, real = padding.unpack(x.to(self.dtype)), padding.mask.flatten().to(self.dtype)

            def seen(at: int, a: Tensor) -> None:
                found[at][1] += (real @ a.flatten(0, 1).square()).float()  # noqa: B023

            if place == 0:
                self.teacher.append(
                    logits(self.model, forward(subs, x, padding, seen=seen), padding)
                )
                continue
            loss = partial(self._loss, self.teacher[i])
            for known, gradient in zip(
                found,
                mask_gradients(subs, x, padding, loss=loss, reads=self.reads, seen=seen),
                strict=True,
            ):
                known[0] += (gradient.float() / BATCH).square().sum(0) / 2
        sentences, tokens = (
            sum(len(padding.mask) for padding in pruned.paddings),
            sum(map(len, pruned.inputs)),
        )
        for sub, known in zip(subs, found, strict=True):
            known[0] /= sentences
            known[1] *= sub.output.weight.float().square().mean(0) / tokens
        return [sub.by_unit(known) for sub, known in zip(subs, found, strict=True)][lower:]

    @torch.no_grad()
    def follow(self, place: int, sub: Sublayer) -> None:
        """Where its other passes are still to come, a shared sub-layer's knowledge is that beside what was pruned."""
        if sub.block.passes > 1:
            self.subs[place].output.weight.copy_(sub.output.weight)

    def _loss(self, teacher: Tensor, hidden: Tensor, padding: Padding) -> Tensor:
        return divergence(
            self.model,
            logits(self.model, hidden, padding),
            teacher,
            temperature=self.method.temperature,
        ).sum()


def model_outputs(model: nn.Module, batch: Batch) -> Tensor:
    """The model's logits, by its blocks and its head."""
    *_, (hidden, padding) = hidden_states(model, batch)
    return head(model, hidden, padding)
