"""Attack success with intervals, accuracy by attack budget, and probabilities."""

from __future__ import annotations

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

COLUMNS = 4  # recipes side by side in the table of dots
LINE, GAP = 38, 56  # pixels of a model's line, and above a column for its title


def success(
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    dark: bool = False,
    rings: pd.DataFrame | None = None,
) -> go.Figure:
    """Attack success by model and recipe with 95% intervals; `rings` are other rates."""
    shown = with_rows(ordered(models), rows)
    recipes = list(dict.fromkeys(rows["recipe"]))
    deep = -(-len(recipes) // COLUMNS)
    wide = -(-len(recipes) // deep)
    tall = LINE * len(shown)
    sizes = rows.groupby("recipe")["n"].max()

    def head(recipe: str) -> str:
        return (
            f"<b>{recipe.replace(' (', '<br>(') if wide > 3 else recipe}</b><br>n = "
            f"{sizes[recipe]:.0f} sentences"
        )

    fig = panels(
        dark,
        deep * (tall + GAP) + 52,
        [head(recipe) for recipe in recipes],
        rows=deep,
        margin={"l": room([model.short for model in shown], 122), "r": 16, "t": GAP, "b": 52},
        panel_shared_xaxes=True,
        panel_horizontal_spacing=0.1 / wide,
        panel_vertical_spacing=GAP / (deep * tall + GAP * (deep - 1)) if deep > 1 else 0,
        panel_x_title="Attack success rate (fraction of attacked examples)",
    )
    for place, recipe in enumerate(recipes):
        cell = {"row": place // wide + 1, "col": place % wide + 1}
        here = rows[(rows["recipe"] == recipe) & rows["success_rate"].notna()].set_index("job")
        lines = [line for line, model in enumerate(shown) if model.job in here.index]
        here = here.loc[[shown[line].job for line in lines]]
        for line, (_, row) in zip(lines, here.iterrows(), strict=True):
            fig.add_scatter(**_dot(row, shown[line], recipe, line=line, dark=dark), **cell)
        told = [f"{percent(row['success_rate'])} · {_counts(row)}" for _, row in here.iterrows()]
        fig.add_scatter(
            x=[0.5] * len(told),
            y=[line - 0.36 for line in lines],
            text=told,
            mode="text",
            hoverinfo="skip",
            textfont={"size": 11, "color": MUTED[dark]},
            **cell,
        )
        if rings is not None:
            all_of = (
                rings[rings["recipe"] == recipe].set_index("job").loc[here.index, "success_rate"]
            )
            colors = [palette.color(shown[line], dark) for line in lines]
            ring = {"symbol": "circle-open", "size": 13, "line": {"width": 1.6}, "color": colors}
            fig.add_scatter(
                x=all_of,
                y=lines,
                mode="markers",
                marker=ring,
                cliponaxis=False,
                hoverinfo="skip",
                **cell,
            )
    names = [
        f"<span style='color:{palette.ink(model, dark)}'>{model.short}</span>" for model in shown
    ]
    fig.update_yaxes(
        tickvals=list(range(len(shown))),
        ticktext=names,
        range=[len(shown) - 0.5, -0.7],
        showgrid=False,
    )
    return fig.update_xaxes(
        tickvals=[0, 0.5, 1], ticktext=["0", "50", "100%"], range=[-0.04, 1.04], showline=True
    )


def _counts(row: pd.Series) -> str:
    """Successes of attacked examples: 8 of 20."""
    return f"{mean_count(row['succeeded'])} of {mean_count(row['attacked'])}"


def _dot(
    row: pd.Series, model: ComparedModel, recipe: str, line: int, dark: bool
) -> dict[str, Any]:
    low, rate, high = (row[key] for key in ("success_low", "success_rate", "success_high"))
    return {
        "x": [rate],
        "y": [line],
        "mode": "markers",
        "name": model.label,
        "customdata": [f"{model.job}|{recipe}"],  # which a click gives back
        "cliponaxis": False,
        "error_x": interval(
            rate, low, high, color=palette.color(model, dark), thickness=4, width=0
        ),
        "marker": marker(model, dark, 11),
        "hovertemplate": f"<b>{model.label}</b>, {recipe}<br>"
        f"{_counts(row)} attacked examples, success rate "
        f"{percent(rate)}<br>95% interval {percent(low)} to {percent(high)}<br>accuracy "
        f"{percent(row['accuracy'])} before, {percent(row['under_attack'])} under "
        "attack<extra></extra>",
    }


SPENDING = {
    "queries": ("Queries the attacker may spend", ""),
    "share_changed": ("Share of words the attacker may change", ".0%"),
}


def against_budget(
    examples: pd.DataFrame,
    models: Sequence[ComparedModel],
    recipe: str,
    spending: str,
    dark: bool = False,
    height: int = 320,
) -> go.Figure:
    """Accuracy under attack by the budget of the attacker, as a step curve."""
    axis, tick = SPENDING[spending]
    fig = figure(dark, height, margin={"l": 58, "r": 112, "t": TOP, "b": BOTTOM})
    rows = examples[(examples["recipe"] == recipe) & (examples["outcome"] != "error")]
    won = successes(rows)
    most = float(won[spending].max()) if len(won) else 1.0
    limit = 1.0 if spending == "share_changed" else most * 1.03
    top = min(limit, most * 1.08) if len(won) else limit
    ends = []
    for model in ordered(models):
        own = rows[rows["job"] == model.job]
        if own.empty:
            continue
        x, y = _standing(own, spending, top)
        fig.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=model.label,
            line={"color": palette.color(model, dark), "width": 2.2, "shape": "hv"},
            hovertemplate=f"<b>{model.label}</b><br>%{{y:.1%}} still right at "
            f"%{{x:{tick or '.0f'}}}<extra></extra>",
        )
        ends.append(End(x[-1], y[-1], model.short, color=palette.ink(model, dark)))
    label_line_ends(fig, ends, (0.0, 1.0), height=height - TOP - BOTTOM, most=NARROW)
    fig.update_xaxes(title=axis, tickformat=tick, range=[0, top], showgrid=False, showline=True)
    return fig.update_yaxes(title="Accuracy under attack", tickformat=".0%", range=[0, 1], nticks=6)


def _standing(rows: pd.DataFrame, spending: str, top: float) -> tuple[list[float], list[float]]:
    """Fraction still correct by budget: clean accuracy, then one step per successful attack."""
    n = len(rows)
    right = int((rows["outcome"] != "skipped").sum())
    costs = sorted(float(value) for value in successes(rows)[spending])
    x, y = [0.0], [right / n]
    for fallen, cost in enumerate(costs, start=1):
        x.append(cost)
        y.append((right - fallen) / n)
    return [*x, top], [*y, y[-1]]


def probability_bars(
    table: pd.DataFrame,
    models: Sequence[ComparedModel],
    names: Sequence[str],
    dark: bool = False,
    truth: int | None = None,
    exclusive: bool = True,
) -> go.Figure:
    """One bar per row of `job`, `state` ("", "original" or "attacked") and `probabilities`.

    Two exclusive labels are drawn from 50% outwards.
    """
    by_job = {m.job: m for m in models}
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
    """Two labels: the bar grows from the undecided middle towards the label predicted."""
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
        first_state = row.state == "original"
        fig.add_bar(
            y=[label],
            x=[second - 0.5],
            base=0.5,
            orientation="h",
            name=label,
            textposition="none",
            marker={
                "color": fade(palette.color(model, dark), 0.45)
                if first_state
                else palette.color(model, dark),
                "line": {"width": 0},
            },
            hovertemplate=f"<b>{label}</b><br>{names[0]} {percent(1 - second)} · {names[1]} "
            f"{percent(second)}<extra></extra>",
        )
        right, inside = (
            second >= 0.5,
            not 0.22 < second < 0.78,
        )  # a long bar has no room beyond its end
        fig.add_annotation(
            x=second,
            y=label,
            text=percent(second if right else 1 - second),
            xanchor="left" if right != inside else "right",
            xshift=5 if right != inside else -5,
            font={
                "size": 12,
                "color": readable_on(palette.color(model, dark))
                if inside and not first_state
                else INK[dark],
            },
        )
    fig.add_vline(x=0.5, line={"color": AXIS[dark], "width": 1.2})
    for x, anchor, name, value in (
        (0, "left", f"← {names[0]}", 0),
        (1, "right", f"{names[1]} →", 1),
    ):
        mark = " (true label)" if truth == value else ""
        fig.add_annotation(
            x=x,
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


def _groups(
    table: pd.DataFrame, by_job: dict[int, ComparedModel], names: Sequence[str], dark: bool
) -> go.Figure:
    """More labels: a group of bars a label."""
    margin = {"l": room(names, 130), "r": 40, "t": 20, "b": 40}
    fig = figure(
        dark,
        22 * len(table) * len(names) + 90,
        margin=margin,
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
            marker={
                "color": fade(palette.color(model, dark), 0.45)
                if row.state == "original"
                else palette.color(model, dark)
            },
        )
    fig.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 12.5})
    return fig.update_xaxes(title="Probability", tickformat=".0%", range=[0, 1.06])
