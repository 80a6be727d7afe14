"""Intervals and tests for shares of examples, thin names over scipy, which a bare GPU machine may lack. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np


def wilson(count: int, n: int) -> tuple[float, float]:
    """95% Wilson interval of a share; the whole range where there is nothing to judge by."""
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(broken: int, fixed: int) -> float:
    """Exact McNemar p: could examples flip this unevenly by chance?"""
    from scipy.stats import binomtest

    return float(binomtest(broken, broken + fixed).pvalue) if broken + fixed else 1.0


def paired_difference(broken: int, fixed: int, n: int) -> tuple[float, float, float]:
    """(difference, low, high) of two shares over the same n examples, 95%.

    The Bonett-Price interval (2012): a Laplace-adjusted Wald interval that stays honest with few flips.
    """
    p_fixed, p_broken = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    half = 1.959964 * sqrt((p_fixed + p_broken - (p_fixed - p_broken) ** 2) / (n + 2))
    middle = p_fixed - p_broken
    return (fixed - broken) / n, max(-1.0, middle - half), min(1.0, middle + half)


@lru_cache(
    maxsize=4096
)  # scipy takes a fifth of a millisecond each time, and slices and resamples ask for the same ones
def proportion_bounds(hits: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided bounds of a share, each wrong with at most probability `alpha` (Clopper and Pearson 1934, exact)."""
    from scipy.stats import beta

    low = float(beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(1 - alpha, hits + 1, n - hits)) if hits < n else 1.0


@lru_cache(maxsize=4096)
def paired_bounds(broken: int, fixed: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided bounds of the difference of two shares over the same n examples, for non-inferiority.

    The wider of Tango's score bound (1998) and Bonett and Price's (2012), less half an example: either alone is now and then
    wrong more often than `alpha` where few examples differ.
    """
    low, high = (
        _paired_low(broken, fixed, n, alpha=alpha),
        -_paired_low(fixed, broken, n, alpha=alpha),
    )
    return max(-1.0, low - 0.5 / n), min(1.0, high + 0.5 / n)


def _paired_low(broken: int, fixed: int, n: int, alpha: float) -> float:
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha))
    p_fixed, p_broken = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    wald = p_fixed - p_broken - z * sqrt((p_fixed + p_broken - (p_fixed - p_broken) ** 2) / (n + 2))
    seen = (fixed - broken) / n
    if seen <= -1.0:
        return -1.0

    def beyond(difference: float) -> float:
        """Tango's statistic of this difference against z."""
        b = -fixed - broken + (2 * n - fixed + broken) * difference
        c = -broken * difference * (1 - difference)
        q = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        return float(
            (fixed - broken - n * difference)
            - z * sqrt(max(0.0, n * (2 * q + difference * (1 - difference))))
        )

    return min(
        wald,
        float(brentq(beyond, -1.0 + 1e-12, seen))
        if beyond(seen) < 0 < beyond(-1.0 + 1e-12)
        else wald,
    )


def quantile_bounds(values: np.ndarray, quantile: float, alpha: float) -> tuple[float, float]:
    """One-sided bounds of a quantile by order statistics, whatever the distribution; infinite where so few values give none."""
    ordered, n = np.sort(values), len(values)
    below, above = _ranks(n, quantile, alpha)
    low = float(ordered[below - 1]) if below >= 1 else -np.inf
    return low, float(ordered[above]) if above < n else np.inf


@lru_cache(maxsize=4096)
def _ranks(n: int, quantile: float, alpha: float) -> tuple[int, int]:
    from scipy.stats import binom

    return int(binom.ppf(alpha, n, quantile)), int(binom.ppf(1 - alpha, n, quantile))


def bootstrap(
    figure: Callable[[Any, Any], float],
    right: np.ndarray,
    was: np.ndarray,
    now: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[float, ...]:
    """95% percentile intervals of a figure of two models on the same examples, drawn together so that they are paired.

    (low, high) of `was`, (low, high) of `now`, then their difference with its low and high.
    """
    draws = paired_resamples(figure, right, was, now=now, resamples=resamples, seed=seed)
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    apart = np.percentile(draws[:, 1] - draws[:, 0], (2.5, 97.5))
    difference = figure(right, now) - figure(right, was)
    return tuple(float(value) for value in (low[0], high[0], low[1], high[1], difference, *apart))


def paired_resamples(
    figure: Callable[[Any, Any], float],
    right: np.ndarray,
    was: np.ndarray,
    now: np.ndarray,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """(resamples, 2): the figure of both models on examples drawn anew, the same for both."""
    dice = np.random.default_rng(seed)
    draws = np.empty((resamples, 2))
    for draw in draws:
        chosen = dice.integers(len(right), size=len(right))
        draw[:] = [figure(right[chosen], said[chosen]) for said in (was, now)]
    return draws


def nested_bootstrap(
    groups: Sequence[np.ndarray], resamples: int, seed: int = 0
) -> tuple[float, float, float]:
    """(low, high, p) of the mean over groups of the groups' means, 95%: groups are drawn anew, then values in each."""
    draws = nested_resamples(groups, resamples, seed)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high), bootstrap_p_value(draws)


def nested_resamples(groups: Sequence[np.ndarray], resamples: int, seed: int = 0) -> np.ndarray:
    """(resamples,) the mean over groups drawn anew of the means of their values drawn anew."""
    dice, k = np.random.default_rng(seed), len(groups)
    means = np.stack(
        [
            group[dice.integers(len(group), size=(resamples, len(group)))].mean(1)
            for group in groups
        ],
        axis=1,
    )
    return (dice.multinomial(k, np.full(k, 1 / k), resamples) / k * means).sum(1)


def bootstrap_p_value(draws: np.ndarray) -> float:
    """How often resampled differences lie on the other side of zero, twice; never less than one draw can show."""
    return float(min(1.0, max(1 / len(draws), 2 * min((draws <= 0).mean(), (draws >= 0).mean()))))
