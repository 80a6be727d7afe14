"""PruneScope's core: prune a fine-tuned encoder and measure what it cost. This file imports nothing heavy."""

from __future__ import annotations

import os
from typing import Any

# MKL's sums depend on where an array lies in memory, and a pruned model turns the last digit into another prediction. This form,
# read at MKL's first call, makes the same experiment give the same rows, for 2 to 4% of the time. A setting of one's own stays.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

__version__ = "0.1.0"


class PruneError(Exception):
    """Something the user can mend; its message is shown to the user as it is."""


class Cancelled(Exception):
    """Raised by a report when the user asked for the work to stop."""


def load(folder: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a checkpoint folder, shrunk or not: what deployments call. fp32, eval mode, on the CPU."""
    from .encoders import load

    return load(str(folder))
