"""Small cases with known answers: what the solvers must do exactly."""

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
    """Weights and the gram of correlated inputs, in fp64."""
    dice = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=dice, dtype=torch.float64)
    x = torch.randn(200, columns, generator=dice, dtype=torch.float64) @ mix
    return torch.randn(rows, columns, generator=dice, dtype=torch.float64), x.T @ x


def least_squares(weight: torch.Tensor, gram: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Least squares of one row on its kept columns."""
    answer = torch.zeros_like(weight)
    answer[keep] = torch.linalg.solve(gram[keep][:, keep], gram[keep] @ weight)
    return answer


def error(old: torch.Tensor, new: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    return ((old - new) @ gram * (old - new)).sum(-1)


def test_one_exact_step_is_what_brute_force_picks() -> None:
    weight, gram = problem()
    ours = exact_obs(weight, torch.linalg.inv(gram), 1)
    for row, found in zip(weight, ours, strict=True):
        every = [least_squares(row, gram, torch.arange(8) != p) for p in range(8)]
        best = min(every, key=lambda answer: float(error(row, answer, gram)))
        torch.testing.assert_close(found, best, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("count", [2, 4, 7])
def test_after_k_exact_steps_the_rest_is_the_least_squares_refit(count: int) -> None:
    weight, gram = problem()
    for row, found in zip(weight, exact_obs(weight, torch.linalg.inv(gram), count), strict=True):
        assert int((found == 0).sum()) == count
        torch.testing.assert_close(
            found, least_squares(row, gram, found != 0), atol=1e-7, rtol=1e-7
        )


def test_exact_rows_do_not_depend_on_how_many_run_in_parallel() -> None:
    weight, gram = problem(rows=7)
    inverse = torch.linalg.inv(gram)
    torch.testing.assert_close(
        exact_obs(weight, inverse, 4), exact_obs(weight, inverse, 4, memory=1)
    )


def test_exact_keeps_the_pattern() -> None:
    weight, gram = problem(columns=16)
    kept = (
        (exact_obs(weight, torch.linalg.inv(gram), 8, group=(2, 4)) != 0)
        .unflatten(-1, (-1, 4))
        .sum(-1)
    )
    assert (kept == 2).all()


def test_the_factor_is_the_factor_of_the_inverse() -> None:
    _, gram = problem()
    U, H, used = upper_factor(gram, 0.01)
    torch.testing.assert_close(H, add_damping(gram, 0.01)[0])
    assert used == 0.01 and torch.equal(U, U.triu())
    torch.testing.assert_close(U.T @ U, torch.linalg.inv(H))


def test_sweep_that_removes_the_first_column_is_the_refit_of_the_others() -> None:
    """Columns already passed are never revisited, so this is the case with a closed form."""
    weight, gram = problem()
    U, _, _ = upper_factor(gram, 0.0)
    gone = torch.zeros(weight.shape, dtype=torch.bool)
    gone[:, 0] = True
    for width in (3, 8):
        parts = iter(gone.split(width, dim=1))
        found = column_sweep(weight, U, lambda w, _, parts=parts: next(parts), width=width)
        for row, new in zip(weight, found, strict=True):
            torch.testing.assert_close(
                new, least_squares(row, gram, torch.arange(8) > 0), atol=1e-7, rtol=1e-7
            )


def test_the_refit_ends_at_least_squares_and_keeps_the_mask() -> None:
    weight, gram = problem()
    U, H, _ = upper_factor(gram, 0.01)
    swept = column_sweep(weight, U, separately(lambda scores: lowest(scores, 0.5)), width=4)
    found = refit(swept, weight, H, steps=30)
    assert torch.equal(found != 0, swept != 0) and torch.equal(
        refit(swept, weight, H, steps=0), swept
    )
    for row, new in zip(weight, found, strict=True):
        torch.testing.assert_close(new, least_squares(row, H, new != 0), atol=1e-6, rtol=1e-6)


def coupled(
    G: torch.Tensor, H: torch.Tensor, weight: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """Least squares of a whole matrix on its kept weights, where the outputs' errors are worth
    G.
    """
    whole, kept = torch.kron(G, H), keep.flatten()
    answer = torch.zeros_like(weight).flatten()
    answer[kept] = torch.linalg.solve(whole[kept][:, kept], whole[kept] @ weight.flatten())
    return answer.view_as(weight)


def test_the_refit_where_outputs_go_together_is_least_squares_of_the_whole_matrix() -> None:
    weight, gram = problem()
    _, G = problem(columns=6, seed=1)
    H, G = add_damping(gram, 0.01)[0], add_damping(G, 0.1)[0]
    gone = lowest(weight.abs(), 0.5)
    wanted = coupled(G, H, weight, keep=~gone)
    torch.testing.assert_close(
        refit(weight.masked_fill(gone, 0), weight, H, steps=100, G=G), wanted, atol=1e-6, rtol=1e-6
    )
    found = admm(weight, spectrum(H), lambda _: gone, steps=10, outputs=spectrum(G))
    torch.testing.assert_close(
        refit(found, weight, H, steps=100, G=G), wanted, atol=1e-6, rtol=1e-6
    )


def test_admm_where_outputs_go_together_leaves_less_of_their_error() -> None:
    weight, gram = problem(rows=20)
    H, G = add_damping(gram, 0.01)[0], add_damping(problem(columns=20, seed=1)[1], 0.1)[0]
    choose = lambda scores: lowest(scores, 0.5, per_row=False)  # noqa: E731
    found = {
        name: admm(weight, spectrum(H), choose, steps=30, outputs=outputs)
        for name, outputs in (("alike", None), ("worth", spectrum(G)))
    }
    left = {
        name: float((G @ (weight - new) @ H * (weight - new)).sum()) for name, new in found.items()
    }
    assert left["worth"] < 0.6 * left["alike"]


def test_sweep_that_removes_nothing_is_the_identity() -> None:
    weight, gram = problem()
    U, _, _ = upper_factor(gram, 0.01)
    assert torch.equal(
        column_sweep(weight, U, separately(lambda scores: lowest(scores, 0.0))), weight
    )


def test_weights_judged_together_are_what_brute_force_picks() -> None:
    """Of the first group's six pairs the one whose loss, all later columns refitted, is least;
    the pattern holds everywhere.
    """
    weight, gram = problem()
    U, _, _ = upper_factor(gram, 0.0)
    found = column_sweep(weight, U, jointly(2, 4), width=8, group=4)
    assert ((found != 0).unflatten(-1, (-1, 4)).sum(-1) == 2).all()
    for row, new in zip(weight, found, strict=True):
        ways = [
            torch.tensor([i in kept or i > 3 for i in range(8)])
            for kept in combinations(range(4), 2)
        ]
        best = min(ways, key=lambda keep: float(error(row, least_squares(row, gram, keep), gram)))
        assert torch.equal(new[:4] != 0, best[:4])


def test_every_better_solver_leaves_less_error() -> None:
    weight, gram = problem(rows=32, columns=32)
    scale = torch.logspace(
        -1, 1, 32, dtype=torch.float64
    )  # inputs of unlike size: what Wanda looks at
    gram = gram * scale * scale[:, None]
    plain = weight.masked_fill(lowest(weight.abs(), 0.5), 0)
    wanda = weight.masked_fill(lowest(weight.abs() * gram.diagonal().sqrt(), 0.5), 0)
    swept = column_sweep(
        weight, upper_factor(gram, 0.0)[0], separately(lambda scores: lowest(scores, 0.5)), width=32
    )
    exact = exact_obs(weight, torch.linalg.inv(gram), 16)
    errors = [float(error(weight, new, gram).sum()) for new in (plain, wanda, swept, exact)]
    assert errors == sorted(errors, reverse=True)


def test_admm_on_inputs_that_do_not_correlate_keeps_the_weights_that_weigh_most() -> None:
    """Each weight then costs its own square times its input's, and what stays needs no change."""
    weight, gram = problem()
    H = torch.diag(gram.diagonal())
    gone = lowest(weight.square() * H.diagonal(), 0.5)
    found = admm(weight, spectrum(H), lambda scores: lowest(scores, 0.5), steps=30)
    torch.testing.assert_close(refit(found, weight, H, steps=20), weight.masked_fill(gone, 0))


def test_admm_comes_near_the_best_of_all_masks_where_a_sweep_does_not() -> None:
    weight, gram = problem(rows=20)
    H, _, _ = add_damping(gram, 0.01)
    halves = [torch.tensor([i in kept for i in range(8)]) for kept in combinations(range(8), 4)]
    best = sum(
        min(float(error(row, least_squares(row, H, keep), H)) for keep in halves) for row in weight
    )
    found = admm(weight, spectrum(H), lambda scores: lowest(scores, 0.5), steps=30)
    swept = column_sweep(
        weight, upper_factor(gram, 0.01)[0], separately(lambda scores: lowest(scores, 0.5)), width=8
    )
    admms, sweeps = (
        float(error(weight, refit(new, weight, H, steps=30), H).sum()) for new in (found, swept)
    )
    assert best <= admms < 1.2 * best < sweeps


@pytest.mark.parametrize(
    "choose", [lambda s: lowest_of_each(s, 2, 4), lambda s: lowest(s, 0.7, per_row=False)]
)
def test_admm_ends_with_the_zeros_that_were_asked_for_and_more_rounds_end_nearer(choose) -> None:
    weight, gram = problem(rows=16, columns=32)
    H, _, _ = add_damping(gram, 0.01)
    basis, wanted = spectrum(H), int(choose(weight.abs()).sum())
    found = [admm(weight, basis, choose, steps=rounds) for rounds in (1, 5, 30)]
    assert all(int((new == 0).sum()) == wanted for new in found)
    errors = [float(error(weight, new, H).sum()) for new in found]
    assert errors == sorted(errors, reverse=True)


def test_admm_with_a_fixed_mask_and_the_refit_is_least_squares() -> None:
    weight, gram = problem()
    H, _, _ = add_damping(gram, 0.01)
    gone = lowest(weight.abs(), 0.5)
    found = refit(admm(weight, spectrum(H), lambda _: gone, steps=10), weight, H, steps=30)
    for row, new, zero in zip(weight, found, gone, strict=True):
        torch.testing.assert_close(new, least_squares(row, H, ~zero), atol=1e-6, rtol=1e-6)


def test_a_singular_gram_raises_the_damping_and_says_so() -> None:
    gram = torch.ones(4, 4)
    gram[0, 0] = 0.9999  # not quite positive definite
    _, _, used = add_damping(gram, 1e-6)
    assert used > 1e-6
    with pytest.raises(PruneError, match="more calibration sentences"):
        add_damping(gram * torch.nan, 0.01)


def test_shares_are_counted_in_decimal_and_rounded_down() -> None:
    scores = torch.rand(3, 10)
    assert lowest(scores, 0.7).sum(1).tolist() == [7, 7, 7]
    assert lowest(scores, 0.99).sum(1).tolist() == [9, 9, 9]
    assert int(lowest(scores, 0.5, per_row=False).sum()) == 15


def test_patterns_are_exact_even_with_ties() -> None:
    mask = lowest_of_each(torch.ones(3, 64), 32, 64)
    assert (mask.unflatten(-1, (-1, 64)).sum(-1) == 32).all()
    with pytest.raises(PruneError, match="does not fit"):
        lowest_of_each(torch.ones(3, 10), 2, 4)


@pytest.mark.parametrize("more", [0, 5], ids=["all of the columns", "with columns behind"])
def test_passing_columns_at_once_is_passing_them_one_by_one(more: int) -> None:
    """What a GPU does against what a CPU does; a matrix whose columns are none, some and all
    gone in a row.
    """
    weight, gram = problem(rows=7, columns=16 + more)
    U, _, _ = upper_factor(gram, 0.01)
    gone = (torch.rand(16, 7, generator=torch.Generator().manual_seed(1)) < 0.5).to(weight)
    gone[:, 0], gone[:, 1] = 0, 1
    found = []
    for passed in (one_by_one, at_once):
        w = weight.T.contiguous()
        found.append(
            (passed(w, gone, U[:16]), w * torch.cat([1 - gone, torch.ones(more, 7, dtype=w.dtype)]))
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)
