"""The lineage of a study's models as an indented tree."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from ..analysis.lineage import LineageNode
from . import palette
from .palette import AXIS, INK, MUTED
from .style import figure

ROW = 30  # pixels per node
STEPS = 22  # width of the chart in indentations


def lineage(
    nodes: Sequence[LineageNode], models: Sequence[ComparedModel], dark: bool = False
) -> go.Figure:
    """Draw one row per checkpoint, model and file; a click returns the job of a measured model."""
    color_of = {job: palette.color(model, dark) for model in models for job in model.jobs}
    depth: dict[str, int] = {}
    for node in nodes:  # parents come first
        depth[node.key] = depth.get(node.parent, -1) + 1
    row = {node.key: place for place, node in enumerate(nodes)}
    fig = figure(
        dark,
        40 + ROW * len(nodes),
        margin={"l": 16, "r": 16, "t": 12, "b": 12},
        xaxis={"visible": False, "range": [-0.5, STEPS], "fixedrange": True},
        yaxis={"visible": False, "range": [len(nodes) - 0.4, -0.6], "fixedrange": True},
    )
    for node in nodes:
        if node.parent in depth:
            x, y = depth[node.parent], row[node.key]
            fig.add_scatter(
                x=[x, x, depth[node.key]],
                y=[row[node.parent], y, y],
                mode="lines",
                line={"color": AXIS[dark], "width": 1.2},
                hoverinfo="skip",
            )
    fig.add_scatter(
        x=[depth[node.key] for node in nodes],
        y=[row[node.key] for node in nodes],
        mode="markers+text",
        marker={
            "size": 11,
            "symbol": ["circle" if node.job else "circle-open" for node in nodes],
            "color": [color_of.get(node.job, MUTED[dark]) for node in nodes],
        },
        text=[f"  {_label(node)}" for node in nodes],
        textposition="middle right",
        textfont={"size": 12.5, "color": INK[dark]},
        customdata=[node.job for node in nodes],
        hovertext=[
            f"<b>{_label(node)}</b><br>" + (f"job {node.job}" if node.job else "not measured")
            for node in nodes
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    return fig


def _label(node: LineageNode) -> str:
    is_named = node.operation in node.title  # the title already contains the operation
    return node.title if is_named else f"{node.title} ({node.operation})"
