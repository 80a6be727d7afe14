"""Costs of pruning with one-sided bounds: the evidence for a limit. Larger values are worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from ..statistics import paired_bounds, paired_resamples, proportion_bounds

RESAMPLES = 1000
RATIO_ALPHA = 0.1  # fraction of the error probability that the divisor of a ratio gets
# Pseudo-examples that differ in all copies, which a sample may lack by chance. With 1 instead of 3,
# the bound is wrong in 7 of 100 samples if few examples differ in all copies and many in a few.
UNSEEN = 3


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


def paired_loss(broken: float, fixed: float, n: int) -> BoundedMetric:
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


def relative_loss(broken: int, fixed: int, correct: int, n: int) -> BoundedMetric:
    """Return 1 − pruned accuracy / dense accuracy on n examples.

    `correct` is the number of correct predictions of the dense model. Each bound is a bound of the
    difference, at nine tenths of the error probability, divided by a bound of the dense accuracy,
    at one tenth. By the union bound, the error probability of the quotient is at most their sum.
    """
    loss = paired_loss(broken, fixed, n)

    def bounds(alpha: float) -> tuple[float, float]:
        smallest, largest = proportion_bounds(correct, n, RATIO_ALPHA * alpha)
        low, high = loss.bounds((1 - RATIO_ALPHA) * alpha)
        return (
            _divided(low, largest if low > 0 else smallest),
            _divided(high, smallest if high > 0 else largest),
        )

    return BoundedMetric(
        _divided(loss.value, correct / n),
        n,
        bounds,
        at_size=lambda size: relative_loss(
            round(broken * size / n),
            round(fixed * size / n),
            correct=round(correct * size / n),
            n=size,
        ),
    )


def _divided(value: float, divisor: float) -> float:
    if divisor:
        return value / divisor
    return float(np.copysign(np.inf, value)) if value else 0.0


def weighted_mean(metrics: Sequence[BoundedMetric], weights: Sequence[float]) -> BoundedMetric:
    """Return the weighted mean of costs measured on independent samples.

    Bounds by the method of variance estimates recovery (Zou and Donner, Statistics in Medicine
    2008): distances between bounds and values add up like standard deviations.
    """
    shares = np.asarray(weights, dtype=float) / np.sum(weights)
    values = np.array([metric.value for metric in metrics])
    mean = float(shares @ values)

    def bounds(alpha: float) -> tuple[float, float]:
        lows, highs = np.array([metric.bounds(alpha) for metric in metrics]).T
        return (
            mean - float(np.linalg.norm(shares * (values - lows))),
            mean + float(np.linalg.norm(shares * (highs - values))),
        )

    detail = next((metric.detail for metric in metrics if metric.detail), "")
    return BoundedMetric(mean, sum(metric.n for metric in metrics), bounds, detail)


def clustered_loss(losses: np.ndarray) -> BoundedMetric:
    """Return the mean of losses (examples,) in −1..1, each the mean over copies of an example.

    The bounds are those of `paired_loss` with an effective number of differing examples, all of the
    same size s = Σx²/Σ|x|, which reproduces the observed mean and mean square. UNSEEN examples of
    size 1 are added to both sums.
    """
    gained, lost = float(-losses.clip(max=0).sum()), float(losses.clip(min=0).sum())
    size = (float(np.square(losses).sum()) + UNSEEN) / (gained + lost + UNSEEN)
    return _scaled(paired_loss(lost / size, gained / size, len(losses)), size)


def _scaled(loss: BoundedMetric, factor: float) -> BoundedMetric:
    """Return a loss multiplied by a factor."""

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = loss.bounds(alpha)
        return factor * low, factor * high

    at_size = loss.at_size
    return BoundedMetric(
        factor * loss.value,
        loss.n,
        bounds,
        at_size=at_size and (lambda size: _scaled(at_size(size), factor)),
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
