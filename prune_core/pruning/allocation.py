"""How a total sparsity is shared out among matrices: each by what it loses, the total as asked for.

Pure functions of weights, grams and curves. Knows nothing of models or methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .masks import lowest
from .solvers import refit

FACTORS = (
    0.5,
    0.7,
    1.0,
    1.5,
)  # of the uniform share of kept weights: where a curve is measured, and how far it may lead
ROWS = 96  # of a matrix, at least, that stand for all: they are problems of their own
STEPS = 5  # of the refit behind each point
OUTLIER, REACH = 5.0, 0.08  # OWL's M and λ, as in the paper at 70%


def kept_fractions(sparsity: float) -> list[float]:
    """The shares of kept weights at which curves are measured for a total of `sparsity`."""
    return sorted({min(1.0, factor * (1 - sparsity)) for factor in FACTORS})


def error_curve(
    weight: Tensor, H: Tensor, kept: Sequence[float], worth: Tensor | None = None
) -> list[float]:
    """The share of the output's energy that is lost, tr(ΔHΔᵀ)/tr(WHWᵀ), at each share of kept weights.

    Where it is known what the outputs' errors are worth (`worth`, the diagonal of G), losses of all matrices are of one kind,
    and the loss is Σᵢ Gᵢᵢ(ΔHΔᵀ)ᵢᵢ itself. Wanda's choice and a short refit of a part of the rows: at any sparsity about as
    much above the error of a careful solver, so that what matters here, where curves rise, is found at little cost.
    """
    if worth is not None:
        weight = weight * worth.sqrt()[:, None]
    rows = len(weight)
    weight = weight[:: max(1, rows // ROWS)]
    scores = weight.abs() * H.diagonal().sqrt()
    energy = ((weight @ H) * weight).sum() if worth is None else len(weight) / rows
    lost = []
    for share in kept:
        pruned = refit(
            weight.masked_fill(lowest(scores, 1 - share, per_row=False), 0), weight, H, steps=STEPS
        )
        lost.append((((weight - pruned) @ H) * (weight - pruned)).sum() / energy)
    return torch.stack(lost).tolist()


def outliers(matrices: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The share of a block's |W_ij|·‖X_j‖ above OUTLIER times their mean; each matrix comes with Σx² of its inputs."""
    scores = torch.cat(
        [(weight.abs() * diagonal.sqrt()).flatten() for weight, diagonal in matrices]
    )
    return float((scores > OUTLIER * scores.mean()).float().mean())


def by_outliers(shares: Sequence[float], sparsity: float) -> list[float]:
    """OWL (Yin et al., ICML 2024): each block's sparsity, lower where outliers are many, within REACH of the mean, which is as asked."""
    found = np.array(shares, float)
    spread = found.max() - found.min()
    lower = (found - found.min()) / spread * 2 * REACH if spread else np.zeros(len(found))
    return [float(share) for share in np.clip(sparsity + lower.mean() - lower, 0.0, 0.99)]


def by_error(
    curves: Sequence[Sequence[float]], kept: Sequence[float], sizes: Sequence[int], sparsity: float
) -> list[float]:
    """The sparsity of each matrix so that the sum of their errors is least and the total of removed weights is as asked.

    A Lagrangian: every matrix minimises error + price · kept weights, and the price is bisected until the total fits.
    """
    shares = np.geomspace(min(kept), max(kept), 500)
    least = 1e-9 * min(
        1.0, float(np.max(curves))
    )  # of a model that is sure of itself, all losses are small
    losses = np.exp(
        [
            np.interp(np.log(shares), np.log(kept), np.log(np.maximum(lost, max(least, 1e-300))))
            for lost in curves
        ]
    )
    n = np.array(sizes, float)
    total = (1 - sparsity) * n.sum()
    low, high = (
        np.full(len(n), max(kept)),
        np.full(len(n), min(kept)),
    )  # what is kept at a price of nothing, and of very much
    prices = [1e-18, 1e6]
    for _ in range(100):
        price = np.sqrt(prices[0] * prices[1])
        chosen = shares[(losses + price * n[:, None] * shares).argmin(1)]
        if chosen @ n > total:
            low, prices[0] = chosen, price
        else:
            high, prices[1] = chosen, price
    much, little = low @ n, high @ n
    blend = (total - little) / (much - little) if much > little else 0.0
    return [float(share) for share in 1 - (blend * low + (1 - blend) * high)]
