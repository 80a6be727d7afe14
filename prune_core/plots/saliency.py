"""Attention between the words of a text, for models on one scale."""

from collections.abc import Sequence

import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel
from . import palette
from .palette import SEQUENTIAL
from .style import color_bar, panels

MAX_NAMES = 40  # words; the names of more would overlap
MAX_LETTERS = 14  # of a name


def attention_maps(
    maps: Sequence[tuple[ComparedModel, Sequence[Sequence[float]]]],
    words: Sequence[str],
    dark: bool = False,
) -> go.Figure:
    """Draw one attention map per model; weights are (words, words), rows attend to columns."""
    has_names = len(words) <= MAX_NAMES
    fig = panels(
        dark,
        min(620, 15 * len(words) + 190),
        [model.short for model, _ in maps],
        margin={"r": 60, "t": 28, "l": 104 if has_names else 40, "b": 96 if has_names else 40},
        coloraxis={
            "colorscale": SEQUENTIAL,
            "cmin": 0.0,
            "colorbar": color_bar("attention", ".0%", dark),
        },
        panel_horizontal_spacing=0.03,
    )
    names = [word if len(word) <= MAX_LETTERS else f"{word[: MAX_LETTERS - 1]}…" for word in words]
    positions = list(range(len(words)))
    for column, (model, weights) in enumerate(maps, start=1):
        fig.add_heatmap(
            z=weights,
            x=positions,
            y=positions,
            coloraxis="coloraxis",
            row=1,
            col=column,
            customdata=[[f"{source} → {target}" for target in words] for source in words],
            hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}: %{{z:.1%}}<extra></extra>",
        )
    for note, (model, _) in zip(fig.layout.annotations, maps, strict=True):
        note.update(font_color=palette.ink(model, dark))
    ticks = {"tickvals": positions, "ticktext": names} if has_names else {"showticklabels": False}
    fig.update_xaxes(showgrid=False, tickangle=-60, tickfont={"size": 11}, **ticks)
    return fig.update_yaxes(showgrid=False, autorange="reversed", tickfont={"size": 11}, **ticks)
