"""The base of methods that remove whole heads and neurons under a FLOPs budget, and the walk that tunes what is left.

As layerwise.py walks from Linear to Linear, a dense and a pruned stream walk here from sub-layer to sub-layer. Knows
nothing of how a method scores units or refits them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from ..errors import PruneError
from ..models.replay import sparsity_by_part
from ..models.units import Sublayer, flops, sublayers
from ..plugins import Batch, Method, Rows, option
from .streams import Stream

SLACK = 1 + 1e-9  # a sum of FLOPs may round above the budget that it equals
FACTS = ("predictive", "representational", "score", "threshold")  # why a unit stayed or went; nan where a method has none


class Ranking(NamedTuple):
    """A sub-layer's units from best to worst, in groups that stay or go together."""

    order: Tensor  # (units,)
    scores: Tensor  # (groups,), falling; infinite where a group must stay
    cost: float  # FLOPs of a group

    @property
    def size(self) -> int:
        """Units of a group."""
        return len(self.order) // len(self.scores)

    def kept(self, groups: int) -> Tensor:
        """(units,) bool: the units of the best groups."""
        mask = torch.zeros_like(self.order, dtype=torch.bool)
        mask[self.order[: groups * self.size]] = True
        return mask


class Merged(NamedTuple):
    """The groups of several rankings in one line, best first."""

    owner: Tensor  # which ranking each is of
    scores: Tensor
    costs: Tensor  # FLOPs


def merged(rankings: Sequence[Ranking]) -> Merged:
    """On the CPU and in fp64, where long sums of FLOPs are exact enough to meet a budget."""
    sizes = torch.tensor([len(ranking.scores) for ranking in rankings])
    scores, order = torch.cat([ranking.scores for ranking in rankings]).cpu().double().sort(descending=True, stable=True)
    owner = torch.arange(len(rankings)).repeat_interleave(sizes)[order]
    return Merged(owner, scores, torch.tensor([ranking.cost for ranking in rankings], dtype=torch.float64)[owner])


class Found(NamedTuple):
    """What a search keeps."""

    groups: list[int]  # of each ranking
    threshold: float  # lowest score that is kept for its score


def search(rankings: Sequence[Ranking], budget: float) -> Found:
    """Raise the threshold until the survivors' FLOPs fit: one sort, cumulative FLOPs (K-prune, Algorithm 1).

    Where the first that does not fit is a head, neurons below the threshold fill what its place leaves free.
    """
    owner, scores, costs = merged(rankings)
    kept = costs.cumsum(0) <= budget * SLACK
    threshold = float(scores[kept].min()) if kept.any() else torch.inf
    left = budget * SLACK - costs[kept].sum()
    small = ~kept & (costs <= left)
    kept |= small & ((costs * small).cumsum(0) <= left)
    return Found(torch.bincount(owner[kept], minlength=len(rankings)).tolist(), threshold)


@dataclass(frozen=True)
class UnitMethod(Method):
    """A method that removes whole heads and neurons until a share of the encoder's FLOPs is gone."""

    sparsity: float = option(0.5, "Share of the encoder's FLOPs (not weights) to remove, by whole heads and neurons", low=0.0, high=0.99)
    keep_one_head: bool = option(False, "Keep at least one head in every block")
    multiple: int = option(0, "Keep neurons in multiples of this many, which kernels like; 0 = 8 on a GPU, else 1", low=0, high=1024)
    length: float = option(
        0.0, "Tokens per sentence for counting FLOPs; 0 = the calibration sample's mean", low=0.0, high=1e5, unit="tokens", expert=True
    )

    @property
    def label(self) -> str:
        """How charts name this run: a minus, as FLOPs went and not weights."""
        return f"{self.title} −{self.sparsity:.1%}".replace(".0%", "%") + " FLOPs"


