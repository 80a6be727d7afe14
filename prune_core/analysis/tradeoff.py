"""What a study's models trade: the Pareto front of two figures, its knee, and the best model within limits. Knows no charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from .compared_models import ComparedModel

Point = tuple[float, float]


def pareto_front(points: Sequence[Point], x_better: str, y_better: str) -> list[int]:
    """Indices of the points that no other point matches in both and beats in one, by x."""
    flip_x, flip_y = (-1.0 if better == "lower" else 1.0 for better in (x_better, y_better))
    good = [(flip_x * px, flip_y * py) for px, py in points]
    best = [
        i
        for i, p in enumerate(good)
        if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in good)
    ]
    return sorted(best, key=lambda i: points[i])


def knee(points: Sequence[Point], along: Sequence[int]) -> int | None:
    """Of the points along a front the one that bulges most from the line between its ends, both axes of length 1; None for two."""
    if len(along) < 3:
        return None
    (x0, y0), (x1, y1) = points[along[0]], points[along[-1]]
    if x0 == x1 or y0 == y1:
        return None
    out = {
        i: abs((points[i][0] - x0) / (x1 - x0) - (points[i][1] - y0) / (y1 - y0))
        for i in along[1:-1]
    }
    return max(out, key=lambda i: out[i])


@dataclass(frozen=True)
class Limit:
    """What a model may cost at most, or must bring at least."""

    words: str  # of what is limited, inside a sentence: "accuracy lost"
    value: float
    unit: str  # "points", "percent" or "times", of which a model must bring at least so many

    def missed(self, found: float) -> float:
        """By how much; 0 where it holds, NaN where nothing was measured."""
        over = self.value - found if self.unit == "times" else found - self.value
        return over if over != over or over > 1e-9 else 0.0

    def describe(self, by: float) -> str:
        """A miss in words."""
        if self.unit == "times":
            return f"{by:.2f} times too little {self.words}"
        return f"{100 * by:.1f} points too much {self.words}"


@dataclass(frozen=True)
class Choice:
    """The best model within the limits, or the one that misses them by least."""

    model: ComparedModel
    holds: int  # how many models are within all limits
    missed: Mapping[Limit, float]  # by how much


def choose(
    models: Sequence[ComparedModel], found: pd.DataFrame, limits: Sequence[Limit]
) -> Choice | None:
    """`found` has a row a model (index: its job), a column a limit's words, and `left`, the share of its weights that is left.

    Of the models within all limits the one with least left; where there is none, the one that misses fewest, and those by the
    least share of their values. A model that lacks a figure is not chosen.
    """
    misses = {
        model: {limit: limit.missed(float(found.loc[model.job, limit.words])) for limit in limits}
        for model in models
    }
    misses = {
        model: each for model, each in misses.items() if all(by == by for by in each.values())
    }
    if not misses:
        return None
    within = [model for model, each in misses.items() if not any(each.values())]
    if within:
        return Choice(min(within, key=lambda model: found.loc[model.job, "left"]), len(within), {})
    far = {
        model: (
            sum(by > 0 for by in each.values()),
            sum(by / limit.value for limit, by in each.items()),
        )
        for model, each in misses.items()
    }
    nearest = min(far, key=lambda model: far[model])
    return Choice(nearest, 0, {limit: by for limit, by in misses[nearest].items() if by})


def choice_sentence(choice: Choice | None) -> str:
    """The choice as a sentence."""
    if choice is None:
        return "No pruned model has been measured on all of these."
    if choice.holds:
        only = "the only model within all limits"
        return f"**{choice.model.label}** is {only if choice.holds == 1 else f'of {choice.holds} models within all limits the smallest'}."
    misses = " and ".join(limit.describe(by) for limit, by in choice.missed.items())
    return f"No model keeps to all limits. **{choice.model.label}** comes nearest: {misses}."
