"""Removing, restoring and exchanging units within a budget, compared with exhaustive search."""

import itertools

import pytest
import torch

from prune_core.methods.ziplm import cheapest
from prune_core.pruning.unit_obs import UnitRegression, fit


def problem(units: int = 6, width: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Return correlated features (tokens, columns) and weights (outputs, columns), in fp64."""
    rng = torch.Generator().manual_seed(0)
    mixed = torch.randn(units * width, units * width, generator=rng, dtype=torch.float64)
    A = torch.randn(80, units * width, generator=rng, dtype=torch.float64) @ (
        torch.eye(units * width) + 0.5 * mixed
    )
    return A, torch.randn(5, units * width, generator=rng, dtype=torch.float64)


def least_squares_error(
    A: torch.Tensor, weight: torch.Tensor, units: list[int], width: int
) -> float:
    """Return the squared error of the least-squares refit of these units."""
    columns = [unit * width + i for unit in units for i in range(width)]
    if not columns:
        return float((A @ weight.T).square().sum())
    solution = torch.linalg.lstsq(A[:, columns], A @ weight.T).solution
    return float((A[:, columns] @ solution - A @ weight.T).square().sum())


@pytest.mark.parametrize("width", [1, 2])
def test_errors_and_their_changes_match_least_squares(width: int) -> None:
    A, weight = problem(6, width)
    tableau = UnitRegression(A.T @ A, weight, width, damping=0.0)
    assert tableau.whole == pytest.approx(least_squares_error(A, weight, [], width=width))
    for units in ([2], [0, 4], [2], [5], [0]):  # remove, remove two, restore, remove, restore
        tableau.flip(torch.tensor(units))
        kept = tableau.kept.nonzero().flatten().tolist()
        error = least_squares_error(A, weight, kept, width=width)
        assert tableau.error == pytest.approx(error, rel=1e-6, abs=1e-6)
        neighbours = [
            least_squares_error(A, weight, sorted(set(kept) ^ {unit}), width=width)
            for unit in range(6)
        ]
        assert tableau.changes().tolist() == pytest.approx(
            [abs(neighbour - error) for neighbour in neighbours], rel=1e-5, abs=1e-5
        )


def test_fit_is_least_squares() -> None:
    A, weight = problem()
    kept = torch.tensor([True] * 5 + [False] * 7)
    fitted, damping = fit(A.T @ A, weight, kept, damping=0.0)
    torch.testing.assert_close(fitted, torch.linalg.lstsq(A[:, kept], A @ weight.T).solution.T)
    assert damping == 0


def test_exchanges_reach_the_optimum_more_often_than_greedy_removal() -> None:
    """Greedy removal misses it if one of two nearly identical units has to be restored."""
    errors = []
    for seed in range(8):
        rng = torch.Generator().manual_seed(seed)
        A = torch.randn(60, 3, generator=rng, dtype=torch.float64) @ torch.randn(
            3, 8, generator=rng, dtype=torch.float64
        )
        A += 0.3 * torch.randn(60, 8, generator=rng, dtype=torch.float64)
        weight = torch.randn(4, 8, generator=rng, dtype=torch.float64)
        best = min(
            least_squares_error(A, weight, list(units), width=1)
            for units in itertools.combinations(range(8), 3)
        )
        tableau = UnitRegression(A.T @ A, weight, 1, damping=0.0)
        tableau.remove_to(3)
        greedy = tableau.error
        tableau.exchange(20, 2)
        assert int(tableau.kept.sum()) == 3
        assert best * (1 - 1e-9) <= tableau.error <= greedy * (1 + 1e-9)
        errors.append((greedy, tableau.error, best))
    by_greedy, by_exchange = (
        sum(seed_errors[index] <= seed_errors[2] * (1 + 1e-6) for seed_errors in errors)
        for index in (0, 1)
    )
    assert by_exchange > by_greedy


@pytest.mark.parametrize("allowed", [0.0, 3.0, 7.0, 12.5, 30.0])
def test_cheapest_matches_exhaustive_search(allowed: float) -> None:
    rng = torch.Generator().manual_seed(0)
    options = []
    for size in (4, 3, 5):
        prices = (
            torch.cat([torch.zeros(1), torch.randint(1, 6, (size - 1,), generator=rng).cumsum(0)])
            .double()
            .flip(0)
        )
        options.append((prices, torch.rand(size, generator=rng, dtype=torch.float64).sort().values))
    chosen = cheapest(options, allowed)
    choices = itertools.product(*(range(len(prices)) for prices, _ in options))

    def sums(indices):
        return [
            sum(float(values[index]) for values, index in zip(column, indices, strict=True))
            for column in zip(*options, strict=True)
        ]

    lowest_loss = min(sums(indices)[1] for indices in choices if sums(indices)[0] <= allowed)
    assert sums(chosen)[0] <= allowed + 1e-9 and sums(chosen)[1] == pytest.approx(lowest_loss)
