"""Distribute a total sparsity over weight matrices. Pure functions of weights, grams and error
curves.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .masks import lowest
from .solvers import refit

# curves are measured at these multiples of the uniform kept fraction, which also bound the result
FACTORS = (0.5, 0.7, 1.0, 1.5)
ROWS = 96  # minimum number of rows that represent a matrix: rows are independent problems
STEPS = 5  # refit steps for each point of a curve
OUTLIER, REACH = 5.0, 0.08  # OWL's M and λ, as in the paper at 70%


def kept_fractions(sparsity: float) -> list[float]:
    """Fractions of kept weights at which error curves are measured for a total `sparsity`."""
    return sorted({min(1.0, factor * (1 - sparsity)) for factor in FACTORS})


def error_curve(
    weight: Tensor, H: Tensor, kept: Sequence[float], fisher_diagonal: Tensor | None = None
) -> list[float]:
    """Relative output error tr(ΔHΔᵀ)/tr(WHWᵀ) at each fraction of kept weights.

    With the diagonal of the output Fisher G, the error is Σᵢ Gᵢᵢ(ΔHΔᵀ)ᵢᵢ, so that errors
    of all matrices are comparable. Uses Wanda's mask and a short refit on a subset of the rows: its
    error is above that of an accurate solver by about the same factor at any sparsity, and only the
    slope of the curve matters here.
    """
    if fisher_diagonal is not None:
        weight = weight * fisher_diagonal.sqrt()[:, None]
    rows = len(weight)
    weight = weight[:: max(1, rows // ROWS)]
    scores = weight.abs() * H.diagonal().sqrt()
    energy = ((weight @ H) * weight).sum() if fisher_diagonal is None else len(weight) / rows
    errors = []
    for fraction in kept:
        pruned = refit(
            weight.masked_fill(lowest(scores, 1 - fraction, per_row=False), 0),
            weight,
            H,
            steps=STEPS,
        )
        errors.append((((weight - pruned) @ H) * (weight - pruned)).sum() / energy)
    return torch.stack(errors).tolist()


def outliers(matrices: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Fraction of a block's scores |W_ij|·‖X_j‖ above OUTLIER times their mean. Each matrix
    comes with Σx² of its inputs.
    """
    scores = torch.cat(
        [(weight.abs() * diagonal.sqrt()).flatten() for weight, diagonal in matrices]
    )
    return float((scores > OUTLIER * scores.mean()).float().mean())


def by_outliers(fractions: Sequence[float], sparsity: float) -> list[float]:
    """Sparsity of each block by OWL (Yin et al., ICML 2024).

    Blocks with more outliers get a lower sparsity, within REACH of the mean, which is `sparsity`.
    """
    values = np.array(fractions, float)
    spread = values.max() - values.min()
    lower = (values - values.min()) / (spread or 1.0) * 2 * REACH
    return np.clip(sparsity + lower.mean() - lower, 0.0, 0.99).tolist()


def by_error(
    curves: Sequence[Sequence[float]], kept: Sequence[float], sizes: Sequence[int], sparsity: float
) -> list[float]:
    """Sparsity of each matrix that minimizes the sum of errors at the requested total.

    Lagrangian relaxation: each matrix minimizes error + price · kept weights, and the price is
    found by bisection.
    """
    fractions = np.geomspace(min(kept), max(kept), 500)
    # a confident model has small losses everywhere
    floor = max(1e-9 * min(1.0, float(np.max(curves))), 1e-300)
    losses = np.exp(
        [
            np.interp(np.log(fractions), np.log(kept), np.log(np.maximum(errors, floor)))
            for errors in curves
        ]
    )
    n = np.array(sizes, float)
    total = (1 - sparsity) * n.sum()
    # kept fractions at a price of zero and at a very high price
    low, high = np.full(len(n), max(kept)), np.full(len(n), min(kept))
    prices = [1e-18, 1e6]
    for _ in range(100):
        price = np.sqrt(prices[0] * prices[1])
        chosen = fractions[(losses + price * n[:, None] * fractions).argmin(1)]
        if chosen @ n > total:
            low, prices[0] = chosen, price
        else:
            high, prices[1] = chosen, price
    most, fewest = low @ n, high @ n
    blend = (total - fewest) / (most - fewest) if most > fewest else 0.0
    return (1 - (blend * low + (1 - blend) * high)).tolist()
