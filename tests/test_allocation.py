"""Sparsity allocation: the total is met, and a matrix whose error grows slowly is pruned more."""

import pytest
import torch

from prune_core.pruning.allocation import by_error, error_curve, kept_fractions


def exponential(rate: float, kept: list[float]) -> list[float]:
    """Return an error that decays exponentially with the kept fraction of the weights."""
    return [float(torch.exp(torch.tensor(-rate * fraction))) for fraction in kept]


def test_equal_matrices_get_equal_sparsity() -> None:
    kept = kept_fractions(0.8)
    sparsities = by_error([exponential(3, kept)] * 3, kept, [100, 100, 100], sparsity=0.8)
    assert sparsities == pytest.approx([0.8] * 3)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.875, 0.95])
def test_total_sparsity_is_met_for_any_error_curves_and_sizes(sparsity: float) -> None:
    rng = torch.Generator().manual_seed(0)
    kept, sizes = kept_fractions(sparsity), [100, 400, 400, 50]
    curves = [sorted(torch.rand(len(kept), generator=rng).tolist(), reverse=True) for _ in sizes]
    sparsities = by_error(curves, kept, sizes, sparsity=sparsity)
    removed = sum(fraction * n for fraction, n in zip(sparsities, sizes, strict=True))
    assert removed == pytest.approx(sparsity * sum(sizes))
    assert all(0 <= fraction <= 1 - min(kept) + 1e-9 for fraction in sparsities)


def test_matrix_with_flatter_error_curve_is_pruned_more() -> None:
    kept = kept_fractions(0.8)
    curve = exponential(8, kept)
    flatter_curve = [0.01 * error for error in curve]
    steep, flat = by_error([curve, flatter_curve], kept, [100, 100], sparsity=0.8)
    assert steep < 0.8 < flat


def test_error_curve_decreases_to_zero_at_zero_sparsity() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=rng)
    errors = error_curve(torch.randn(8, 16, generator=rng), x.T @ x, [0.25, 0.5, 1.0])
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1
    assert errors[-1] < 1e-6


def test_error_curve_scales_with_the_fisher_weight_of_outputs() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 16, generator=rng)
    weight = torch.randn(8, 16, generator=rng)
    H, kept = x.T @ x, [0.25, 0.5]
    energy = float(((weight @ H) * weight).sum())  # of the dense outputs, to which errors relate
    weighted = error_curve(weight, H, kept, fisher_diagonal=torch.full((8,), 3.0))
    relative = error_curve(weight, H, kept)
    assert weighted == pytest.approx([3 * energy * error for error in relative])
