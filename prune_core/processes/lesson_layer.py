"""A layer small enough to see every number of, pruned by the product's own solvers: what the lesson's first steps move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..methods import METHODS
from ..plugins import build
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod
from ..pruning.masks import lowest

ROWS, COLUMNS, TOKENS = 6, 8, 200
COLUMNS_GO = "columns"  # whole inputs go, as with neurons


def small_layer(method: str, sparsity: float, inherited: float, seed: int = 0) -> dict[str, Any]:
    """`weight` and `pruned` (6, 8), `sizes` (8) of the inputs, and relative errors `own`, `inherited` and `total` of the outputs.

    Inputs are correlated and of unlike size, as activations are; `inherited` is how far those behind a pruned layer are from
    the dense ones, relative to their size.
    """
    weight, x, x_hat = _layer(inherited, seed)
    pruned, bias = _pruned(method, sparsity, weight, x=x, x_hat=x_hat)
    told = {
        "own": (weight - pruned) @ x_hat.T - bias[:, None],
        "inherited": weight @ (x - x_hat).T,
        "total": weight @ x.T - pruned @ x_hat.T - bias[:, None],
    }
    scale = (weight @ x.T).norm()
    return {
        "weight": weight.tolist(),
        "pruned": pruned.tolist(),
        "sizes": x_hat.square().mean(0).sqrt().tolist(),
        **{name: float(error.norm() / scale) for name, error in told.items()},
    }


def _layer(inherited: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weight (6, 8), dense inputs (200, 8), and what a pruned layer before makes of them."""
    dice = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(*size, generator=dice)  # noqa: E731
    weight = draw(ROWS, COLUMNS).mul(5).round() / 10
    weight[weight == 0] = 0.1  # a zero is a weight that was removed
    mixed = draw(TOKENS, COLUMNS) @ (torch.eye(COLUMNS) + 0.5 * draw(COLUMNS, COLUMNS))
    x = mixed * torch.linspace(0.3, 2.0, COLUMNS)[torch.randperm(COLUMNS, generator=dice)]
    # what a pruned layer before loses is partly the same mistake for every token, which can be corrected, and partly not
    wrong = x @ draw(COLUMNS, COLUMNS) / COLUMNS**0.5 + x.std(0) * draw(TOKENS, COLUMNS)
    return weight, x, x - inherited * wrong * x.norm() / wrong.norm()


def _pruned(
    method: str, sparsity: float, weight: Tensor, x: Tensor, x_hat: Tensor
) -> tuple[Tensor, Tensor]:
    nothing = torch.zeros(ROWS)
    if method == "magnitude":
        return weight.masked_fill(lowest(weight.abs(), sparsity, per_row=False), 0), nothing
    if method == COLUMNS_GO:
        worth = weight.norm(dim=0) * x_hat.norm(dim=0)
        return weight * ~lowest(worth[None], sparsity)[0], nothing
    solver = build(METHODS, method, {"sparsity": sparsity})
    assert isinstance(solver, LayerwiseMethod), "the others walk whole models"
    stats = InputStatistics(
        x_hat.T @ x_hat, x.T @ x_hat, x_hat.sum(0), dense_total=x.sum(0), tokens=TOKENS
    )
    solved = solver.fit(weight.clone(), nothing.clone(), stats)
    return solved.weight, solved.bias
