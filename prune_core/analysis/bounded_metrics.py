"""Costs of pruning with one-sided bounds: the evidence for a limit. Larger values are worse."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import numpy as np

from ..statistics import paired_bounds, paired_resamples, proportion_bounds

RESAMPLES = 1000


class BoundedMetric(NamedTuple):
    """A cost (larger is worse) and the function that bounds it at a one-sided error probability."""

    value: float
    n: int
    bounds: Callable[[float], tuple[float, float]]
    detail: str = ""
    # the same rates in a sample of another size
    at_size: Callable[[int], BoundedMetric] | None = None


def exact(value: float) -> BoundedMetric:
    """Return a cost without sampling error, such as a file's size."""
    return BoundedMetric(value, 1, lambda alpha: (value, value))


def paired_loss(broken: int, fixed: int, n: int) -> BoundedMetric:
    """Return an accuracy loss: dense minus pruned accuracy on n examples."""

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = paired_bounds(broken, fixed, n, alpha=alpha)
        return -high, -low

    return BoundedMetric(
        (broken - fixed) / n,
        n,
        bounds,
        at_size=lambda size: paired_loss(round(broken * size / n), round(fixed * size / n), size),
    )


def proportion(hits: int, n: int) -> BoundedMetric:
    """Return the fraction of n examples to which something undesired happened."""
    return BoundedMetric(
        hits / n,
        n,
        lambda alpha: proportion_bounds(hits, n, alpha),
        at_size=lambda size: proportion(round(hits * size / n), size),
    )


def bootstrapped(
    value: float, resamples: np.ndarray, n: int, min_examples: float = 1.0
) -> BoundedMetric:
    """Bound by a paired bootstrap, wider by √(n/(n−1)), by at least `min_examples` / n."""
    factor = sqrt(n / max(1, n - 1))

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = np.quantile(resamples, (alpha, 1 - alpha))
        smallest = min_examples / n
        return (
            value - max(factor * (value - low), smallest),
            value + max(factor * (high - value), smallest),
        )

    return BoundedMetric(value, n, bounds)


def resample(
    statistic: Callable[..., float], labels: np.ndarray, dense: np.ndarray, pruned: np.ndarray
) -> np.ndarray:
    """Return (resamples, 2): a statistic of dense and pruned on the same resampled examples."""
    return paired_resamples(statistic, labels, dense, after=pruned, resamples=RESAMPLES, seed=0)
