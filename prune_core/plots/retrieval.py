"""Retrieval quality by the model of the queries and the model of the index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel, ordered, with_rows
from ..analysis.index_compatibility import (
    BASELINE,
    DENSE,
    KEPT,
    KEPT_ALIGNED,
    PRUNED,
    REEMBEDDED,
    Cell,
)
from ..analysis.index_vectors import BITS
from ..formatting import percent
from . import palette
from .palette import MUTED
from .style import figure, interval, marker, panels

ROOM = 0.08  # of the range of values, above and below it


class Texts(NamedTuple):
    """The title of a chart and its explanation."""

    title: str
    gloss: str


INDEX_CELLS = Texts(
    "Can the old index be kept?",
    "nDCG@10 by the model that embeds the queries and the one that embedded the index, with 95% "
    "intervals over queries. The dotted line is the dense model. If pruned queries on the dense "
    "index are as good as on a pruned index, documents need not be embedded again.",
)
INDEX_VECTORS = Texts(
    "How small can the index be?",
    "nDCG@10 by dimensions per vector (the first ones, as in Matryoshka embeddings) and precision "
    "of the index, with 95% intervals over queries. Queries are float32, and each model embeds "
    "queries and documents.",
)
LABELS = {
    KEPT: "pruned queries,<br>dense index (keep)",
    REEMBEDDED: "pruned queries,<br>pruned index (re-embed)",
    Cell(DENSE, PRUNED): "dense queries,<br>pruned index",
    KEPT_ALIGNED: "rotated queries,<br>dense index",
}


def index_cells(
    rows: pd.DataFrame, models: Sequence[ComparedModel], dark: bool = False, height: int = 330
) -> go.Figure:
    """Draw one point per pruned model and cell from rows of the table `retrieval`."""
    fig = figure(
        dark,
        height,
        margin={"l": 60, "r": 20, "t": 40, "b": 62},
        showlegend=True,
        scattermode="group",
    )
    for model in with_rows(ordered(models), rows):
        if not model.is_dense:
            _add(fig, rows[rows["job"] == model.job], model, dark)
    dense = _cell(rows, BASELINE)
    if len(dense):
        fig.add_hline(
            y=float(dense["ndcg_at_10"].mean()), line={"color": MUTED[dark], "dash": "dot"}
        )
    fig.update_xaxes(showgrid=False, showline=True)
    return fig.update_yaxes(
        title="nDCG@10 · higher is better", tickformat=".1%", range=_value_range(rows)
    )


def _value_range(rows: pd.DataFrame) -> list[float] | None:
    """Return the ends of an axis around the intervals of nDCG@10; None without rows."""
    values = rows[["ndcg_at_10", "ndcg_at_10_low", "ndcg_at_10_high"]].to_numpy(float)
    if not len(values):
        return None
    low, high = np.nanmin(values), np.nanmax(values)
    room = max(ROOM * (high - low), 0.005)
    return [float(max(low - room, 0.0)), float(min(high + room, 1.0 + room))]


def _add(fig: go.Figure, rows: pd.DataFrame, model: ComparedModel, dark: bool) -> None:
    """Add the cells of one model."""
    cells = [(label, _cell(rows, cell)) for cell, label in LABELS.items()]
    shown = [(label, found.iloc[0]) for label, found in cells if len(found)]
    values, low, high = (
        [row[f"ndcg_at_10{end}"] for _, row in shown] for end in ("", "_low", "_high")
    )
    fig.add_scatter(
        x=[label for label, _ in shown],
        y=values,
        mode="markers",
        name=model.label,
        marker=marker(model, dark, size=10),
        error_y=interval(values, low, high, color=palette.color(model, dark), thickness=2),
        text=[
            f"{percent(a)} ({percent(b)} to {percent(c)})"
            for a, b, c in zip(values, low, high, strict=True)
        ],
        hovertemplate=f"<b>{model.label}</b><br>%{{x}}<br>nDCG@10 %{{text}}<extra></extra>",
    )


def _cell(rows: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    return rows[(rows["queries"] == cell.queries) & (rows["index"] == cell.index)]


def index_vectors(
    rows: pd.DataFrame, models: Sequence[ComparedModel], dark: bool = False, height: int = 330
) -> go.Figure:
    """Draw one panel per precision and one line per model, from the table `retrieval_vectors`."""
    fig = panels(
        dark,
        height,
        [*BITS],
        margin={"l": 60, "r": 20, "t": 62, "b": 48},
        panel_horizontal_spacing=0.03,
    )
    for model in with_rows(ordered(models), rows):
        cell = BASELINE if model.is_dense else REEMBEDDED
        found = _cell(rows[rows["job"] == model.job], cell)
        for column, precision in enumerate(BITS, start=1):
            points = found[found["precision"] == precision].sort_values("dimensions")
            values, low, high = (points[f"ndcg_at_10{end}"] for end in ("", "_low", "_high"))
            fig.add_scatter(
                x=points["dimensions"].astype(str),
                y=values,
                mode="lines+markers",
                name=model.label,
                legendgroup=model.job,
                showlegend=column == 1,
                line={"color": palette.color(model, dark), "width": 1.5},
                marker=marker(model, dark),
                error_y=interval(values, low, high, color=palette.color(model, dark)),
                customdata=points["bytes"],
                hovertemplate=f"<b>{model.label}</b><br>%{{x}} dimensions, {precision}, "
                "%{customdata:,} bytes per document<br>nDCG@10 %{y:.1%}<extra></extra>",
                row=1,
                col=column,
            )
    fig.update_xaxes(showgrid=False, showline=True, type="category")
    fig.update_xaxes(title="Dimensions per vector", col=2)
    fig.update_yaxes(tickformat=".0%")
    fig.update_yaxes(title="nDCG@10 · higher is better", col=1)
    return fig.update_layout(showlegend=True, legend={"y": 1.1})
