"""Base of methods that remove whole attention heads and FFN neurons to meet a budget."""

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.compact import compact_model
from ..models.inference.contention import disturbance
from ..models.inference.latency import Latency, measure_latency
from ..models.inference.timing import time_interleaved, timing_batch
from ..models.replay import sparsity_by_projection
from ..models.units import KINDS, Sublayer, flops, sublayers
from ..plugins import (
    SECOND_STAGE_METHODS,
    TARGETS,
    Batch,
    Method,
    Report,
    Rows,
    no_report,
    option,
    subrange,
    target_label,
)
from .masks import n_of_m
from .targets import UnitBudget, bytes_budget, flops_budget, latency_budget

SLACK = 1 + 1e-9  # tolerance for rounding of summed costs
TRIALS = 3  # trials for a time target at most
NEAR, FAR = 0.02, 0.05  # relative deviation that is close enough, and that is reported as off
PASSES = 9  # timed passes
# why a unit stayed or was removed; NaN if a method does not compute it
FACTS = ("predictive", "representational", "score", "threshold")


class Ranking(NamedTuple):
    """Units of a sub-layer from best to worst, in groups that stay or go together."""

    order: Tensor  # (units,)
    scores: Tensor  # (groups,) descending; infinite if a group must stay
    cost: Tensor | float  # (groups,) cost of each group, or one for all

    @property
    def size(self) -> int:
        """Units per group."""
        return len(self.order) // len(self.scores)

    def kept(self, groups: int) -> Tensor:
        """(units,) mask of the units of the best groups."""
        mask = torch.zeros_like(self.order, dtype=torch.bool)
        mask[self.order[: groups * self.size]] = True
        return mask


class MergedRanking(NamedTuple):
    """Groups of several rankings, sorted together, best first."""

    owner: Tensor  # index of the ranking
    scores: Tensor
    costs: Tensor


def merge_rankings(rankings: Sequence[Ranking]) -> MergedRanking:
    """Sort on the CPU in fp64, since long sums of costs must be exact enough to meet a budget."""
    sizes = torch.tensor([len(ranking.scores) for ranking in rankings])
    scores, order = (
        torch.cat([ranking.scores for ranking in rankings])
        .cpu()
        .double()
        .sort(descending=True, stable=True)
    )
    owner = torch.arange(len(rankings)).repeat_interleave(sizes)[order]
    costs = [
        torch.as_tensor(each.cost, dtype=torch.float64).expand(len(each.scores))
        for each in rankings
    ]
    return MergedRanking(owner, scores, torch.cat(costs)[order])


class SearchResult(NamedTuple):
    """Result of a search."""

    groups: list[int]  # kept groups per ranking
    threshold: float  # lowest kept score


def search(rankings: Sequence[Ranking], budget: float) -> SearchResult:
    """Raise the threshold until the kept units fit the budget: one sort and cumulative costs
    (K-prune, Algorithm 1).

    If a head is the first unit that does not fit, neurons below the threshold use the remaining
    budget.
    """
    owner, scores, costs = merge_rankings(rankings)
    kept = costs.cumsum(0) <= budget * SLACK
    threshold = float(scores[kept].min()) if kept.any() else torch.inf
    left = budget * SLACK - costs[kept].sum()
    expensive = ~kept & (costs > left)
    # a group may only stay if the better groups of its ranking do
    blocked = [(expensive & (owner == each)).cumsum(0) > 0 for each in range(len(rankings))]
    small = ~kept & ~torch.stack(blocked)[owner, torch.arange(len(owner))]
    kept |= small & ((costs * small).cumsum(0) <= left)
    return SearchResult(torch.bincount(owner[kept], minlength=len(rankings)).tolist(), threshold)


