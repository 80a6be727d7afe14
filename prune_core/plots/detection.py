"""Detection at a threshold: confusion matrices, ROC and precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from ..analysis.detection import STEPS, curve, precision
from ..formatting import count, percent
from . import palette
from .palette import GRID, INK, MUTED, fade
from .style import figure, interval, marker, panels

COLUMNS = 4  # matrices per row
CELL, HEAD = 118, 56  # pixels of a matrix and of its title
ROC, PRECISION_RECALL = "roc", "precision-recall"
CURVES = {ROC: "ROC", PRECISION_RECALL: "Precision and recall"}
Counts = Mapping[str, float]  # of `detection.rates`
CELLS = (
    ("true_positives", "false_negatives"),
    ("false_positives", "true_negatives"),
)


def confusion_matrices(
    rates: Mapping[int, Counts], models: Sequence[ComparedModel], positive: str, dark: bool = False
) -> go.Figure:
    """Draw one confusion matrix per model; `rates` has the result of `detection.rates` by job.

    Colors show percentages per row.
    """
    shown = [model for model in models if model.job in rates]
    width = min(COLUMNS, max(1, len(shown)))
    depth = -(-len(shown) // width)
    height = depth * (CELL + HEAD) + 30
    fig = panels(
        dark,
        height,
        [
            f"<b>{model.short}</b><br>threshold {rates[model.job]['threshold']:.3g}"
            for model in shown
        ],
        rows=depth,
        margin={"l": 112, "r": 16, "t": HEAD, "b": 30},
        panel_shared_xaxes=True,
        panel_horizontal_spacing=0.04,
        panel_vertical_spacing=HEAD / (height - HEAD - 30) if depth > 1 else 0,
    )
    for place, model in enumerate(shown):
        numbers = np.array([[rates[model.job][name] for name in row] for row in CELLS], dtype=float)
        fractions = numbers / np.maximum(1, numbers.sum(1, keepdims=True))
        texts = [
            [f"{count(n)}<br>{percent(part)}" for n, part in zip(*row, strict=True)]
            for row in zip(numbers, fractions, strict=True)
        ]
        color = palette.color(model, dark)
        fig.add_heatmap(
            z=fractions,
            x=["detected", "not detected"],
            y=[positive, "others"],
            text=texts,
            texttemplate="%{text}",
            textfont={"size": 12, "color": INK[dark]},
            colorscale=[[0, fade(color, 0.02)], [1, fade(color, 0.45)]],
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=2,
            ygap=2,
            name=model.label,
            hovertemplate=f"<b>{model.label}</b><br>%{{y}}, %{{x}}: %{{text}}<extra></extra>",
            row=place // width + 1,
            col=place % width + 1,
        )
    fig.update_yaxes(autorange="reversed", showgrid=False)
    return fig.update_xaxes(showgrid=False, side="bottom")


def detection_curves(
    scores: Mapping[int, tuple[np.ndarray, np.ndarray]],
    points: Mapping[int, Counts],
    models: Sequence[ComparedModel],
    kind: str = ROC,
    dark: bool = False,
    height: int = 380,
) -> go.Figure:
    """Draw one curve over all thresholds per model, with a marker at the selected threshold.

    `scores`: (whether examples have the label, their scores) by job; `points`: the rates at the
    selected threshold by job, with `negative_weight`. The false-positive axis of ROC curves is
    logarithmic and begins at half a false positive.
    """
    fig = figure(dark, height, margin={"l": 62, "r": 20, "t": 40, "b": 50})
    smallest = 1.0
    for model in models:
        if model.job not in scores:
            continue
        truth, values = scores[model.job]
        _, hits, false_alarms = curve(truth, values)
        recall, negatives = hits / max(1, truth.sum()), max(1, int((~truth).sum()))
        smallest = min(smallest, 0.5 / negatives)
        rate = np.maximum(false_alarms, 0.5) / negatives
        color, point = palette.color(model, dark), points[model.job]
        x, y = rate, recall
        if kind == PRECISION_RECALL:
            x, y = recall, precision(hits, false_alarms, point["negative_weight"])
        fig.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=model.label,
            legendgroup=model.job,
            line={"color": color, "width": 1.8, "shape": "hv" if kind == ROC else "linear"},
            hoverinfo="skip",
        )
        name = "recall" if kind == ROC else "precision"
        text = (
            f"recall {_with_interval(point, 'recall')}<br>false-positive rate "
            f"{_with_interval(point, 'false_positive_rate')}<br>precision "
            f"{_with_interval(point, 'precision')}"
        )
        at = max(point["false_positives"], 0.5) / negatives if kind == ROC else point["recall"]
        fig.add_scatter(
            x=[at],
            y=[point[name]],
            mode="markers",
            name=model.label,
            legendgroup=model.job,
            showlegend=False,
            marker=marker(model, dark, size=11),
            error_y=interval(point[name], point[f"{name}_low"], point[f"{name}_high"], color=color),
            cliponaxis=False,
            hovertemplate=f"<b>{model.label}</b><br>threshold {point['threshold']:.3g}<br>{text}"
            "<extra></extra>",
        )
    if kind == ROC:
        ticks = [step for step in (*STEPS, 0.1, 0.2, 0.5, 1.0) if step >= smallest]
        fig.update_xaxes(
            type="log",
            range=[np.log10(smallest), 0],
            tickvals=ticks,
            tickformat=".2~%",
            title="False-positive rate",
        )
        for limit in (0.001, 0.01):
            if limit >= smallest:
                fig.add_vline(x=limit, line={"color": MUTED[dark], "width": 1, "dash": "dot"})
    else:
        fig.update_xaxes(range=[0, 1.02], tickformat=".0%", title="Recall")
    fig.update_xaxes(showline=True, gridcolor=GRID[dark])
    title = "Recall" if kind == ROC else "Precision"
    fig.update_yaxes(range=[0, 1.02], tickformat=".0%", title=f"{title} · higher is better")
    return fig.update_layout(showlegend=True)


def _with_interval(point: Counts, name: str) -> str:
    value, low, high = (percent(point[f"{name}{end}"]) for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"
