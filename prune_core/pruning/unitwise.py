"""The base of methods that remove whole heads and neurons under a budget. Knows nothing of how a method scores units or refits them."""

from __future__ import annotations

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
from ..models.inference.latency import measure_latency
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

SLACK = 1 + 1e-9  # a sum of FLOPs may round above the budget that it equals
TURNS, NEAR, FAR, PASSES = (
    3,
    0.02,
    0.05,
    9,
)  # prunings for a time at most; how near is near enough, and too far; timed passes
FACTS = (
    "predictive",
    "representational",
    "score",
    "threshold",
)  # why a unit stayed or went; nan where a method has none


class Ranking(NamedTuple):
    """A sub-layer's units from best to worst, in groups that stay or go together."""

    order: Tensor  # (units,)
    scores: Tensor  # (groups,), falling; infinite where a group must stay
    cost: Tensor | float  # (groups,) what each adds to those before it, or the same for all

    @property
    def size(self) -> int:
        """Units of a group."""
        return len(self.order) // len(self.scores)

    def kept(self, groups: int) -> Tensor:
        """(units,) bool: the units of the best groups."""
        mask = torch.zeros_like(self.order, dtype=torch.bool)
        mask[self.order[: groups * self.size]] = True
        return mask


class MergedRanking(NamedTuple):
    """The groups of several rankings in one line, best first."""

    owner: Tensor  # which ranking each is of
    scores: Tensor
    costs: Tensor  # what each adds


def merge_rankings(rankings: Sequence[Ranking]) -> MergedRanking:
    """On the CPU and in fp64, where long sums of costs are exact enough to meet a budget."""
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
    """What a search keeps."""

    groups: list[int]  # of each ranking
    threshold: float  # lowest score that is kept for its score


def search(rankings: Sequence[Ranking], budget: float) -> SearchResult:
    """Raise the threshold until the survivors' FLOPs fit: one sort, cumulative FLOPs (K-prune, Algorithm 1).

    Where the first that does not fit is a head, neurons below the threshold fill what its place leaves free.
    """
    owner, scores, costs = merge_rankings(rankings)
    kept = costs.cumsum(0) <= budget * SLACK
    threshold = float(scores[kept].min()) if kept.any() else torch.inf
    left = budget * SLACK - costs[kept].sum()
    dear = ~kept & (costs > left)
    behind = [
        (dear & (owner == each)).cumsum(0) > 0 for each in range(len(rankings))
    ]  # a group comes after the better ones of its own
    small = ~kept & ~torch.stack(behind)[owner, torch.arange(len(owner))]
    kept |= small & ((costs * small).cumsum(0) <= left)
    return SearchResult(torch.bincount(owner[kept], minlength=len(rankings)).tolist(), threshold)


