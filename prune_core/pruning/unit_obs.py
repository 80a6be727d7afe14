"""Select units of a sum by the error after refitting the others: exact removal, re-insertion and
exchange.

With A (tokens, k) the features of the units and Y (tokens, d) the target of their weighted sum, the
squared error of the best refit for any subset, and its change when one unit is added or removed,
follow from AᵀA and AᵀY swept on the kept units (Beaton's sweep operator; removal alone is blockwise
Optimal Brain Surgeon).
"""

import torch
from torch import Tensor

from .solvers import add_damping, ridge_fit

BETTER = 1 + 1e-6  # an exchange must gain more than rounding errors


class UnitRegression:
    """Least squares on a subset of the units of one output projection; starts with all of them."""

    def __init__(self, gram: Tensor, weight: Tensor, width: int, damping: float):
        """`gram` is (k, k), `weight` (d, k) the fit with all units, `width` the columns per unit.

        If output errors e are weighted as ‖eR‖, pass RᵀW as `weight`.
        """
        H, factor, self.damping = add_damping(gram.double(), damping)
        columns = weight.T.to(torch.float64, copy=True)
        self.width, self.units = width, len(gram) // width
        self._A, self._B = -torch.cholesky_inverse(factor), columns
        self.kept = torch.ones(self.units, dtype=torch.bool, device=gram.device)
        # squared norm of the sum of all units
        self.whole = float((columns * (H @ columns)).sum())
        self.error = 0.0

    def changes(self) -> Tensor:
        """(units,) increase of the squared error if a kept unit is removed, or decrease if a
        removed one returns; ≥ 0.
        """
        blocks = (
            self._A.unflatten(1, (self.units, -1))
            .unflatten(0, (self.units, -1))
            .diagonal(dim1=0, dim2=2)
            .movedim(-1, 0)
        )
        fits = self._B.unflatten(0, (self.units, -1))
        return (fits * torch.linalg.solve(blocks, fits)).sum((1, 2)).abs()

    def flip(self, units: Tensor) -> None:
        """Remove kept units, or add removed ones, together; the error stays exact."""
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
        """Remove the least important units, `together` at a time, until `count` are left.
        Returns them in order.
        """
        removed = list[Tensor]()
        while (left := int(self.kept.sum())) > count:
            order = self.changes().masked_fill(~self.kept, torch.inf).argsort(stable=True)
            removed.append(order[: min(together, left - count)])
            self.flip(removed[-1])
        return torch.cat([torch.zeros(0, dtype=torch.long, device=self.kept.device), *removed])

    def exchange(self, most: int, together: int = 1) -> int:
        """Local search: swap the least important kept units with the most useful removed ones while
        that helps.

        Starts with `together` units at a time and ends with one. Returns the number of exchanges,
        at most `most`.
        """
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
    """(d, kept columns) columns by which the kept units fit the sum of all units best, and the
    damping used.
    """
    return ridge_fit(weight[:, kept], gram[kept][:, kept], gram[kept] @ weight.T, damping=damping)
