"""Exported files: one model is deployed, not an average over seeds."""

from ..analysis.seeds import ONE_SEED
from .base import MeasureView

FORMATS = MeasureView(tables={"formats": ONE_SEED})
QUANTIZATION = MeasureView(tables={"quantization": ONE_SEED, "repair": ONE_SEED})
