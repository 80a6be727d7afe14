"""ZipLM, in one shot: units leave one after the other by what their loss costs once the rest is refitted, and a search over whole
models shares the budget out among the sub-layers, by whatever it is counted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..models.replay import Padding, embed, head
from ..models.units import Sublayer, execution_order
from ..plugins import Batch, Report, Rows, option, subrange
from ..pruning.distillation import divergence
from ..pruning.layerwise import damping_option
from ..pruning.streams import spread, stream
from ..pruning.targets import UnitBudget
from ..pruning.unit_obs import UnitRegression, fit
from ..pruning.unitwise import Ranking, UnitMethod, UnitPlan

SHRINK = 0.9  # of a block's neurons, what stays from one level of the search to the next
CALIBRATION_BATCHES = 128  # sentences that a candidate's predictions are compared on
FIRST, MUTATED = (
    10,
    0.1,
)  # of the tries a tenth starts anew; of the others each changes a tenth of the best one's coefficients
BUCKETS = 4000  # that a budget is cut into for the search


class PruningLevels(NamedTuple):
    """What a sub-layer may become: its best n units for some n, of which each choice holds the smaller ones."""

    order: Tensor  # (units,) best first
    counts: list[int]  # falling, all units first
    errors: list[float]  # how far the outputs then are from the dense ones, relative
    lost: Tensor  # (units,) squared error with which each unit went, in the order of `order`


@dataclass(frozen=True)
class ZipLM(UnitMethod):
    """Inference-aware structured pruning (Kurtic, Frantar and Alistarh, NeurIPS 2023; section 3), without its gradual training."""

    name = "ziplm"
    title = "ZipLM"
    summary = "Removes heads and neurons by Optimal Brain Surgeon, and searches over whole models for how many of which block"
    paper = "Kurtic, Frantar and Alistarh, ZipLM: Inference-Aware Structured Pruning of Language Models, NeurIPS 2023"
    tries: int = option(
        100, "Models that the search compares; the paper's has 1000", low=1, high=10**5
    )
    together: int = option(
        8,
        "Neurons that leave at a time; the paper removes one by one",
        low=1,
        high=1024,
        expert=True,
    )
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """The levels of every sub-layer on the dense model's inputs, the search, and the chosen model with its columns refitted."""
        plan = UnitPlan(self, model, batches, budget=budget)
        grams = features_grams(model, plan.subs, batches, report=subrange(report, 0.0, 0.2))
        levels = []
        for place, (sub, gram) in enumerate(zip(plan.subs, grams, strict=True)):
            report(
                0.2 + 0.4 * place / len(plan.subs),
                f"block {sub.index + 1}: the order in which {sub.kind}s go",
            )
            levels.append(self.levels(plan, sub, gram))
        plan.check([plan.rank(sub, own.lost) for sub, own in zip(plan.subs, levels, strict=True)])
        judge = OutputDivergence(
            self,
            model,
            plan.subs,
            grams=grams,
            levels=levels,
            batches=spread(batches, CALIBRATION_BATCHES),
        )
        chosen = self.searched(plan, levels, judge, subrange(report, 0.6, 1.0))
        rankings = [
            filling(own, count, plan, sub=sub)
            for own, count, sub in zip(levels, chosen, plan.subs, strict=True)
        ]
        found = plan.search(rankings)
        for place, sub in enumerate(plan.subs):
            kept = rankings[place].kept(found.groups[place])
            damping = 0.0
            if not kept.all():
                fitted, damping = fit(
                    grams[place], sub.output.weight, sub.columns(kept), damping=self.damping
                )
                sub.fold(kept, fitted)
            score = torch.empty_like(levels[place].lost)
            score[levels[place].order] = levels[place].lost
            plan.settle(sub, kept, damping, score=score)
        report(1.0, "pruned")
        return plan.rows()

    def levels(self, plan: UnitPlan, sub: Sublayer, gram: Tensor) -> PruningLevels:
        """Remove units until none is left, and note the error at each level."""
        group = 1 if sub.kind == "head" else plan.group(sub)
        step = 1 if sub.kind == "head" else -(-self.together // group) * group
        counts = [sub.units]
        while counts[-1] > 0:
            fewer = (
                counts[-1] - step
                if sub.kind == "head"
                else min(counts[-1] - step, int(counts[-1] * SHRINK) // step * step)
            )
            counts.append(max(0, fewer))
        tableau = UnitRegression(gram, sub.output.weight, sub.width, damping=self.damping)
        gone, errors, lost = list[Tensor](), [0.0], list[float]()
        for count in counts[1:]:
            while int(tableau.kept.sum()) > count:
                before = tableau.error
                gone.append(tableau.remove_to(max(count, int(tableau.kept.sum()) - step), step))
                lost += [(tableau.error - before) / len(gone[-1])] * len(gone[-1])
            errors.append((max(0.0, tableau.error) / max(tableau.whole, 1e-30)) ** 0.5)
        order = torch.cat(gone).flip(0)
        rising = torch.tensor(lost, device=order.device, dtype=torch.float32).cummax(0).values
        return PruningLevels(order, counts, errors, lost=rising.flip(0))

    def searched(
        self,
        plan: UnitPlan,
        levels: Sequence[PruningLevels],
        judge: OutputDivergence,
        report: Report,
    ) -> list[int]:
        """How many units of each sub-layer: the best by the predictions of the models that random coefficients lead to."""
        options = []
        for sub, own in zip(plan.subs, levels, strict=True):
            least = int(self.keep_one_head and sub.kind == "head")
            kept = [place for place, count in enumerate(own.counts) if count >= least]
            prices = plan.price(sub)[[own.counts[place] for place in kept]]
            options.append(
                (
                    kept,
                    prices,
                    torch.tensor([own.errors[place] for place in kept], dtype=torch.float64),
                )
            )
        first = max(1, self.tries // FIRST)
        best, coefficients = (
            (float("inf"), [sub.units for sub in plan.subs]),
            torch.ones(len(plan.subs), dtype=torch.float64),
        )
        seen: dict[tuple[int, ...], float] = {}
        for turn in range(self.tries):
            draw = torch.rand(len(plan.subs), dtype=torch.float64)
            keep = (
                torch.rand(len(plan.subs)) >= MUTATED
                if turn >= first
                else torch.zeros(len(plan.subs), dtype=torch.bool)
            )
            tried = torch.where(keep, coefficients, draw) if turn else coefficients
            places = cheapest(
                [
                    (prices, value * errors)
                    for (_, prices, errors), value in zip(options, tried, strict=True)
                ],
                plan.left,
            )
            counts = [
                own.counts[kept[place]]
                for own, (kept, _, _), place in zip(levels, options, places, strict=True)
            ]
            if tuple(counts) not in seen:
                seen[tuple(counts)] = judge(counts)
            if seen[tuple(counts)] < best[0]:
                best, coefficients = (seen[tuple(counts)], counts), tried
            report(
                turn / self.tries, f"search {turn + 1} of {self.tries}: divergence {best[0]:.4f}"
            )
        return best[1]


def features_grams(
    model: nn.Module, subs: Sequence[Sublayer], batches: Sequence[Batch], report: Report
) -> list[Tensor]:
    """(columns, columns) of every sub-layer: the gram of the dense model's features, over all passes of a shared one."""
    dense, path = stream(model, batches), execution_order(subs)
    grams: list[Tensor] = [
        sub.output.weight.new_zeros(sub.output.in_features, sub.output.in_features) for sub in subs
    ]
    for step, place in enumerate(path):
        report(step / len(path), f"inputs of block {subs[place].index + 1}")
        for i, padding in enumerate(dense.paddings):
            x = dense.inputs[i]
            A = subs[place].features(x, padding)
            grams[place].addmm_(A.T, A)
            dense.inputs[i] = dense.keep(subs[place].norm(subs[place].close(A, x)))
    return grams


def filling(levels: PruningLevels, count: int, plan: UnitPlan, sub: Sublayer) -> Ranking:
    """A ranking by which the first `count` units stay for certain, and the others fill what the search's levels left of the budget."""
    scores = torch.empty_like(levels.lost)
    scores[levels.order] = levels.lost / plan.unit_price(sub)
    scores[levels.order[:count]] = torch.inf
    return plan.rank(sub, scores)


def cheapest(options: Sequence[tuple[Tensor, Tensor]], allowed: float) -> list[int]:
    """Of each (prices, losses) one place, so that the sum of losses is least and that of prices at most `allowed` (dynamic programming
    over BUCKETS, into which prices are rounded up). Where not even the cheapest fit, those."""
    size = allowed / BUCKETS or 1e-30  # where nothing is allowed, what costs nothing
    best, path = torch.zeros(BUCKETS + 1, dtype=torch.float64), list[Tensor]()
    for prices, losses in options:
        steps = (prices / size - 1e-6).ceil().clamp(0, BUCKETS + 1).long().tolist()
        rows = torch.full((len(steps), BUCKETS + 1), torch.inf, dtype=torch.float64)
        for row, step, loss in zip(rows, steps, losses.tolist(), strict=True):
            row[step:] = best[: BUCKETS + 1 - step] + loss
        best, places = rows.min(0)
        path.append(torch.stack([places, torch.tensor(steps)[places]]))
    if torch.isinf(best[-1]):
        return [int(prices.argmin()) for prices, _ in options]
    left, found = BUCKETS, list[int]()
    for places, taken in map(torch.unbind, reversed(path)):
        found.append(int(places[left]))
        left -= int(taken[left])
    return found[::-1]


class OutputDivergence:
    """What a choice of units costs the predictions, each sub-layer refitted by itself."""

    def __init__(
        self,
        method: ZipLM,
        model: nn.Module,
        subs: Sequence[Sublayer],
        grams: Sequence[Tensor],
        levels: Sequence[PruningLevels],
        batches: Sequence[Batch],
    ):
        self.method, self.model, self.subs, self.grams, self.levels = (
            method,
            model,
            subs,
            grams,
            levels,
        )
        self.inputs = [embed(model, batch) for batch in batches]
        self.taught = [self._answers(subs, *each) for each in self.inputs]
        self._cut: list[tuple[int, Sublayer]] = [(sub.units, sub) for sub in subs]

    def __call__(self, counts: Sequence[int]) -> float:
        """Mean divergence from the dense model with the best so many units of each sub-layer."""
        self._cut = [
            known if known[0] == count else (count, self._of(place, count))
            for place, (known, count) in enumerate(zip(self._cut, counts, strict=True))
        ]
        small = [sub for _, sub in self._cut]
        lost = [
            divergence(self.model, self._answers(small, *each), taught)
            for each, taught in zip(self.inputs, self.taught, strict=True)
        ]
        return float(torch.cat(lost).mean())

    def _of(self, place: int, count: int) -> Sublayer:
        sub = self.subs[place]
        kept = torch.zeros(sub.units, dtype=torch.bool, device=self.grams[place].device)
        kept[self.levels[place].order[:count]] = True
        small = sub.only(kept)
        if 0 < count < sub.units:
            small.output.weight.copy_(
                fit(
                    self.grams[place],
                    sub.output.weight,
                    sub.columns(kept),
                    damping=self.method.damping,
                )[0]
            )
        return small

    def _answers(self, subs: Sequence[Sublayer], x: Tensor, padding: Padding) -> Tensor:
        for place in execution_order(subs):
            x = subs[place].norm(subs[place].close(subs[place].features(x, padding), x))
        return head(self.model, x, padding)
