"""Figures of a plan of shares: what each block would contribute, and how predictions held."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from ..analysis.whatif import Curves, PredictionCheck
from ..formatting import error, percent
from . import palette
from .annotations import padded
from .palette import MUTED
from .style import block_axis, figure


def contributions(
    curves: Curves,
    shares: Sequence[float],
    alike: float,
    model: ComparedModel,
    dark: bool = False,
    height: int = 300,
) -> go.Figure:
    """One bar per layer: its part of the predicted squared error; ticks: uniform sparsity."""
    fig = figure(dark, height, margin={"l": 62, "r": 20, "t": 12, "b": 46}, bargap=0.35)
    blocks = list(range(1, len(shares) + 1))
    chosen = [block.error(share) ** 2 for block, share in zip(curves.blocks, shares, strict=True)]
    even = [block.error(alike) ** 2 for block in curves.blocks]
    told = [
        f"{percent(share)} zeros, error alone {error(value**0.5)}"
        for share, value in zip(shares, chosen, strict=True)
    ]
    fig.add_bar(
        x=blocks,
        y=chosen,
        name="as planned",
        marker={"color": palette.color(model, dark)},
        customdata=told,
        hovertemplate="<b>block %{x}</b><br>%{customdata}<extra></extra>",
    )
    fig.add_scatter(
        x=blocks,
        y=even,
        mode="markers",
        name=f"all at {percent(alike)}",
        hovertemplate="all alike: %{y:.3f}<extra></extra>",
        marker={"symbol": "line-ew-open", "size": 26, "color": MUTED[dark], "line": {"width": 2}},
    )
    fig.update_xaxes(block_axis(len(blocks), 0.3, 0.7))
    return fig.update_yaxes(title="Part of the squared error", rangemode="tozero", nticks=6)


def predicted_vs_measured(
    found: Sequence[PredictionCheck], dark: bool = False, height: int = 300
) -> go.Figure:
    """Predicted against measured error; hollow marks have their own sparsity by layer."""
    fig = figure(dark, height, margin={"l": 62, "r": 20, "t": 12, "b": 46}, hovermode="closest")
    values = [value for each in found for value in (each.predicted.error, each.measured.error)]
    low, high = padded(values, low=0.0)
    fig.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": MUTED[dark], "dash": "dot", "width": 1},
        hoverinfo="skip",
    )
    for each in found:
        symbol = palette.symbol(each.model)
        fig.add_scatter(
            x=[each.predicted.error],
            y=[each.measured.error],
            mode="markers",
            name=each.model.label,
            marker={
                "color": palette.color(each.model, dark),
                "size": 12,
                "symbol": f"{symbol}-open" if each.own_shares else symbol,
                "line": {"width": 2},
            },
            hovertemplate=f"<b>{each.model.label}</b><br>predicted %{{x:.3f}}, measured "
            f"%{{y:.3f}}<extra></extra>",
        )
    fig.update_xaxes(title="Predicted error of the encoder's output", range=[low, high], nticks=6)
    return fig.update_yaxes(title="Measured", range=[low, high], nticks=6)
