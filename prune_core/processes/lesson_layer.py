"""Example of the lesson page: a layer small enough to show every weight, pruned by the solvers."""

from typing import Any

import torch
from torch import Tensor

from ..methods import METHODS
from ..plugins import build
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod
from ..pruning.masks import lowest

ROWS, COLUMNS, TOKENS = 6, 8, 200
REMOVE_COLUMNS = "columns"  # structured pruning: removes whole inputs, as if they were neurons


def small_layer(method: str, sparsity: float, inherited: float, seed: int = 0) -> dict[str, Any]:
    """Prune a small random layer and return its weights and relative output errors.

    Keys: `weight` and `pruned_weight` (outputs, inputs), `input_rms` (inputs), and the relative
    errors of the output: `own_error` from pruning this layer, `inherited_error` from earlier layers
    and `total_error` of both. Inputs are correlated and differ in scale, as activations do.
    `inherited` is the relative distance between the inputs from pruned earlier layers and the dense
    inputs.
    """
    weight, x, x_hat = _layer(inherited, seed)
    pruned, bias = _pruned(method, sparsity, weight, x=x, x_hat=x_hat)
    errors = {
        "own_error": (weight - pruned) @ x_hat.T - bias[:, None],
        "inherited_error": weight @ (x - x_hat).T,
        "total_error": weight @ x.T - pruned @ x_hat.T - bias[:, None],
    }
    scale = (weight @ x.T).norm()
    return {
        "weight": weight.tolist(),
        "pruned_weight": pruned.tolist(),
        "input_rms": x_hat.square().mean(0).sqrt().tolist(),
        **{name: float(error.norm() / scale) for name, error in errors.items()},
    }


def _layer(inherited: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight (6, 8), the dense inputs (200, 8) and those from pruned earlier layers."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=rng)

    weight = normal(ROWS, COLUMNS).mul(5).round() / 10
    weight[weight == 0] = 0.1  # a zero is a weight that was removed
    mixed = normal(TOKENS, COLUMNS) @ (torch.eye(COLUMNS) + 0.5 * normal(COLUMNS, COLUMNS))
    x = mixed * torch.linspace(0.3, 2.0, COLUMNS)[torch.randperm(COLUMNS, generator=rng)]
    # the error of earlier layers is partly the same linear map for every token, which can be
    # corrected, and partly noise
    error = x @ normal(COLUMNS, COLUMNS) / COLUMNS**0.5 + x.std(0) * normal(TOKENS, COLUMNS)
    return weight, x, x - inherited * error * x.norm() / error.norm()


def _pruned(
    method: str, sparsity: float, weight: Tensor, x: Tensor, x_hat: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the pruned weight (6, 8) and the bias (6,) that the method adds.

    `x` are the inputs of the dense layer, `x_hat` those of the pruned one, (200, 8).
    """
    zero_bias = torch.zeros(ROWS)
    if method == "magnitude":
        return weight.masked_fill(lowest(weight.abs(), sparsity, per_row=False), 0), zero_bias
    if method == REMOVE_COLUMNS:
        importance = weight.norm(dim=0) * x_hat.norm(dim=0)
        return weight * ~lowest(importance[None], sparsity)[0], zero_bias
    solver = build(METHODS, method, {"sparsity": sparsity})
    assert isinstance(solver, LayerwiseMethod), "other methods need the whole model"
    stats = InputStatistics(
        x_hat.T @ x_hat, x.T @ x_hat, x_hat.sum(0), dense_total=x.sum(0), tokens=TOKENS
    )
    solved = solver.fit(weight.clone(), zero_bias.clone(), stats)
    return solved.weight, solved.bias
