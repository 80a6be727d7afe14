"""ExactOBS (Frantar & Alistarh 2022), the greedy solver that other solvers are tested against."""

import torch
from torch import Tensor


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
    parts = [_exact_rows(part, inverse, count, group) for part in weight.split(batch)]
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
