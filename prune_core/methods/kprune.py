"""K-prune: remove the heads and neurons with the least knowledge, and refit the others.

For each sub-layer, from the first one up: measure knowledge, select units within the FLOPs budget,
refit. Sub-layers below the current one are final, so their output is cached.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..models.devices import device_of
from ..models.replay import Padding, head, hidden_states, task_type_of, tokens_read
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
from ..pruning.layerwise import damping_option
from ..pruning.solvers import ridge_fit
from ..pruning.streams import Stream, stream
from ..pruning.targets import UnitBudget
from ..pruning.unit_walk import refit_sublayer
from ..pruning.unitwise import UnitMethod, UnitPlan, mean_length

# The paper squares the gradient of a batch's mean divergence. Gradients per example, divided by the
# paper's batch size, have the same scale and do not depend on our batch size.
BATCH = 32
LAMBDA_FACTORS = (64.0, 8.0)  # of λ_pred, the larger one first
STRIDE = 6  # the factors are tried on one batch in six


class KeptUnits(NamedTuple):
    """Units of a sub-layer that stay."""

    kept: Tensor  # (units,) bool
    width: int  # how many columns of each stay, the first ones


# (sub-layer, (units,) mask of the best units, dense, pruned) -> units that cost no more
Choose = Callable[[Sublayer, Tensor, Stream, Stream], KeptUnits]


class LambdaTrial(NamedTuple):
    """A copy of the model, pruned with one λ_pred."""

    divergences: Tensor  # (examples,) from the dense model, on held-out batches
    model: nn.Module
    rows: Rows


@dataclass(frozen=True)
class KPrune(UnitMethod):
    """Knowledge-preserving pruning without retraining (Park, Choi, Kang, ICLR 2024, section 3)."""

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

    @property
    def fits_bias(self) -> bool:
        """Whether the refit moves the output bias too."""
        return False

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Algorithm 1, with λ_pred chosen on part of the batches if `adapt` is on."""
        batches = self._sample(batches)
        if self.adapt and len(batches) > STRIDE:
            return self._adapted(model, batches, report, budget=budget)
        return self._prune_once(
            model, batches, report, budget=budget, choose=self.choice(model, batches, report)
        )

    def choice(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Choose:
        """The function that selects which units of a sub-layer stay, given how many; here those
        with the best scores.
        """
        return best

    def _prune_once(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        report: Report,
        budget: UnitBudget | None,
        choose: Choose,
    ) -> Rows:
        """Algorithm 1 with this λ_pred."""
        plan = UnitPlan(self, model, batches, budget=budget)
        dense = stream(model, batches)
        pruned = dense.twin()
        meter = KnowledgeMeter(self, model)
        for index, sub in enumerate(plan.subs):
            left = 1 - index / len(plan.subs)  # remaining passes, each shorter than the last
            report(1 - left**2, f"block {sub.index + 1} of {plan.subs[-1].index + 1}: {sub.kind}s")
            remaining = plan.subs[index:]
            knowledge = meter.measure(index, pruned)
            scores = [
                self.score(other, of_units, plan.unit_price(other))
                for other, of_units in zip(remaining, knowledge, strict=True)
            ]
            rankings = [
                plan.rank(other, score) for other, score in zip(remaining, scores, strict=True)
            ]
            result = plan.search(rankings)
            kept, width = choose(sub, rankings[0].kept(result.groups[0]), dense, pruned)
            damping = refit_sublayer(
                sub,
                kept,
                dense,
                pruned,
                solve=self.refit if self.tune else None,
                width=width,
                bias=self.fits_bias,
            )
            meter.follow(index, sub)
            predictive, representational = knowledge[0]
            plan.settle(
                sub,
                kept,
                damping,
                width=width,
                predictive=predictive,
                representational=representational,
                score=scores[0],
                threshold=result.threshold,
            )
        report(1.0, "pruned")
        rows = plan.rows()
        return rows | {"budget": rows["budget"].assign(lambda_pred=self.lambda_pred)}

    def _adapted(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Use the larger λ_pred, unless the smaller one gives less divergence on held-out batches.

        A larger weight is best until much of the budget is gone; then it removes too much of the
        upper blocks, whose predictive knowledge is small while the lower ones are intact. Both are
        tried on a fraction of the batches, and "less" means beyond two standard errors, since a
        trial is noisier than the difference. If the final result with the larger weight is worse
        than its trial, the smaller one is run on all batches too, and the better result is kept.
        """
        # batches are sorted by length, so both selections have all lengths
        tried, held_out = batches[::STRIDE], batches[1::STRIDE]
        targets = [model_outputs(model, batch) for batch in held_out]
        large, small = (factor * self.lambda_pred for factor in LAMBDA_FACTORS)
        method = replace(self, length=self.length or mean_length(batches))

        def run(
            weight: float, some: Sequence[Batch], run_report: Report, choose: Choose
        ) -> LambdaTrial:
            student = copy.deepcopy(model)
            rows = replace(method, lambda_pred=weight)._prune_once(
                student, some, run_report, budget=budget, choose=choose
            )
            divergences = [
                task_type_of(student).divergence(
                    model_outputs(student, batch), teacher, temperature=self.temperature
                )
                for batch, teacher in zip(held_out, targets, strict=True)
            ]
            return LambdaTrial(torch.cat(divergences), student, rows)

        cost = 1 + len(LAMBDA_FACTORS) / STRIDE  # of everything, in runs on all batches
        fraction = 1 / STRIDE / cost  # of the progress, for one trial
        with_large = run(large, tried, subrange(report, 0.0, fraction), best).divergences
        with_small = run(small, tried, subrange(report, fraction, 2 * fraction), best).divergences
        difference = with_large - with_small
        margin = 2 * difference.std() / len(difference) ** 0.5
        weight = small if difference.mean() > margin else large
        start = 1 - 1 / cost
        final_report = subrange(report, start, 1.0)
        choose = self.choice(model, batches, subrange(report, start, start))
        result = run(weight, batches, final_report, choose)
        if weight == large and result.divergences.sum() > with_large.sum():
            other = run(small, batches, final_report, choose)
            result = min(result, other, key=lambda trial: float(trial.divergences.sum()))
        model.load_state_dict(result.model.state_dict())
        return result.rows

    def _sample(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Random batches with about `tokens` tokens in total, in their order (by length)."""
        if not self.tokens:
            return batches
        chosen, tokens = [], 0
        for index in torch.randperm(len(batches)).tolist():
            if tokens < self.tokens:
                chosen.append(index)
                tokens += int(batches[index]["attention_mask"].sum())
        return [batches[index] for index in sorted(chosen)]

    def score(self, sub: Sublayer, knowledge: Tensor, price: float) -> Tensor:
        """(units,) knowledge per FLOP, or per unit of another budget.

        `knowledge` (2, units) is predictive and representational.
        """
        predictive, representational = knowledge
        total = self.lambda_pred * predictive + self.lambda_rep * representational
        return (self.mu if sub.kind == "head" else 1.0) * total / price

    def refit(self, weight: Tensor, gram: Tensor, cross: Tensor) -> tuple[Tensor, float]:
        """Least squares for the columns of the kept units; see `unit_walk.Solve`.

        The ridge pulls towards their current values.
        """
        return ridge_fit(weight, gram, cross, damping=self.damping)


def best(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream) -> KeptUnits:
    """The units with the best scores."""
    return KeptUnits(kept, sub.width)


class KnowledgeMeter:
    """Measures the knowledge of the units from a sub-layer upwards, which are still dense."""

    def __init__(self, method: KPrune, model: nn.Module):
        self.method, self.model = method, model
        self.dtype = gradient_dtype(method.precision, device_of(model))
        self.subs = frozen_sublayers(model, self.dtype)
        self.reads = tokens_read(model)
        self.teacher: list[Tensor] = []  # the dense model's logits

    def measure(self, index: int, pruned: Stream) -> list[Tensor]:
        """(2, units) predictive and representational knowledge of every sub-layer from `index` on.

        Before the first sub-layer nothing is pruned, so student = teacher and predictive knowledge
        is 0.
        """
        # a shared block is always passed from its heads, which are `before` its neurons
        target = self.subs[index]
        before = int(target.block.passes > 1 and target.kind == "neuron")
        subs = self.subs[index - before :]
        knowledge = [  # (2, columns) until the end
            torch.zeros(2, sub.output.in_features, device=device_of(self.model)) for sub in subs
        ]
        for batch, (x, padding) in enumerate(zip(pruned.inputs, pruned.paddings, strict=True)):
            x, real = padding.unpack(x.to(self.dtype)), padding.mask.flatten().to(self.dtype)

            def add_representational(at: int, a: Tensor) -> None:
                knowledge[at][1] += (real @ a.flatten(0, 1).square()).float()  # noqa: B023

            if index == 0:
                hidden = forward(subs, x, padding, seen=add_representational)
                self.teacher.append(logits(self.model, hidden, padding))
                continue
            gradients = mask_gradients(
                subs,
                x,
                padding,
                loss=partial(self._loss, self.teacher[batch]),
                reads=self.reads,
                seen=add_representational,
            )
            for of_columns, gradient in zip(knowledge, gradients, strict=True):
                of_columns[0] += (gradient.float() / BATCH).square().sum(0) / 2
        examples = sum(len(padding.mask) for padding in pruned.paddings)
        tokens = sum(map(len, pruned.inputs))
        for sub, of_columns in zip(subs, knowledge, strict=True):
            of_columns[0] /= examples
            of_columns[1] *= sub.output.weight.float().square().mean(0) / tokens
        return [sub.by_unit(of_columns) for sub, of_columns in zip(subs, knowledge, strict=True)][
            before:
        ]

    @torch.no_grad()
    def follow(self, index: int, sub: Sublayer) -> None:
        """Copy the pruned weights of a shared sub-layer, which later passes use."""
        if sub.block.passes > 1:
            self.subs[index].output.weight.copy_(sub.output.weight)

    def _loss(self, teacher: Tensor, hidden: Tensor, padding: Padding) -> Tensor:
        """Summed divergence of the student with these hidden states from the teacher's logits."""
        outputs = logits(self.model, hidden, padding)
        temperature = self.method.temperature
        return task_type_of(self.model).divergence(outputs, teacher, temperature).sum()


def model_outputs(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of the model, computed by its blocks and its head."""
    *_, (hidden, padding) = hidden_states(model, batch)
    return head(model, hidden, padding)
