"""Trade-offs between models: Pareto front, its knee, and the best model within limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .compared_models import ComparedModel

Point = tuple[float, float]


def pareto_front(points: Sequence[Point], x_better: str, y_better: str) -> list[int]:
    """Return indices of the points that no other point dominates, sorted by x."""
    flip_x, flip_y = (-1.0 if better == "lower" else 1.0 for better in (x_better, y_better))
    good = [(flip_x * px, flip_y * py) for px, py in points]
    return sorted(
        (
            i
            for i, p in enumerate(good)
            if not any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in good)
        ),
        key=lambda i: points[i],
    )


def knee(points: Sequence[Point], front: Sequence[int]) -> int | None:
    """Return the point of a front that is farthest from the line between its ends.

    Both axes are scaled to length 1. None for fewer than three points.
    """
    if len(front) < 3:
        return None
    (x0, y0), (x1, y1) = points[front[0]], points[front[-1]]
    if x0 == x1 or y0 == y1:
        return None
    bulges = {
        i: abs((points[i][0] - x0) / (x1 - x0) - (points[i][1] - y0) / (y1 - y0))
        for i in front[1:-1]
    }
    return max(bulges, key=lambda i: bulges[i])


@dataclass(frozen=True)
class Limit:
    """An upper or, for the unit "times", a lower limit on one quantity."""

    words: str  # the quantity inside a sentence: "accuracy loss"
    value: float
    unit: str  # "points", "percent" or "times"

    def excess(self, value: float) -> float:
        """Return by how much a value violates the limit; 0 if it is met, NaN if not measured."""
        excess = self.value - value if self.unit == "times" else value - self.value
        return 0.0 if excess <= 1e-9 else excess

    def describe(self, excess: float) -> str:
        """Describe a violation: "accuracy loss 1.3 points above the limit"."""
        if self.unit == "times":
            return f"{self.words} {excess:.2f} below the limit"
        return f"{self.words} {100 * excess:.1f} points above the limit"


@dataclass(frozen=True)
class Choice:
    """The best model within the limits, or the one that is closest to them."""

    model: ComparedModel
    n_within: int  # models within all limits
    missed: Mapping[Limit, float]  # excess over each violated limit


def choose(
    models: Sequence[ComparedModel], values: pd.DataFrame, limits: Sequence[Limit]
) -> Choice | None:
    """Choose the smallest model within all limits, or the one that is closest to them.

    `values` has one row per model (index: its job), a column for each limit's words, and `left`,
    the fraction of weights left. The closest model violates the fewest limits, by the smallest
    relative excess. Models with a missing value are not chosen.
    """
    misses = {
        model: {limit: limit.excess(float(values.loc[model.job, limit.words])) for limit in limits}
        for model in models
    }
    misses = {
        model: excesses
        for model, excesses in misses.items()
        if not np.isnan([*excesses.values()]).any()
    }
    if not misses:
        return None
    fitting = [model for model, excesses in misses.items() if not any(excesses.values())]
    if fitting:
        return Choice(
            min(fitting, key=lambda model: values.loc[model.job, "left"]), len(fitting), {}
        )
    distances = {
        model: (
            sum(excess > 0 for excess in excesses.values()),
            sum(excess / limit.value for limit, excess in excesses.items()),
        )
        for model, excesses in misses.items()
    }
    nearest = min(distances, key=lambda model: distances[model])
    return Choice(
        nearest, 0, {limit: excess for limit, excess in misses[nearest].items() if excess}
    )


def choice_sentence(choice: Choice | None) -> str:
    """Describe the choice in Markdown."""
    if choice is None:
        return "No pruned model has been measured on all of these."
    label = f"**{choice.model.label}**"
    if choice.n_within == 1:
        return f"{label} is the only model within all limits."
    if choice.n_within:
        return f"{choice.n_within} models are within all limits; {label} is the smallest."
    misses = " and ".join(limit.describe(excess) for limit, excess in choice.missed.items())
    return f"No model is within all limits. {label} is closest: {misses}."