@dataclass(frozen=True)
class UnitMethod(Method):
    """A method that removes whole heads and neurons until a share of the encoder's FLOPs is gone, or a target is met."""

    sparsity: float = option(
        0.5,
        "Share of the encoder's FLOPs (not weights) to remove, by whole heads and neurons",
        low=0.0,
        high=0.99,
    )
    speedup: float = option(
        0.0,
        "Instead of a share: times faster than dense, measured on this device (0 = off)",
        low=0.0,
        high=1000.0,
    )
    latency_ms: float = option(
        0.0,
        "Instead of a share: a pass of so long, measured on this device (0 = off)",
        low=0.0,
        unit="ms",
    )
    bytes: int = option(
        0,
        "Instead of a share: a cut model whose fp32 weights take so much (0 = off)",
        low=0,
        unit="bytes",
    )
    at_batch: int = option(8, "Sentences of the pass that is timed", low=1, high=4096, expert=True)
    at_length: int = option(
        64, "Tokens of each of its sentences", low=2, high=8192, unit="tokens", expert=True
    )
    keep_one_head: bool = option(False, "Keep at least one head in every block")
    multiple: int = option(
        0,
        "Keep neurons in multiples of this many, which kernels like; 0 = 8 on a GPU or for a target, else 1",
        low=0,
        high=1024,
    )
    length: float = option(
        0.0,
        "Tokens per sentence for counting FLOPs; 0 = the calibration sample's mean",
        low=0.0,
        high=1e5,
        unit="tokens",
        expert=True,
    )

    then: str = option(
        "",
        "Then single weights of what is left go too, by this method",
        choices=("", *SECOND_STAGE_METHODS),
    )
    then_sparsity: float = option(
        0.5, "Share of the weights left that goes then", low=0.0, high=0.99
    )
    then_pattern: str = option("", "Or a pattern for them: N:M, such as 2:4, in the cut matrices")

    def __post_init__(self) -> None:
        super().__post_init__()
        n_of_m(self.name, self.then_pattern)
        asked = [name for name in TARGETS if getattr(self, name)]
        if len(asked) > 1:
            raise PruneError(
                f"{self.name}: {' and '.join(asked)} are asked for together; leave one."
            )
        if 0 < self.speedup < 1:
            raise PruneError(
                f"{self.name}: speedup is {self.speedup:g}, slower than dense; ask for 1 or more."
            )
        if asked:  # what goes follows from the target; of a speed-up about so much
            object.__setattr__(self, "sparsity", 1 - 1 / self.speedup if self.speedup else 0.0)

    @property
    def label(self) -> str:
        """How charts name this run: by its target, else with a minus, as FLOPs went and not weights."""
        target = target_label(asdict(self))
        return (
            f"{self.title} {target}"
            if target
            else f"{self.title} −{self.sparsity:.1%}".replace(".0%", "%") + " FLOPs"
        )

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Remove and refit; for a time, again with another budget until the cut model, measured, is within NEAR of it."""
        if self.bytes:
            whole = sum(tensor.nbytes for tensor in model.state_dict().values())
            return self.remove(
                model, batches, report, bytes_budget(sublayers(model), self.bytes, whole)
            )
        if not (self.speedup or self.latency_ms):
            return self.remove(model, batches, report, None)
        table = measure_latency(
            model, self.at_batch, self.at_length, report=subrange(report, 0.0, 0.3)
        )
        dense, tokens = copy.deepcopy(model), timing_batch(model, self.at_batch, self.at_length)
        asked = table.whole / self.speedup if self.speedup else self.latency_ms / 1e3
        if (
            asked <= table.fixed
        ):  # as it looks; a table may have been measured while the machine did something else
            table = measure_latency(
                model, self.at_batch, self.at_length, report=subrange(report, 0.0, 0.3), anew=True
            )
            asked = table.whole / self.speedup if self.speedup else asked
        aimed = asked
        for turn in range(TURNS):
            part = subrange(report, 0.3 + 0.7 * turn / TURNS, 0.3 + 0.7 * (turn + 1) / TURNS)
            rows = self.remove(model, batches, part, latency_budget(sublayers(model), table, aimed))
            seconds, other_load = time_interleaved(
                [dense, compact_model(model)], tokens, PASSES, report=no_report
            )
            before, after = map(median, seconds)
            got = after * (
                table.whole / before if self.speedup else 1.0
            )  # a ratio does not mind a machine that is slow today
            if abs(got / asked - 1) <= NEAR:
                break
            aimed *= asked / got
            if turn < TURNS - 1:
                model.load_state_dict(dense.state_dict())
        load = disturbance(other_load) or disturbance(table.other_load)
        busy = (
            f" The times are unreliable: {load}; run it again on an idle machine." if load else ""
        )
        said = (
            f"Asked for {target_label(asdict(self))}: a batch of {self.at_batch} sentences of {self.at_length} tokens takes {1e3 * after:.2f} "
            f"ms, dense {1e3 * before:.2f}, {before / after:.2f} times faster, measured on the cut model."
            + (
                f" That is {abs(got / asked - 1):.0%} off: ask again on an idle machine."
                if abs(got / asked - 1) > FAR
                else ""
            )
            + busy
        )
        facts = {
            "turns": turn + 1,
            "latency": after,
            "speedup": before / after,
            "off": got / asked - 1,
            "other_load": other_load,
            "said": said,
        }
        return rows | {"budget": rows["budget"].assign(**facts)}

    def remove(
        self, model: nn.Module, batches: Sequence[Batch], report: Report, budget: UnitBudget | None
    ) -> Rows:
        """Prune in place within the budget; without one, within the FLOPs that `sparsity` leaves."""
        raise NotImplementedError


class UnitPlan:
    """One run of a unit method: the sub-layers, what is left of the budget, and a record of every decision."""

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
        self._multiple = method.multiple or (
            8 if budget or self.subs[0].output.weight.is_cuda else 1
        )
        self._units: list[pd.DataFrame] = []
        self._output: dict[tuple[int, str], tuple[float, float]] = {}  # damping, seconds
        self._clock = time.perf_counter()

    def price(self, sub: Sublayer) -> Tensor:
        """(units + 1,) of a sub-layer with 0, 1, … units left."""
        return self.budget.prices[KINDS.index(sub.kind) + len(KINDS) * sub.index]

    def unit_price(self, sub: Sublayer) -> float:
        """Of a unit, in the mean over all."""
        return float(self.price(sub)[-1]) / sub.units

    def rank(self, sub: Sublayer, scores: Tensor) -> Ranking:
        """A sub-layer's ranking by (units,) scores, under the method's `multiple` and `keep_one_head`."""
        group = self.group(sub) if sub.kind == "neuron" else 1
        order = scores.argsort(descending=True, stable=True)
        grouped = scores[order].unflatten(0, (-1, group)).mean(1)
        if self.method.keep_one_head and sub.kind == "head":
            grouped[0] = torch.inf
        return Ranking(order, grouped, self.price(sub)[::group].diff())

    def group(self, sub: Sublayer) -> int:
        """How many of a sub-layer's neurons stay or go together."""
        if sub.units % self._multiple == 0:
            return self._multiple
        if self.method.multiple:
            raise PruneError(
                f"{self.method.name}: multiple is {self._multiple}; it must divide the {sub.units} neurons of a block."
            )
        return 1

    def search(self, rankings: Sequence[Ranking]) -> SearchResult:
        """The best units within what is left of the budget."""
        self.check(rankings)
        return search(rankings, self.left)

    def check(self, rankings: Sequence[Ranking]) -> None:
        """Refuse a budget that what must stay exceeds."""
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
                f"{self.method.name}: one head in every block takes {must / total:.1%} of what heads and neurons cost, but {what} leaves "
                f"{left / total:.1%}; ask for less or turn keep_one_head off."
            )

    def settle(
        self, sub: Sublayer, kept: Tensor, damping: float = 0.0, **facts: Tensor | float
    ) -> None:
        """Zero a sub-layer's other units, subtract the kept ones from the budget, and note why."""
        sub.fold(kept)
        self.left -= float(self.price(sub)[int(kept.sum())])
        now = time.perf_counter()
        self._output[sub.index, sub.part] = (damping, now - self._clock)
        self._clock = now
        plain = {
            key: value.tolist() if isinstance(value, Tensor) else value
            for key, value in facts.items()
        }
        unit = {
            "block": sub.index,
            "part": sub.kind,
            "unit": range(sub.units),
            "kept": kept.tolist(),
        }
        self._units.append(pd.DataFrame(unit | dict.fromkeys(FACTS, float("nan")) | plain))

    def rows(self) -> Rows:
        """The tables: what became of every matrix, of every unit, and of the budget."""
        prune = pd.DataFrame(sparsity_by_projection(self.model))
        found = [
            self._output.get(key, (0.0, 0.0))
            for key in zip(prune["block"], prune["part"], strict=True)
        ]
        prune[["damping", "seconds"]] = found
        alive, total = flops(self.model, self.length)
        budget = {
            "length": self.length,
            "total": total,
            "allowed": self.budget.allowed / self.budget.total,
            "realised": alive / total,
        }
        return {
            "prune": prune,
            "unit": pd.concat(self._units, ignore_index=True),
            "budget": pd.DataFrame([budget]),
        }


def mean_length(batches: Sequence[Batch]) -> float:
    """Real tokens per sentence."""
    if not batches:
        raise PruneError(
            "There are no calibration sentences to count tokens in; give some, or a length."
        )
    masks = [batch["attention_mask"] for batch in batches]
    return sum(int(mask.sum()) for mask in masks) / sum(map(len, masks))
