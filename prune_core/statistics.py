"""Confidence intervals and tests for proportions of examples.

Thin wrappers around scipy, which is imported only when needed because a minimal GPU machine may not
have it. Independent of models.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np


def wilson(count: int, n: int) -> tuple[float, float]:
    """95% Wilson interval of a proportion; (0, 1) if n is 0."""
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(count, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(broken: int, fixed: int) -> float:
    """p-value of the exact McNemar test for `broken` and `fixed` discordant examples."""
    from scipy.stats import binomtest

    return float(binomtest(broken, broken + fixed).pvalue) if broken + fixed else 1.0


def paired_difference(broken: int, fixed: int, n: int) -> tuple[float, float, float]:
    """(difference, low, high) of two proportions over the same n examples, 95%.

    Bonett-Price interval (2012): a Laplace-adjusted Wald interval that keeps its coverage with few
    discordant examples.
    """
    p_fixed, p_broken = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    half = 1.959964 * sqrt((p_fixed + p_broken - (p_fixed - p_broken) ** 2) / (n + 2))
    middle = p_fixed - p_broken
    return (fixed - broken) / n, max(-1.0, middle - half), min(1.0, middle + half)


# scipy takes 0.2 ms per call, and slices and resamples request the same arguments
@lru_cache(maxsize=4096)
def proportion_bounds(hits: int, n: int, alpha: float) -> tuple[float, float]:
    """One-sided bounds of a proportion, each wrong with probability at most `alpha`.

    Clopper and Pearson (1934), exact.
    """
    from scipy.stats import beta

    low = float(beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(1 - alpha, hits + 1, n - hits)) if hits < n else 1.0


@lru_cache(maxsize=4096)
def paired_bounds(broken: float, fixed: float, n: int, alpha: float) -> tuple[float, float]:
    """One-sided bounds of the difference of two proportions over the same n examples.

    For non-inferiority tests: the wider of the score bound of Tango (1998) and the bound of Bonett
    and Price (2012), widened by half an example, because each bound alone is sometimes wrong more
    often than `alpha` with few discordant examples.
    """
    low = _paired_low(broken, fixed, n, alpha=alpha)
    high = -_paired_low(fixed, broken, n, alpha=alpha)
    return max(-1.0, low - 0.5 / n), min(1.0, high + 0.5 / n)


def _paired_low(broken: float, fixed: float, n: int, alpha: float) -> float:
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha))
    p_fixed, p_broken = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    wald = p_fixed - p_broken - z * sqrt((p_fixed + p_broken - (p_fixed - p_broken) ** 2) / (n + 2))
    observed = (fixed - broken) / n
    if observed <= -1.0:
        return -1.0

    def excess(difference: float) -> float:
        """Tango's score statistic for this difference minus its critical value."""
        b = -fixed - broken + (2 * n - fixed + broken) * difference
        c = -broken * difference * (1 - difference)
        q = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        return float(
            (fixed - broken - n * difference)
            - z * sqrt(max(0.0, n * (2 * q + difference * (1 - difference))))
        )

    if not excess(observed) < 0 < excess(-1.0 + 1e-12):
        return wald
    return min(wald, float(brentq(excess, -1.0 + 1e-12, observed)))


def quantile_bounds(values: np.ndarray, quantile: float, alpha: float) -> tuple[float, float]:
    """One-sided distribution-free bounds of a quantile by order statistics.

    A bound is infinite if there are too few values.
    """
    ordered, n = np.sort(values), len(values)
    below, above = _ranks(n, quantile, alpha)
    low = float(ordered[below - 1]) if below >= 1 else -np.inf
    return low, float(ordered[above]) if above < n else np.inf


