"""Attack success by slice, and transfer of adversarial examples."""

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

# rate -> (prefix of its interval's columns, axis title, column of its denominator)
RATES = {
    "success_rate": ("success", "Attack success rate", "attacked"),
    "under_attack": ("under_attack", "Accuracy under attack", "judged"),
}


def slices(
    rows: pd.DataFrame, models: Sequence[ComparedModel], rate: str, dark: bool = False
) -> go.Figure:
    """Draw one panel per type of slice with all models and their 95% intervals."""
    name, title, size = RATES[rate]
    rows = rows.assign(judged=rows["attacked"] + rows["skipped"])
    groups = list(dict.fromkeys(rows["kind"]))
    shown = with_rows(ordered(models), rows)
    fig = panels(
        dark,
        400,
        [f"<b>{group}</b>" for group in groups],
        margin={"l": 58, "r": 12, "t": 78, "b": 66},
        showlegend=True,
        legend={"y": 1.12},
        panel_horizontal_spacing=0.02,
    )
    step = 0.8 / max(1, len(shown))
    for panel, group in enumerate(groups, start=1):
        panel_rows = rows[rows["kind"] == group]
        order = list(dict.fromkeys(panel_rows["slice"]))
        for index, model in enumerate(shown):
            model_rows = panel_rows[(panel_rows["job"] == model.job) & panel_rows[rate].notna()]
            fig.add_scatter(
                x=[
                    order.index(label) + (index - (len(shown) - 1) / 2) * step
                    for label in model_rows["slice"]
                ],
                y=model_rows[rate],
                mode="markers",
                name=model.short,
                legendgroup=model.label,
                showlegend=panel == 1,
                cliponaxis=False,
                error_y=interval(
                    model_rows[rate],
                    model_rows[f"{name}_low"],
                    model_rows[f"{name}_high"],
                    color=palette.color(model, dark),
                    thickness=3,
                    width=0,
                ),
                marker=marker(model, dark),
                customdata=[
                    f"{label}<br>{percent(value)} of {number:.0f} examples, 95% interval "
                    f"{percent(low)} to {percent(high)}"
                    for label, value, number, low, high in zip(
                        model_rows["slice"],
                        model_rows[rate],
                        model_rows[size],
                        model_rows[f"{name}_low"],
                        model_rows[f"{name}_high"],
                        strict=True,
                    )
                ],
                hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}<extra></extra>",
                row=1,
                col=panel,
            )
        fig.update_xaxes(
            tickvals=list(range(len(order))),
            ticktext=[
                _tick(label, panel_rows[panel_rows["slice"] == label][size]) for label in order
            ],
            range=[-0.55, len(order) - 0.45],
            row=1,
            col=panel,
        )
    fig.update_xaxes(showgrid=False, showline=True, tickangle=0, tickfont={"size": 11.5})
    return fig.update_yaxes(tickformat=".0%", range=[-0.02, 1.02]).update_yaxes(title=title, col=1)


def _tick(name: str, sizes: pd.Series) -> str:
    """Return slice, bounds and number of examples, a range if models differ in it."""
    ends = dict.fromkeys((round(sizes.min()), round(sizes.max())))
    return f"{name.replace(', ', '<br>')}<br>n = {'–'.join(map(str, ends))}"


def transfer(
    rows: pd.DataFrame,
    sources: Mapping[Any, str],
    models: Sequence[ComparedModel],
    by: str = "source",
    dark: bool = False,
) -> go.Figure:
    """Draw `transfer_matrix`: keys of `sources` (rows) by evaluated models (columns)."""
    shown = ordered(models)
    cells = {(row[by], row["job"]): row for row in rows.to_dict("records")}
    grid = [[cells.get((key, model.job)) for model in shown] for key in sources]
    across = [
        f"<span style='color:{palette.ink(model, dark)}'>{model.short.replace(' ', '<br>')}</span>"
        for model in shown
    ]
    fig = figure(
        dark,
        40 * len(sources) + 110,
        margin={"l": room(list(sources.values()), 128), "r": 16, "t": 64, "b": 20},
    )
    fig.add_heatmap(
        z=[
            [cell["share"] if cell and cell["job"] != cell[by] else None for cell in cells_of_row]
            for cells_of_row in grid
        ],
        zmin=0,
        zmax=1,
        colorscale=[[index / 2, color] for index, color in enumerate(_shades(dark))],
        showscale=False,
        xgap=2,
        ygap=2,
        hoverinfo="skip",
    )
    filled = [
        (x, y, cell)
        for y, cells_of_row in enumerate(grid)
        for x, cell in enumerate(cells_of_row)
        if cell
    ]
    fig.add_scatter(  # heat maps do not report clicks
        x=[x for x, _, _ in filled],
        y=[y for _, y, _ in filled],
        mode="markers",
        marker={"symbol": "square", "size": 38, "color": CLICKABLE},
        customdata=[[f"{cell[by]}|{cell['job']}", _describe(cell)] for _, _, cell in filled],
        hovertemplate="%{customdata[1]}<extra></extra>",
    )
    notes = []
    for x, y, cell in filled:
        color = MUTED[dark] if cell["job"] == cell[by] else readable_on(_shade(cell["share"], dark))
        text = f"{100 * cell['share']:.0f}%<br><span style='font-size:10px'>n = {cell['n']}</span>"
        notes.append({"x": x, "y": y, "text": text, "font": {"size": 12, "color": color}})
    fig.update_layout(annotations=notes)  # all at once: one by one takes plotly 0.5 s
    fig.update_xaxes(
        side="top",
        tickvals=list(range(len(shown))),
        ticktext=across,
        showgrid=False,
        title="evaluated on",
    )
    return fig.update_yaxes(
        autorange="reversed",
        showgrid=False,
        title="attacked model" if by == "source" else "attack",
        tickvals=list(range(len(sources))),
        ticktext=list(sources.values()),
    )


def _describe(cell: Mapping[str, Any]) -> str:
    return (
        f"{cell['fooled']} of {cell['n']} succeed: {percent(cell['share'])}<br>"
        f"95% interval {percent(cell['low'])} to {percent(cell['high'])}"
    )


def _shades(dark: bool) -> list[str]:
    return (DIVERGING_DARK if dark else DIVERGING)[2:]


def _shade(rate: float, dark: bool) -> str:
    low, middle, high = _shades(dark)
    return mix(low, middle, 2 * rate) if rate < 0.5 else mix(middle, high, 2 * rate - 1)
