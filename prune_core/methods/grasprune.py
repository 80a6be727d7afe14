"""GRASPrune: a gate for every head and neuron learns, on unlabelled text and within the budget at every step, which ones the
predictions need; then the survivors' scales are learnt too. No weight moves but by its unit's scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.replay import embed, head
from ..models.units import frozen, unrolled
from ..plugins import Batch, Report, Rows, option, part_of
from ..pruning.distillation import divergence
from ..pruning.targets import Budget
from ..pruning.unitwise import Plan, UnitMethod

Gates = list[Tensor]  # (units,) of each sub-layer


@dataclass(frozen=True)
class GRASPrune(UnitMethod):
    """Global gating under a budget by a projected straight-through estimator (Wang et al., ACL 2026), towards the dense model's answers."""

    name = "grasprune"
    title = "GRASPrune"
    summary = "Learns a gate for every head and neuron on unlabelled text, then a scale for every one that stays"
    paper = "Wang et al., GRASPrune: Global Gating for Budgeted Structured Pruning of Large Language Models, ACL 2026"
    epochs: int = option(
        4, "Passes over the calibration sentences in which the gates learn", low=1, high=1000
    )
    scale_epochs: int = option(
        1, "Passes in which the survivors' scales learn (0 = none)", low=0, high=1000
    )
    rate: float = option(
        0.1,
        "Adam's learning rate for the gates; a fifth of it for the scales",
        low=1e-6,
        high=10.0,
        expert=True,
    )
    at_once: int = option(8, "Sentences of one step", low=1, high=1024, expert=True)

    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: Budget | None
    ) -> Rows:
        """Learn gates, project them once more, learn scales, and fold these into the output projections."""
        plan = Plan(self, model, batches, budget=budget)
        game = Game(model, batches, self.at_once)
        gates = [
            torch.zeros(sub.units, device=game.device, requires_grad=True) for sub in plan.subs
        ]
        share = self.epochs / (self.epochs + self.scale_epochs)
        chosen = lambda: self.projected(plan, gates)  # noqa: E731
        with torch.no_grad():
            whole = all(bool(mask.all()) for mask in chosen())
        if not whole:  # otherwise there is nothing to learn
            self.learn(
                game,
                gates,
                lambda: straight_through(gates, chosen()),
                self.rate,
                self.epochs,
                part_of(report, 0.0, share),
            )
        masks = chosen()
        scales = [
            torch.ones(sub.units, device=game.device, requires_grad=True) for sub in plan.subs
        ]
        if not whole and self.scale_epochs:
            scaled = lambda: [scale * mask for scale, mask in zip(scales, masks, strict=True)]  # noqa: E731
            self.learn(
                game, scales, scaled, self.rate / 5, self.scale_epochs, part_of(report, share, 1.0)
            )
        with torch.no_grad():
            for sub, gate, mask, scale in zip(plan.subs, gates, masks, scales, strict=True):
                columns = sub.columns(mask)
                sub.fold(mask, (sub.output.weight * scale.repeat_interleave(sub.width))[:, columns])
                plan.settle(sub, mask, score=gate.detach().sigmoid())
        report(1.0, "pruned")
        return plan.rows()

    def projected(self, plan: Plan, gates: Gates) -> Gates:
        """(units,) bool of each sub-layer: the open gates, widest first, as many as the budget pays for."""
        with torch.no_grad():
            rankings = [
                plan.rank(sub, gate.sigmoid()) for sub, gate in zip(plan.subs, gates, strict=True)
            ]
            groups = plan.search(rankings).groups
            return [ranking.kept(count) for ranking, count in zip(rankings, groups, strict=True)]

    def learn(
        self,
        game: Game,
        learnt: Gates,
        gates: Callable[[], Gates],
        rate: float,
        epochs: int,
        report: Report,
    ) -> None:
        """Adam on the divergence of the gated model's answers from the dense model's."""
        optimizer = torch.optim.Adam(learnt, rate)
        steps = epochs * len(game.batches)
        for step in range(steps):
            place = step % len(game.batches)
            if place == 0:
                order = torch.randperm(len(game.batches)).tolist()
            with torch.enable_grad():
                found = torch.autograd.grad(game.lost(order[place], gates()), learnt)
            for own, gradient in zip(learnt, found, strict=True):
                own.grad = gradient
            optimizer.step()
            report(step / steps, f"gates: step {step + 1} of {steps}")


def straight_through(gates: Gates, masks: Gates) -> Gates:
    """The masks, through which gradients pass as if they were the gates' probabilities."""
    soft = [gate.sigmoid() for gate in gates]
    return [mask + each - each.detach() for mask, each in zip(masks, soft, strict=True)]


class Game:
    """The dense model with a gate behind every unit, and what it should answer."""

    def __init__(self, model: nn.Module, batches: Sequence[Batch], at_once: int):
        self.model, self.subs = model, frozen(model, torch.float32)
        self.path = unrolled(self.subs)
        self.batches = [
            {key: value[start : start + at_once] for key, value in batch.items()}
            for batch in batches
            for start in range(0, len(batch["input_ids"]), at_once)
        ]
        self.device = batches[0]["input_ids"].device
        with torch.no_grad():
            self.taught = [self._answers(batch, None) for batch in self.batches]

    def lost(self, place: int, gates: Gates) -> Tensor:
        """Mean divergence of a batch's answers with these gates."""
        return divergence(
            self.model, self._answers(self.batches[place], gates), self.taught[place]
        ).mean()

    def _answers(self, batch: Batch, gates: Gates | None) -> Tensor:
        with torch.no_grad():
            x, padding = embed(self.model, batch)
        for place in self.path:
            sub = self.subs[place]
            a = sub.features(x, padding)
            x = sub.norm(
                sub.close(a if gates is None else a * gates[place].repeat_interleave(sub.width), x)
            )
        return head(self.model, x, padding)
