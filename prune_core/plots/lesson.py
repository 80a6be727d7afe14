"""Figures of the lesson: a matrix with its numbers, what averaging does to errors, and an interval beside a limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from ..statistics import paired_bounds
from .palette import DIVERGING, DIVERGING_DARK, INK, MUTED, method_color
from .style import figure


def matrix(
    values: Sequence[Sequence[float]],
    before: Sequence[Sequence[float]] | None = None,
    sizes: Sequence[float] = (),
    dark: bool = False,
) -> go.Figure:
    """Every weight as a number on its colour; zeros are empty, what a method changed besides is underlined; below, the inputs' sizes."""
    w = np.array(values)
    top = float(np.abs(w if before is None else before).max())
    fig = figure(dark, 34 * w.shape[0] + 50, margin={"l": 28, "r": 8, "t": 8, "b": 42})
    colors = DIVERGING_DARK if dark else DIVERGING
    fig.add_heatmap(
        z=np.where(w == 0, np.nan, w),
        zmin=-top,
        zmax=top,
        showscale=False,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
        colorscale=[[place / (len(colors) - 1), color] for place, color in enumerate(colors)],
    )
    old = w if before is None else np.array(before)
    notes = []
    for y, x in np.ndindex(*w.shape):
        moved = w[y, x] != 0 and abs(w[y, x] - old[y, x]) > 0.005
        text = "·" if w[y, x] == 0 else f"<u>{w[y, x]:.2f}</u>" if moved else f"{w[y, x]:.2f}"
        strong = abs(w[y, x]) > 0.65 * top and not dark
        notes.append(
            {
                "x": x,
                "y": y,
                "text": text,
                "showarrow": False,
                "font": {"size": 12, "color": "#ffffff" if strong else INK[dark]},
            }
        )
    fig.update_layout(annotations=notes)
    fig.update_yaxes(autorange="reversed", showticklabels=False, showgrid=False, title="outputs")
    named = {"tickvals": list(range(len(sizes))), "ticktext": [f"{size:.1f}" for size in sizes]}
    return fig.update_xaxes(
        showticklabels=bool(sizes),
        showgrid=False,
        title="inputs, by their size" if sizes else "inputs",
        **named,
    )


def averaged(likeness: float, dark: bool = False) -> go.Figure:
    """What is left of the candidates' errors in their average, by how many there are: (1 − ρ)/k + ρ for errors that are ρ alike."""
    fig = figure(dark, 300, margin={"l": 66, "r": 24, "t": 12, "b": 46})
    k = np.arange(1, 11)
    own = {"color": method_color("akr", dark), "width": 2.4}
    for rho, name, line in (
        (0.0, "independent errors", {"color": MUTED[dark], "dash": "dot"}),
        (likeness, "yours", own),
    ):
        fig.add_scatter(x=k, y=(1 - rho) / k + rho, mode="lines+markers", name=name, line=line)
    fig.update_layout(showlegend=True)
    fig.update_yaxes(title="Squared error left", tickformat=".0%", range=[0, 1.04])
    return fig.update_xaxes(title="Fine-tunes in the average", dtick=1)


def margin(broken: int, fixed: int, n: int, limit: float, dark: bool = False) -> go.Figure:
    """The difference of accuracy with its one-sided 95% bound, and the limit that the policy sets; in points."""
    low, high = paired_bounds(broken, fixed, n, alpha=0.05)
    value, color = (fixed - broken) / n, method_color("akr", dark)
    fig = figure(dark, 170, margin={"l": 24, "r": 24, "t": 30, "b": 46})
    fig.add_scatter(
        x=[100 * value],
        y=[0],
        mode="markers",
        marker={"size": 13, "color": color, "symbol": "diamond"},
        name="measured",
        error_x={
            "array": [100 * (high - value)],
            "arrayminus": [100 * (value - low)],
            "thickness": 4,
            "width": 0,
            "color": color,
        },
    )
    fig.add_vline(
        x=-100 * limit,
        line={"color": INK[dark], "width": 2, "dash": "dash"},
        annotation_text="limit",
    )
    fig.add_vline(x=0, line={"color": MUTED[dark], "width": 1})
    fig.update_yaxes(visible=False, range=[-1, 1])
    return fig.update_xaxes(title="Accuracy against dense (points)", range=[-12, 4], showline=True)
