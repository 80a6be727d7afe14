"""What each part of a method contributes: bars of the difference from its full form."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from ..formatting import plural, points
from . import palette
from .palette import AXIS, INK
from .style import figure, interval


def option_contributions(table: pd.DataFrame, dark: bool = False) -> go.Figure:
    """One group per changed option, one bar per sparsity; lines span the seeds."""
    names = list(dict.fromkeys(table["part"]))
    targets = (
        table[["asked", "pattern"]]
        .drop_duplicates()
        .sort_values(["pattern", "asked"], ascending=False)
    )  # drawn from below
    fig = figure(
        dark,
        15 * len(names) * len(targets) + 20 * len(names) + 90,
        margin={"l": 170, "r": 20, "t": 30, "b": 46},
        bargap=0.3,
    )
    for target in targets.itertuples():
        own = table[(table["asked"] == target.asked) & (table["pattern"] == target.pattern)]
        model = ComparedModel(
            0, "", own["method"].iloc[0], sparsity=target.asked, pattern=target.pattern
        )
        fig.add_bar(
            x=100 * own["difference"],
            y=own["part"],
            orientation="h",
            name=model.level,
            marker={"color": palette.color(model, dark), "line": {"width": 0}},
            error_x=interval(
                100 * own["difference"], 100 * own["low"], 100 * own["high"], color=INK[dark]
            ),
            customdata=[
                f"{points(row.difference)}, {points(row.low)} to {points(row.high)} over "
                f"{plural(row.seeds, 'seed')}, n = {row.n:.0f}"
                for row in own.itertuples()
            ],
            hovertemplate=f"<b>%{{y}}</b>, {model.level}<br>%{{customdata}}<extra></extra>",
        )
    fig.add_vline(x=0, line={"color": AXIS[dark], "width": 1.2})
    fig.update_layout(showlegend=True, legend={"traceorder": "reversed"})
    fig.update_yaxes(
        categoryorder="array",
        categoryarray=names[::-1],
        showgrid=False,
        tickfont={"size": 12.5, "color": INK[dark]},
    )
    return fig.update_xaxes(
        title="difference from the full form (percentage points)", showline=True
    )
