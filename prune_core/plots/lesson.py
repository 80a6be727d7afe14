"""Charts of the lesson: a weight matrix, and the error of an average of fine-tunes."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from .palette import DIVERGING, DIVERGING_DARK, INK, MUTED, method_color
from .style import figure


def matrix(
    values: Sequence[Sequence[float]],
    before: Sequence[Sequence[float]] | None = None,
    input_rms: Sequence[float] = (),
    dark: bool = False,
) -> go.Figure:
    """Draw weights as numbers on colors; zeros are empty, updated weights underlined.

    `input_rms` (inputs,) are the root mean squares of the inputs, shown as tick labels.
    """
    weights = np.array(values)
    top = float(np.abs(weights if before is None else before).max())
    fig = figure(dark, 34 * weights.shape[0] + 50, margin={"l": 28, "r": 8, "t": 8, "b": 42})
    colors = DIVERGING_DARK if dark else DIVERGING
    fig.add_heatmap(
        z=np.where(weights == 0, np.nan, weights),
        zmin=-top,
        zmax=top,
        showscale=False,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
        colorscale=[[index / (len(colors) - 1), color] for index, color in enumerate(colors)],
    )
    original = weights if before is None else np.array(before)
    notes = []
    for y, x in np.ndindex(*weights.shape):
        is_updated = weights[y, x] != 0 and abs(weights[y, x] - original[y, x]) > 0.005
        text = f"{weights[y, x]:.2f}" if weights[y, x] else "·"
        is_dark = abs(weights[y, x]) > 0.65 * top and not dark
        notes.append(
            {
                "x": x,
                "y": y,
                "text": f"<u>{text}</u>" if is_updated else text,
                "showarrow": False,
                "font": {"size": 12, "color": "#ffffff" if is_dark else INK[dark]},
            }
        )
    fig.update_layout(annotations=notes)
    fig.update_yaxes(autorange="reversed", showticklabels=False, showgrid=False, title="outputs")
    return fig.update_xaxes(
        showticklabels=bool(input_rms),
        showgrid=False,
        title="inputs with their root mean square" if input_rms else "inputs",
        tickvals=list(range(len(input_rms))),
        ticktext=[f"{value:.1f}" for value in input_rms],
    )


def averaging_errors(correlation: float, dark: bool = False) -> go.Figure:
    """Draw the squared error of an average of k fine-tunes with error correlation ρ.

    It is (1 − ρ)/k + ρ, relative to one fine-tune.
    """
    fig = figure(dark, 300, margin={"l": 66, "r": 24, "t": 12, "b": 46})
    k = np.arange(1, 11)
    for rho, name, line in (
        (0.0, "independent errors", {"color": MUTED[dark], "dash": "dot"}),
        (correlation, "chosen correlation", {"color": method_color("akr", dark), "width": 2.4}),
    ):
        fig.add_scatter(x=k, y=(1 - rho) / k + rho, mode="lines+markers", name=name, line=line)
    fig.update_layout(showlegend=True)
    fig.update_yaxes(title="Remaining squared error", tickformat=".0%", range=[0, 1.04])
    return fig.update_xaxes(title="Fine-tunes in the average", dtick=1)
