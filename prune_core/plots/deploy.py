"""How much of each limit a pruned model uses, and the files that a joint search has tried."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..analysis.criteria import INCONCLUSIVE, MET, VIOLATED, Verdict
from .palette import AXIS, GRID, HUES, INK, MUTED
from .style import figure, interval

COLORS = {
    MET: ("#009E73", "#35c79c"),
    VIOLATED: ("#D55E00", "#ff8a3d"),
    INCONCLUSIVE: ("#66707c", "#97a1ad"),
}
SYMBOLS = {
    MET: "circle",
    VIOLATED: "x",
    INCONCLUSIVE: "circle-open",
}  # a second cue in addition to color
FORMAT_HUES = ("akr", "sparsegpt", "kprune", "magnitude", "wanda", "kwon", "osscar")
FORMAT_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "pentagon", "cross")
FORMAT_STYLES = [
    (HUES[hue], symbol) for hue, symbol in zip(FORMAT_HUES, FORMAT_SYMBOLS, strict=True)
]
ENDS = (-0.6, 2.5)  # of the axis, as multiples of the limit; values beyond are drawn at its ends


def limit_usage(verdicts: Sequence[Verdict], dark: bool = False) -> go.Figure:
    """Draw one row per test: value and one-sided bounds as fractions of the limit (100%).

    Inconclusive tests are labeled with what the sample rules out.
    """
    fig = figure(dark, 42 * len(verdicts) + 92, margin={"l": 10, "r": 16, "t": 26, "b": 46})
    names = [verdict.title.replace(" · ", "<br>") for verdict in verdicts]
    for verdict, name in reversed([*zip(verdicts, names, strict=True)]):
        _add_test(fig, verdict, name, dark)
    fig.add_vline(x=1.0, line={"color": INK[dark], "width": 1.5})
    fig.add_vline(x=0.0, line={"color": AXIS[dark], "width": 1, "dash": "dot"})
    for x, text, color in ((1.0, "limit", INK), (0.0, "equal to dense", MUTED)):
        fig.add_annotation(
            x=x,
            y=1.0,
            yref="paper",
            text=text,
            showarrow=False,
            yshift=10,
            font={"size": 12, "color": color[dark]},
        )
    fig.update_yaxes(
        categoryorder="array",
        categoryarray=names[::-1],
        automargin=True,
        gridcolor=GRID[dark],
        tickfont={"size": 12.5, "color": INK[dark]},
        range=[-0.6, len(verdicts) - 0.4],
    )
    return fig.update_xaxes(
        tickvals=[0, 1, 2],
        tickformat=".0%",
        title="fraction of the limit",
        zeroline=False,
        range=[ENDS[0] - 0.05, ENDS[1] + 0.05],
    )


def _add_test(fig: go.Figure, verdict: Verdict, name: str, dark: bool) -> None:
    """Draw the interval, the measured value and, if inconclusive, what the sample rules out."""
    value, low, high = (
        np.clip(end, *ENDS) if not np.isnan(end) else np.nan for end in verdict.limit_fractions
    )
    color, unit = COLORS[verdict.result][dark], verdict.criterion.unit
    is_bounded = not np.isnan(high)
    note = f"rules out {verdict.rules_out}" if verdict.rules_out else ""
    fig.add_scatter(
        x=[np.nan_to_num(low, nan=ENDS[0]), high] if is_bounded else [None],
        y=[name] * (2 if is_bounded else 1),
        mode="lines",
        line={"color": color, "width": 3},
        hoverinfo="skip",
    )
    symbol = SYMBOLS[verdict.result]
    fig.add_scatter(
        x=[value if np.isfinite(value) else None],
        y=[name],
        mode="markers",
        marker={"color": color, "size": 11, "symbol": symbol, "line": {"width": 2, "color": color}},
        hovertemplate=f"<b>{verdict.title}</b><br>measured {verdict.value:.2f} {unit}, limit "
        f"{verdict.limit_text}<br>{verdict.result}, n = {verdict.n}<br>{note}<extra></extra>",
    )
    if verdict.result == INCONCLUSIVE and verdict.excluded:
        fig.add_annotation(
            x=ENDS[1],
            y=name,
            xanchor="right",
            yshift=11,
            showarrow=False,
            text=f"rules out {verdict.excluded}",
            font={"size": 11, "color": MUTED[dark]},
        )


def search_front(rows: pd.DataFrame, objective: str, dark: bool = False) -> go.Figure:
    """Draw the table of `deployment.joint_search`: the score of every file against its cost.

    One color and symbol per format; the dotted line is the Pareto front, the ring the chosen file.
    """
    fig = figure(dark, 400, margin={"l": 64, "r": 20, "t": 34, "b": 52})
    fastest = objective == "fastest"
    rows = rows[rows[["score", "bytes"]].notna().all(axis=1)]
    rows = rows.assign(cost=rows["speedup"] if fastest else rows["bytes"] / 1e6)
    front = rows[rows["front"]].sort_values("cost")
    fig.add_scatter(
        x=front["cost"],
        y=front["score"],
        mode="lines",
        line={"color": MUTED[dark], "dash": "dot", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    for place, (name, files) in enumerate(rows.groupby("format", sort=False)):
        color, symbol = FORMAT_STYLES[place % len(FORMAT_STYLES)]
        low, high = files["score_low"], files["score_high"]
        fig.add_scatter(
            x=files["cost"],
            y=files["score"],
            name=name,
            text=files["label"],
            mode="markers",
            marker={"color": color, "size": 10, "symbol": symbol},
            error_y=interval(files["score"], low, high, color),
            customdata=np.stack([files["bytes"] / 1e6, 1e3 * files["latency"]], axis=-1),
            hovertemplate="<b>%{text}</b><br>%{y:.3f}, %{customdata[0]:.1f} MB, "
            "%{customdata[1]:.1f} ms<extra></extra>",
        )
    chosen = rows[rows["chosen"]]
    ring = {"color": INK[dark], "size": 18, "symbol": "circle-open", "line": {"width": 2}}
    fig.add_scatter(
        x=chosen["cost"],
        y=chosen["score"],
        mode="markers",
        marker=ring,
        hoverinfo="skip",
        showlegend=False,
    )
    fig.update_layout(showlegend=True, legend={"orientation": "h", "y": 1.12, "x": 0})
    fig.update_yaxes(title="score")
    title = "speed-up over dense PyTorch fp32 (times)" if fastest else "size of the file (MB)"
    return fig.update_xaxes(title=title)
