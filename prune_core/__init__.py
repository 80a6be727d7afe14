"""PruneScope: prune a fine-tuned encoder and measure what it cost.

    pruned = prune_core.prune(model, tokenizer, texts, method="akr", sparsity=0.7)
    result = prune_core.compare(model, pruned, tokenizer, data, measures=["accuracy"])

The import is cheap: `prune`, `prune_encoder`, `trim`, `shrink_to`, `compare`, `run`, `Experiment`
and `load` import their dependencies on first access.
"""

import os
from typing import Any

from .errors import Cancelled, PruneError

# MKL's sums depend on the memory alignment of arrays, and in a pruned model a change in the last
# digit can change a prediction. This mode, which MKL reads at its first call, makes the same
# experiment give the same rows and costs 2 to 4% of the time. A value set by the user is not
# overwritten.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# OpenMP threads spin for milliseconds at every barrier, which takes the processor from threads with
# work if other processes run. With a spin count of 1,000, AKR is as fast on an idle machine, and up
# to twice as fast next to busy processes (benchmarks/busy_machine.py). libgomp reads the variable
# when torch is imported; a value set by the user is not overwritten.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
__all__ = [
    "Cancelled",
    "Comparison",
    "EncoderResult",
    "Experiment",
    "PruneError",
    "JointSearchResult",
    "Trimmed",
    "compare",
    "load",
    "prune",
    "prune_encoder",
    "run",
    "shrink_to",
    "trim",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    return getattr(api, name)