class Plan:
    """One run of a unit method: the sub-layers, what is left of the budget, and a record of every decision."""

    def __init__(self, method: UnitMethod, model: nn.Module, batches: Sequence[Batch]):
        self.method, self.model = method, model
        self.length = method.length or mean_length(batches)
        self.subs = sublayers(model)
        self.total = sum(sub.units * sub.cost(self.length) for sub in self.subs)  # FLOPs
        self.left = (1 - method.sparsity) * self.total
        self._units: list[pd.DataFrame] = []
        self._output: dict[tuple[int, str], tuple[float, float]] = {}  # damping, seconds
        self._clock = time.perf_counter()

    def rank(self, sub: Sublayer, scores: Tensor) -> Ranking:
        """A sub-layer's ranking by (units,) scores, under the method's `multiple` and `keep_one_head`."""
        group = self._multiple(sub) if sub.kind == "neuron" else 1
        order = scores.argsort(descending=True, stable=True)
        grouped = scores[order].unflatten(0, (-1, group)).mean(1)
        if self.method.keep_one_head and sub.kind == "head":
            grouped[0] = torch.inf
        return Ranking(order, grouped, group * sub.cost(self.length))

    def _multiple(self, sub: Sublayer) -> int:
        multiple = self.method.multiple
        if not multiple:
            return 8 if sub.output.weight.is_cuda and sub.units % 8 == 0 else 1
        if sub.units % multiple:
            raise PruneError(f"{self.method.name}: multiple is {multiple}; it must divide the {sub.units} neurons of a block.")
        return multiple

    def search(self, rankings: Sequence[Ranking]) -> Found:
        """The best units within what is left of the budget."""
        self.check(rankings)
        return search(rankings, self.left)

    def check(self, rankings: Sequence[Ranking]) -> None:
        """Refuse a budget that what must stay exceeds."""
        if not self.method.keep_one_head:
            return
        must = sum(ranking.cost for ranking, sub in zip(rankings, self.subs[-len(rankings) :], strict=True) if sub.kind == "head")
        if must > self.left * SLACK:
            raise PruneError(
                f"{self.method.name}: one head in every block takes {must / self.total:.1%} of the FLOPs, but sparsity "
                f"{self.method.sparsity:g} leaves {self.left / self.total:.1%}; lower the sparsity or turn keep_one_head off."
            )

    def settle(self, sub: Sublayer, kept: Tensor, damping: float = 0.0, **facts: Tensor | float) -> None:
        """Zero a sub-layer's other units, subtract the kept ones from the budget, and note why."""
        sub.fold(kept)
        self.left -= float(kept.sum()) * sub.cost(self.length)
        now = time.perf_counter()
        self._output[sub.index, sub.part] = (damping, now - self._clock)
        self._clock = now
        plain = {key: value.tolist() if isinstance(value, Tensor) else value for key, value in facts.items()}
        unit = {"block": sub.index, "part": sub.kind, "unit": range(sub.units), "kept": kept.tolist()}
        self._units.append(pd.DataFrame(unit | dict.fromkeys(FACTS, float("nan")) | plain))

    def rows(self) -> Rows:
        """The tables: what became of every matrix, of every unit, and of the budget."""
        prune = pd.DataFrame(sparsity_by_part(self.model))
        found = [self._output.get(key, (0.0, 0.0)) for key in zip(prune["block"], prune["part"], strict=True)]
        prune[["damping", "seconds"]] = found
        alive, total = flops(self.model, self.length)
        budget = {"length": self.length, "total": total, "allowed": 1 - self.method.sparsity, "realised": alive / total}
        return {"prune": prune, "unit": pd.concat(self._units, ignore_index=True), "budget": pd.DataFrame([budget])}


def mean_length(batches: Sequence[Batch]) -> float:
    """Real tokens per sentence."""
    if not batches:
        raise PruneError("There are no calibration sentences to count tokens in; give some, or a length.")
    masks = [batch["attention_mask"] for batch in batches]
    return sum(int(mask.sum()) for mask in masks) / sum(map(len, masks))


Solve = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, float]]


def pass_on(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream, solve: Solve | None) -> float:
    """Push both streams through a sub-layer of which only `kept` is left, its columns tuned on the way; the damping used.

    With A (tokens, k) the survivors' features and B (tokens, d) what their sum has to reach for the sub-layer's output to
    be the dense one, `solve` takes their columns (d, k), AᵀA (k, k) and AᵀB (k, d), and gives new columns and a damping.
    """
    if sub.block.passes > 1:
        return _pass_on_shared(sub, kept, dense, pruned, solve)
    if kept.all() and dense.inputs[0] is pruned.inputs[0]:  # nothing has been removed so far: the streams stay one
        pairs = zip(dense.inputs, dense.paddings, strict=True)
        dense.inputs = [sub.norm(sub.close(sub.features(x, padding), x)) for x, padding in pairs]
        pruned.inputs = list(dense.inputs)
        return 0.0
    small, damping = sub.only(kept), 0.0
    weight, features = small.output.weight, []
    gram, cross = weight.new_zeros(len(weight.T), len(weight.T)), torch.zeros_like(weight.T)
    for i, padding in enumerate(dense.paddings):
        x, x_hat = dense.inputs[i], pruned.inputs[i]
        total = sub.close(sub.features(x, padding), x)
        dense.inputs[i] = sub.norm(total)
        A = small.features(x_hat, padding)
        features.append(A)
        if solve is not None:
            gram.addmm_(A.T, A)
            cross.addmm_(A.T, total - x_hat if sub.output.bias is None else total - x_hat - sub.output.bias)
    if solve is not None:
        fitted, damping = solve(weight, gram, cross)
        weight.copy_(fitted)
    sub.fold(kept, weight)
    for i, A in enumerate(features):
        pruned.inputs[i] = sub.norm(small.close(A, pruned.inputs[i]))
    return damping


def _pass_on_shared(sub: Sublayer, kept: Tensor, dense: Stream, pruned: Stream, solve: Solve | None) -> float:
    """Of a block that is passed several times: tuned to the dense model's features of all passes, and passed once both of its
    sub-layers are pruned. As paths are the dense one's, AᵀB is AᵀA times the columns that were there."""
    if sub.kind == "head":
        both = [sub, replace(sub, kind="neuron")]
        dense.shared = [each.output.weight.new_zeros(each.output.in_features, each.output.in_features) for each in both]
        for _ in range(sub.block.passes):
            for each, gram in zip(both, dense.shared, strict=True):
                for i, padding in enumerate(dense.paddings):
                    x = dense.inputs[i]
                    A = each.features(x, padding)
                    gram.addmm_(A.T, A)
                    dense.inputs[i] = each.norm(each.close(A, x))
    gram, columns, damping, fitted = dense.shared[sub.kind == "neuron"], sub.columns(kept), 0.0, None
    if solve is not None and not kept.all():
        whole = sub.output.weight
        fitted, damping = solve(whole[:, columns], gram[columns][:, columns], (gram @ whole.T)[columns])
    sub.fold(kept, fitted)
    if sub.kind == "neuron":
        for _ in range(sub.block.passes):
            pruned.inputs = [sub.block.once(x, padding) for x, padding in zip(pruned.inputs, pruned.paddings, strict=True)]
    return damping
