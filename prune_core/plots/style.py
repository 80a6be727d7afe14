"""The style of every chart: template, margins, panels, error bars, markers and color bars."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..analysis.compared_models import ComparedModel
from . import palette
from .palette import AXIS, DIVERGING, DIVERGING_DARK, GRID, INK, MUTED, PAPER, SEQUENTIAL, fade

TOP, BOTTOM = 12, 46  # usual margins, in pixels
CLICKABLE = "rgba(0, 0, 0, 0)"  # color of marks that only receive clicks, which heat maps do not

FONT = '"Source Sans", "Source Sans Pro", "DejaVu Sans", sans-serif'


def template(dark: bool) -> go.layout.Template:
    """Return the plotly template of all charts, light or dark."""
    axis = {
        "gridcolor": GRID[dark],
        "linecolor": AXIS[dark],
        "tickcolor": AXIS[dark],
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "title": {"font": {"size": 12.5, "color": MUTED[dark]}, "standoff": 8},
        "tickfont": {"size": 12, "color": MUTED[dark]},
        "automargin": False,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": INK[dark]},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 60, "r": 20, "t": 28, "b": 48},
            "hoverlabel": {
                "bgcolor": PAPER[dark],
                "bordercolor": AXIS[dark],
                "font": {"family": FONT, "size": 13, "color": INK[dark]},
                "align": "left",
            },
            "legend": {
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "x": 0,
                "font": {"size": 12.5},
                "bgcolor": "rgba(0,0,0,0)",
            },
            "annotationdefaults": {"font": {"size": 12.5, "color": INK[dark]}, "showarrow": False},
            "colorscale": {
                "sequential": SEQUENTIAL,
                "diverging": DIVERGING_DARK if dark else DIVERGING,
            },
            "dragmode": "zoom",
        }
    )


def figure(dark: bool, height: int, **layout: Any) -> go.Figure:
    """Return an empty chart."""
    return go.Figure(
        layout={"template": template(dark), "height": height, "showlegend": False, **layout}
    )


def panels(
    dark: bool, height: float, titles: list[str], *, rows: int = 1, **layout: Any
) -> go.Figure:
    """Return an empty chart with one panel per title in `rows` rows; y axes are shared.

    Keywords that begin with `panel_` go to `make_subplots`.
    """
    shared = {key.removeprefix("panel_"): layout.pop(key) for key in [*layout] if "panel_" in key}
    fig = make_subplots(
        rows, -(-len(titles) // rows), subplot_titles=titles, shared_yaxes=True, **shared
    )
    fig.update_annotations(font={"size": 12.5, "color": MUTED[dark]})
    fig.update_annotations(
        selector={"yanchor": "bottom"}, yshift=2
    )  # panel titles, not axis titles
    return fig.update_layout(
        {"template": template(dark), "height": height, "showlegend": False, **layout}
    )


def interval(
    value: Any, low: Any, high: Any, color: str, *, thickness: float = 1.2, width: float = 3
) -> dict[str, Any] | None:
    """Return error bars for numbers or sequences; None if no value has an interval."""
    middle, bottom, top = (np.atleast_1d(np.asarray(end, float)) for end in (value, low, high))
    if np.isnan(bottom).all() or np.isnan(top).all():
        return None
    return {
        "type": "data",
        "array": top - middle,
        "arrayminus": middle - bottom,
        "thickness": thickness,
        "width": width,
        "color": fade(color, 0.5),
    }


def marker(model: ComparedModel, dark: bool, size: float = 9) -> dict[str, Any]:
    """Return the marker of a model."""
    return {
        "color": palette.color(model, dark),
        "size": size,
        "symbol": palette.symbol(model),
        "line": {"color": PAPER[dark], "width": 1},
    }


def block_axis(blocks: int, low: float = 0.7, high: float = 0.3) -> dict[str, Any]:
    """Return the x axis of a chart over layers."""
    return {
        "title": "Layer (1 = first after the embeddings)",
        "dtick": 1 if blocks <= 12 else 2,
        "range": [low, blocks + high],
        "showgrid": False,
        "showline": True,
    }


def color_bar(title: str, tick: str, dark: bool) -> dict[str, Any]:
    """Return the color bar of heat maps."""
    return {
        "thickness": 10,
        "outlinewidth": 0,
        "tickformat": tick,
        "len": 1.0,
        "x": 1.01,
        "title": {"text": title, "side": "top", "font": {"size": 12, "color": MUTED[dark]}},
        "tickfont": {"size": 11.5, "color": MUTED[dark]},
    }
