"""K-prune: remove the heads and neurons with the least knowledge, and refit the others after every
sub-layer.

From the bottom up, for each sub-layer: measure knowledge, select units under the FLOPs budget,
refit. Sub-layers below the current one are final, so their output is cached.
"""

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

# The paper squares the gradient of a batch's mean divergence. Gradients per example, divided by the
# paper's batch size, have the same scale and do not depend on our batch size.
BATCH = 32
TRIES, PART = (64.0, 8.0), 6  # factors of λ_pred, tried on one batch in six

# (sub-layer, (units,) mask of the best units, dense, pruned) -> mask of as many units
Choose = Callable[[Sublayer, Tensor, Stream, Stream], Tensor]


@dataclass(frozen=True)
class KPrune(UnitMethod):
    """Knowledge-preserving pruning without retraining (Park, Choi, Kang, ICLR 2024; equations of
    section 3).
    """

    name = "kprune"
    title = "K-prune"
    summary = (
        "Removes the heads and neurons with the least knowledge, and refits after every sub-layer"
    )
    paper = (
        "Park, Choi and Kang, Accurate Retraining-free Pruning for Pretrained Encoder-based "
        "Language Models, ICLR 2024"
    )
    keep_one_head: bool = option(
        True,
        "Keep at least one head per layer; with none, [CLS] cannot attend to other tokens",
    )
    tokens: int = option(
        0,
        "Calibration tokens to use; 100000 in the paper; 0 = the whole sample",
        low=0,
        high=10**9,
        unit="tokens",
    )
    tune: bool = option(
        True, "Refit the remaining units after each sub-layer (knowledge-preserving weight tuning)"
    )
    lambda_pred: float = option(1.0, "Weight of predictive knowledge", low=0.0, high=1e6)
    adapt: bool = option(
        True,
        "Try 8 and 64 times that weight on a sixth of the sample, and use the one with the lower "
        "divergence; off: as in the paper",
    )
    lambda_rep: float = option(2.5e-4, "Weight of representational knowledge", low=0.0, high=1e6)
    mu: float = option(64.0, "Weight of heads relative to neurons (μ)", low=0.0, high=1e6)
    temperature: float = option(
        2.0, "Softmax temperature of the predictive knowledge (γ)", low=0.01, high=100.0
    )
    precision: str = precision_option()
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Algorithm 1, with λ_pred chosen on part of the batches if `adapt` is on."""
        batches = self._sample(batches)
        if self.adapt and len(batches) > PART:
            return self._adapted(model, batches, report, budget=budget)
        return self._once(
            model, batches, report, budget=budget, choose=self.choice(model, batches, report)
        )

    def choice(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Choose:
        """Function that selects the units of a sub-layer, given how many stay; here those with
        the best scores.
        """
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
        knowledge_loss = KnowledgeLoss(self, model)
        for place, sub in enumerate(plan.subs):
            left = 1 - place / len(plan.subs)  # remaining passes, each shorter than the last
            report(1 - left**2, f"block {sub.index + 1} of {plan.subs[-1].index + 1}: {sub.kind}s")
            knowledge = knowledge_loss.measure(place, pruned)
            scores = [
                self.score(each, known, plan.unit_price(each))
                for each, known in zip(plan.subs[place:], knowledge, strict=True)
            ]
            rankings = [
                plan.rank(each, score)
                for each, score in zip(plan.subs[place:], scores, strict=True)
            ]
            result = plan.search(rankings)
            kept = choose(sub, rankings[0].kept(result.groups[0]), dense, pruned)
            damping = refit_sublayer(
                sub, kept, dense, pruned=pruned, solve=self.refit if self.tune else None
            )
            knowledge_loss.follow(place, sub)
            plan.settle(
                sub,
                kept,
                damping,
                predictive=knowledge[0][0],
                representational=knowledge[0][1],
                score=scores[0],
                threshold=result.threshold,
            )
        report(1.0, "pruned")
        rows = plan.rows()
        return rows | {"budget": rows["budget"].assign(lambda_pred=self.lambda_pred)}

    def _adapted(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Use the larger λ_pred, unless the smaller one gives less divergence on unseen batches.

        A larger weight is best until much of the budget is gone; then it removes too much of the
        upper blocks, whose predictive knowledge is small while the lower ones are intact. Both are
        tried on a part of the batches, and "less" means beyond two standard errors, since a trial
        is noisier than the difference. If the final result with the larger weight is worse than its
        trial, the smaller one is run on all batches too, and the better result is kept.
        """
        # batches are sorted by length, so every part has all lengths
        seen, unseen = batches[::PART], batches[1::PART]
        targets = [model_outputs(model, batch) for batch in unseen]
        weights = [factor * self.lambda_pred for factor in TRIES]
        cost = 1 + len(TRIES) / PART

        def pruned(
            weight: float, some: Sequence[Batch], part: Report, choose: Choose
        ) -> tuple[Tensor, nn.Module, Rows]:
            student, length = copy.deepcopy(model), self.length or mean_length(batches)
            rows = replace(self, length=length, lambda_pred=weight)._once(
                student, some, part, budget=budget, choose=choose
            )
            divergences = [
                divergence(
                    student, model_outputs(student, batch), teacher, temperature=self.temperature
                )
                for batch, teacher in zip(unseen, targets, strict=True)
            ]
            return torch.cat(divergences), student, rows

        trials = [
            pruned(
                weight, seen, subrange(report, turn / PART / cost, (turn + 1) / PART / cost), best
            )[0]
            for turn, weight in enumerate(weights)
        ]
        difference = trials[0] - trials[1]  # per example
        place = int(difference.mean() > 2 * difference.std() / len(difference) ** 0.5)
        whole = subrange(report, 1 - 1 / cost, 1.0)
        choose = self.choice(model, batches, subrange(report, 1 - 1 / cost, 1 - 1 / cost))
        result = pruned(weights[place], batches, whole, choose)
        if place == 0 and result[0].sum() > trials[0].sum():
            other = pruned(weights[1], batches, whole, choose)
            result = min(result, other, key=lambda trial: float(trial[0].sum()))
        model.load_state_dict(result[1].state_dict())
        return result[2]

    def _sample(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Random batches with `tokens` tokens in total; batches are sorted by length."""
        if not self.tokens:
            return batches
        chosen, tokens = [], 0
        for place in torch.randperm(len(batches)).tolist():
            if tokens < self.tokens:
                chosen.append(place)
                tokens += int(batches[place]["attention_mask"].sum())
        return [batches[place] for place in sorted(chosen)]

    def score(self, sub: Sublayer, known: Tensor, price: float) -> Tensor:
        """(units,) knowledge per FLOP, or per unit of another budget."""
        knowledge = self.lambda_pred * known[0] + self.lambda_rep * known[1]
        return (self.mu if sub.kind == "head" else 1.0) * knowledge / price

    def refit(self, weight: Tensor, gram: Tensor, cross: Tensor) -> tuple[Tensor, float]:
        """Least squares for the kept units' columns; the ridge pulls towards their current
        values.
        """
        return ridge_fit(weight, gram, cross, damping=self.damping)


def best(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream) -> Tensor:
    """The units with the best scores."""
    return kept


class KnowledgeLoss:
    """Measures the knowledge of the units from a target sub-layer upwards, which are still
    dense.
    """

    def __init__(self, method: KPrune, model: nn.Module):
        self.method, self.model = method, model
        self.dtype = gradient_dtype(method.precision, device_of(model))
        self.subs = frozen_sublayers(model, self.dtype)
        self.reads = tokens_read(model)
        self.teacher: list[Tensor] = []  # the dense model's logits

    def measure(self, place: int, pruned: Stream) -> list[Tensor]:
        """(2, units) predictive and representational knowledge of every sub-layer from the target
        on.

        Before the first sub-layer nothing is pruned, so student = teacher and predictive knowledge
        is 0.
        """
        # a shared block is always passed from its start
        lower = int(self.subs[place].block.passes > 1 and self.subs[place].kind == "neuron")
        subs = self.subs[place - lower :]
        knowledge = [
            torch.zeros(2, sub.output.in_features, device=device_of(self.model)) for sub in subs
        ]
        for i, (x, padding) in enumerate(zip(pruned.inputs, pruned.paddings, strict=True)):
            x, real = padding.unpack(x.to(self.dtype)), padding.mask.flatten().to(self.dtype)

            def seen(at: int, a: Tensor) -> None:
                knowledge[at][1] += (real @ a.flatten(0, 1).square()).float()  # noqa: B023

            if place == 0:
                self.teacher.append(
                    logits(self.model, forward(subs, x, padding, seen=seen), padding)
                )
                continue
            loss = partial(self._loss, self.teacher[i])
            for known, gradient in zip(
                knowledge,
                mask_gradients(subs, x, padding, loss=loss, reads=self.reads, seen=seen),
                strict=True,
            ):
                known[0] += (gradient.float() / BATCH).square().sum(0) / 2
        examples = sum(len(padding.mask) for padding in pruned.paddings)
        tokens = sum(map(len, pruned.inputs))
        for sub, known in zip(subs, knowledge, strict=True):
            known[0] /= examples
            known[1] *= sub.output.weight.float().square().mean(0) / tokens
        return [sub.by_unit(known) for sub, known in zip(subs, knowledge, strict=True)][lower:]

    @torch.no_grad()
    def follow(self, place: int, sub: Sublayer) -> None:
        """Copy the pruned weights of a shared sub-layer, which later passes use."""
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
    """Logits of the model, computed by its blocks and its head."""
    *_, (hidden, padding) = hidden_states(model, batch)
    return head(model, hidden, padding)
