"""The house style of every figure: one template for light, one for dark."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from .palette import AXIS, DIVERGING, DIVERGING_DARK, GRID, INK, MUTED, PAPER, SEQUENTIAL

FONT = '"Source Sans", "Source Sans Pro", "DejaVu Sans", sans-serif'


def template(dark: bool) -> go.layout.Template:
    """The house style of every figure."""
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
    """An empty figure in the house style."""
    return go.Figure(
        layout={"template": template(dark), "height": height, "showlegend": False, **layout}
    )
