"""Layer sensitivity: the cost of pruning one layer at a time."""

from ..analysis.seeds import ONE_SEED, Averaging
from .base import MeasureView

VIEW = MeasureView(tables={"sensitivity": Averaging(("block",)), "sensitivity_example": ONE_SEED})
