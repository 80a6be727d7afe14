"""Optimal Brain Surgeon solvers: choose weights to remove and update the others to compensate.

Pure functions of a weight matrix and the gram of its inputs.
"""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PruneError

DAMPING_STEPS = 4  # each step is ten times the previous one
# of ADMM: initial penalty, for a gram with unit diagonal, and its total growth factor
PENALTY, PENALTY_RISE = 0.03, 100.0


def add_damping(gram: Tensor, damping: float) -> tuple[Tensor, Tensor, float]:
    """(H, its lower Cholesky factor, the damping used). Dead inputs get the mean as their diagonal.

    If the factorization fails, the damping is raised in up to DAMPING_STEPS steps.
    """
    diagonal = gram.diagonal()
    mean = diagonal.mean().clamp_min(torch.finfo(gram.dtype).tiny)
    for step in range(DAMPING_STEPS):
        used = damping * 10**step if damping else (0.0, 1e-6, 1e-4, 1e-2)[step]
        H = gram.clone()
        # an input that is always zero: its weights have no effect
        H.diagonal().copy_(torch.where(diagonal == 0, mean, diagonal + used * mean))
        factor, failed = torch.linalg.cholesky_ex(H)
        if bool((failed == 0) & torch.isfinite(factor).all()):  # the only synchronization
            return H, factor, used
    raise PruneError(
        f"The input statistics cannot be inverted, even with damping {used:g}; use more "
        "calibration examples or raise damping."
    )


def ridge_fit(weight: Tensor, gram: Tensor, cross: Tensor, damping: float) -> tuple[Tensor, float]:
    """(d, k) least-squares map from A (tokens, k) to B (tokens, d), given AᵀA and AᵀB, and the
    damping used. The ridge pulls towards `weight`.
    """
    H, factor, used = add_damping(gram, damping)
    return torch.cholesky_solve(cross + (H - gram) @ weight.T, factor).T, used


def upper_factor(gram: Tensor, damping: float) -> tuple[Tensor, Tensor, float]:
    """(U upper triangular with H⁻¹ = UᵀU, H, damping used). Row i of U gives SparseGPT's update
    of columns i and up.
    """
    # H with both axes reversed is LLᵀ, so U is L⁻¹ reversed back
    H, factor, used = add_damping(gram.flip(0, 1), damping)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_triangular(factor, eye, upper=False).flip(0, 1), H.flip(0, 1), used


# (weights (rows, c) of the next c columns, their U (c, c)) -> mask of the removed ones
Choose = Callable[[Tensor, Tensor], Tensor]


def separately(choose: Callable[[Tensor], Tensor]) -> Choose:
    """SparseGPT's choice by w²/U_jj², the error of removing each weight alone; `choose` sees
    (rows, c).
    """
    return lambda w, U: choose((w / U.diagonal()).square())


def jointly(keep: int, group: int) -> Choose:
    """Of all ways to remove group − keep consecutive weights, the one with the smallest joint
    error.

    Optimal Brain Surgeon for a set S of weights: w_S ([H⁻¹]_SS)⁻¹ w_Sᵀ, where H⁻¹ = UᵀU is
    restricted to the columns not yet processed. Scoring weights separately misses that neighbors
    can compensate for each other.
    """
    on: dict[torch.device, Tensor] = {}

    def choose(w: Tensor, U: Tensor) -> Tensor:
        if w.device not in on:
            on[w.device] = torch.tensor(
                list(combinations(range(group), group - keep)), device=w.device
            )
        ways = on[w.device]  # (sets, removed)
        # (sets, removed, removed); never singular, as U is invertible
        blocks = torch.linalg.inv_ex((U.T @ U)[ways[:, :, None], ways[:, None, :]]).inverse
        gone = w[:, ways].transpose(0, 1)  # (sets, rows, removed)
        best = ways[((gone @ blocks) * gone).sum(-1).argmin(0)]
        return torch.zeros_like(w, dtype=torch.bool).scatter_(1, best, True)

    return choose


