"""Solvers on small problems with known solutions."""

from itertools import combinations

import pytest
import torch

from prune_core import PruneError
from prune_core.pruning.masks import lowest, lowest_of_each
from prune_core.pruning.solvers import (
    add_damping,
    admm,
    at_once,
    column_sweep,
    exact_obs,
    jointly,
    one_by_one,
    refit,
    separately,
    spectrum,
    upper_factor,
)


def problem(rows: int = 6, columns: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and the Gram matrix of correlated inputs, in fp64."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=rng, dtype=torch.float64)
    x = torch.randn(200, columns, generator=rng, dtype=torch.float64) @ mix
    return torch.randn(rows, columns, generator=rng, dtype=torch.float64), x.T @ x


def least_squares(weight: torch.Tensor, gram: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return the least-squares solution of one row on its kept columns."""
    solution = torch.zeros_like(weight)
    solution[keep] = torch.linalg.solve(gram[keep][:, keep], gram[keep] @ weight)
    return solution


def error(old: torch.Tensor, new: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return ((old - new) @ gram * (old - new)).sum(-1)


def test_one_exact_obs_step_matches_brute_force() -> None:
    weight, gram = problem()
    pruned = exact_obs(weight, torch.linalg.inv(gram), 1)
    for row, actual in zip(weight, pruned, strict=True):
        candidates = [least_squares(row, gram, torch.arange(8) != p) for p in range(8)]
        best = min(candidates, key=lambda candidate: float(error(row, candidate, gram)))
        torch.testing.assert_close(actual, best, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("count", [2, 4, 7])
def test_exact_obs_weights_are_the_least_squares_refit(count: int) -> None:
    weight, gram = problem()
    for row, new in zip(weight, exact_obs(weight, torch.linalg.inv(gram), count), strict=True):
        assert int((new == 0).sum()) == count
        torch.testing.assert_close(new, least_squares(row, gram, new != 0), atol=1e-7, rtol=1e-7)


def test_exact_obs_is_independent_of_the_rows_per_batch() -> None:
    weight, gram = problem(rows=7)
    inverse = torch.linalg.inv(gram)
    torch.testing.assert_close(
        exact_obs(weight, inverse, 4), exact_obs(weight, inverse, 4, memory=1)
    )


def test_exact_obs_satisfies_the_pattern() -> None:
    weight, gram = problem(columns=16)
    kept = (
        (exact_obs(weight, torch.linalg.inv(gram), 8, group=(2, 4)) != 0)
        .unflatten(-1, (-1, 4))
        .sum(-1)
    )
    assert (kept == 2).all()


def test_upper_factor_is_the_cholesky_factor_of_the_inverse() -> None:
    _, gram = problem()
    U, H, used = upper_factor(gram, 0.01)
    torch.testing.assert_close(H, add_damping(gram, 0.01)[0])
    assert used == 0.01 and torch.equal(U, U.triu())
    torch.testing.assert_close(U.T @ U, torch.linalg.inv(H))


def test_sweep_that_removes_the_first_column_refits_the_others() -> None:
    """Earlier columns are never revisited, so only this case has a closed form."""
    weight, gram = problem()
    U, _, _ = upper_factor(gram, 0.0)
    removed = torch.zeros(weight.shape, dtype=torch.bool)
    removed[:, 0] = True
    for width in (3, 8):
        masks = iter(removed.split(width, dim=1))
        swept = column_sweep(weight, U, lambda w, _, masks=masks: next(masks), width=width)
        for row, new in zip(weight, swept, strict=True):
            torch.testing.assert_close(
                new, least_squares(row, gram, torch.arange(8) > 0), atol=1e-7, rtol=1e-7
            )


def test_refit_converges_to_least_squares_and_keeps_the_mask() -> None:
    weight, gram = problem()
    U, H, _ = upper_factor(gram, 0.01)
    swept = column_sweep(weight, U, separately(lambda scores: lowest(scores, 0.5)), width=4)
    refitted = refit(swept, weight, H, steps=30)
    assert torch.equal(refitted != 0, swept != 0) and torch.equal(
        refit(swept, weight, H, steps=0), swept
    )
    for row, new in zip(weight, refitted, strict=True):
        torch.testing.assert_close(new, least_squares(row, H, new != 0), atol=1e-6, rtol=1e-6)


def coupled(
    G: torch.Tensor, H: torch.Tensor, weight: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """Return the least-squares solution of a matrix on its kept weights, with the errors of the
    outputs weighted by G.
    """
    kronecker, kept = torch.kron(G, H), keep.flatten()
    solution = torch.zeros_like(weight).flatten()
    solution[kept] = torch.linalg.solve(
        kronecker[kept][:, kept], kronecker[kept] @ weight.flatten()
    )
    return solution.view_as(weight)


def test_refit_with_coupled_outputs_is_least_squares_of_the_matrix() -> None:
    weight, gram = problem()
    _, G = problem(columns=6, seed=1)
    H, G = add_damping(gram, 0.01)[0], add_damping(G, 0.1)[0]
    removed = lowest(weight.abs(), 0.5)
    expected = coupled(G, H, weight, keep=~removed)
    torch.testing.assert_close(
        refit(weight.masked_fill(removed, 0), weight, H, steps=100, G=G),
        expected,
        atol=1e-6,
        rtol=1e-6,
    )
    solution = admm(weight, spectrum(H), lambda _: removed, steps=10, outputs=spectrum(G))
    torch.testing.assert_close(
        refit(solution, weight, H, steps=100, G=G), expected, atol=1e-6, rtol=1e-6
    )


def test_admm_with_coupled_outputs_reduces_the_weighted_error() -> None:
    weight, gram = problem(rows=20)
    H, G = add_damping(gram, 0.01)[0], add_damping(problem(columns=20, seed=1)[1], 0.1)[0]
    choose = lambda scores: lowest(scores, 0.5, per_row=False)  # noqa: E731
    pruned = {
        name: admm(weight, spectrum(H), choose, steps=30, outputs=outputs)
        for name, outputs in (("unweighted", None), ("weighted", spectrum(G)))
    }
    errors = {
        name: float((G @ (weight - new) @ H * (weight - new)).sum()) for name, new in pruned.items()
    }
    assert errors["weighted"] < 0.6 * errors["unweighted"]


def test_sweep_that_removes_nothing_is_the_identity() -> None:
    weight, gram = problem()
    U, _, _ = upper_factor(gram, 0.01)
    assert torch.equal(
        column_sweep(weight, U, separately(lambda scores: lowest(scores, 0.0))), weight
    )


def test_joint_selection_in_a_group_matches_brute_force() -> None:
    """In the first group, the pair kept is the one of six with the lowest loss after a refit of all
    later columns; the pattern holds in every group.
    """
    weight, gram = problem()
    U, _, _ = upper_factor(gram, 0.0)
    swept = column_sweep(weight, U, jointly(2, 4), width=8, group=4)
    assert ((swept != 0).unflatten(-1, (-1, 4)).sum(-1) == 2).all()
    for row, new in zip(weight, swept, strict=True):
        masks = [
            torch.tensor([i in kept or i > 3 for i in range(8)])
            for kept in combinations(range(4), 2)
        ]
        best = min(masks, key=lambda keep: float(error(row, least_squares(row, gram, keep), gram)))
        assert torch.equal(new[:4] != 0, best[:4])


def test_error_decreases_from_magnitude_to_exact_obs() -> None:
    weight, gram = problem(rows=32, columns=32)
    scale = torch.logspace(
        -1, 1, 32, dtype=torch.float64
    )  # inputs of different scale, which Wanda takes into account
    gram = gram * scale * scale[:, None]
    magnitude = weight.masked_fill(lowest(weight.abs(), 0.5), 0)
    wanda = weight.masked_fill(lowest(weight.abs() * gram.diagonal().sqrt(), 0.5), 0)
    swept = column_sweep(
        weight, upper_factor(gram, 0.0)[0], separately(lambda scores: lowest(scores, 0.5)), width=32
    )
    exact = exact_obs(weight, torch.linalg.inv(gram), 16)
    errors = [float(error(weight, new, gram).sum()) for new in (magnitude, wanda, swept, exact)]
    assert errors == sorted(errors, reverse=True)


def test_admm_on_uncorrelated_inputs_keeps_the_most_important_weights() -> None:
    """Removing a weight then costs its square times H_ii, and the kept weights need no update."""
    weight, gram = problem()
    H = torch.diag(gram.diagonal())
    removed = lowest(weight.square() * H.diagonal(), 0.5)
    pruned = admm(weight, spectrum(H), lambda scores: lowest(scores, 0.5), steps=30)
    torch.testing.assert_close(refit(pruned, weight, H, steps=20), weight.masked_fill(removed, 0))


def test_admm_is_within_20_percent_of_the_best_masks_unlike_a_sweep() -> None:
    weight, gram = problem(rows=20)
    H, _, _ = add_damping(gram, 0.01)
    halves = [torch.tensor([i in kept for i in range(8)]) for kept in combinations(range(8), 4)]
    best = sum(
        min(float(error(row, least_squares(row, H, keep), H)) for keep in halves) for row in weight
    )
    pruned = admm(weight, spectrum(H), lambda scores: lowest(scores, 0.5), steps=30)
    swept = column_sweep(
        weight, upper_factor(gram, 0.01)[0], separately(lambda scores: lowest(scores, 0.5)), width=8
    )
    admm_error, sweep_error = (
        float(error(weight, refit(new, weight, H, steps=30), H).sum()) for new in (pruned, swept)
    )
    assert best <= admm_error < 1.2 * best < sweep_error


@pytest.mark.parametrize(
    "choose", [lambda s: lowest_of_each(s, 2, 4), lambda s: lowest(s, 0.7, per_row=False)]
)
def test_admm_reaches_the_sparsity_and_more_rounds_reduce_the_error(choose) -> None:
    weight, gram = problem(rows=16, columns=32)
    H, _, _ = add_damping(gram, 0.01)
    basis, expected = spectrum(H), int(choose(weight.abs()).sum())
    pruned = [admm(weight, basis, choose, steps=rounds) for rounds in (1, 5, 30)]
    assert all(int((new == 0).sum()) == expected for new in pruned)
    errors = [float(error(weight, new, H).sum()) for new in pruned]
    assert errors == sorted(errors, reverse=True)


def test_admm_with_a_fixed_mask_and_a_refit_is_least_squares() -> None:
    weight, gram = problem()
    H, _, _ = add_damping(gram, 0.01)
    removed = lowest(weight.abs(), 0.5)
    refitted = refit(admm(weight, spectrum(H), lambda _: removed, steps=10), weight, H, steps=30)
    for row, new, row_mask in zip(weight, refitted, removed, strict=True):
        torch.testing.assert_close(new, least_squares(row, H, ~row_mask), atol=1e-6, rtol=1e-6)


def test_singular_gram_increases_and_returns_the_damping() -> None:
    gram = torch.ones(4, 4)
    gram[0, 0] = 0.9999  # not quite positive definite
    _, _, used = add_damping(gram, 1e-6)
    assert used > 1e-6
    with pytest.raises(PruneError, match="more calibration examples"):
        add_damping(gram * torch.nan, 0.01)


def test_sparsities_are_counted_in_decimal_and_rounded_down() -> None:
    scores = torch.rand(3, 10)
    assert lowest(scores, 0.7).sum(1).tolist() == [7, 7, 7]
    assert lowest(scores, 0.99).sum(1).tolist() == [9, 9, 9]
    assert int(lowest(scores, 0.5, per_row=False).sum()) == 15


def test_patterns_are_exact_even_with_ties() -> None:
    mask = lowest_of_each(torch.ones(3, 64), 32, 64)
    assert (mask.unflatten(-1, (-1, 64)).sum(-1) == 32).all()
    with pytest.raises(PruneError, match="does not fit"):
        lowest_of_each(torch.ones(3, 10), 2, 4)


@pytest.mark.parametrize("later", [0, 5], ids=["all columns", "with later columns"])
def test_columns_at_once_equal_columns_one_by_one(later: int) -> None:
    """The GPU path equals the CPU path, for columns of which no, some and all rows are removed."""
    weight, gram = problem(rows=7, columns=16 + later)
    U, _, _ = upper_factor(gram, 0.01)
    removed = (torch.rand(16, 7, generator=torch.Generator().manual_seed(1)) < 0.5).to(weight)
    removed[:, 0], removed[:, 1] = 0, 1
    results = []
    for process in (one_by_one, at_once):
        w = weight.T.contiguous()
        results.append(
            (
                process(w, removed, U[:16]),
                w * torch.cat([1 - removed, torch.ones(later, 7, dtype=w.dtype)]),
            )
        )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
