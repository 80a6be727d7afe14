"""Attack success with intervals, accuracy by attack budget, and probabilities."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from ..analysis.attack_success import successes
from ..analysis.compared_models import ComparedModel, ordered, with_rows
from ..formatting import mean_count, percent
from . import palette
from .annotations import NARROW, End, label_line_ends, room
from .palette import AXIS, GRID, INK, MUTED, fade, readable_on
from .style import BOTTOM, TOP, figure, interval, marker, panels

COLUMNS = 4  # recipes per row of panels
LINE, GAP = 38, 56  # pixels of a model's line, and of a panel's title


def success(
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    dark: bool = False,
    rings: pd.DataFrame | None = None,
    noun: str = "examples",
) -> go.Figure:
    """Draw attack success by model and recipe with 95% intervals; `rings` are other rates.

    `noun` names what is attacked.
    """
    shown = with_rows(ordered(models), rows)
    recipes = list(dict.fromkeys(rows["recipe"]))
    depth = -(-len(recipes) // COLUMNS)
    width = -(-len(recipes) // depth)
    height = LINE * len(shown)
    sizes = rows.groupby("recipe")["n"].max()

    def head(recipe: str) -> str:
        title = recipe.replace(" (", "<br>(") if width > 3 else recipe
        return f"<b>{title}</b><br>n = {sizes[recipe]:.0f} {noun}"

    fig = panels(
        dark,
        depth * (height + GAP) + 52,
        [head(recipe) for recipe in recipes],
        rows=depth,
        margin={"l": room([model.short for model in shown], 122), "r": 16, "t": GAP, "b": 52},
        panel_shared_xaxes=True,
        panel_horizontal_spacing=0.1 / width,
        panel_vertical_spacing=GAP / (depth * height + GAP * (depth - 1)) if depth > 1 else 0,
        panel_x_title=f"Attack success rate (fraction of attacked {noun})",
    )
    for index, recipe in enumerate(recipes):
        cell = {"row": index // width + 1, "col": index % width + 1}
        recipe_rows = rows[(rows["recipe"] == recipe) & rows["success_rate"].notna()].set_index(
            "job"
        )
        lines = [line for line, model in enumerate(shown) if model.job in recipe_rows.index]
        recipe_rows = recipe_rows.loc[[shown[line].job for line in lines]]
        for line, (_, row) in zip(lines, recipe_rows.iterrows(), strict=True):
            fig.add_scatter(
                **_dot(row, shown[line], recipe, line=line, dark=dark, noun=noun), **cell
            )
        fig.add_scatter(
            x=[0.5] * len(lines),
            y=[line - 0.36 for line in lines],
            text=[
                f"{percent(row['success_rate'])} · {_counts(row)}"
                for _, row in recipe_rows.iterrows()
            ],
            mode="text",
            hoverinfo="skip",
            textfont={"size": 11, "color": MUTED[dark]},
            **cell,
        )
        if rings is not None:
            ring = {"symbol": "circle-open", "size": 13, "line": {"width": 1.6}}
            ring_rates = (
                rings[rings["recipe"] == recipe]
                .set_index("job")
                .loc[recipe_rows.index, "success_rate"]
            )
            fig.add_scatter(
                x=ring_rates,
                y=lines,
                mode="markers",
                marker={**ring, "color": [palette.color(shown[line], dark) for line in lines]},
                cliponaxis=False,
                hoverinfo="skip",
                **cell,
            )
    fig.update_yaxes(
        tickvals=list(range(len(shown))),
        ticktext=[
            f"<span style='color:{palette.ink(model, dark)}'>{model.short}</span>"
            for model in shown
        ],
        range=[len(shown) - 0.5, -0.7],
        showgrid=False,
    )
    return fig.update_xaxes(
        tickvals=[0, 0.5, 1], ticktext=["0", "50", "100%"], range=[-0.04, 1.04], showline=True
    )


def _counts(row: pd.Series) -> str:
    """Return the number of successes: "8 of 20"."""
    return f"{mean_count(row['succeeded'])} of {mean_count(row['attacked'])}"


def _dot(
    row: pd.Series, model: ComparedModel, recipe: str, line: int, dark: bool, noun: str
) -> dict[str, Any]:
    low, rate, high = (row[key] for key in ("success_low", "success_rate", "success_high"))
    accuracy = ""
    if "accuracy" in row:
        before, after = percent(row["accuracy"]), percent(row["under_attack"])
        accuracy = f"<br>accuracy {before} before, {after} under attack"
    return {
        "x": [rate],
        "y": [line],
        "mode": "markers",
        "name": model.label,
        "customdata": [f"{model.job}|{recipe}"],  # returned by a click
        "cliponaxis": False,
        "error_x": interval(
            rate, low, high, color=palette.color(model, dark), thickness=4, width=0
        ),
        "marker": marker(model, dark, 11),
        "hovertemplate": f"<b>{model.label}</b>, {recipe}<br>"
        f"succeeded on {_counts(row)} attacked {noun}, success rate "
        f"{percent(rate)}<br>95% interval {percent(low)} to {percent(high)}{accuracy}"
        "<extra></extra>",
    }


SPENDING = {
    "queries": ("Query budget", ""),
    "share_changed": ("Fraction of words that may be changed", ".0%"),
}


def against_budget(
    examples: pd.DataFrame,
    models: Sequence[ComparedModel],
    recipe: str,
    spending: str,
    dark: bool = False,
    height: int = 320,
) -> go.Figure:
    """Draw accuracy under attack by the attacker's budget as a step curve."""
    axis, tick = SPENDING[spending]
    fig = figure(dark, height, margin={"l": 58, "r": 112, "t": TOP, "b": BOTTOM})
    rows = examples[(examples["recipe"] == recipe) & (examples["outcome"] != "error")]
    succeeded = successes(rows)
    largest = float(succeeded[spending].max()) if len(succeeded) else 1.0
    limit = 1.0 if spending == "share_changed" else largest * 1.03
    top = min(limit, largest * 1.08) if len(succeeded) else limit
    ends = []
    for model in ordered(models):
        model_rows = rows[rows["job"] == model.job]
        if model_rows.empty:
            continue
        x, y = _remaining_accuracy(model_rows, spending, top)
        fig.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=model.label,
            line={"color": palette.color(model, dark), "width": 2.2, "shape": "hv"},
            hovertemplate=f"<b>{model.label}</b><br>%{{y:.1%}} correct at "
            f"%{{x:{tick or '.0f'}}}<extra></extra>",
        )
        ends.append(End(x[-1], y[-1], model.short, color=palette.ink(model, dark)))
    label_line_ends(fig, ends, (0.0, 1.0), height=height - TOP - BOTTOM, widest=NARROW)
    fig.update_xaxes(title=axis, tickformat=tick, range=[0, top], showgrid=False, showline=True)
    return fig.update_yaxes(title="Accuracy under attack", tickformat=".0%", range=[0, 1], nticks=6)


