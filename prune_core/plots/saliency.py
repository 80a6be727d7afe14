"""Attention between the words of a text, models side by side on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from . import palette
from .palette import SEQUENTIAL
from .style import color_bar, panels

NAMED = 40  # words, beyond which their names would cover each other
LONGEST = 14  # letters of a name


def attention_maps(
    told: Sequence[tuple[ComparedModel, Sequence[Sequence[float]]]],
    words: Sequence[str],
    dark: bool = False,
) -> go.Figure:
    """`told` gives each model's weights (words, words): what the word of a row attends to."""
    few = len(words) <= NAMED
    fig = panels(
        dark,
        min(620, 15 * len(words) + 190),
        [model.short for model, _ in told],
        margin={"r": 60, "t": 28, **({"l": 104, "b": 96} if few else {"l": 40, "b": 40})},
        coloraxis={
            "colorscale": SEQUENTIAL,
            "cmin": 0.0,
            "colorbar": color_bar("attention", ".0%", dark),
        },
        panel_horizontal_spacing=0.03,
    )
    names = [word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…" for word in words]
    places = list(range(len(words)))
    for column, (model, weights) in enumerate(told, start=1):
        fig.add_heatmap(
            z=weights,
            x=places,
            y=places,
            coloraxis="coloraxis",
            row=1,
            col=column,
            customdata=[[f"{source} → {target}" for target in words] for source in words],
            hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}: %{{z:.1%}}<extra></extra>",
        )
    for note, (model, _) in zip(fig.layout.annotations, told, strict=True):
        note.update(font_color=palette.ink(model, dark))
    ticks = {"tickvals": places, "ticktext": names} if few else {"showticklabels": False}
    fig.update_xaxes(showgrid=False, tickangle=-60, tickfont={"size": 11}, **ticks)
    return fig.update_yaxes(showgrid=False, autorange="reversed", tickfont={"size": 11}, **ticks)
