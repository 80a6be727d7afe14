"""An attack on one text, model by model: the probability of the right label as the attacker asks, or changes, more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from ..formatting import percent
from ..palette import AXIS, PAPER, Model
from .labels import End, at_ends
from .style import figure

TOP, BOTTOM, HEIGHT = 12, 46, 330
AXES = {"queries": "Queries asked", "changes": "Words changed so far"}


def attack_steps(attacked: Sequence[tuple[Model, dict[str, Any]]], by: str, right: str, two_labels: bool, dark: bool = False) -> go.Figure:
    """`steps` of each model (probability, queries; the original first), `queries` in all and, where it is over, its `outcome`.

    `by` is one of AXES. A cross ends a line that was turned wrong.
    """
    fig = figure(dark, HEIGHT, margin={"l": 58, "r": 112, "t": TOP, "b": BOTTOM})
    ends, most = [], 1
    for model, told in attacked:
        if not (steps := told.get("steps")):
            continue
        won, color = told.get("outcome") == "success", model.color(dark)
        x = [step["queries"] for step in steps] if by == "queries" else list(range(len(steps)))
        y = [step["probability"] for step in steps]
        last = x[-1] if by == "changes" or won else told["queries"]  # a search that holds goes on asking behind its last step
        fig.add_scatter(
            x=[*x, last], y=[*y, y[-1]], mode="lines", hoverinfo="skip", line={"color": color, "width": 2.2, "shape": "hv"},
        )  # fmt: skip
        fig.add_scatter(
            x=x, y=y, mode="markers", name=model.label, cliponaxis=False,
            marker={
                "color": color, "line": {"color": PAPER[dark], "width": 1},
                "size": [7] * (len(x) - 1) + [12 if won else 7], "symbol": ["circle"] * (len(x) - 1) + ["x" if won else "circle"],
            },
            customdata=["the original", *(f"change {place}, query {step['queries']}" for place, step in enumerate(steps[1:], start=1))],
            hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}<br>{right} with %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
        ends.append(End(last, y[-1], f"{model.short} {percent(y[-1])}", model.ink(dark)))
        most = max(most, last)
    if two_labels:
        fig.add_hline(y=0.5, line={"color": AXIS[dark], "width": 1, "dash": "dot"})
    at_ends(fig, ends, (0.0, 1.0), HEIGHT - TOP - BOTTOM)
    every = None if by == "queries" else max(1, most // 8)
    fig.update_xaxes(title=AXES[by], range=[0, most * 1.02], showgrid=False, showline=True, dtick=every)
    return fig.update_yaxes(title=f"Probability of “{right}”", tickformat=".0%", range=[0, 1], nticks=6)
