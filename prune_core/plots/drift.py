"""Drift of the representations: a map of one layer, and similarity to dense by layer."""

from __future__ import annotations

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
}  # a crossed point must stand out from every model's hue


@dataclass(frozen=True)
class Similarity:
    """One way to compare two sets of representations."""

    column: str
    title: str
    axis: str
    same: float  # its value when nothing moved
    gloss: str


SIMILARITIES = (
    Similarity(
        "cka",
        "CKA",
        "Linear CKA",
        same=1.0,
        gloss="Do the two models place sentences in the same geometry, whatever the rotation?",
    ),
    Similarity(
        "cosine",
        "Cosine",
        "Mean cosine",
        same=1.0,
        gloss="Does each sentence's vector still point the same way?",
    ),
    Similarity(
        "procrustes",
        "Procrustes distance",
        "Distance after best rotation",
        same=0.0,
        gloss="What is left after the best rotation is undone?",
    ),
    Similarity(
        "overlap",
        "Neighbours kept",
        "Neighbour overlap",
        same=1.0,
        gloss="Are a sentence's nearest neighbours still its nearest?",
    ),
)


def by_block(
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    what: Similarity,
    pooling: str = "cls",
    dark: bool = False,
    height: int = 250,
    adversarial: pd.DataFrame | None = None,
) -> go.Figure:
    """One line a model from block to block; the dotted line is "nothing moved".

    Rows of `adversarial` sentences become a second, dashed line a model.
    """
    fig = figure(dark, height, margin={"l": 58, "r": 104, "t": TOP, "b": BOTTOM})
    rows = rows[rows["pooling"] == pooling]
    changed = (
        rows.iloc[:0]
        if adversarial is None or adversarial.empty
        else adversarial[adversarial["pooling"] == pooling]
    )
    y_range = padded([*rows[what.column], *changed[what.column], what.same], share=0.06)
    fig.add_hline(y=what.same, line={"color": AXIS[dark], "width": 1.2, "dash": "dot"})
    ends = []
    for model in ordered(models):
        own = rows[rows["job"] == model.job].sort_values("block")
        if own.empty or model.is_dense:
            continue
        color = palette.color(model, dark)
        marked = {
            "mode": "lines+markers",
            "marker": {"size": 6.5, "symbol": palette.symbol(model), "color": color},
        }
        _line(fig, own, what, name=model.label, line={"color": color, "width": 2}, **marked)
        dashed = changed[changed["job"] == model.job].sort_values("block")
        _line(
            fig,
            dashed,
            what,
            name=f"{model.label}, adversarial",
            line={"color": color, "width": 1.6, "dash": "dash"},
            mode="lines",
        )
        ends.append(
            End(
                own["block"].iloc[-1] + 1,
                own[what.column].iloc[-1],
                model.short,
                color=palette.ink(model, dark),
            )
        )
    if len(ends) <= 8:
        label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM, size=12, most=NARROW)
    blocks = int(rows["block"].max()) + 1 if len(rows) else 1
    fig.update_xaxes(block_axis(blocks), title="Block")
    return fig.update_yaxes(
        title=what.axis, range=list(y_range), nticks=5, tickformat=tick_format(".3~f", y_range)
    )


def _line(
    fig: go.Figure,
    own: pd.DataFrame,
    what: Similarity,
    name: str,
    line: dict[str, object],
    **drawn: object,
) -> None:
    fig.add_scatter(
        x=own["block"] + 1,
        y=own[what.column],
        name=name,
        cliponaxis=False,
        line=line,
        hovertemplate=f"<b>{name}</b><br>block %{{x}}: {what.axis} %{{y:.3f}}<extra></extra>",
        **drawn,
    )


