"""Published results (hollow, dotted) and a study's results (filled) in the same axes."""

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

# markers of methods that only the paper has
SHAPES = ("square", "diamond", "triangle-up", "cross", "x", "pentagon", "triangle-down")
STROKES = {True: "solid", False: "dot"}  # study, paper
SPARSITY_TITLES = {
    "weights": "Fraction of the encoder's weights removed",
    "FLOPs": "Fraction of FLOPs removed",
}


def published_comparison(
    points: pd.DataFrame, axis: Axis, across: str, dark: bool = False, height: int = 340
) -> go.Figure:
    """Draw lines over "weights", "FLOPs" or "layer", or one row per "task"."""
    if across == "task":
        return _by_task(points, axis, dark)
    fig = figure(dark, height, margin={"l": 62, "r": 118, "t": TOP, "b": BOTTOM})
    bounded = axis.tick == ".0%"
    y_range = padded(
        points[["value", "low", "high"]].to_numpy().ravel(),
        None if bounded else 0.0,
        1.0 if bounded else None,
    )
    ends, styles = [], _styles(points, dark)
    top = points["x"].max()
    if across in SPARSITY_TITLES:
        # shift each line of the study horizontally: error bars at one sparsity would overlap
        names = points.loc[points["is_study"] & (points["x"] > 0), "series"].unique()
        positions = {name: index for index, name in enumerate(names)}
        center = (len(positions) - 1) / 2
        offset = points["series"].map(positions).fillna(center) - center
        points = points.assign(
            level=points["x"], x=points["x"] + offset.where(points["is_study"], 0.0) * 0.014 * top
        )
    for (series, is_study, adversarial), marks in points.groupby(
        ["series", "is_study", "adversarial"], sort=False
    ):
        marks = marks.sort_values("x")
        style, name = styles[series, is_study], f"{series}, adversarial" if adversarial else series
        name = name if is_study else f"<i>{name}</i>"
        fig.add_scatter(
            x=marks["x"],
            y=marks["value"],
            mode="lines+markers",
            cliponaxis=False,
            line={
                "color": style["color"],
                "width": 2.2 if is_study else 1.3,
                "dash": "dash" if adversarial else STROKES[is_study],
            },
            error_y=interval(marks["value"], marks["low"], marks["high"], color=style["color"]),
            **_shared(marks, name, axis, style=style),
        )
        last = marks.iloc[-1]
        ends.append(End(last["x"], last["value"], name, color=style["color"]))
    edge = 1.04 * top if across in SPARSITY_TITLES else top + 0.4
    label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM, size=12, edge=edge)
    if across in SPARSITY_TITLES:
        fig.update_xaxes(
            title=SPARSITY_TITLES[across],
            tickformat=".3~p",
            tickvals=distinguishable(sorted({0.0, *points["level"]}), top),
            range=[-0.04 * top, edge],
        )
    else:
        fig.update_xaxes(title="Layer", dtick=1, range=[0.6, edge])
    fig.update_xaxes(showgrid=False, showline=True)
    return fig.update_yaxes(
        title=axis.title, range=list(y_range), tickformat=tick_format(axis.tick, y_range), nticks=6
    )


def _by_task(points: pd.DataFrame, axis: Axis, dark: bool) -> go.Figure:
    """Draw tasks as rows with one mark per method; the study's task has its own row."""
    tasks = list(dict.fromkeys(points["x"]))
    fig = figure(
        dark,
        110 + 34 * len(tasks),
        margin={"l": 170, "r": 24, "t": 40, "b": BOTTOM},
        showlegend=True,
    )
    styles = _styles(points, dark)
    for (series, is_study), marks in points.groupby(["series", "is_study"], sort=False):
        name = f"{series}, this study" if is_study else f"<i>{series}</i>"
        fig.add_scatter(
            x=marks["value"],
            y=marks["x"],
            mode="markers",
            **_shared(marks, name, axis, style=styles[series, is_study]),
        )
    fig.update_xaxes(title=axis.title, tickformat=axis.tick, rangemode="tozero", showline=True)
    return fig.update_yaxes(categoryorder="array", categoryarray=tasks[::-1], showgrid=True)


def _shared(marks: pd.DataFrame, name: str, axis: Axis, style: dict[str, Any]) -> dict[str, Any]:
    """Return name, marker and hover text of a series."""
    return {
        "name": name,
        "marker": style,
        "text": marks["detail"],
        "customdata": marks["value"].map(axis.show),
        "hovertemplate": f"<b>{name}</b><br>{axis.title}: "
        "%{customdata}<br>%{text}<extra></extra>",
    }


def _styles(points: pd.DataFrame, dark: bool) -> dict[tuple[str, bool], dict[str, Any]]:
    """Return the marker of each series: hue by method, grey for methods only in the paper."""
    styles, unknown = {}, 0
    for series, is_study, method in (
        points[["series", "is_study", "method"]].drop_duplicates().itertuples(index=False)
    ):
        is_known = is_study or method in HUES
        color = method_color(method or DENSE, dark) if is_known else MUTED[dark]
        shape = "star" if ":" in series else "circle"
        shape = shape if is_known else SHAPES[unknown % len(SHAPES)]
        unknown += not is_known
        styles[series, is_study] = {
            "color": color,
            "size": 9,
            "symbol": shape if is_study else f"{shape}-open",
            "line": {
                "color": PAPER[dark] if is_study else color,
                "width": 1 if is_study else 1.6,
            },
        }
    return styles
