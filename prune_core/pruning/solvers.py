"""Optimal-brain-surgeon solvers: choose weights of a matrix to remove and move the rest to make up for them.

Pure tensor functions of a weight matrix and the gram of its inputs. They know nothing of models, blocks or methods.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PruneError

DAMPING_STEPS = 4  # each ten times the last, from the first that is asked for
PENALTY, PENALTY_RISE = (
    0.03,
    100.0,
)  # of ADMM: where it starts, beside a gram whose diagonal is 1, and how many times it grows


def add_damping(gram: Tensor, damping: float) -> tuple[Tensor, Tensor, float]:
    """(H, its lower Cholesky factor, the damping that it took); dead inputs get a diagonal of their own.

    A failed factorisation raises the damping in named steps; the caller records what was used.
    """
    diagonal = gram.diagonal()
    mean = diagonal.mean().clamp_min(torch.finfo(gram.dtype).tiny)
    for step in range(DAMPING_STEPS):
        used = damping * 10**step if damping else (0.0, 1e-6, 1e-4, 1e-2)[step]
        H = gram.clone()
        # an input that is always zero gets the mean: its weights cost nothing
        H.diagonal().copy_(torch.where(diagonal == 0, mean, diagonal + used * mean))
        factor, failed = torch.linalg.cholesky_ex(H)
        if bool((failed == 0) & torch.isfinite(factor).all()):  # the one look at the device
            return H, factor, used
    advice = "use more calibration sentences or raise damping"
    raise PruneError(
        f"The input statistics cannot be inverted, even with damping {used:g}; {advice}."
    )


def ridge_fit(weight: Tensor, gram: Tensor, cross: Tensor, damping: float) -> tuple[Tensor, float]:
    """(d, k) that maps A (tokens, k) nearest to B (tokens, d), of AᵀA and AᵀB, and the damping used; the ridge pulls towards `weight`."""
    H, factor, used = add_damping(gram, damping)
    return torch.cholesky_solve(cross + (H - gram) @ weight.T, factor).T, used


def upper_factor(gram: Tensor, damping: float) -> tuple[Tensor, Tensor, float]:
    """(U upper triangular with H⁻¹ = UᵀU, H, damping used): row i of U drives SparseGPT's update of columns i and up."""
    # H with both axes reversed is LLᵀ, so U is L⁻¹ reversed back: one factorisation and one triangular inverse
    H, factor, used = add_damping(gram.flip(0, 1), damping)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_triangular(factor, eye, upper=False).flip(0, 1), H.flip(0, 1), used


Choose = Callable[
    [Tensor, Tensor], Tensor
]  # weights w (rows, c) of the next c columns, their U (c, c) -> True where one goes


def separately(choose: Callable[[Tensor], Tensor]) -> Choose:
    """SparseGPT's choice: by w²/U_jj², what the error would be if this weight alone went; `choose` sees (rows, c)."""
    return lambda w, U: choose((w / U.diagonal()).square())


def jointly(keep: int, group: int) -> Choose:
    """Of all ways to remove group − keep neighbours, the one with the least error when they go together.

    Optimal brain surgeon for a set S of weights: w_S ([H⁻¹]_SS)⁻¹ w_Sᵀ, where H⁻¹ = UᵀU is of the columns not yet passed.
    Weights judged one by one miss that two neighbours may stand in for each other.
    """
    on: dict[torch.device, Tensor] = {}

    def choose(w: Tensor, U: Tensor) -> Tensor:
        if w.device not in on:
            on[w.device] = torch.tensor(
                list(combinations(range(group), group - keep)), device=w.device
            )
        ways = on[w.device]  # (sets, removed)
        inverse = U.T @ U
        blocks = torch.linalg.inv_ex(inverse[ways[:, :, None], ways[:, None, :]])[
            0
        ]  # (sets, removed, removed); U has an inverse
        gone = w[:, ways].transpose(0, 1)  # (sets, rows, removed)
        best = ways[((gone @ blocks) * gone).sum(-1).argmin(0)]
        return torch.zeros_like(w, dtype=torch.bool).scatter_(1, best, True)

    return choose


