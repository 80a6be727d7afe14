"""The probability of the label during an attack on one text, by queries or changes."""

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
AXES = {"queries": "Queries", "changes": "Words changed"}


def attack_steps(
    attacked: Sequence[tuple[ComparedModel, dict[str, Any]]],
    by: str,
    label: str,
    two_labels: bool,
    dark: bool = False,
) -> go.Figure:
    """Draw each model's `steps` (probability, queries), total `queries` and `outcome`.

    `by` is a key of AXES, `label` the name of the correct label. A cross marks a successful attack.
    """
    fig = figure(dark, HEIGHT, margin={"l": 58, "r": 150, "t": TOP, "b": BOTTOM})
    shown = [(model, result, result["steps"]) for model, result in attacked if result.get("steps")]
    lengths = [
        result["queries"] if by == "queries" else len(steps) - 1 for _, result, steps in shown
    ]
    longest = max([1, *lengths])
    ends = []
    for model, result, steps in shown:
        succeeded, color = result.get("outcome") == "success", palette.color(model, dark)
        x = [step["queries"] if by == "queries" else number for number, step in enumerate(steps)]
        y = [step["probability"] for step in steps]
        # a failed search sends queries after its last step
        end = x[-1] if succeeded or by == "changes" else result["queries"]
        line = {"color": color, "shape": "hv"}
        fig.add_scatter(
            x=[*x, end],
            y=[*y, y[-1]],
            mode="lines",
            hoverinfo="skip",
            line={**line, "width": 2.2},
        )
        # a thin line to the label: the search has ended
        fig.add_scatter(
            x=[end, longest],
            y=[y[-1]] * 2,
            mode="lines",
            hoverinfo="skip",
            line={**line, "width": 1, "dash": "dot"},
        )
        accepted = len(x) - 1
        fig.add_scatter(
            x=x,
            y=y,
            mode="markers",
            name=model.label,
            cliponaxis=False,
            marker={
                "color": color,
                "line": {"color": PAPER[dark], "width": 1},
                "size": [7] * accepted + [12 if succeeded else 7],
                "symbol": ["circle"] * accepted + ["x" if succeeded else "circle"],
            },
            customdata=[
                "original",
                *(
                    f"change {number}, query {step['queries']}"
                    for number, step in enumerate(steps[1:], start=1)
                ),
            ],
            hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}<br>{label} with "
            f"%{{y:.1%}}<extra></extra>",
        )
        ends.append(
            End(longest, y[-1], f"{model.short} {percent(y[-1])}", color=palette.ink(model, dark))
        )
    if two_labels:
        fig.add_hline(y=0.5, line={"color": AXIS[dark], "width": 1, "dash": "dot"})
    label_line_ends(fig, ends, (0.0, 1.0), height=HEIGHT - TOP - BOTTOM)
    fig.update_xaxes(
        title=AXES[by],
        range=[0, longest * 1.02],
        showgrid=False,
        showline=True,
        dtick=None if by == "queries" else max(1, longest // 8),
    )
    return fig.update_yaxes(
        title=f"Probability of “{label}”", tickformat=".0%", range=[0, 1], nticks=6
    )
