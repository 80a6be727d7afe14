"""Reconstruction error by layer and weight matrix: total, own and inherited."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel, ordered
from ..formatting import error, percent
from . import palette
from .annotations import End, label_line_ends, padded, tick_format
from .palette import SEQUENTIAL, fade
from .style import BOTTOM, CLICKABLE, TOP, block_axis, color_bar, figure, marker, panels

TITLES = {
    "attention_output": "attn. output",
    "ffn_gate": "FFN gate",
    "ffn_in": "FFN in",
    "ffn_out": "FFN out",
    "block": "layer output",
}


def _title(projection: str) -> str:
    return TITLES.get(projection, projection.replace("_", " "))


def projection_titles(rows: pd.DataFrame) -> dict[str, str]:
    """Titles of the projections in `rows`, in the order of the forward pass; "block" is last.

    Models of several families differ in their projections; the order is that of the model with the
    most.
    """
    by_job = [names.tolist() for _, names in rows.groupby("job")["projection"]]
    names = dict.fromkeys(chain(*sorted(by_job, key=lambda names: -len(set(names)))))
    return {name: _title(name) for name in sorted(names, key="block".__eq__)}


def by_depth(
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    projection: str = "block",
    dark: bool = False,
    height: int = 400,
) -> go.Figure:
    """Draw one line per model: the relative total error by layer.

    `projection` is a weight matrix, or "block" for the layer's output.
    """
    fig = figure(
        dark, height, margin={"l": 62, "r": 118, "t": TOP, "b": BOTTOM}, hovermode="closest"
    )
    rows = rows[rows["projection"] == projection]
    ends = []
    for model in ordered(models):
        model_rows = rows[rows["job"] == model.job].sort_values("block")
        if model_rows.empty:
            continue
        fig.add_scatter(**_depth_line(model_rows, model, dark))
        last = model_rows.iloc[-1]
        ends.append(
            End(last["block"] + 1, last["total"], model.short, color=palette.ink(model, dark))
        )
    y_range = padded(rows["total"].tolist(), low=0.0)
    if len(ends) <= 8:
        label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM)
    else:
        fig.update_layout(showlegend=True, margin={"r": 20, "t": 60})
    fig.update_xaxes(block_axis(int(rows["block"].max()) + 1 if len(rows) else 1, 0.8, 0.05))
    return fig.update_yaxes(
        title=f"Relative error of the {_title(projection)}",
        range=list(y_range),
        tickformat=tick_format(".2~f", y_range),
        nticks=7,
    )


def _depth_line(rows: pd.DataFrame, model: ComparedModel, dark: bool) -> dict[str, object]:
    """Return the line of a model; a click on a mark returns "job|layer"."""
    return {
        "x": rows["block"] + 1,
        "y": rows["total"],
        "mode": "lines+markers",
        "name": model.label,
        "cliponaxis": False,
        "line": {"color": palette.color(model, dark), "width": 2.2},
        "marker": marker(model, dark, 8),
        "customdata": [
            [f"{model.job}|{block + 1}", error(value)]
            for block, value in zip(rows["block"], rows["total"], strict=True)
        ],
        "hovertemplate": f"<b>{model.label}</b><br>layer %{{x}}: relative error "
        f"%{{customdata[1]}}<extra></extra>",
    }


def local_and_inherited_error(
    rows: pd.DataFrame, model: ComparedModel, dark: bool = False, height: int = 340
) -> go.Figure:
    """Draw own, inherited and total error of one model, mean over the matrices of a layer."""
    fig = figure(
        dark, height, margin={"l": 62, "r": 96, "t": TOP, "b": BOTTOM}, hovermode="x unified"
    )
    matrices = rows[(rows["job"] == model.job) & (rows["projection"] != "block")]
    if matrices.empty:
        return fig
    mean = matrices.groupby("block")[["own", "inherited", "total"]].mean()
    x, total = mean.index + 1, mean["total"].to_numpy()
    ends = _stack_errors(fig, mean, model, dark=dark)
    fig.add_scatter(
        x=x,
        y=total,
        mode="lines+markers",
        name="total",
        line={"color": palette.ink(model, dark), "width": 2.2, "dash": "dash"},
        marker={"size": 6},
        hovertemplate="%{y:.3f}",
        cliponaxis=False,
    )
    ends.append(End(x[-1], total[-1], "total", color=palette.ink(model, dark)))
    stacked = mean["own"] + mean["inherited"]
    y_range = padded([0.0, *stacked, *total], low=0.0)
    label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM)
    fig.update_xaxes(block_axis(len(x), 0.9, 0.05), title="Layer", hoverformat=".0f")
    return fig.update_yaxes(
        title="Relative error (mean over matrices)",
        range=list(y_range),
        tickformat=tick_format(".2~f", y_range),
        nticks=6,
    )


def _stack_errors(
    fig: go.Figure, mean: pd.DataFrame, model: ComparedModel, dark: bool
) -> list[End]:
    """Draw own and inherited error (columns of `mean`) as stacked areas; return their labels."""
    x, color = mean.index + 1, palette.color(model, dark)
    floor, ends = 0.0, []
    for column, opacity in (("own", 0.75), ("inherited", 0.32)):
        values = mean[column].to_numpy()
        fig.add_scatter(
            x=x,
            y=values,
            mode="lines",
            stackgroup="errors",
            line={"width": 0.6, "color": color},
            fillcolor=fade(color, opacity),
            name=column,
            hovertemplate="%{y:.3f}",
        )
        if values[-1] > 0:
            middle = floor + values[-1] / 2
            ends.append(End(x[-1], middle, column, color=palette.ink(model, dark)))
        floor += values[-1]
    return ends


def heat_maps(
    rows: pd.DataFrame, models: Sequence[ComparedModel], column: str = "total", dark: bool = False
) -> go.Figure:
    """Draw layers by matrix, one map per model: `total`, `own`, `inherited` or `sparsity`."""
    shown = [
        model
        for model in ordered(models)
        if not model.is_dense and (rows["job"] == model.job).any()
    ]
    rows = rows[(rows["projection"] != "block") & rows["job"].isin([model.job for model in shown])]
    if rows.empty:
        return figure(dark, 120)
    columns = 2 if len(shown) == 4 else min(3, len(shown))
    depth = -(-len(shown) // columns)
    blocks, titles = int(rows["block"].max()) + 1, projection_titles(rows)
    height = blocks * (22 if blocks <= 8 else 15)
    is_fraction, top = column == "sparsity", float(np.nanmax(rows[column]))
    fig = panels(
        dark,
        depth * (height + 34) - 34 + 106,
        [f"<b>{model.short}</b>" for model in shown],
        rows=depth,
        coloraxis=_color_axis(is_fraction, top, dark),
        margin={"l": 44, "r": 60, "t": 26, "b": 80},
        panel_horizontal_spacing=0.035,
        panel_vertical_spacing=34 / (depth * height + 34 * (depth - 1)),
        panel_shared_xaxes=True,
    )
    for index, model in enumerate(shown):
        grid = (
            rows[rows["job"] == model.job]
            .pivot_table(index="block", columns="projection", values=column)
            .reindex(columns=list(titles))
            .rename(columns=titles)
        )
        cell = {"row": index // columns + 1, "col": index % columns + 1}
        _add_map(
            fig, grid, model, top=top, is_fraction=is_fraction, has_text=blocks <= 8, cell=cell
        )
        if index + columns >= len(shown):  # the lowest map of its column
            fig.update_xaxes(showticklabels=True, **cell)
    for note, model in zip(fig.layout.annotations, shown, strict=True):
        note.update(font_color=palette.ink(model, dark))
    fig.update_xaxes(tickangle=-45, showgrid=False, tickfont={"size": 11})
    fig.update_yaxes(
        autorange="reversed", dtick=1 if blocks <= 12 else 3, showgrid=False, tickfont={"size": 11}
    )
    return fig.update_yaxes(title="Layer", col=1)


def _color_axis(is_fraction: bool, top: float, dark: bool) -> dict[str, object]:
    """Return one scale for all maps: fractions from 0 to 1, errors from 0 to the largest."""
    scale, high, bar = SEQUENTIAL, top or 1.0, color_bar("error", ".2~f", dark)
    if is_fraction:
        scale, high, bar = "Blues", 1.0, color_bar("sparsity", ".0%", dark)
    return {"colorscale": scale, "cmin": 0.0, "cmax": high, "colorbar": bar}


def _add_map(
    fig: go.Figure,
    grid: pd.DataFrame,
    model: ComparedModel,
    *,
    top: float,
    is_fraction: bool,
    has_text: bool,
    cell: dict[str, int],
) -> None:
    """Draw a heat map with click targets and values, black on bright and white on dark cells."""
    fig.add_heatmap(
        z=grid.to_numpy(),
        x=grid.columns,
        y=grid.index + 1,
        coloraxis="coloraxis",
        xgap=1.5,
        ygap=1.5,
        hoverinfo="skip",
        **cell,
    )
    cells = [
        (title, block + 1, value)
        for block, values in grid.iterrows()
        for title, value in values.dropna().items()
    ]
    bright = [(value < 0.5) if is_fraction else value > 0.6 * top for _, _, value in cells]
    fig.add_scatter(
        x=[title for title, _, _ in cells],
        y=[block for _, block, _ in cells],
        mode="markers+text" if has_text else "markers",
        marker={"symbol": "square", "size": 20 if has_text else 14, "color": CLICKABLE},
        customdata=[
            [f"{model.job}|{block}", percent(value) if is_fraction else error(value)]
            for _, block, value in cells
        ],
        hovertemplate=f"<b>{model.label}</b><br>"
        "layer %{y}, %{x}: %{customdata[1]}<extra></extra>",
        text=[f"{value:.0%}" if is_fraction else f"{value:.2f}" for _, _, value in cells],
        textfont={
            "size": 10,
            "color": ["#101418" if is_bright else "#ffffff" for is_bright in bright],
        },
        **cell,
    )


def errors_of_layer(
    rows: pd.DataFrame, model: ComparedModel, block: int, dark: bool = False
) -> go.Figure:
    """Draw own, inherited and total error of each matrix in one layer of a model."""
    fig = figure(dark, 300, margin={"l": 96, "r": 20, "t": 40, "b": BOTTOM})
    errors = rows[(rows["job"] == model.job) & (rows["block"] == block)]
    color = palette.color(model, dark)
    styles = {
        "total": {"symbol": "diamond", "size": 11, "color": palette.ink(model, dark)},
        "own": {"symbol": "circle", "size": 9, "color": color},
        "inherited": {
            "symbol": "circle-open",
            "size": 9,
            "color": color,
            "line": {"width": 1.6},
        },
    }
    for column, style in styles.items():
        fig.add_scatter(
            x=errors[column],
            y=[_title(projection) for projection in errors["projection"]],
            mode="markers",
            name=column,
            marker=style,
            cliponaxis=False,
            hovertemplate=f"%{{y}}, {column}: %{{x:.3f}}<extra></extra>",
        )
    fig.update_layout(showlegend=True, legend={"y": 1.0, "yanchor": "bottom", "x": 0})
    fig.update_yaxes(autorange="reversed", showgrid=True)
    return fig.update_xaxes(title="Relative error", rangemode="tozero", showline=True)
