"""Charts of a what-if plan: contribution of each layer, and predicted against measured errors."""

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
    sparsities: Sequence[float],
    uniform: float,
    model: ComparedModel,
    dark: bool = False,
) -> go.Figure:
    """Draw each layer's contribution to the predicted squared error; ticks: uniform sparsity."""
    fig = figure(dark, 300, margin={"l": 62, "r": 20, "t": 12, "b": 46}, bargap=0.35)
    blocks = list(range(1, len(sparsities) + 1))
    planned = [
        block.error(sparsity) ** 2
        for block, sparsity in zip(curves.blocks, sparsities, strict=True)
    ]
    fig.add_bar(
        x=blocks,
        y=planned,
        name="plan",
        marker={"color": palette.color(model, dark)},
        customdata=[
            f"{percent(sparsity)} sparsity, error of this layer alone {error(value**0.5)}"
            for sparsity, value in zip(sparsities, planned, strict=True)
        ],
        hovertemplate="<b>layer %{x}</b><br>%{customdata}<extra></extra>",
    )
    fig.add_scatter(
        x=blocks,
        y=[block.error(uniform) ** 2 for block in curves.blocks],
        mode="markers",
        name=f"uniform {percent(uniform)}",
        hovertemplate="uniform: %{y:.3f}<extra></extra>",
        marker={"symbol": "line-ew-open", "size": 26, "color": MUTED[dark], "line": {"width": 2}},
    )
    fig.update_xaxes(block_axis(len(blocks), 0.3, 0.7))
    return fig.update_yaxes(title="Contribution to the squared error", rangemode="tozero", nticks=6)


def predicted_vs_measured(checks: Sequence[PredictionCheck], dark: bool = False) -> go.Figure:
    """Draw predicted against measured error; hollow marks have custom sparsities by layer."""
    fig = figure(dark, 300, margin={"l": 62, "r": 20, "t": 12, "b": 46}, hovermode="closest")
    values = [value for check in checks for value in (check.predicted.error, check.measured.error)]
    low, high = padded(values, low=0.0)
    fig.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": MUTED[dark], "dash": "dot", "width": 1},
        hoverinfo="skip",
    )
    for check in checks:
        symbol = palette.symbol(check.model)
        fig.add_scatter(
            x=[check.predicted.error],
            y=[check.measured.error],
            mode="markers",
            name=check.model.label,
            marker={
                "color": palette.color(check.model, dark),
                "size": 12,
                "symbol": f"{symbol}-open" if check.is_custom else symbol,
                "line": {"width": 2},
            },
            hovertemplate=f"<b>{check.model.label}</b><br>predicted %{{x:.3f}}, measured "
            f"%{{y:.3f}}<extra></extra>",
        )
    fig.update_xaxes(title="Predicted error of the encoder's output", range=[low, high], nticks=6)
    return fig.update_yaxes(title="Measured", range=[low, high], nticks=6)
