"""Published results (hollow, dotted) and a study's (filled) in the same axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import DENSE
from .annotations import End, distinguishable, label_line_ends, padded, tick_format
from .palette import HUES, MUTED, PAPER, method_color
from .style import BOTTOM, TOP, figure, interval

if TYPE_CHECKING:
    from ..analysis.published import Axis

SHAPES = (
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "x",
    "pentagon",
    "triangle-down",
)  # of methods that only the paper has
STROKES = {True: "solid", False: "dot"}  # the study's, the paper's
SHARES = {"weights": "Share of the encoder's weights removed", "FLOPs": "Share of FLOPs removed"}


def published_comparison(
    points: pd.DataFrame, axis: Axis, across: str, dark: bool = False, height: int = 340
) -> go.Figure:
    """Lines over "weights", "FLOPs" or "layer", or one row per "task"."""
    if across == "task":
        return _by_task(points, axis, dark)
    fig = figure(dark, height, margin={"l": 62, "r": 118, "t": TOP, "b": BOTTOM})
    bounded = axis.tick == ".0%"
    y_range = padded(
        points[["value", "low", "high"]].to_numpy().ravel(),
        None if bounded else 0.0,
        1.0 if bounded else None,
    )
    ends, looks = [], _looks(points, dark)
    top = points["x"].max()
    if (
        across in SHARES
        # bars at one sparsity would lie on top of each other: each line of the study a little to
        # the
        # side
    ):
        places = {
            name: i
            for i, name in enumerate(
                dict.fromkeys(points.loc[points["own"] & (points["x"] > 0), "series"])
            )
        }
        aside = points["series"].map(places).fillna((len(places) - 1) / 2) - (len(places) - 1) / 2
        points = points.assign(
            level=points["x"], x=points["x"] + aside.where(points["own"], 0.0) * 0.014 * top
        )
    for (series, own, adversarial), marks in points.groupby(
        ["series", "own", "adversarial"], sort=False
    ):
        marks = marks.sort_values("x")
        look, name = looks[series, own], f"{series}, adversarial" if adversarial else series
        name = name if own else f"<i>{name}</i>"
        fig.add_scatter(
            x=marks["x"],
            y=marks["value"],
            mode="lines+markers",
            cliponaxis=False,
            line={
                "color": look["color"],
                "width": 2.2 if own else 1.3,
                "dash": "dash" if adversarial else STROKES[own],
            },
            error_y=interval(marks["value"], marks["low"], marks["high"], color=look["color"]),
            **_shared(marks, name, axis, look=look),
        )
        last = marks.iloc[-1]
        ends.append(End(last["x"], last["value"], name, color=look["color"]))
    edge = 1.04 * top if across in SHARES else top + 0.4
    label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM, size=12, edge=edge)
    if across in SHARES:
        ticks = distinguishable(sorted({0.0, *points["level"]}), top)
        fig.update_xaxes(
            title=SHARES[across], tickformat=".3~p", tickvals=ticks, range=[-0.04 * top, edge]
        )
    else:
        fig.update_xaxes(title="Layer", dtick=1, range=[0.6, edge])
    fig.update_xaxes(showgrid=False, showline=True)
    return fig.update_yaxes(
        title=axis.title, range=list(y_range), tickformat=tick_format(axis.tick, y_range), nticks=6
    )


def _by_task(points: pd.DataFrame, axis: Axis, dark: bool) -> go.Figure:
    """Tasks as rows, one mark per method; the study's task has its own row."""
    tasks = list(dict.fromkeys(points["x"]))
    fig = figure(
        dark,
        110 + 34 * len(tasks),
        margin={"l": 170, "r": 24, "t": 40, "b": BOTTOM},
        showlegend=True,
    )
    looks = _looks(points, dark)
    for (series, own), marks in points.groupby(["series", "own"], sort=False):
        name = f"{series}, this study" if own else f"<i>{series}</i>"
        fig.add_scatter(
            x=marks["value"],
            y=marks["x"],
            mode="markers",
            **_shared(marks, name, axis, look=looks[series, own]),
        )
    fig.update_xaxes(title=axis.title, tickformat=axis.tick, rangemode="tozero", showline=True)
    return fig.update_yaxes(categoryorder="array", categoryarray=tasks[::-1], showgrid=True)


def _shared(marks: pd.DataFrame, name: str, axis: Axis, look: dict[str, Any]) -> dict[str, Any]:
    """Name, marker and hover text of a series' trace."""
    return {
        "name": name,
        "marker": look,
        "text": marks["detail"],
        "customdata": marks["value"].map(axis.show),
        "hovertemplate": f"<b>{name}</b><br>{axis.title}: "
        "%{customdata}<br>%{text}<extra></extra>",
    }


def _looks(points: pd.DataFrame, dark: bool) -> dict[tuple[str, bool], dict[str, Any]]:
    """Marker of each series: hue by method; methods of the paper alone are grey shapes."""
    looks, strangers = {}, 0
    for series, own, method in (
        points[["series", "own", "method"]].drop_duplicates().itertuples(index=False)
    ):
        known = own or method in HUES
        color = method_color(method or DENSE, dark) if known else MUTED[dark]
        shape = "star" if ":" in series else "circle"
        shape = shape if known else SHAPES[strangers % len(SHAPES)]
        strangers += not known
        edge = {"color": PAPER[dark], "width": 1} if own else {"color": color, "width": 1.6}
        looks[series, own] = {
            "color": color,
            "size": 9,
            "symbol": shape if own else f"{shape}-open",
            "line": edge,
        }
    return looks