def column_sweep(
    weight: Tensor, U: Tensor, choose: Choose, width: int = 128, group: int = 0
) -> Tensor:
    """SparseGPT (Frantar & Alistarh 2023, Algorithm 1): columns left to right, errors pushed into the columns not yet seen.

    `choose` decides on the next `group` columns, or on `width` columns at once where there is no group. Width is how many
    columns wait for one large update. Where starting an operation costs more than its work (on a GPU), the columns of a
    group are passed in one solve and not one by one.
    """
    W = weight.clone()
    columns = W.shape[1]
    group = group or width
    width = -(-width // group) * group  # whole groups
    passed = one_by_one if W.device.type == "cpu" else at_once
    for start in range(0, columns, width):
        end = min(start + width, columns)
        local = U[start:end, start:end]
        w = W[:, start:end].T.contiguous()  # (columns, rows): a column is contiguous
        gone, errors = torch.empty_like(w), torch.empty_like(w)
        for i in range(0, end - start, group):
            own = slice(i, i + group)
            gone[own] = choose(w[own].T, local[own, own]).T
            errors[own] = passed(w[i:], gone[own], local[own, i:])
        W[:, start:end] = (w * (1 - gone)).T
        W[:, end:].addmm_(errors.T, U[start:end, end:], alpha=-1)
    return W


def one_by_one(w: Tensor, gone: Tensor, U: Tensor) -> Tensor:
    """The errors (columns, rows) of the first columns, where they go, over their pivots; moves all weights behind each, in place.

    w is (all columns, rows), `gone` (columns, rows), U (columns, all columns).
    """
    errors, pivots = torch.empty_like(gone), U.diagonal()
    for i in range(len(gone)):
        torch.mul(w[i], gone[i], out=errors[i]).div_(pivots[i])
        w[i + 1 :].addr_(U[i, i + 1 :], errors[i], alpha=-1)
    return errors


def at_once(w: Tensor, gone: Tensor, U: Tensor) -> Tensor:
    """The same by one small triangular solve for each row of the matrix, all of them together.

    e_i = g_i (w_i − Σ_{k<i} U_ki e_k) / U_ii with g = 1 where a weight goes, so (I + L) e = g·w/d with L_ik = g_i U_ki / U_ii
    for k < i. L has the columns squared, 64 KB a row at 128 columns.
    """
    count, pivots = len(gone), U.diagonal()[:, None]
    L = gone.T[:, :, None] * (U[:, :count].T / pivots).tril(-1)  # (rows, columns, columns)
    right = (gone * w[:count] / pivots).T[:, :, None]
    errors = torch.linalg.solve_triangular(L, right, upper=False, unitriangular=True)[:, :, 0].T
    w.addmm_(U.triu(1).T, errors, alpha=-1)
    return errors


def refit(pruned: Tensor, target: Tensor, H: Tensor, steps: int, G: Tensor | None = None) -> Tensor:
    """Move the kept weights towards the least-squares refit of `target` on them: min tr(G(W−W̄)H(W−W̄)ᵀ), zeros stay.

    That refit is where ExactOBS ends and where a sweep, which only looks to its right, falls short. Conjugate gradients
    with a diagonal preconditioner: a step is one matrix product, and no row needs a factor of its own. Without G, what the
    outputs' errors are worth, rows are problems of their own; with it they are one.
    """
    keep = (pruned != 0).to(pruned.dtype)
    scale = (H.diagonal() if G is None else torch.outer(G.diagonal(), H.diagonal())).reciprocal()
    curved = lambda w: (w @ H if G is None else G @ w @ H).mul_(keep)  # noqa: E731
    summed = lambda w: w.sum(1, keepdim=True) if G is None else w.sum()  # noqa: E731
    tiny = torch.finfo(pruned.dtype).tiny
    w = pruned.clone()
    r = curved(target - w)
    p = z = r * scale
    rz = summed(r * z)
    for _ in range(steps):
        Hp = curved(p)
        step = rz / summed(p * Hp).clamp_min(tiny)  # a row that has arrived stays
        w.addcmul_(p, step)
        r.addcmul_(Hp, step, value=-1)
        z = r * scale
        rz, before = summed(r * z), rz
        p = z + p * (rz / before.clamp_min(tiny))
    return w


class Spectrum(NamedTuple):
    """A gram with unit diagonal, scaled so by its columns, as eigenvectors: a ridge of any size is then a division."""

    scale: Tensor  # (columns,) root of the gram's diagonal
    values: Tensor  # (columns,)
    vectors: Tensor  # (columns, columns)


def spectrum(H: Tensor) -> Spectrum:
    """What `admm` takes of damped grams (..., columns, columns); matrices with one input share it."""
    scale = H.diagonal(dim1=-2, dim2=-1).sqrt()
    return Spectrum(scale, *torch.linalg.eigh(H / (scale[..., :, None] * scale[..., None, :])))


def admm(
    target: Tensor,
    inputs: Spectrum,
    choose: Callable[[Tensor], Tensor],
    steps: int,
    outputs: Spectrum | None = None,
    relax: float = 1.0,
) -> Tensor:
    """Alternate between the least-squares fit of `target` and the nearest matrix with the zeros that `choose` wants.

    min tr(G(W−W̄)H(W−W̄)ᵀ) over every choice of zeros, so where a sweep decides once on each column, here the mask moves while
    the penalty rises from round to round (ADMM; with a fixed mask and penalty Boža 2024). `inputs` is of H, `outputs` of G,
    which is the identity where there is none. `choose` sees absolute weights (rows, columns), each times the size of its
    input and its output. The answer has the zeros; `refit` makes the rest exact. With `relax` above 1 a round goes beyond its fit
    (over-relaxation, Boyd et al. 2011, 3.4.3), and fewer are needed.
    """
    scale, values, Q = inputs
    turned, back = lambda w: w @ Q, lambda w: w @ Q.T
    if outputs is not None:
        rows, row_values, P = outputs
        scale, values = torch.outer(rows, scale), torch.outer(row_values, values)
        turned, back = lambda w: P.T @ w @ Q, lambda w: P @ w @ Q.T
    goal = target * scale
    pulled = turned(goal) * values  # GW̄H in the eigenbases
    z = goal.masked_fill(choose(goal.abs()), 0)
    dual, penalty = torch.zeros_like(z), PENALTY
    rise = PENALTY_RISE ** (1 / max(1, steps - 1))
    for _ in range(steps):
        fitted = back((pulled + turned(z - dual) * penalty) / (values + penalty))
        dual += fitted if relax == 1 else torch.lerp(z, fitted, relax)
        z = dual.masked_fill(choose(dual.abs()), 0)
        dual = (dual - z) / rise  # a scaled dual, so it shrinks as the penalty grows
        penalty *= rise
    return z / scale


def exact_obs(
    weight: Tensor,
    inverse: Tensor,
    count: int,
    group: tuple[int, int] = (0, 0),
    memory: int = 2**29,
) -> Tensor:
    """ExactOBS (Frantar & Alistarh 2022): each row drops `count` weights, one at a time, always the cheapest one.

    `inverse` is H⁻¹ (columns, columns), shared by all rows. Eliminating p turns it into H⁻¹ − uuᵀ with
    u = H⁻¹_{:,p}/√[H⁻¹]_pp, so a row keeps its few u's instead of a matrix of its own; rows run in parallel, as many as
    `memory` bytes hold. With `group` (N, M) no group of M neighbours keeps fewer than N.
    """
    rows, columns = weight.shape
    batch = max(1, memory // max(1, columns * count * weight.element_size()))
    parts = [_exact_rows(part, inverse, count, group=group) for part in weight.split(batch)]
    return torch.cat(parts) if count else weight.clone()


def _exact_rows(weight: Tensor, inverse: Tensor, count: int, group: tuple[int, int]) -> Tensor:
    w = weight.clone()
    rows, columns = w.shape
    every = torch.arange(rows, device=w.device)
    diagonal = inverse.diagonal().repeat(rows, 1)
    gone = torch.zeros_like(w, dtype=torch.bool)
    u = w.new_zeros(rows, count, columns)
    keep, size = group
    left = (
        torch.full((rows, columns // size), size - keep, device=w.device) if size else None
    )  # removals a group may still take
    for step in range(count):
        cost = (w.square() / diagonal).masked_fill_(gone, torch.inf)  # eq. 1
        if left is not None:
            cost = cost.masked_fill((left == 0).repeat_interleave(size, dim=1), torch.inf)
        p = cost.argmin(1)
        column = inverse[p]  # (rows, columns)
        if step:
            past = u[:, :step]
            column = column - torch.bmm(past[every, :, p].unsqueeze(1), past).squeeze(1)
        pivot = diagonal[every, p].clamp_min(torch.finfo(w.dtype).tiny).sqrt()
        u[:, step] = column / pivot[:, None]
        w -= (w[every, p] / pivot)[:, None] * u[:, step]  # eq. 2
        diagonal -= u[:, step].square()
        gone[every, p] = True
        if left is not None:
            left[every, p // size] -= 1
        # what is gone stays gone: rounding must not let it grow back, nor its pivot turn negative
        w.masked_fill_(gone, 0)
        diagonal.masked_fill_(gone, 1.0).clamp_min_(
            torch.finfo(w.dtype).eps * inverse.diagonal().min()
        )
    return w
