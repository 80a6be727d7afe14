"""Unstructured and N:M masks from scores, and the base of methods that remove single weights."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ..errors import PruneError
from ..plugins import Method, option


def count_of(share: float, size: int) -> int:
    """`share` of `size`, rounded down exactly: 0.7 of 10 is 7, although 0.7 * 10 < 7 in binary."""
    return int(Fraction(str(share)) * size)


def lowest(scores: Tensor, share: float, per_row: bool = True) -> Tensor:
    """Boolean mask of the lowest `share` of each row, or of the whole matrix; counts are rounded
    down.

    Of equal scores the first are chosen, since topk breaks ties differently on every device.
    """
    flat = scores if per_row else scores.reshape(1, -1)
    count = count_of(share, flat.shape[-1])
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    if flat.is_cpu:  # NumPy selects ten times faster than topk
        last = torch.from_numpy(
            np.partition(flat.numpy(), count - 1, axis=-1)[..., count - 1 : count]
        )
        mask = flat <= last
        # no ties at the threshold
        if np.count_nonzero(mask.numpy()) == count * (flat.numel() // flat.shape[-1]):
            return mask.reshape(scores.shape)
    else:
        last = flat.topk(count, dim=-1, largest=False, sorted=False).values.amax(-1, keepdim=True)
    mask, equal = flat < last, flat == last
    mask |= equal & (equal.cumsum(-1, dtype=torch.int32) <= count - mask.sum(-1, keepdim=True))
    return mask.reshape(scores.shape)


def lowest_of_each(scores: Tensor, keep: int, group: int) -> Tensor:
    """N:M mask: True at all but the `keep` highest of every `group` consecutive columns."""
    if scores.shape[-1] % group:
        raise PruneError(
            f"Pattern {keep}:{group} does not fit matrices with {scores.shape[-1]} inputs; choose "
            "an M that divides it."
        )
    folded = scores.unflatten(-1, (-1, group))
    mask = torch.zeros_like(folded, dtype=torch.bool)
    mask.scatter_(-1, folded.sort(dim=-1, stable=True).indices[..., : group - keep], True)
    return mask.flatten(-2)


def n_of_m(method: str, pattern: str) -> tuple[int, int]:
    """(N, M) of a pattern; (0, 0) for none."""
    if not pattern:
        return 0, 0
    keep, _, group = pattern.partition(":")
    if not (keep.isdigit() and group.isdigit() and 0 < int(keep) < int(group)):
        raise PruneError(
            f"{method}: pattern is {pattern!r}; write it as N:M with 0 < N < M, such as 2:4."
        )
    return int(keep), int(group)


@dataclass(frozen=True)
class WeightMethod(Method):
    """Base of methods that remove single weights, at any sparsity or in an N:M pattern."""

    pattern: str = option(
        "",
        "N:M keeps at most N of every M consecutive weights (2:4, 4:8, 32:64 …) and sets the "
        "sparsity",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern:
            keep, group = self.keep_of
            object.__setattr__(self, "sparsity", 1 - keep / group)

    @property
    def keep_of(self) -> tuple[int, int]:
        """(N, M) of the pattern; (0, 0) without one."""
        return n_of_m(self.name, self.pattern)

    @property
    def label(self) -> str:
        """Name of the run in charts."""
        return f"{self.title} {self.pattern}" if self.pattern else super().label

    def choose(self, scores: Tensor, per_row: bool = True) -> Tensor:
        """Mask of the weights to remove, from scores (rows, columns); the lowest are removed."""
        keep, group = self.keep_of
        if group:
            return lowest_of_each(scores, keep, group)
        return lowest(scores, self.sparsity, per_row)