@dataclass(frozen=True)
class UnitMethod(Method):
    """Base of methods that remove whole heads and neurons: a fraction of the encoder's FLOPs, or
    to a target.
    """

    removes = "units"
    sparsity: float = option(
        0.5,
        "Fraction of the encoder's FLOPs (not weights) to remove, by whole heads and neurons",
        low=0.0,
        high=0.99,
    )
    speedup: float = option(
        0.0,
        "Target instead of sparsity: speed-up over the dense model, measured on this device (0 = "
        "off)",
        low=0.0,
        high=1000.0,
    )
    latency_ms: float = option(
        0.0,
        "Target instead of sparsity: latency of a forward pass, measured on this device (0 = off)",
        low=0.0,
        unit="ms",
    )
    bytes: int = option(
        0,
        "Target instead of sparsity: size of the compact model's fp32 weights (0 = off)",
        low=0,
        unit="bytes",
    )
    at_batch: int = option(8, "Batch size of timed passes", low=1, high=4096, expert=True)
    at_length: int = option(
        64, "Sequence length of timed passes", low=2, high=8192, unit="tokens", expert=True
    )
    keep_one_head: bool = option(
        False, "Keep at least one head per layer; with none, [CLS] cannot attend to other tokens"
    )
    multiple: int = option(
        0,
        "Keep neurons in multiples of this number, which is faster; 0 = 8 on a GPU or for a "
        "target, else 1",
        low=0,
        high=1024,
    )
    length: float = option(
        0.0,
        "Tokens per example for counting FLOPs; 0 = mean of the calibration sample",
        low=0.0,
        high=1e5,
        unit="tokens",
        expert=True,
    )

    second_stage: str = option(
        "",
        "Second stage: also remove single weights of the remaining units, by this method",
        choices=("", *SECOND_STAGE_METHODS),
    )
    second_stage_sparsity: float = option(
        0.5, "Second stage: fraction of the remaining weights to remove", low=0.0, high=0.99
    )
    second_stage_pattern: str = option(
        "", "Second stage: N:M pattern in the compact matrices, such as 2:4, instead of a sparsity"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        n_of_m(self.name, self.second_stage_pattern)
        targets = [name for name in TARGETS if getattr(self, name)]
        if len(targets) > 1:
            raise PruneError(
                f"{self.name}: {' and '.join(targets)} cannot be combined; choose one of them."
            )
        if 0 < self.speedup < 1:
            raise PruneError(
                f"{self.name}: speedup is {self.speedup:g}, slower than dense; choose 1 or more."
            )
        if targets:  # the sparsity follows from the target; this is an estimate
            object.__setattr__(self, "sparsity", 1 - 1 / self.speedup if self.speedup else 0.0)

    @property
    def label(self) -> str:
        """Name of the run in charts: its target, or the fraction of FLOPs with a minus sign."""
        target = target_label(asdict(self))
        if target:
            return f"{self.title} {target}"
        return f"{self.title} −{self.sparsity:.1%}".replace(".0%", "%") + " FLOPs"

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Remove and refit. For a time target, repeat with an adjusted budget.

        The compact model is timed after every trial; there are at most TRIALS, and none after one
        within NEAR of the target.
        """
        if self.speedup or self.latency_ms:
            return self._prune_to_time(model, batches, report)
        whole = sum(tensor.nbytes for tensor in model.state_dict().values())
        budget = bytes_budget(sublayers(model), self.bytes, whole) if self.bytes else None
        return self.remove(model, batches, report, budget)

    def _prune_to_time(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        at = (self.at_batch, self.at_length)
        measuring = subrange(report, 0.0, 0.3)
        table = measure_latency(model, *at, report=measuring)
        dense, tokens = copy.deepcopy(model), timing_batch(model, *at)
        target = self._target_seconds(table)
        if target <= table.fixed:  # apparently: the cached table may be from a busy machine
            table = measure_latency(model, *at, report=measuring, anew=True)
            target = self._target_seconds(table)
        budgeted = target
        for trial in range(TRIALS):
            trial_report = subrange(
                report, 0.3 + 0.7 * trial / TRIALS, 0.3 + 0.7 * (trial + 1) / TRIALS
            )
            rows = self.remove(
                model, batches, trial_report, latency_budget(sublayers(model), table, budgeted)
            )
            seconds, other_load = time_interleaved(
                [dense, compact_model(model)], tokens, PASSES, report=no_report
            )
            before, after = map(median, seconds)
            # a ratio of times does not depend on how fast the machine is today
            reached = after * (table.whole / before if self.speedup else 1.0)
            if abs(reached / target - 1) <= NEAR:
                break
            budgeted *= target / reached
            if trial < TRIALS - 1:
                model.load_state_dict(dense.state_dict())
        load = disturbance(other_load) or disturbance(table.other_load)
        return rows | {
            "budget": rows["budget"].assign(
                trials=trial + 1,
                latency=after,
                speedup=before / after,
                deviation=reached / target - 1,
                other_load=other_load,
                note=self._time_note(before, after, reached / target - 1, load),
            )
        }

    def _target_seconds(self, table: Latency) -> float:
        return table.whole / self.speedup if self.speedup else self.latency_ms / 1e3

    def _time_note(self, before: float, after: float, deviation: float, load: str) -> str:
        note = (
            f"Target {target_label(asdict(self))}: the compact model takes {1e3 * after:.2f} ms "
            f"for a batch of {self.at_batch} examples of {self.at_length} tokens, the dense model "
            f"{1e3 * before:.2f} ms, a measured speed-up of {before / after:.2f}."
        )
        if abs(deviation) > FAR:
            note += f" That is {abs(deviation):.0%} off: repeat the run on an idle machine."
        if load:
            note += f" The times are unreliable: {load}; repeat the run on an idle machine."
        return note

    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Prune in place within `budget`; without one, within the FLOPs that `sparsity` leaves."""
        raise NotImplementedError


class UnitPlan:
    """State of one run of a unit method: sub-layers, remaining budget, and a record of every
    decision.
    """

    def __init__(
        self,
        method: UnitMethod,
        model: nn.Module,
        batches: Sequence[Batch],
        budget: UnitBudget | None = None,
    ):
        self.method, self.model = method, model
        self.length = method.length or mean_length(batches)
        self.subs = sublayers(model)
        self.budget = budget or flops_budget(self.subs, self.length, method.sparsity)
        self.left = self.budget.allowed
        on_gpu = self.subs[0].output.weight.is_cuda
        self._multiple = method.multiple or (8 if budget or on_gpu else 1)
        self._units: list[pd.DataFrame] = []
        self._output: dict[tuple[int, str], tuple[float, float]] = {}  # damping, seconds
        self._clock = time.perf_counter()

    def price(self, sub: Sublayer) -> Tensor:
        """(units + 1,) cost of a sub-layer with 0, 1, … units."""
        return self.budget.prices[KINDS.index(sub.kind) + len(KINDS) * sub.index]

    def unit_price(self, sub: Sublayer) -> float:
        """Mean cost of a unit."""
        return float(self.price(sub)[-1]) / sub.units

    def rank(self, sub: Sublayer, scores: Tensor) -> Ranking:
        """Ranking of a sub-layer by (units,) scores, with the method's `multiple` and
        `keep_one_head`.
        """
        group = self.group(sub) if sub.kind == "neuron" else 1
        order = scores.argsort(descending=True, stable=True)
        grouped = scores[order].unflatten(0, (-1, group)).mean(1)
        if self.method.keep_one_head and sub.kind == "head":
            grouped[0] = torch.inf
        return Ranking(order, grouped, self.price(sub)[::group].diff())

    def group(self, sub: Sublayer) -> int:
        """Number of neurons of a sub-layer that stay or go together."""
        if sub.units % self._multiple == 0:
            return self._multiple
        if self.method.multiple:
            raise PruneError(
                f"{self.method.name}: multiple is {self._multiple}; it must divide the {sub.units} "
                "neurons of a block."
            )
        return 1

    def search(self, rankings: Sequence[Ranking]) -> SearchResult:
        """The best units within the remaining budget."""
        self.check(rankings)
        return search(rankings, self.left)

    def check(self, rankings: Sequence[Ranking]) -> None:
        """Raise PruneError if the units that must stay exceed the budget."""
        if not self.method.keep_one_head:
            return
        must = sum(
            float(self.price(sub)[1])
            for _, sub in zip(rankings, self.subs[-len(rankings) :], strict=True)
            if sub.kind == "head"
        )
        if must > self.left * SLACK:
            total, left = self.budget.total, max(0.0, self.left)
            what = target_label(asdict(self.method)) or f"sparsity {self.method.sparsity:g}"
            raise PruneError(
                f"{self.method.name}: one head per layer takes {must / total:.1%} of the cost of "
                "heads "
                f"and neurons, but {what} leaves {left / total:.1%}; choose a lower target or turn "
                "keep_one_head off."
            )

    def settle(
        self,
        sub: Sublayer,
        kept: Tensor,
        damping: float = 0.0,
        width: int | None = None,
        **facts: Tensor | float,
    ) -> None:
        """Zero the other units of a sub-layer, subtract the kept ones from the budget, and
        record `facts`. With `width`, units are cut to that many columns.
        """
        width = sub.width if width is None else width
        sub.fold(kept, width=width)
        self.left -= float(self.price(sub)[-(-int(kept.sum()) * width // sub.width)])
        now = time.perf_counter()
        self._output[sub.index, sub.output_name] = (damping, now - self._clock)
        self._clock = now
        plain = {
            key: value.tolist() if isinstance(value, Tensor) else value
            for key, value in facts.items()
        }
        unit = {
            "block": sub.index,
            "unit_type": sub.kind,
            "unit": range(sub.units),
            "kept": kept.tolist(),
            "width": width,
        }
        self._units.append(pd.DataFrame(unit | dict.fromkeys(FACTS, float("nan")) | plain))

    def rows(self) -> Rows:
        """Tables `prune` (one row per matrix), `unit` (one per unit) and `budget`."""
        prune = pd.DataFrame(sparsity_by_projection(self.model))
        prune[["damping", "seconds"]] = [
            self._output.get(key, (0.0, 0.0))
            for key in zip(prune["block"], prune["projection"], strict=True)
        ]
        remaining, total = flops(self.model, self.length)
        budget = {
            "length": self.length,
            "total": total,
            "allowed": self.budget.allowed / self.budget.total,
            "realised": remaining / total,
        }
        return {
            "prune": prune,
            "unit": pd.concat(self._units, ignore_index=True),
            "budget": pd.DataFrame([budget]),
        }


def mean_length(batches: Sequence[Batch]) -> float:
    """Mean number of real tokens per example."""
    if not batches:
        raise PruneError(
            "There are no calibration examples to count tokens in; give some, or set length."
        )
    masks = [batch["attention_mask"] for batch in batches]
    return sum(int(mask.sum()) for mask in masks) / sum(map(len, masks))
