"""Certified accuracy by number of changed words."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from ..analysis.certified import columns_of
from ..analysis.compared_models import ComparedModel, ordered, with_rows
from ..formatting import percent
from . import palette
from .annotations import padded
from .palette import MUTED, fade
from .style import figure, marker


def certified_accuracy(
    rows: pd.DataFrame, models: Sequence[ComparedModel], dark: bool = False, height: int = 330
) -> go.Figure:
    """Draw one line per model with its 95% band; dotted: the most frequent label for all texts."""
    fig = figure(dark, height, margin={"l": 60, "r": 20, "t": 40, "b": 48}, showlegend=True)
    for model in with_rows(ordered(models), rows):
        of_model = rows[rows["job"] == model.job].sort_values("changed")
        value, low, high = (of_model[each] for each in columns_of("accuracy"))
        color, x = palette.color(model, dark), of_model["changed"]
        fig.add_scatter(
            x=pd.concat([x, x[::-1]]),
            y=pd.concat([high, low[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=fade(color, 0.1),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        fig.add_scatter(
            x=x,
            y=value,
            mode="lines+markers",
            name=model.short,
            line={"color": color, "width": 1.5},
            marker=marker(model, dark),
            cliponaxis=False,
            customdata=[
                f"{percent(middle)} of {n:.0f} examples, "
                f"95% interval {percent(bottom)} to {percent(top)}"
                for middle, bottom, top, n in zip(value, low, high, of_model["n"], strict=True)
            ],
            hovertemplate=f"<b>{model.label}</b><br>%{{x}} changed words: %{{customdata}}"
            "<extra></extra>",
        )
    fig.add_hline(
        float(rows["most_frequent"].max()), line={"color": MUTED[dark], "width": 1, "dash": "dot"}
    )
    ends = rows[[*columns_of("accuracy"), "most_frequent"]].to_numpy().ravel()
    fig.update_xaxes(title="Changed words", dtick=1, showgrid=False, showline=True)
    return fig.update_yaxes(
        title="Certified accuracy · higher is better",
        tickformat=".0%",
        range=padded(ends, low=0.0, high=1.0),
    )
