"""Size, FLOPs and latency relative to the dense model."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel, ordered, with_rows
from ..formatting import millions, milliseconds, percent, size
from . import palette
from .annotations import room
from .palette import AXIS, INK, readable_on
from .style import interval, panels


class Saving(NamedTuple):
    """One column of the cost table."""

    column: str
    title: str
    show: Callable[[float], str]


SAVINGS = (
    Saving("nonzeros", "non-zero weights", millions),
    Saving("bytes", "file on disk", size),
    Saving("macs", "FLOPs (multiply-adds)", millions),
    Saving("latency_p50", "time per batch", milliseconds),
)


def cost_savings(
    rows: pd.DataFrame, models: Sequence[ComparedModel], dark: bool = False
) -> go.Figure:
    """Draw one panel per cost and one bar per pruned model, relative to its dense model."""
    shown = [model for model in with_rows(ordered(models), rows) if not model.is_dense]
    fig = panels(
        dark,
        27 * len(shown) + 78,
        [saving.title for saving in SAVINGS],
        bargap=0.34,
        margin={"l": room([model.short for model in shown], 112), "r": 12, "t": 26, "b": 46},
        panel_horizontal_spacing=0.03,
    )
    ends = [1.0]
    for column, saving in enumerate(SAVINGS, start=1):
        for model in shown:
            costs = rows[rows["job"] == model.job].set_index("model")
            dense, pruned = costs.loc["dense"], costs.loc["pruned"]
            ends.append(
                _bar(fig, model, saving, dense=dense, pruned=pruned, column=column, dark=dark)
            )
        fig.add_vline(
            x=1.0,
            line={"color": INK[dark], "width": 1.2, "dash": "dot"},
            opacity=0.6,
            row=1,
            col=column,
        )
    fig.update_yaxes(
        autorange="reversed",
        showgrid=False,
        tickfont={"size": 12.5, "color": INK[dark]},
        ticklabelstandoff=6,
    )
    return fig.update_xaxes(
        title="relative to dense",
        range=[0, max(ends) * 1.04],
        tickvals=[0, 0.5, 1],
        tickformat=".0%",
        linecolor=AXIS[dark],
        showline=True,
    )


def _bar(
    fig: go.Figure,
    model: ComparedModel,
    saving: Saving,
    dense: pd.Series,
    pruned: pd.Series,
    column: int,
    dark: bool,
) -> float:
    """Draw a bar with its value inside; return where it ends on the x axis."""
    color = palette.color(model, dark)
    ratio = high = pruned[saving.column] / dense[saving.column]
    if saving.column == "latency_p50":
        high = pruned["latency_p95"] / dense[saving.column]
    fig.add_bar(
        x=[ratio],
        y=[model.short],
        orientation="h",
        name=model.label,
        text=[f"{ratio:.0%}"],
        textposition="inside",
        insidetextanchor="start",
        insidetextfont={"size": 12.5, "color": readable_on(color)},
        marker={"color": color, "line": {"width": 0}},
        error_x=interval(ratio, ratio, high, color=INK[dark]) if high > ratio else None,
        hovertemplate=f"<b>{model.label}</b><br>{saving.title}: "
        f"{saving.show(pruned[saving.column])}, dense "
        f"{saving.show(dense[saving.column])} ({percent(ratio)})<extra></extra>",
        row=1,
        col=column,
    )
    return min(max(high, ratio), 1.3)  # a single slow pass must not squeeze the bars
