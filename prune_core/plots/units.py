"""Heads and neurons kept by structured pruning, by type of knowledge."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.compared_models import ComparedModel
from ..formatting import percent, plural
from . import palette
from .palette import AXIS, INK, MUTED, fade, mix, readable_on
from .style import figure, template

CAUSES = {
    "predictive": ("kept mainly for the prediction", "#0072B2"),
    "representational": ("kept mainly for the hidden states", "#E69F00"),
    "kept": ("kept", ""),  # by methods that record no cause; in the model's color
}


def kept_units(rows: pd.DataFrame, model: ComparedModel, dark: bool = False) -> go.Figure:
    """Draw one square per head, hollow if removed and smaller if narrower, and one bar per layer
    for the neurons.
    """
    rows = rows[rows["job"] == model.job]
    if rows.empty:
        return figure(dark, 120)
    blocks = int(rows["block"].max()) + 1
    rows = rows.assign(cause=_causes(rows))
    fig = make_subplots(
        1, 2, shared_yaxes=True, column_widths=[0.46, 0.54], horizontal_spacing=0.05
    )
    _heads(fig, rows[rows["unit_type"] == "head"], model, dark=dark)
    _neurons(fig, rows[rows["unit_type"] == "neuron"], model, dark=dark)
    fig.update_layout(
        template=template(dark),
        height=26 * blocks + 110,
        barmode="stack",
        bargap=0.35,
        showlegend=True,
        margin={"l": 52, "r": 20, "t": 40, "b": 48},
        legend={"itemclick": False, "itemdoubleclick": False},
    )
    fig.update_yaxes(
        title="Layer", autorange="reversed", dtick=1 if blocks <= 12 else 2, showgrid=False, col=1
    )
    fig.update_yaxes(autorange="reversed", showgrid=False, col=2)
    heads = int(rows.loc[rows["unit_type"] == "head", "unit"].max()) + 1
    fig.update_xaxes(
        title="Head", dtick=1 if heads <= 16 else 4, range=[0.4, heads + 0.6], showgrid=False, col=1
    )
    return fig.update_xaxes(
        title="Neurons kept",
        tickformat=".0%",
        range=[0, 1],
        showline=True,
        linecolor=AXIS[dark],
        col=2,
    )


def _causes(rows: pd.DataFrame) -> np.ndarray:
    """Return "removed", the larger of both weighted types of knowledge, or "kept" for each unit."""
    known = rows["predictive"].notna() & rows["representational"].notna()
    larger = np.where(
        rows["predictive"] >= rows["representational"], "predictive", "representational"
    )
    return np.where(~rows["kept"].astype(bool), "removed", np.where(known, larger, "kept"))


def _color(cause: str, model: ComparedModel, dark: bool) -> str:
    hue = CAUSES[cause][1]
    if not hue:
        return palette.color(model, dark)
    return mix(hue, "#ffffff", 0.2) if dark else hue


def _heads(fig: go.Figure, rows: pd.DataFrame, model: ComparedModel, dark: bool) -> None:
    if "width" not in rows:  # of an earlier version: all heads have the same
        rows = rows.assign(width=1)
    widest = rows["width"].max()
    for cause in ("removed", *CAUSES):
        units = rows[rows["cause"] == cause]
        if units.empty:
            continue
        is_removed = cause == "removed"
        color = fade(MUTED[dark], 0.55) if is_removed else _color(cause, model, dark)
        fig.add_scatter(
            x=units["unit"] + 1,
            y=units["block"] + 1,
            mode="markers",
            row=1,
            col=1,
            showlegend=is_removed,
            name="removed",
            marker={
                "symbol": "square-open" if is_removed else "square",
                "size": 15 if is_removed else 15 * (units["width"] / widest) ** 0.5,
                "color": color,
                "line": {"width": 1.2, "color": color},
            },
            customdata=[_describe(row) for row in units.itertuples()],
            hovertemplate="%{customdata}<extra></extra>",
        )


def _describe(row: Any) -> str:
    """Return the hover text of a head."""
    words = f"<b>layer {row.block + 1}, head {row.unit + 1}</b>: "
    words += "kept" if row.kept else "removed"
    if row.kept and row.width > 1:
        words += f", {row.width} dimensions"
    if row.cause == "kept" or not np.isfinite(row.score):
        return words
    return (
        f"{words}<br>predictive knowledge {row.predictive:.2g}"
        f"<br>representational knowledge {row.representational:.2g}"
        f"<br>score {row.score:.2g}, threshold {row.threshold:.2g}"
    )


def _neurons(fig: go.Figure, rows: pd.DataFrame, model: ComparedModel, dark: bool) -> None:
    sizes = rows.groupby("block").size()
    for cause, (title, _) in CAUSES.items():
        count = (
            rows[rows["cause"] == cause].groupby("block").size().reindex(sizes.index, fill_value=0)
        )
        if not count.sum():
            continue
        color, fraction = _color(cause, model, dark), count / sizes
        fig.add_bar(
            x=fraction,
            y=fraction.index + 1,
            orientation="h",
            row=1,
            col=2,
            name=title,
            marker={"color": color, "line": {"width": 0}},
            text=[percent(value) if value > 0.12 else "" for value in fraction],
            textposition="inside",
            insidetextanchor="middle",
            insidetextfont={"size": 11, "color": readable_on(color)},
            customdata=[
                f"{plural(int(number), 'neuron')} of {size}, {title}"
                for number, size in zip(count, sizes, strict=True)
            ],
            hovertemplate="layer %{y}: %{customdata}<extra></extra>",
        )
    kept = (
        rows[rows["kept"].astype(bool)].groupby("block").size().reindex(sizes.index, fill_value=0)
        / sizes
    )
    fig.add_scatter(
        x=kept.clip(upper=0.9),
        y=kept.index + 1,
        mode="text",
        text=[f" {percent(value)}" if value <= 0.12 else "" for value in kept],
        textposition="middle right",
        textfont={"size": 11, "color": INK[dark]},
        row=1,
        col=2,
        showlegend=False,
        hoverinfo="skip",
    )
