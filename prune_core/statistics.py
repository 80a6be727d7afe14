"""Intervals and tests for shares of examples, thin names over scipy. Knows nothing of models."""

from __future__ import annotations

from math import sqrt

from scipy.stats import binomtest


def wilson(count: int, n: int) -> tuple[float, float]:
    """95% Wilson interval of a share; the whole range where there is nothing to judge by."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(count, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(broken: int, fixed: int) -> float:
    """Exact McNemar p: could examples flip this unevenly by chance?"""
    return float(binomtest(broken, broken + fixed).pvalue) if broken + fixed else 1.0


def paired_difference(broken: int, fixed: int, n: int) -> tuple[float, float, float]:
    """(difference, low, high) of two shares over the same n examples, 95%.

    The Bonett-Price interval (2012): a Laplace-adjusted Wald interval that stays honest with few flips.
    """
    p_fixed, p_broken = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    half = 1.959964 * sqrt((p_fixed + p_broken - (p_fixed - p_broken) ** 2) / (n + 2))
    middle = p_fixed - p_broken
    return (fixed - broken) / n, max(-1.0, middle - half), min(1.0, middle + half)
