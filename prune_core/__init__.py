"""PruneScope: prune a fine-tuned encoder and measure what it cost.

    pruned = prune_core.prune(model, tokenizer, texts, method="akr", sparsity=0.7)
    result = prune_core.compare(model, pruned, tokenizer, data, measures=["accuracy", "reconstruction"])

Importing this package imports nothing heavy: `prune`, `compare`, `run`, `Experiment` and `load` fetch what they need when they
are first asked for.
"""

from __future__ import annotations

import os
from typing import Any

from .errors import Cancelled, PruneError

# MKL's sums depend on where an array lies in memory, and a pruned model turns the last digit into another prediction. This form,
# read at MKL's first call, makes the same experiment give the same rows, for 2 to 4% of the time. A setting of one's own stays.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

__version__ = "0.1.0"
__all__ = ["Cancelled", "Comparison", "Experiment", "PruneError", "compare", "load", "prune", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
