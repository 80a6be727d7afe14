"""Attack success by slice, and transfer of adversarial examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel, ordered, with_rows
from ..formatting import percent
from . import palette
from .annotations import room
from .palette import DIVERGING, DIVERGING_DARK, MUTED, mix, readable_on
from .style import CLICKABLE, figure, interval, marker, panels

# rate -> (its interval's columns, axis title, the column of its denominator)
RATES = {
    "success_rate": ("success", "Attack success rate", "attacked"),
    "under_attack": ("under_attack", "Accuracy under attack", "judged"),
}


def slices(
    rows: pd.DataFrame, models: Sequence[ComparedModel], rate: str, dark: bool = False
) -> go.Figure:
    """One panel per type of slice: the models side by side in each slice, with 95% intervals."""
    name, title, size = RATES[rate]
    rows = rows.assign(judged=rows["attacked"] + rows["skipped"])
    kinds = list(dict.fromkeys(rows["kind"]))
    shown = with_rows(ordered(models), rows)
    fig = panels(
        dark,
        400,
        [f"<b>{kind}</b>" for kind in kinds],
        margin={"l": 58, "r": 12, "t": 78, "b": 66},
        showlegend=True,
        legend={"y": 1.12},
        panel_horizontal_spacing=0.02,
    )
    step = 0.8 / max(1, len(shown))
    for panel, kind in enumerate(kinds, start=1):
        here = rows[rows["kind"] == kind]
        order = list(dict.fromkeys(here["slice"]))
        for place, model in enumerate(shown):
            own = here[(here["job"] == model.job) & here[rate].notna()]
            fig.add_scatter(
                x=[
                    order.index(part) + (place - (len(shown) - 1) / 2) * step
                    for part in own["slice"]
                ],
                y=own[rate],
                mode="markers",
                name=model.short,
                legendgroup=model.label,
                showlegend=panel == 1,
                cliponaxis=False,
                error_y=interval(
                    own[rate],
                    own[f"{name}_low"],
                    own[f"{name}_high"],
                    color=palette.color(model, dark),
                    thickness=3,
                    width=0,
                ),
                marker=marker(model, dark),
                customdata=[
                    f"{part}<br>{percent(value)} of {n:.0f} sentences, 95% interval "
                    f"{percent(low)} to {percent(high)}"
                    for part, value, n, low, high in zip(
                        own["slice"],
                        own[rate],
                        own[size],
                        own[f"{name}_low"],
                        own[f"{name}_high"],
                        strict=True,
                    )
                ],
                hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}<extra></extra>",
                row=1,
                col=panel,
            )
        ticks = [_tick(part, here[here["slice"] == part][size]) for part in order]
        fig.update_xaxes(
            tickvals=list(range(len(order))),
            ticktext=ticks,
            range=[-0.55, len(order) - 0.45],
            row=1,
            col=panel,
        )
    fig.update_xaxes(showgrid=False, showline=True, tickangle=0, tickfont={"size": 11.5})
    return fig.update_yaxes(tickformat=".0%", range=[-0.02, 1.02]).update_yaxes(title=title, col=1)


def _tick(part: str, sizes: pd.Series) -> str:
    """The slice, its bounds and its number of examples, a range where models differ in it."""
    low, high = round(sizes.min()), round(sizes.max())
    return f"{part.replace(', ', '<br>')}<br>n = {low if low == high else f'{low}–{high}'}"


def transfer(
    rows: pd.DataFrame,
    made: Mapping[Any, str],
    models: Sequence[ComparedModel],
    by: str = "source",
    dark: bool = False,
) -> go.Figure:
    """Rates of `transfer.matrix`: texts by key of `made` (downwards) on the models (across)."""
    shown = ordered(models)
    cells = {(row[by], row["job"]): row for row in rows.to_dict("records")}
    found = [[cells.get((key, model.job)) for model in shown] for key in made]
    across = [
        f"<span style='color:{palette.ink(model, dark)}'>{model.short.replace(' ', '<br>')}</span>"
        for model in shown
    ]
    fig = figure(
        dark,
        40 * len(made) + 110,
        margin={"l": room(list(made.values()), 128), "r": 16, "t": 64, "b": 20},
    )
    fig.add_heatmap(
        z=[
            [cell["share"] if cell and cell["job"] != cell[by] else None for cell in line]
            for line in found
        ],
        zmin=0,
        zmax=1,
        colorscale=[[place / 2, color] for place, color in enumerate(_shades(dark))],
        showscale=False,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    there = [(x, y, cell) for y, line in enumerate(found) for x, cell in enumerate(line) if cell]
    fig.add_scatter(  # a heat map tells of no click
        x=[x for x, _, _ in there],
        y=[y for _, y, _ in there],
        mode="markers",
        marker={"symbol": "square", "size": 38, "color": CLICKABLE},
        customdata=[[f"{cell[by]}|{cell['job']}", _told(cell)] for _, _, cell in there],
        hovertemplate="%{customdata[1]}<extra></extra>",
    )
    notes = []
    for x, y, cell in there:
        color = MUTED[dark] if cell["job"] == cell[by] else readable_on(_shade(cell["share"], dark))
        text = f"{100 * cell['share']:.0f}%<br><span style='font-size:10px'>n = {cell['n']}</span>"
        notes.append({"x": x, "y": y, "text": text, "font": {"size": 12, "color": color}})
    fig.update_layout(annotations=notes)  # at once: one by one takes plotly half a second
    fig.update_xaxes(
        side="top",
        tickvals=list(range(len(shown))),
        ticktext=across,
        showgrid=False,
        title="tried on",
    )
    names = {"tickvals": list(range(len(made))), "ticktext": list(made.values())}
    return fig.update_yaxes(
        autorange="reversed",
        showgrid=False,
        title="made on" if by == "source" else "made by",
        **names,
    )


def _told(cell: Mapping[str, Any]) -> str:
    low, high = percent(cell["low"]), percent(cell["high"])
    return (
        f"{cell['fooled']} of {cell['n']} succeed: {percent(cell['share'])}<br>"
        f"95% interval {low} to {high}"
    )


def _shades(dark: bool) -> list[str]:
    return (DIVERGING_DARK if dark else DIVERGING)[2:]


def _shade(share: float, dark: bool) -> str:
    low, middle, high = _shades(dark)
    return mix(low, middle, 2 * share) if share < 0.5 else mix(middle, high, 2 * share - 1)