def moves(
    rows: pd.DataFrame,
    model: ComparedModel,
    block: int,
    projection: str,
    texts: pd.DataFrame,
    names: Sequence[str],
    dark: bool = False,
) -> go.Figure:
    """The map: hollow dense and filled pruned points, joined; crosses changed their prediction."""
    fig = figure(dark, 520, margin={"l": 34, "r": 16, "t": 34, "b": 34}, hovermode="closest")
    here = rows[
        (rows["job"] == model.job) & (rows["block"] == block) & (rows["projection"] == projection)
    ]
    if here.empty:
        return fig
    told = texts.loc[texts["job"] == model.job, ["example", "text", "label", "dense", "pruned"]]
    known = here[["example", "x_dense", "y_dense", "x", "y", "move"]].merge(told, on="example")
    _segments(fig, known, dark)
    changed = prediction_changed(known).to_numpy()
    color = palette.color(model, dark)
    notes = [_note(row, names) for row in known.to_dict("records")]
    fig.add_scattergl(
        x=known["x_dense"],
        y=known["y_dense"],
        mode="markers",
        name="dense",
        text=notes,
        customdata=known["example"],  # which a click or a lasso gives back
        hovertemplate="%{text}<extra>dense</extra>",
        marker={
            "symbol": "circle-open",
            "size": 7,
            "color": fade(INK[dark], 0.6),
            "line": {"width": 1.1},
        },
    )
    for flag, symbol, name, size, fill in (
        (False, "circle", model.label, 7, color),
        (True, "x", "prediction changed", 11, CHANGED[dark]),
    ):
        pick = changed == flag
        fig.add_scattergl(
            x=known["x"][pick],
            y=known["y"][pick],
            mode="markers",
            name=name,
            text=[n for n, p in zip(notes, pick, strict=True) if p],
            customdata=known["example"][pick],
            hovertemplate="%{text}<extra>" + model.label + "</extra>",
            marker={
                "symbol": symbol,
                "size": size,
                "color": fill,
                "line": {"width": 0.8, "color": PAPER[dark]},
                "opacity": 0.95,
            },
        )
    _name_predictions(fig, known, names, dark=dark)
    return _map_axes(fig, known, "UMAP" if projection == "umap" else "Principal component")


def prediction_changed(known: pd.DataFrame) -> pd.Series:
    """Whether the prediction of each example changed; never for scores."""
    told_apart = (
        pd.api.types.is_integer_dtype(known["dense"])
        or known["dense"].map(lambda said: isinstance(said, str)).all()
    )
    return (known["dense"] != known["pruned"]) & told_apart


def _segments(fig: go.Figure, known: pd.DataFrame, dark: bool) -> None:
    """Lines from dense to pruned points, in one trace."""
    gap = np.full(len(known), np.nan)
    fig.add_scattergl(
        x=np.stack([known["x_dense"], known["x"], gap], 1).ravel(),
        y=np.stack([known["y_dense"], known["y"], gap], 1).ravel(),
        mode="lines",
        line={"color": fade(MUTED[dark], 0.45), "width": 1},
        hoverinfo="skip",
        name="move",
    )


def _map_axes(fig: go.Figure, known: pd.DataFrame, title: str) -> go.Figure:
    fig.update_xaxes(title=f"{title} 1", showticklabels=False, showgrid=False, showline=True)
    fig.update_yaxes(
        title=f"{title} 2",
        showticklabels=False,
        showgrid=False,
        showline=True,
        scaleanchor="x",
        constrain="domain",
    )
    flat = np.ptp(known[["y_dense", "y"]].to_numpy()) / (
        np.ptp(known[["x_dense", "x"]].to_numpy()) or 1.0
    )
    # both axes have one scale, so a flat map in a tall frame would be mostly empty
    height = int(np.clip(950 * flat, 300, 470)) + 68
    return fig.update_layout(
        showlegend=True,
        dragmode="lasso",
        height=height,
        legend={"y": 1.0, "yanchor": "bottom", "x": 0},
    )


def _name_predictions(
    fig: go.Figure, known: pd.DataFrame, names: Sequence[str], dark: bool
) -> None:
    """Label names at the median of the examples with that dense prediction."""
    if not pd.api.types.is_integer_dtype(known["dense"]):
        return
    for label, points in known.groupby("dense"):
        fig.add_annotation(
            x=points["x_dense"].median(),
            y=points["y_dense"].median(),
            text=f"dense says {names[int(label)]}",
            bgcolor=fade(PAPER[dark], 0.8),
            borderpad=3,
            font={"size": 13, "color": INK[dark]},
        )


def _note(row: dict[str, object], names: Sequence[str]) -> str:
    text = str(row.get("text", ""))
    lines = [text[i : i + 64] for i in range(0, min(len(text), 192), 64)]
    label, dense, pruned = (
        prediction_text(row[key], names) for key in ("label", "dense", "pruned")
    )
    return "<br>".join(lines) + f"<br>label {label} · dense {dense} · pruned {pruned}"
