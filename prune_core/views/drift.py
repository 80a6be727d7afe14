"""Embedding drift: similarity of dense and pruned hidden states by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis import takeaways
from ..analysis.compared_models import ComparedModel
from ..analysis.quantities import Quantity, Value, single_value
from ..analysis.seeds import ONE_SEED, Averaging
from .base import Chart, MeasureView, Tables, has_pruned, units


def _last_layer(rows: pd.DataFrame, column: str) -> Value:
    preferred = rows[rows["pooling"].isin(["cls", "own"])]
    rows = preferred if len(preferred) else rows
    return single_value(rows.sort_values("block").tail(1), column)


QUANTITIES = (
    Quantity(
        "cosine",
        "Embedding cosine",
        "Mean cosine in the last layer",
        table="drift",
        read=partial(_last_layer, column="cosine"),
        show=f.plain,
        better="higher",
        gloss="Mean cosine between dense and pruned embeddings in the last layer.",
        tick=".2~f",
    ),
    Quantity(
        "cka",
        "CKA with dense",
        "Linear CKA in the last layer",
        table="drift",
        read=partial(_last_layer, column="cka"),
        show=f.plain,
        better="higher",
        gloss="Similarity of dense and pruned embeddings; 1 is identical up to rotation and scale.",
        tick=".2~f",
    ),
    Quantity(
        "overlap",
        "Neighbors kept",
        "Neighbor overlap in the last layer",
        table="drift",
        read=partial(_last_layer, column="overlap"),
        show=f.percent,
        better="higher",
        gloss="Percentage of an example's nearest neighbors that are preserved by pruning.",
        tick=".0%",
    ),
)


def _charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    from .. import plots

    if not has_pruned(models):
        return
    rows = tables["drift"]
    for similarity in plots.SIMILARITIES[:2]:
        figure = plots.by_block(rows, models, similarity, rows["pooling"].iloc[0], dark, height=320)
        yield Chart(f"{similarity.title} by layer", similarity.gloss, figure)


VIEW = MeasureView(
    tables={
        "drift": Averaging(("block", "pooling")),
        "drift_adversarial": Averaging(("block", "pooling")),
        "drift_example": ONE_SEED,
        "drift_map": ONE_SEED,
    },
    quantities=lambda tables: QUANTITIES,
    takeaway=lambda tables, models: takeaways.drift(tables["drift"], models, units=units(tables)),
    charts=_charts,
)
