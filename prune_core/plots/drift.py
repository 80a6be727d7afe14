"""Drift of the representations: a map of one layer, and similarity to dense by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel, ordered
from ..formatting import prediction_text
from . import palette
from .annotations import NARROW, End, label_line_ends, padded, tick_format
from .palette import AXIS, INK, MUTED, PAPER, fade
from .style import block_axis, figure

TOP, BOTTOM = 10, 42
CHANGED = {
    False: "#b3123f",
    True: "#ff6b8b",
}  # must stand out from the colors of all models


@dataclass(frozen=True)
class Similarity:
    """One way to compare two sets of representations."""

    column: str
    title: str
    axis: str
    same: float  # value for identical representations
    gloss: str


SIMILARITIES = (
    Similarity(
        "cka",
        "CKA",
        "Linear CKA",
        same=1.0,
        gloss="Do both models embed the examples with the same geometry, up to rotation?",
    ),
    Similarity(
        "cosine",
        "Cosine",
        "Mean cosine",
        same=1.0,
        gloss="Do the dense and the pruned embedding of an example point in the same direction?",
    ),
    Similarity(
        "procrustes",
        "Procrustes distance",
        "Distance after best rotation",
        same=0.0,
        gloss="What distance remains after the best rotation?",
    ),
    Similarity(
        "overlap",
        "Neighbors kept",
        "Neighbor overlap",
        same=1.0,
        gloss="Are the nearest neighbors of an example preserved?",
    ),
)


def by_block(
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    similarity: Similarity,
    pooling: str = "cls",
    dark: bool = False,
    height: int = 250,
    adversarial: pd.DataFrame | None = None,
) -> go.Figure:
    """Draw one line per model over layers; the dotted line marks identical representations.

    `adversarial` are rows of adversarial examples, drawn as a second, dashed line per model.
    """
    fig = figure(dark, height, margin={"l": 58, "r": 104, "t": TOP, "b": BOTTOM})
    rows = rows[rows["pooling"] == pooling]
    attacked = (
        adversarial[adversarial["pooling"] == pooling]
        if adversarial is not None and len(adversarial)
        else rows.iloc[:0]
    )
    y_range = padded(
        [*rows[similarity.column], *attacked[similarity.column], similarity.same], fraction=0.06
    )
    fig.add_hline(y=similarity.same, line={"color": AXIS[dark], "width": 1.2, "dash": "dot"})
    ends = []
    for model in ordered(models):
        model_rows = rows[rows["job"] == model.job].sort_values("block")
        if model_rows.empty or model.is_dense:
            continue
        color = palette.color(model, dark)
        _line(
            fig,
            model_rows,
            similarity,
            name=model.label,
            line={"color": color, "width": 2},
            mode="lines+markers",
            marker={"size": 6.5, "symbol": palette.symbol(model), "color": color},
        )
        _line(
            fig,
            attacked[attacked["job"] == model.job].sort_values("block"),
            similarity,
            name=f"{model.label}, adversarial",
            line={"color": color, "width": 1.6, "dash": "dash"},
            mode="lines",
        )
        ends.append(
            End(
                model_rows["block"].iloc[-1] + 1,
                model_rows[similarity.column].iloc[-1],
                model.short,
                color=palette.ink(model, dark),
            )
        )
    if len(ends) <= 8:
        label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM, size=12, widest=NARROW)
    fig.update_xaxes(block_axis(int(rows["block"].max()) + 1 if len(rows) else 1), title="Layer")
    return fig.update_yaxes(
        title=similarity.axis,
        range=list(y_range),
        nticks=5,
        tickformat=tick_format(".3~f", y_range),
    )


def _line(
    fig: go.Figure,
    rows: pd.DataFrame,
    similarity: Similarity,
    name: str,
    line: dict[str, object],
    **style: object,
) -> None:
    fig.add_scatter(
        x=rows["block"] + 1,
        y=rows[similarity.column],
        name=name,
        cliponaxis=False,
        line=line,
        hovertemplate=f"<b>{name}</b><br>layer %{{x}}: {similarity.axis} %{{y:.3f}}<extra></extra>",
        **style,
    )


def embedding_shifts(
    rows: pd.DataFrame,
    model: ComparedModel,
    block: int,
    projection: str,
    texts: pd.DataFrame,
    names: Sequence[str],
    dark: bool = False,
) -> go.Figure:
    """Draw dense (hollow) and pruned (filled) points, connected; crosses: prediction changed."""
    fig = figure(dark, 520, margin={"l": 34, "r": 16, "t": 34, "b": 34}, hovermode="closest")
    chosen = rows[
        (rows["job"] == model.job) & (rows["block"] == block) & (rows["projection"] == projection)
    ]
    if chosen.empty:
        return fig
    points = chosen[["example", "x_dense", "y_dense", "x", "y", "move"]].merge(
        texts.loc[texts["job"] == model.job, ["example", "text", "label", "dense", "pruned"]],
        on="example",
    )
    gap = np.full(len(points), np.nan)
    fig.add_scattergl(  # lines from dense to pruned points as one trace
        x=np.stack([points["x_dense"], points["x"], gap], 1).ravel(),
        y=np.stack([points["y_dense"], points["y"], gap], 1).ravel(),
        mode="lines",
        line={"color": fade(MUTED[dark], 0.45), "width": 1},
        hoverinfo="skip",
        name="move",
    )
    changed = prediction_changed(points).to_numpy()
    notes = [_note(row, names) for row in points.to_dict("records")]
    fig.add_scattergl(
        x=points["x_dense"],
        y=points["y_dense"],
        mode="markers",
        name="dense",
        text=notes,
        customdata=points["example"],  # returned by a click or a lasso
        hovertemplate="%{text}<extra>dense</extra>",
        marker={
            "symbol": "circle-open",
            "size": 7,
            "color": fade(INK[dark], 0.6),
            "line": {"width": 1.1},
        },
    )
    for flag, symbol, name, size, fill in (
        (False, "circle", model.label, 7, palette.color(model, dark)),
        (True, "x", "prediction changed", 11, CHANGED[dark]),
    ):
        mask = changed == flag
        fig.add_scattergl(
            x=points["x"][mask],
            y=points["y"][mask],
            mode="markers",
            name=name,
            text=[note for note, is_chosen in zip(notes, mask, strict=True) if is_chosen],
            customdata=points["example"][mask],
            hovertemplate="%{text}<extra>" + model.label + "</extra>",
            marker={
                "symbol": symbol,
                "size": size,
                "color": fill,
                "line": {"width": 0.8, "color": PAPER[dark]},
                "opacity": 0.95,
            },
        )
    _name_predictions(fig, points, names, dark=dark)
    return _map_axes(fig, points, "UMAP" if projection == "umap" else "Principal component")


def prediction_changed(examples: pd.DataFrame) -> pd.Series:
    """Whether the prediction of each example changed; always False for scores."""
    is_label = (
        pd.api.types.is_integer_dtype(examples["dense"])
        or examples["dense"].map(lambda value: isinstance(value, str)).all()
    )
    return (examples["dense"] != examples["pruned"]) & is_label


def _map_axes(fig: go.Figure, points: pd.DataFrame, title: str) -> go.Figure:
    fig.update_xaxes(title=f"{title} 1", showticklabels=False, showgrid=False, showline=True)
    fig.update_yaxes(
        title=f"{title} 2",
        showticklabels=False,
        showgrid=False,
        showline=True,
        scaleanchor="x",
        constrain="domain",
    )
    aspect = np.ptp(points[["y_dense", "y"]].to_numpy()) / (
        np.ptp(points[["x_dense", "x"]].to_numpy()) or 1.0
    )
    return fig.update_layout(
        showlegend=True,
        dragmode="lasso",
        # both axes have one scale, so a flat map in a tall frame would be mostly empty
        height=int(np.clip(950 * aspect, 300, 470)) + 68,
        legend={"y": 1.0, "yanchor": "bottom", "x": 0},
    )


def _name_predictions(
    fig: go.Figure, points: pd.DataFrame, names: Sequence[str], dark: bool
) -> None:
    """Write label names at the median of the examples with that dense prediction."""
    if not pd.api.types.is_integer_dtype(points["dense"]):
        return
    for label, group in points.groupby("dense"):
        fig.add_annotation(
            x=group["x_dense"].median(),
            y=group["y_dense"].median(),
            text=f"dense prediction: {names[int(label)]}",
            bgcolor=fade(PAPER[dark], 0.8),
            borderpad=3,
            font={"size": 13, "color": INK[dark]},
        )


def _note(row: dict[str, object], names: Sequence[str]) -> str:
    text = str(row.get("text", ""))
    label, dense, pruned = (
        prediction_text(row[key], names) for key in ("label", "dense", "pruned")
    )
    return "<br>".join(
        [
            *(text[i : i + 64] for i in range(0, min(len(text), 192), 64)),
            f"label {label} · dense {dense} · pruned {pruned}",
        ]
    )
