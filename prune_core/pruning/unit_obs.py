"""Which units of a sum are missed least once the others are refitted: exact removal, return and exchange, one pivot each.

With A (tokens, k) the units' features and Y (tokens, d) what their sum has to reach, the squared error of the best refit of any
choice of units, and how it changes with one more or one less, stand in a tableau of AᵀA and AᵀY swept on the units kept (Beaton's
sweep operator; removal alone is Optimal Brain Surgeon by blocks). Knows nothing of encoders, budgets or methods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .solvers import add_damping, ridge_fit

BETTER = 1 + 1e-6  # an exchange has to gain more than rounding does


class UnitRegression:
    """The units of one output projection, all of them kept at first."""

    def __init__(self, gram: Tensor, weight: Tensor, width: int, damping: float):
        """gram (k, k), weight (d, k) that fits best with all units, columns of a unit. Where errors count unlike, e by ‖eR‖, give RᵀW."""
        H, factor, self.damping = add_damping(gram.double(), damping)
        columns = weight.T.to(torch.float64, copy=True)
        self.width, self.units = width, len(gram) // width
        self._A, self._B = -torch.cholesky_inverse(factor), columns
        self.kept = torch.ones(self.units, dtype=torch.bool, device=gram.device)
        self.whole = float(
            (columns * (H @ columns)).sum()
        )  # the squared norm of all that the units add
        self.error = 0.0

    def changes(self) -> Tensor:
        """(units,) by how much the squared error grows without a kept unit, or falls with one that was removed; 0 or more."""
        blocks = (
            self._A.unflatten(1, (self.units, -1))
            .unflatten(0, (self.units, -1))
            .diagonal(dim1=0, dim2=2)
            .movedim(-1, 0)
        )
        own = self._B.unflatten(0, (self.units, -1))
        return (own * torch.linalg.solve(blocks, own)).sum((1, 2)).abs()

    def flip(self, units: Tensor) -> None:
        """Remove kept units, or bring removed ones back, together; the error is exact."""
        columns = (
            units[:, None] * self.width + torch.arange(self.width, device=units.device)
        ).flatten()
        add = not bool(self.kept[units[0]])
        A, B = self._A[columns], self._B[columns]
        pivot = torch.linalg.inv(A[:, columns])
        fits = pivot @ B
        self.error -= float((B * fits).sum())
        across = A.T @ pivot
        self._A.addmm_(across, A, alpha=-1)
        self._B.addmm_(A.T, fits, alpha=-1)
        sign = 1.0 if add else -1.0
        self._A[columns], self._A[:, columns] = sign * across.T, sign * across
        self._A[columns[:, None], columns] = -pivot
        self._B[columns] = sign * fits
        self.kept[units] = add

    def remove_to(self, count: int, together: int = 1) -> Tensor:
        """Remove what is missed least, some together, until so many are left; those removed, in order."""
        gone = list[Tensor]()
        while (left := int(self.kept.sum())) > count:
            changes = self.changes().masked_fill(~self.kept, torch.inf)
            gone.append(changes.argsort(stable=True)[: min(together, left - count)])
            self.flip(gone[-1])
        return (
            torch.cat(gone) if gone else torch.zeros(0, dtype=torch.long, device=self.kept.device)
        )

    def exchange(self, most: int, together: int = 1) -> int:
        """Local search: the kept units that are missed least change places with the removed ones that help most, as long as that helps,
        from so many `together` down to one; how many exchanges there were."""
        done = 0
        while together and done < most and self.kept.any() and not self.kept.all():
            many = min(together, int(self.kept.sum()), int((~self.kept).sum()))
            before = self.error
            out = self.changes().masked_fill(~self.kept, torch.inf).argsort(stable=True)[:many]
            self.flip(out)
            back = (
                self.changes()
                .masked_fill(self.kept, -1.0)
                .argsort(descending=True, stable=True)[:many]
            )
            self.flip(back)
            if before > self.error * BETTER:
                done += 1
                continue
            self.flip(back)
            self.flip(out)
            together //= 2
        return done


def fit(gram: Tensor, weight: Tensor, kept: Tensor, damping: float) -> tuple[Tensor, float]:
    """(d, kept columns): the columns by which the kept ones come nearest to all of them; and the damping that it took."""
    return ridge_fit(weight[:, kept], gram[kept][:, kept], gram[kept] @ weight.T, damping=damping)
