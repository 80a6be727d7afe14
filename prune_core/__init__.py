"""PruneScope's core: prune a fine-tuned encoder and measure what it cost. This file imports nothing heavy."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


class PruneError(Exception):
    """Something the user can mend; its message is shown to the user as it is."""


class Cancelled(Exception):
    """Raised by a report when the user asked for the work to stop."""


def load(folder: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a checkpoint folder, shrunk or not: what deployments call. fp32, eval mode, on the CPU."""
    from .encoders import load

    return load(str(folder))
