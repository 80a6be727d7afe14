"""Tables of the pruning stage."""

from ..analysis.seeds import ONE_SEED, Averaging
from .base import MeasureView

VIEW = MeasureView(
    tables={
        "prune": Averaging(("block", "projection")),
        "budget": Averaging(()),
        "unit": ONE_SEED,  # which heads and neurons a model keeps
        "distil": ONE_SEED,  # single evaluations
        "timing": ONE_SEED,  # single passes
        "service_time": ONE_SEED,
        "candidate": ONE_SEED,  # facts of a file
    }
)