def _remaining_accuracy(
    rows: pd.DataFrame, spending: str, top: float
) -> tuple[list[float], list[float]]:
    """Return accuracy by budget: clean accuracy, then one step down per successful attack."""
    correct = int((rows["outcome"] != "skipped").sum())
    costs = sorted(float(value) for value in successes(rows)[spending])
    y = [(correct - number) / len(rows) for number in range(len(costs) + 1)]
    return [0.0, *costs, top], [*y, y[-1]]


def probability_bars(
    table: pd.DataFrame,
    models: Sequence[ComparedModel],
    names: Sequence[str],
    dark: bool = False,
    truth: int | None = None,
    exclusive: bool = True,
) -> go.Figure:
    """Draw one bar per row of `job`, `state` ("", "original" or "attacked") and `probabilities`.

    Two exclusive labels are drawn from 50% outwards.
    """
    by_job = {model.job: model for model in models}
    table = table[table["job"].isin(by_job)]
    if len(names) == 2 and exclusive:
        return _balance(table, by_job, names, dark=dark, truth=truth)
    return _groups(table, by_job, names, dark=dark)


def _balance(
    table: pd.DataFrame,
    by_job: dict[int, ComparedModel],
    names: Sequence[str],
    dark: bool,
    truth: int | None,
) -> go.Figure:
    """Draw two labels: the bar grows from 50% towards the predicted label."""
    labels = [
        by_job[row.job].short + (f" · {row.state}" if row.state else "")
        for row in table.itertuples()
    ]
    fig = figure(
        dark,
        27 * len(table) + 70,
        margin={"l": room(labels, 118), "r": 16, "t": 26, "b": 40},
        bargap=0.32,
    )
    for label, row in zip(labels, table.itertuples(), strict=True):
        model, second = by_job[row.job], float(row.probabilities[1])
        fig.add_bar(
            y=[label],
            x=[second - 0.5],
            base=0.5,
            orientation="h",
            name=label,
            textposition="none",
            marker={"color": _bar_color(row, model, dark), "line": {"width": 0}},
            hovertemplate=f"<b>{label}</b><br>{names[0]} {percent(1 - second)} · {names[1]} "
            f"{percent(second)}<extra></extra>",
        )
        is_second = second >= 0.5
        inside = not 0.22 < second < 0.78  # a long bar has no room beyond its end
        is_on_bar = inside and row.state != "original"
        color = readable_on(palette.color(model, dark)) if is_on_bar else INK[dark]
        fig.add_annotation(
            x=second,
            y=label,
            text=percent(max(second, 1 - second)),
            xanchor="left" if is_second != inside else "right",
            xshift=5 if is_second != inside else -5,
            font={"size": 12, "color": color},
        )
    fig.add_vline(x=0.5, line={"color": AXIS[dark], "width": 1.2})
    for label_index, anchor, name in (
        (0, "left", f"← {names[0]}"),
        (1, "right", f"{names[1]} →"),
    ):
        mark = " (true label)" if truth == label_index else ""
        fig.add_annotation(
            x=label_index,
            y=1,
            yref="paper",
            yanchor="bottom",
            yshift=4,
            xanchor=anchor,
            text=f"<b>{name}</b>{mark}",
            font={"size": 12.5},
        )
    fig.update_yaxes(
        autorange="reversed", showgrid=False, tickfont={"size": 12.5, "color": INK[dark]}
    )
    return fig.update_xaxes(
        title=f"Probability of “{names[1]}”",
        tickformat=".0%",
        range=[0, 1],
        dtick=0.25,
        gridcolor=GRID[dark],
    )


def _bar_color(row: Any, model: ComparedModel, dark: bool) -> str:
    """Return the model's color, pale for the original text."""
    color = palette.color(model, dark)
    return fade(color, 0.45) if row.state == "original" else color


def _groups(
    table: pd.DataFrame, by_job: dict[int, ComparedModel], names: Sequence[str], dark: bool
) -> go.Figure:
    """Draw more than two labels: one group of bars per label."""
    fig = figure(
        dark,
        22 * len(table) * len(names) + 90,
        margin={"l": room(names, 130), "r": 40, "t": 20, "b": 40},
        bargap=0.25,
        barmode="group",
        showlegend=True,
    )
    for row in table.iloc[::-1].itertuples():
        model = by_job[row.job]
        label = model.short + (f" · {row.state}" if row.state else "")
        fig.add_bar(
            y=list(names),
            x=list(row.probabilities),
            orientation="h",
            name=label,
            text=[percent(p) for p in row.probabilities],
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"<b>{label}</b><br>%{{y}}: %{{x:.1%}}<extra></extra>",
            marker={"color": _bar_color(row, model, dark)},
        )
    fig.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 12.5})
    return fig.update_xaxes(title="Probability", tickformat=".0%", range=[0, 1.06])
