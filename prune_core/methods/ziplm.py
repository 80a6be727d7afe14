"""ZipLM, one-shot: units are removed by Optimal Brain Surgeon with refits, and a search over
whole models distributes the budget over sub-layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..models.replay import Padding, embed, head, task_type_of
from ..models.units import Sublayer, execution_order
from ..plugins import Batch, Report, Rows, option, subrange
from ..pruning.layerwise import damping_option
from ..pruning.streams import spread, stream
from ..pruning.targets import UnitBudget
from ..pruning.unit_obs import UnitRegression, fit
from ..pruning.unit_walk import add_features
from ..pruning.unitwise import Ranking, UnitMethod, UnitPlan

SHRINK = 0.9  # fraction of neurons that stays from one level to the next
JUDGE_EXAMPLES = 128  # examples on which candidates are compared
# one trial in FIRST starts from new coefficients; the others change a fraction MUTATED of the best
# ones
FIRST, MUTATED = 10, 0.1
BUCKETS = 4000  # resolution of the budget in the search


class PruningLevels(NamedTuple):
    """Nested subsets of the units of a sub-layer, and the error of each."""

    order: Tensor  # (units,) best first
    counts: list[int]  # descending, starting with all units
    errors: list[float]  # relative output error of each level
    lost: Tensor  # (units,) squared error of removing each unit, in this order


@dataclass(frozen=True)
class ZipLM(UnitMethod):
    """Inference-aware structured pruning (Kurtic, Frantar and Alistarh, NeurIPS 2023; section
    3), without gradual training.
    """

    name = "ziplm"
    title = "ZipLM"
    summary = (
        "Removes heads and neurons by Optimal Brain Surgeon, and searches over whole models for "
        "the number per layer"
    )
    paper = (
        "Kurtic, Frantar and Alistarh, ZipLM: Inference-Aware Structured Pruning of Language "
        "Models, NeurIPS 2023"
    )
    trials: int = option(
        100, "Models that the search compares; 1000 in the paper", low=1, high=10**5
    )
    units_per_step: int = option(
        8,
        "Neurons removed per step; one in the paper",
        low=1,
        high=1024,
        expert=True,
    )
    damping: float = damping_option(1e-4)

    @torch.no_grad()
    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Compute the levels of every sub-layer on dense inputs, search, and refit the chosen
        model.
        """
        plan = UnitPlan(self, model, batches, budget=budget)
        grams = features_grams(model, plan.subs, batches, report=subrange(report, 0.0, 0.2))
        levels = []
        for place, (sub, gram) in enumerate(zip(plan.subs, grams, strict=True)):
            report(
                0.2 + 0.4 * place / len(plan.subs),
                f"block {sub.index + 1}: ranking {sub.kind}s",
            )
            levels.append(self.levels(plan, sub, gram))
        plan.check([plan.rank(sub, own.lost) for sub, own in zip(plan.subs, levels, strict=True)])
        divergence_of = OutputDivergence(
            self,
            model,
            plan.subs,
            grams=grams,
            levels=levels,
            batches=spread(batches, JUDGE_EXAMPLES),
        )
        chosen = self.searched(plan, levels, divergence_of, subrange(report, 0.6, 1.0))
        rankings = [
            filling(own, count, plan, sub=sub)
            for own, count, sub in zip(levels, chosen, plan.subs, strict=True)
        ]
        result = plan.search(rankings)
        for place, sub in enumerate(plan.subs):
            kept = rankings[place].kept(result.groups[place])
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
        """Remove units until none is left, and record the error at each level."""
        group = 1 if sub.kind == "head" else plan.group(sub)
        step = 1 if sub.kind == "head" else -(-self.units_per_step // group) * group
        counts = [sub.units]
        while counts[-1] > 0:
            fewer = counts[-1] - step
            if sub.kind == "neuron":
                fewer = min(fewer, int(counts[-1] * SHRINK) // step * step)
            counts.append(max(0, fewer))
        regression = UnitRegression(gram, sub.output.weight, sub.width, damping=self.damping)
        removed, errors, lost = list[Tensor](), [0.0], list[float]()
        for count in counts[1:]:
            while int(regression.kept.sum()) > count:
                before = regression.error
                removed.append(
                    regression.remove_to(max(count, int(regression.kept.sum()) - step), step)
                )
                lost += [(regression.error - before) / len(removed[-1])] * len(removed[-1])
            errors.append((max(0.0, regression.error) / max(regression.whole, 1e-30)) ** 0.5)
        order = torch.cat(removed).flip(0)
        rising = torch.tensor(lost, device=order.device, dtype=torch.float32).cummax(0).values
        return PruningLevels(order, counts, errors, lost=rising.flip(0))

    def searched(
        self,
        plan: UnitPlan,
        levels: Sequence[PruningLevels],
        divergence_of: OutputDivergence,
        report: Report,
    ) -> list[int]:
        """Number of units per sub-layer: the best model, by its predictions, over random loss
        coefficients.
        """
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
        first = max(1, self.trials // FIRST)
        best = (float("inf"), [sub.units for sub in plan.subs])
        coefficients = torch.ones(len(plan.subs), dtype=torch.float64)
        seen: dict[tuple[int, ...], float] = {}
        for turn in range(self.trials):
            draw = torch.rand(len(plan.subs), dtype=torch.float64)
            if turn >= first:
                draw = torch.where(torch.rand(len(plan.subs)) >= MUTATED, coefficients, draw)
            tried = draw if turn else coefficients
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
                seen[tuple(counts)] = divergence_of(counts)
            if seen[tuple(counts)] < best[0]:
                best, coefficients = (seen[tuple(counts)], counts), tried
            report(
                turn / self.trials, f"search {turn + 1} of {self.trials}: divergence {best[0]:.4f}"
            )
        return best[1]


def features_grams(
    model: nn.Module, subs: Sequence[Sublayer], batches: Sequence[Batch], report: Report
) -> list[Tensor]:
    """(columns, columns) gram of the dense features of every sub-layer, over all passes of a
    shared one.
    """
    dense, path = stream(model, batches), execution_order(subs)
    grams: list[Tensor] = [
        sub.output.weight.new_zeros(sub.output.in_features, sub.output.in_features) for sub in subs
    ]
    for step, place in enumerate(path):
        report(step / len(path), f"inputs of block {subs[place].index + 1}")
        add_features(subs[place], grams[place], dense)
    return grams


def filling(levels: PruningLevels, count: int, plan: UnitPlan, sub: Sublayer) -> Ranking:
    """Ranking in which the first `count` units always stay, and the others use the remaining
    budget.
    """
    scores = torch.empty_like(levels.lost)
    scores[levels.order] = levels.lost / plan.unit_price(sub)
    scores[levels.order[:count]] = torch.inf
    return plan.rank(sub, scores)


def cheapest(options: Sequence[tuple[Tensor, Tensor]], allowed: float) -> list[int]:
    """One index per (prices, losses) that minimizes the sum of losses with total price at most
    `allowed`.

    Dynamic programming over BUCKETS, into which prices are rounded up. If nothing fits, the
    cheapest.
    """
    size = allowed / BUCKETS or 1e-30  # with no budget, only units without cost
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
    """Divergence of the predictions for a choice of units, with every sub-layer refitted
    separately.
    """

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
        self.targets = [self._outputs(subs, *each) for each in self.inputs]
        self._compact: list[tuple[int, Sublayer]] = [(sub.units, sub) for sub in subs]

    def __call__(self, counts: Sequence[int]) -> float:
        """Mean divergence from the dense model with the best `counts` units of each sub-layer."""
        self._compact = [
            known if known[0] == count else (count, self._of(place, count))
            for place, (known, count) in enumerate(zip(self._compact, counts, strict=True))
        ]
        small = [sub for _, sub in self._compact]
        lost = [
            task_type_of(self.model).divergence(self._outputs(small, *each), target)
            for each, target in zip(self.inputs, self.targets, strict=True)
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

    def _outputs(self, subs: Sequence[Sublayer], x: Tensor, padding: Padding) -> Tensor:
        for place in execution_order(subs):
            x = subs[place].norm(subs[place].close(subs[place].features(x, padding), x))
        return head(self.model, x, padding)
