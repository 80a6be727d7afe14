"""Removing, bringing back and exchanging units, and sharing a budget out, against the best found
by trying everything.
"""

import itertools

import pytest
import torch

from prune_core.methods.ziplm import cheapest
from prune_core.pruning.unit_obs import UnitRegression, fit


def problem(units: int = 6, width: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Features that are much alike, (tokens, columns), and weights (outputs, columns), in fp64."""
    dice = torch.Generator().manual_seed(0)
    mixed = torch.randn(units * width, units * width, generator=dice, dtype=torch.float64)
    A = torch.randn(80, units * width, generator=dice, dtype=torch.float64) @ (
        torch.eye(units * width) + 0.5 * mixed
    )
    return A, torch.randn(5, units * width, generator=dice, dtype=torch.float64)


def least(A: torch.Tensor, weight: torch.Tensor, units: list[int], width: int) -> float:
    """The squared error of the best refit with these units alone."""
    columns = [unit * width + i for unit in units for i in range(width)]
    if not columns:
        return float((A @ weight.T).square().sum())
    found = torch.linalg.lstsq(A[:, columns], A @ weight.T).solution
    return float((A[:, columns] @ found - A @ weight.T).square().sum())


@pytest.mark.parametrize("width", [1, 2])
def test_errors_and_their_changes_are_those_of_least_squares(width: int) -> None:
    A, weight = problem(6, width)
    tableau = UnitRegression(A.T @ A, weight, width, damping=0.0)
    assert tableau.whole == pytest.approx(least(A, weight, [], width=width))
    for units in ([2], [0, 4], [2], [5], [0]):  # out, out together, back, out, back
        tableau.flip(torch.tensor(units))
        kept = tableau.kept.nonzero().flatten().tolist()
        error = least(A, weight, kept, width=width)
        assert tableau.error == pytest.approx(error, rel=1e-6, abs=1e-6)
        other = [least(A, weight, sorted(set(kept) ^ {unit}), width=width) for unit in range(6)]
        assert tableau.changes().tolist() == pytest.approx(
            [abs(each - error) for each in other], rel=1e-5, abs=1e-5
        )


def test_the_fit_is_least_squares() -> None:
    A, weight = problem()
    kept = torch.tensor([True] * 5 + [False] * 7)
    found, used = fit(A.T @ A, weight, kept, damping=0.0)
    torch.testing.assert_close(found, torch.linalg.lstsq(A[:, kept], A @ weight.T).solution.T)
    assert used == 0


def test_exchanges_end_at_the_best_choice_there_is() -> None:
    """Where one by one does not: of two units that say nearly the same one has to come back."""
    found = []
    for seed in range(8):
        dice = torch.Generator().manual_seed(seed)
        A = torch.randn(60, 3, generator=dice, dtype=torch.float64) @ torch.randn(
            3, 8, generator=dice, dtype=torch.float64
        )
        A += 0.3 * torch.randn(60, 8, generator=dice, dtype=torch.float64)
        weight = torch.randn(4, 8, generator=dice, dtype=torch.float64)
        best = min(
            least(A, weight, list(units), width=1) for units in itertools.combinations(range(8), 3)
        )
        tableau = UnitRegression(A.T @ A, weight, 1, damping=0.0)
        tableau.remove_to(3)
        greedy = tableau.error
        tableau.exchange(20, 2)
        assert int(tableau.kept.sum()) == 3 and best * (1 - 1e-9) <= tableau.error <= greedy * (
            1 + 1e-9
        )
        found.append((greedy, tableau.error, best))
    by_greedy, by_exchange = (
        sum(each[place] <= each[2] * (1 + 1e-6) for each in found) for place in (0, 1)
    )
    assert by_exchange > by_greedy


@pytest.mark.parametrize("allowed", [0.0, 3.0, 7.0, 12.5, 30.0])
def test_the_budget_is_shared_out_as_well_as_can_be(allowed: float) -> None:
    dice = torch.Generator().manual_seed(0)
    options = []
    for size in (4, 3, 5):
        prices = (
            torch.cat([torch.zeros(1), torch.randint(1, 6, (size - 1,), generator=dice).cumsum(0)])
            .double()
            .flip(0)
        )
        options.append(
            (prices, torch.rand(size, generator=dice, dtype=torch.float64).sort().values)
        )
    found = cheapest(options, allowed)
    choices = itertools.product(*(range(len(prices)) for prices, _ in options))

    def sums(places):
        return [
            sum(float(part[place]) for part, place in zip(column, places, strict=True))
            for column in zip(*options, strict=True)
        ]

    lost = min(sums(places)[1] for places in choices if sums(places)[0] <= allowed)
    assert sums(found)[0] <= allowed + 1e-9 and sums(found)[1] == pytest.approx(lost)
