"""DSnoT: Wanda's mask, then weights are exchanged until the expected error of each row is small."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..plugins import option
from ..pruning.input_statistics import InputStatistics
from ..pruning.layerwise import LayerwiseMethod, Solved


@dataclass(frozen=True)
class DSnoT(LayerwiseMethod):
    """Dynamic sparse training without training (Zhang et al. 2024). N:M patterns keep Wanda's
    mask.
    """

    name = "dsnot"
    title = "DSnoT"
    summary = (
        "Wanda's mask, then exchanges of removed and kept weights until the mean error of every "
        "output is small; no refit"
    )
    paper = "Zhang et al., Dynamic Sparse No Training, ICLR 2024"
    cycles: int = option(50, "Maximum number of exchanges per row", low=0, high=10_000, expert=True)
    threshold: float = option(
        0.1,
        "Mean error of an output, summed over the tokens of an example, below which a row stops",
        low=0.0,
        high=1e6,
        expert=True,
    )

    def solve(self, weight: Tensor, bias: Tensor, stats: InputStatistics) -> Solved:
        """Mask by |W_ij|·‖X_j‖ within each row, then exchanges."""
        scores = weight.abs() * stats.diagonal.sqrt()
        gone = self.choose(scores)
        if not self.pattern:
            mean = stats.total / stats.tokens
            variance = (stats.diagonal / stats.tokens - mean.square()).clamp_min(
                torch.finfo(weight.dtype).tiny
            )
            gone = exchange(
                gone,
                scores,
                weight * stats.total / max(1, stats.examples),
                variance=variance,
                cycles=self.cycles,
                threshold=self.threshold,
            )
        return Solved(weight.masked_fill(gone, 0), bias)


def exchange(
    gone: Tensor, scores: Tensor, expected: Tensor, variance: Tensor, cycles: int, threshold: float
) -> Tensor:
    """The mask (rows, columns) after at most `cycles` exchanges per row.

    `expected` is W_ij·E[X_j] and `variance` (columns,) that of X_j. The error of a row is the sum
    of `expected` over removed weights. The weight that returns lowers it most relative to its
    variance; the weight that is removed has the lowest score among those that lower it too. Each
    weight moves at most once, and a row stops below the threshold.
    """
    gone, endless = gone.clone(), torch.full_like(scores, torch.inf)
    error = (expected * gone).sum(1, keepdim=True)
    back, away = gone.clone(), ~gone  # weights that may still move
    for _ in range(cycles):
        helps = expected * error.sign()
        at = torch.where(back, helps / variance, -endless).argmax(1, keepdim=True)
        off = torch.where(away & (helps < 0), scores, endless).argmin(1, keepdim=True)
        possible = (
            back.gather(1, at)
            & (helps.gather(1, at) > 0)
            & away.gather(1, off)
            & (helps.gather(1, off) < 0)
        )
        moves = possible & (error.abs() > threshold)
        error = error + moves * (expected.gather(1, off) - expected.gather(1, at))
        gone.scatter_(1, at, gone.gather(1, at) & ~moves).scatter_(
            1, off, gone.gather(1, off) | moves
        )
        back.scatter_(1, at, back.gather(1, at) & ~moves)
        away.scatter_(1, off, away.gather(1, off) & ~moves)
    return gone