def column_sweep(
    weight: Tensor, U: Tensor, choose: Choose, width: int = 128, group: int = 0
) -> Tensor:
    """SparseGPT (Frantar & Alistarh 2023, Algorithm 1): left to right, each error is compensated by
    later columns.

    `choose` decides on the next `group` columns, or on `width` columns if there are no groups;
    `width` is the block size of the updates. On a GPU, where launching an operation costs more than
    its work, a group is processed in one triangular solve.
    """
    W = weight.clone()
    columns = W.shape[1]
    group = group or width
    width = -(-width // group) * group  # whole groups
    compensate = one_by_one if W.device.type == "cpu" else at_once
    for start in range(0, columns, width):
        end = min(start + width, columns)
        local = U[start:end, start:end]
        w = W[:, start:end].T.contiguous()  # (columns, rows): a column is contiguous
        gone, errors = torch.empty_like(w), torch.empty_like(w)
        for i in range(0, end - start, group):
            columns_of_group = slice(i, i + group)
            gone[columns_of_group] = choose(
                w[columns_of_group].T, local[columns_of_group, columns_of_group]
            ).T
            errors[columns_of_group] = compensate(
                w[i:], gone[columns_of_group], local[columns_of_group, i:]
            )
        W[:, start:end] = (w * (1 - gone)).T
        W[:, end:].addmm_(errors.T, U[start:end, end:], alpha=-1)
    return W


def one_by_one(w: Tensor, gone: Tensor, U: Tensor) -> Tensor:
    """Errors (columns, rows) of the first columns, divided by their pivots; updates later weights
    in place.

    w is (all columns, rows), `gone` (columns, rows), U (columns, all columns).
    """
    errors, pivots = torch.empty_like(gone), U.diagonal()
    for i in range(len(gone)):
        torch.mul(w[i], gone[i], out=errors[i]).div_(pivots[i])
        w[i + 1 :].addr_(U[i, i + 1 :], errors[i], alpha=-1)
    return errors


def at_once(w: Tensor, gone: Tensor, U: Tensor) -> Tensor:
    """Same as `one_by_one`, as one batched triangular solve.

    e_i = g_i (w_i − Σ_{k<i} U_ki e_k) / U_ii with g = 1 for removed weights, so (I + L) e = g·w/d
    with L_ik = g_i U_ki / U_ii for k < i. L takes 64 KB per row for 128 columns.
    """
    count, pivots = len(gone), U.diagonal()[:, None]
    L = gone.T[:, :, None] * (U[:, :count].T / pivots).tril(-1)  # (rows, columns, columns)
    right = (gone * w[:count] / pivots).T[:, :, None]
    errors = torch.linalg.solve_triangular(L, right, upper=False, unitriangular=True)[:, :, 0].T
    w.addmm_(U.triu(1).T, errors, alpha=-1)
    return errors


def refit(pruned: Tensor, target: Tensor, H: Tensor, steps: int, G: Tensor | None = None) -> Tensor:
    """Move the kept weights towards their least-squares fit: min tr(G(W−W̄)H(W−W̄)ᵀ), zeros stay
    zero.

    Conjugate gradients with a diagonal preconditioner: one matrix product per step, and no
    factorization per row. Without G, the output Fisher, rows are independent problems. ExactOBS
    ends at this fit; a column sweep, which only updates later columns, does not reach it.
    """
    keep = (pruned != 0).to(pruned.dtype)
    scale = (H.diagonal() if G is None else torch.outer(G.diagonal(), H.diagonal())).reciprocal()

    def curvature(w: Tensor) -> Tensor:
        return (w @ H if G is None else G @ w @ H).mul_(keep)

    def total(w: Tensor) -> Tensor:
        return w.sum(1, keepdim=True) if G is None else w.sum()

    tiny = torch.finfo(pruned.dtype).tiny
    w = pruned.clone()
    r = curvature(target - w)
    p = z = r * scale
    rz = total(r * z)
    for _ in range(steps):
        Hp = curvature(p)
        step = rz / total(p * Hp).clamp_min(tiny)  # a converged row does not move
        w.addcmul_(p, step)
        r.addcmul_(Hp, step, value=-1)
        z = r * scale
        rz, before = total(r * z), rz
        p = z + p * (rz / before.clamp_min(tiny))
    return w


class Spectrum(NamedTuple):
    """Eigendecomposition of a gram scaled to unit diagonal; any ridge is then a division."""

    scale: Tensor  # (columns,) root of the gram's diagonal
    values: Tensor  # (columns,)
    vectors: Tensor  # (columns, columns)


def spectrum(H: Tensor) -> Spectrum:
    """Eigendecompositions of damped grams (..., columns, columns), as `admm` needs them."""
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
    """ADMM: alternate between the least-squares fit of `target` and the nearest matrix with zeros
    at `choose`.

    Minimizes tr(G(W−W̄)H(W−W̄)ᵀ) over all masks. The mask moves while the penalty rises; with a
    fixed mask and penalty this is Boža 2024. `inputs` is the spectrum of H, `outputs` of G
    (default: identity). `choose` sees absolute weights (rows, columns), scaled by input and output.
    The result has the zeros; `refit` makes the rest exact. `relax` above 1 is over-relaxation (Boyd
    et al. 2011, 3.4.3), which needs fewer rounds.
    """
    scale, values, Q = inputs
    rotate, back = lambda w: w @ Q, lambda w: w @ Q.T
    if outputs is not None:
        rows, row_values, P = outputs
        scale, values = torch.outer(rows, scale), torch.outer(row_values, values)
        rotate, back = lambda w: P.T @ w @ Q, lambda w: P @ w @ Q.T
    goal = target * scale
    pulled = rotate(goal) * values  # GW̄H in the eigenbases
    z = goal.masked_fill(choose(goal.abs()), 0)
    dual, penalty = torch.zeros_like(z), PENALTY
    rise = PENALTY_RISE ** (1 / max(1, steps - 1))
    for _ in range(steps):
        fitted = back((pulled + rotate(z - dual) * penalty) / (values + penalty))
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
    """ExactOBS (Frantar & Alistarh 2022): each row removes `count` weights, one at a time, always
    the cheapest.

    `inverse` is H⁻¹ (columns, columns), shared by all rows. Eliminating p turns it into H⁻¹ − uuᵀ
    with u = H⁻¹_{:,p}/√[H⁻¹]_pp, so that a row stores its vectors u instead of a matrix. Rows run
    in parallel, as many as fit in `memory` bytes. With `group` (N, M), at least N of every M
    consecutive weights stay.
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
    # removals that each group still allows
    left = torch.full((rows, columns // size), size - keep, device=w.device) if size else None
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
        # rounding must not revive a removed weight or make a pivot negative
        w.masked_fill_(gone, 0)
        diagonal.masked_fill_(gone, 1.0).clamp_min_(
            torch.finfo(w.dtype).eps * inverse.diagonal().min()
        )
    return w
