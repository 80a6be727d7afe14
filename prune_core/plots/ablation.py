"""Contribution of each option of a method: difference from the full method."""

import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from ..formatting import plural, points
from . import palette
from .palette import AXIS, INK
from .style import figure, interval


def option_contributions(table: pd.DataFrame, dark: bool = False) -> go.Figure:
    """Draw a table of `analysis.ablation`: one group per changed option, one bar per sparsity.

    Thin lines reach from the lowest to the highest seed.
    """
    names = list(dict.fromkeys(table["changed_options"]))
    targets = (
        table[["requested_sparsity", "pattern"]]
        .drop_duplicates()
        .sort_values(["pattern", "requested_sparsity"], ascending=False)
    )  # bars are drawn from the bottom up
    fig = figure(
        dark,
        15 * len(names) * len(targets) + 20 * len(names) + 90,
        margin={"l": 170, "r": 20, "t": 30, "b": 46},
        bargap=0.3,
    )
    for target in targets.itertuples():
        rows = table[
            (table["requested_sparsity"] == target.requested_sparsity)
            & (table["pattern"] == target.pattern)
        ]
        model = ComparedModel(
            0,
            "",
            rows["method"].iloc[0],
            sparsity=target.requested_sparsity,
            pattern=target.pattern,
        )
        fig.add_bar(
            x=100 * rows["difference"],
            y=rows["changed_options"],
            orientation="h",
            name=model.level,
            marker={"color": palette.color(model, dark), "line": {"width": 0}},
            error_x=interval(
                100 * rows["difference"], 100 * rows["low"], 100 * rows["high"], color=INK[dark]
            ),
            customdata=[
                f"{points(row.difference)}, {points(row.low)} to {points(row.high)} over "
                f"{plural(row.seeds, 'seed')}, n = {row.n:.0f}"
                for row in rows.itertuples()
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
        title="difference from the full method (percentage points)", showline=True
    )
