"""Tokens per text and size of a checkpoint against the size of its vocabulary."""

import pandas as pd
import plotly.graph_objects as go

from .palette import HUES, INK, MUTED
from .style import interval, panels

RATIO, SIZE = HUES["sparsegpt"], HUES["akr"]


def vocabulary_sizes(
    rows: pd.DataFrame, chosen: int, limit: float, dark: bool = False
) -> go.Figure:
    """Draw the table of `pruning.vocabulary.coverage`: the ratio of tokens above, megabytes below.

    A vertical line marks the `chosen` vocabulary, a dotted one the largest accepted ratio.
    """
    titles = ["Tokens per held-out text, relative to the full vocabulary", "Weights and tokenizer"]
    fig = panels(
        dark,
        430,
        titles,
        rows=2,
        margin={"l": 66, "r": 20, "t": 34, "b": 46},
        panel_shared_xaxes=True,
        panel_vertical_spacing=0.14,
    )
    sizes, ratio = rows["vocabulary"], rows["ratio"]
    megabytes = (rows["weight_bytes"] + rows["tokenizer_bytes"]) / 1e6
    bars = interval(ratio, rows["ratio_low"], rows["ratio_high"], RATIO)
    for panel, (values, color, error, unit) in enumerate(
        ((ratio, RATIO, bars, ""), (megabytes, SIZE, None, " MB")), start=1
    ):
        fig.add_scatter(
            x=sizes,
            y=values,
            name=titles[panel - 1],
            mode="lines+markers",
            line={"color": color},
            error_y=error,
            hovertemplate=f"%{{x:,}} tokens: %{{y:.3~f}}{unit}<extra></extra>",
            row=panel,
            col=1,
        )
    fig.add_hline(y=limit, line={"color": MUTED[dark], "width": 1.2, "dash": "dot"}, row=1, col=1)
    fig.add_vline(x=chosen, line={"color": INK[dark], "width": 1.2}, opacity=0.6)
    fig.update_yaxes(title="ratio", tickformat=".2~f", row=1, col=1)
    fig.update_yaxes(title="MB", rangemode="tozero", row=2, col=1)
    fig.update_xaxes(type="log", dtick="D2", tickformat=",")
    return fig.update_xaxes(title="Vocabulary, tokens (log scale)", row=2, col=1)
