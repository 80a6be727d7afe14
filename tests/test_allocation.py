"""Sharing out a total sparsity: the total holds, and the least of errors is found where it is
known.
"""

import pytest
import torch

from prune_core.pruning.allocation import by_error, error_curve, kept_fractions


def exponential(rate: float, kept: list[float]) -> list[float]:
    """An error that falls with every kept weight; its best shares are known by Lagrange."""
    return [float(torch.exp(torch.tensor(-rate * share))) for share in kept]


def test_equal_matrices_get_equal_shares() -> None:
    kept = kept_fractions(0.8)
    assert by_error(
        [exponential(3, kept)] * 3, kept, [100, 100, 100], sparsity=0.8
    ) == pytest.approx([0.8] * 3)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.875, 0.95])
def test_the_total_is_as_asked_whatever_the_curves_and_sizes(sparsity: float) -> None:
    dice = torch.Generator().manual_seed(0)
    kept, sizes = kept_fractions(sparsity), [100, 400, 400, 50]
    curves = [sorted(torch.rand(len(kept), generator=dice).tolist(), reverse=True) for _ in sizes]
    found = by_error(curves, kept, sizes, sparsity=sparsity)
    assert sum(share * n for share, n in zip(found, sizes, strict=True)) == pytest.approx(
        sparsity * sum(sizes)
    )
    assert all(0 <= share <= 1 - min(kept) + 1e-9 for share in found)


def test_a_matrix_whose_error_hardly_grows_gives_more() -> None:
    kept = kept_fractions(0.8)
    steep, flat = by_error(
        [exponential(8, kept), [0.01 * error for error in exponential(8, kept)]],
        kept,
        [100, 100],
        sparsity=0.8,
    )
    assert steep < 0.8 < flat


def test_a_curve_falls_to_zero_where_everything_is_kept() -> None:
    dice = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=dice)
    found = error_curve(torch.randn(8, 16, generator=dice), x.T @ x, [0.25, 0.5, 1.0])
    assert found == sorted(found, reverse=True) and found[0] < 1 and found[-1] < 1e-6


def test_where_outputs_have_a_worth_a_curve_is_in_its_unit() -> None:
    dice = torch.Generator().manual_seed(0)
    x, weight, kept = (
        torch.randn(200, 16, generator=dice),
        torch.randn(8, 16, generator=dice),
        [0.25, 0.5],
    )
    H = x.T @ x
    whole = float(((weight @ H) * weight).sum())
    assert error_curve(weight, H, kept, worth=torch.full((8,), 3.0)) == pytest.approx(
        [3 * whole * share for share in error_curve(weight, H, kept)]
    )
