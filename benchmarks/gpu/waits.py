"""Counts what would make a GPU's host wait: operations whose result the host must see before it can
go on.

Seen at torch's dispatcher, so a CPU run shows them too. Copies between host and device are seen on
a GPU only.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# by name, as their sizes or values reach the host: a number, the places of a mask, a comparison, an
# error code
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


class Waits(TorchDispatchMode):
    """`with Waits() as waits: …`, then `waits.counts` by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Of all operations."""
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
    """Indexing by a bool tensor looks for its places first."""
    if not name.startswith(("index.", "index_put", "_index_put")):
        return False
    return any(isinstance(each, torch.Tensor) and each.dtype == torch.bool for each in args[1])


def _to_host(name: str, args: Any, kwargs: Any) -> bool:
    """A copy from a device to the host."""
    if name.startswith("_to_copy"):
        source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
    elif name.startswith("copy_"):
        source, target = args[1].device, args[0].device
    else:
        return False
    return source.type != "cpu" and target.type == "cpu"
