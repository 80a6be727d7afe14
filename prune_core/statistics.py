"""Intervals and tests for shares of examples, thin names over scipy, which a bare GPU machine may lack. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Callable
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


def bootstrap(
    figure: Callable[[Any, Any], float], right: np.ndarray, was: np.ndarray, now: np.ndarray, resamples: int, seed: int
) -> tuple[float, ...]:
    """95% percentile intervals of a figure of two models on the same examples, drawn together so that they are paired.

    (low, high) of `was`, (low, high) of `now`, then their difference with its low and high.
    """
    dice = np.random.default_rng(seed)
    draws = np.empty((resamples, 2))
    for draw in draws:
        chosen = dice.integers(len(right), size=len(right))
        draw[:] = [figure(right[chosen], said[chosen]) for said in (was, now)]
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    apart = np.percentile(draws[:, 1] - draws[:, 0], (2.5, 97.5))
    difference = figure(right, now) - figure(right, was)
    return tuple(float(value) for value in (low[0], high[0], low[1], high[1], difference, *apart))