def quantile_band(values: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return two samples (n,) that bound the quantiles of `values` (n,) from below and from above.

    One-sided bounds by order statistics, each quantile on its own: value i of the sorted samples
    bounds the quantiles between i / n and (i + 1) / n. It is infinite where there are too few
    values for a bound.
    """
    ordered = np.concatenate([[-np.inf], np.sort(values), [np.inf]])
    below, above = _band_ranks(len(values), alpha)
    return ordered[below], ordered[above]


@lru_cache(maxsize=256)
def _band_ranks(n: int, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks of the bounds, from 0 (no lower bound) to n + 1 (no upper bound)."""
    from scipy.stats import binom

    ends = np.arange(n + 1) / n
    below, above = binom.ppf(alpha, n, ends[:-1]), binom.ppf(1 - alpha, n, ends[1:])
    return below.astype(int), (above.astype(int) + 1).clip(max=n + 1)


@lru_cache(maxsize=4096)
def _ranks(n: int, quantile: float, alpha: float) -> tuple[int, int]:
    from scipy.stats import binom

    return int(binom.ppf(alpha, n, quantile)), int(binom.ppf(1 - alpha, n, quantile))


def bootstrap(
    metric: Callable[[Any, Any], float],
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[float, ...]:
    """95% percentile intervals of a metric of two models on the same, jointly resampled examples.

    `metric` takes (labels, predictions). Returns (low, high) for `before`, (low, high) for
    `after`, then their difference with its low and high.
    """
    samples = paired_resamples(metric, labels, before, after=after, resamples=resamples, seed=seed)
    low, high = np.percentile(samples, (2.5, 97.5), axis=0)
    interval = np.percentile(samples[:, 1] - samples[:, 0], (2.5, 97.5))
    difference = metric(labels, after) - metric(labels, before)
    return tuple(map(float, (low[0], high[0], low[1], high[1], difference, *interval)))


def paired_resamples(
    metric: Callable[[Any, Any], float],
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    resamples: int,
    seed: int,
) -> np.ndarray:
    """(resamples, 2): the metric of both models on the same bootstrap samples of examples."""
    rng = np.random.default_rng(seed)
    samples = np.empty((resamples, 2))
    for sample in samples:
        chosen = rng.integers(len(labels), size=len(labels))
        sample[:] = [metric(labels[chosen], predictions[chosen]) for predictions in (before, after)]
    return samples


def nested_bootstrap(
    groups: Sequence[np.ndarray], resamples: int, seed: int = 0
) -> tuple[float, float, float]:
    """(low, high, p) of the mean of the group means, 95%; resamples groups, then values in each."""
    samples = nested_resamples(groups, resamples, seed)
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high), bootstrap_p_value(samples)


def nested_resamples(groups: Sequence[np.ndarray], resamples: int, seed: int = 0) -> np.ndarray:
    """(resamples,) means of the group means, with groups and their values resampled."""
    rng, k = np.random.default_rng(seed), len(groups)
    means = np.stack(
        [group[rng.integers(len(group), size=(resamples, len(group)))].mean(1) for group in groups],
        axis=1,
    )
    return (rng.multinomial(k, np.full(k, 1 / k), resamples) / k * means).sum(1)


BATCH = 4_000_000  # random numbers drawn at once by the two functions below: 32 MB


def resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """(resamples, columns): column means of bootstrap samples of the rows of (rows, columns).

    All columns use the same resampled rows, so that differences between columns are paired.
    """
    rng, n = np.random.default_rng(seed), len(values)
    batch = max(1, BATCH // n)
    sizes = [min(batch, resamples - start) for start in range(0, resamples, batch)]
    return np.concatenate(
        [rng.multinomial(n, np.full(n, 1 / n), size) @ np.asarray(values) / n for size in sizes]
    )


def randomization_p_value(differences: np.ndarray, resamples: int, seed: int) -> float:
    """Two-sided p-value of Fisher's randomization test for paired differences, (n,).

    Under the null hypothesis the sign of each difference is random (Fisher 1935; for rankings
    Smucker, Allan and Carterette 2007). Exact if all signs of the nonzero differences are at most
    `resamples` combinations; otherwise a sample of them, with the observed signs counted once.
    """
    nonzero = np.asarray(differences, dtype=float)
    nonzero = nonzero[nonzero != 0]
    m = len(nonzero)
    # sums equal to the observed one up to rounding count as extreme
    observed = abs(nonzero.sum()) - 1e-9 * np.abs(nonzero).sum()
    if m < 63 and 2**m <= resamples:
        flipped = (np.arange(2**m)[:, None] >> np.arange(m)) & 1
        return float((np.abs((1 - 2 * flipped) @ nonzero) >= observed).mean())
    rng, batch, extreme = np.random.default_rng(seed), max(1, BATCH // m), 0
    for start in range(0, resamples, batch):
        flipped = rng.integers(0, 2, size=(min(batch, resamples - start), m), dtype=np.int8)
        extreme += int((np.abs((1 - 2 * flipped) @ nonzero) >= observed).sum())
    return (1 + extreme) / (1 + resamples)


def bootstrap_p_value(samples: np.ndarray) -> float:
    """Two-sided bootstrap p-value of resampled differences, at least 1 / number of resamples."""
    tail = min((samples <= 0).mean(), (samples >= 0).mean())
    return float(min(1.0, max(1 / len(samples), 2 * tail)))
