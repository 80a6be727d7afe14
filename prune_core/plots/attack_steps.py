"""The probability of the label during an attack on one text, by queries or changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from ..formatting import percent
from . import palette
from .annotations import End, label_line_ends
from .palette import AXIS, PAPER
from .style import BOTTOM, TOP, figure

HEIGHT = 330
AXES = {"queries": "Queries asked", "changes": "Words changed so far"}


def attack_steps(
    attacked: Sequence[tuple[ComparedModel, dict[str, Any]]],
    by: str,
    right: str,
    two_labels: bool,
    dark: bool = False,
) -> go.Figure:
    """Chart of each model's `steps` (probability, queries), total `queries` and `outcome`.

    `by` is a key of AXES. A cross marks a successful attack.
    """
    fig = figure(dark, HEIGHT, margin={"l": 58, "r": 150, "t": TOP, "b": BOTTOM})
    shown = [(model, told, told["steps"]) for model, told in attacked if told.get("steps")]
    most = max(
        [1, *(told["queries"] if by == "queries" else len(steps) - 1 for _, told, steps in shown)]
    )
    ends = []
    for model, told, steps in shown:
        won, color = told.get("outcome") == "success", palette.color(model, dark)
        x = [step["queries"] if by == "queries" else number for number, step in enumerate(steps)]
        y = [step["probability"] for step in steps]
        asking = (
            x[-1] if won or by == "changes" else told["queries"]
        )  # a search that holds asks on behind its last step
        line = {"color": color, "shape": "hv"}
        fig.add_scatter(
            x=[*x, asking],
            y=[*y, y[-1]],
            mode="lines",
            hoverinfo="skip",
            line={**line, "width": 2.2},
        )
        # to its label, faintly: nobody asks any more
        fig.add_scatter(
            x=[asking, most],
            y=[y[-1]] * 2,
            mode="lines",
            hoverinfo="skip",
            line={**line, "width": 1, "dash": "dot"},
        )
        before = len(x) - 1
        fig.add_scatter(
            x=x,
            y=y,
            mode="markers",
            name=model.label,
            cliponaxis=False,
            marker={
                "color": color,
                "line": {"color": PAPER[dark], "width": 1},
                "size": [7] * before + [12 if won else 7],
                "symbol": ["circle"] * before + ["x" if won else "circle"],
            },
            customdata=[
                "the original",
                *(
                    f"change {number}, query {step['queries']}"
                    for number, step in enumerate(steps[1:], start=1)
                ),
            ],
            hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}<br>{right} with "
            f"%{{y:.1%}}<extra></extra>",
        )
        ends.append(
            End(most, y[-1], f"{model.short} {percent(y[-1])}", color=palette.ink(model, dark))
        )
    if two_labels:
        fig.add_hline(y=0.5, line={"color": AXIS[dark], "width": 1, "dash": "dot"})
    label_line_ends(fig, ends, (0.0, 1.0), height=HEIGHT - TOP - BOTTOM)
    every = None if by == "queries" else max(1, most // 8)
    fig.update_xaxes(
        title=AXES[by], range=[0, most * 1.02], showgrid=False, showline=True, dtick=every
    )
    return fig.update_yaxes(
        title=f"Probability of “{right}”", tickformat=".0%", range=[0, 1], nticks=6
    )
