"""Reconstruction error of layers and weight matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis import takeaways
from ..analysis.compared_models import ComparedModel
from ..analysis.quantities import Quantity, Value, mean_value
from ..analysis.seeds import Averaging
from .base import Chart, MeasureView, Tables, has_pruned


def _mean(rows: pd.DataFrame, of_layers: bool) -> Value:
    """Mean total error of whole layers, or of the weight matrices."""
    return mean_value(rows[(rows["projection"] == "block") == of_layers], "total")


QUANTITIES = (
    Quantity(
        "error",
        "Reconstruction error",
        "Hidden states' relative error",
        table="reconstruction",
        read=partial(_mean, of_layers=True),
        show=f.error,
        better="lower",
        gloss="Relative error of the layers' outputs compared with dense, mean over layers.",
        tick=".2~f",
    ),
    Quantity(
        "part_error",
        "Error of weight matrices",
        "Relative output error, mean over matrices",
        table="reconstruction",
        read=partial(_mean, of_layers=False),
        show=f.error,
        better="lower",
        gloss="Relative error of the outputs of pruned matrices, mean over the matrices of all "
        "layers.",
        tick=".2~f",
    ),
)


def _charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    from .. import plots

    if has_pruned(models):
        gloss = "Distance of each layer's output from the dense model's, relative to its norm."
        figure = plots.by_depth(tables["reconstruction"], models, dark=dark)
        yield Chart("Error by depth", gloss, figure)


VIEW = MeasureView(
    tables={"reconstruction": Averaging(("block", "projection"))},
    quantities=lambda tables: QUANTITIES,
    takeaway=lambda tables, models: takeaways.layers(tables["reconstruction"], models),
    charts=_charts,
)
