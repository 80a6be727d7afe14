"""Count operations that make the host wait for a GPU, because it needs their result to continue.

They are counted in torch's dispatcher, so that a CPU run shows them as well. Copies between host
and device are only seen on a GPU.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# operations whose sizes or values are read by the host: scalars, mask indices, comparisons, error
# codes
NAMES = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "unique",
    "repeat_interleave",
    "linalg_inv.",
    "linalg_cholesky.",
    "_linalg_check_errors",
    "bincount",
)


class SynchronizationCounter(TorchDispatchMode):
    """`with SynchronizationCounter() as counter: …`, then `counter.counts` by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Total of all operations."""
        return self.counts.total()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func).removeprefix("aten.")
        if (
            any(name.startswith(each) for each in NAMES)
            or _by_mask(name, args)
            or _to_host(name, args, kwargs)
        ):
            self.counts[name] += 1
        return func(*args, **kwargs)


def _by_mask(name: str, args: Any) -> bool:
    """Return whether an index is a Boolean mask, whose positions must be found first."""
    if not name.startswith(("index.", "index_put", "_index_put")):
        return False
    return any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in args[1])


def _to_host(name: str, args: Any, kwargs: Any) -> bool:
    """Return whether this is a copy from a device to the host."""
    if name.startswith("_to_copy"):
        source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
    elif name.startswith("copy_"):
        source, target = args[1].device, args[0].device
    else:
        return False
    return source.type != "cpu" and target.type == "cpu"
