"""Everyday noise: failures by perturbation, accuracy by strength and by kind of text."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from ..analysis.compared_models import ComparedModel, ordered, with_rows
from ..analysis.noise import ALL, columns_of, overall
from ..analysis.quantities import Quantity
from ..formatting import percent
from . import palette
from .annotations import padded, room
from .style import figure, interval, marker

CLEAN = "original"
LINE, GAP = 11, 16  # pixels per model, and between perturbations


def noise_failures(
    rows: pd.DataFrame, models: Sequence[ComparedModel], dark: bool = False
) -> go.Figure:
    """Draw the failure rate by perturbation over all strengths, one dot per model."""
    rows = _all_strengths(rows)
    shown = with_rows(ordered(models), rows)
    sizes = rows.groupby("perturbation", sort=False)["n"].max()
    names = sorted(sizes.index, key=lambda name: name != ALL)
    directional = set(rows[rows["directional"]]["perturbation"])
    ticks = [
        f"{'all noise' if name == ALL else name}"
        f"{' (directional)' if name in directional else ''} · n = {sizes[name]:.0f}"
        for name in names
    ]
    height = len(names) * (LINE * len(shown) + GAP) + 110
    fig = figure(dark, height, margin={"l": room(ticks, 150, high=280), "r": 20, "t": 40, "b": 50})
    step = 0.7 / max(1, len(shown))
    for index, model in enumerate(shown):
        of_model = rows[rows["job"] == model.job].set_index("perturbation")
        of_model = of_model.loc[[name for name in names if name in of_model.index]]
        value, low, high = (of_model[each] for each in columns_of("failure_rate"))
        fig.add_scatter(
            x=value,
            y=[
                names.index(name) + (index - (len(shown) - 1) / 2) * step for name in of_model.index
            ],
            mode="markers",
            name=model.short,
            cliponaxis=False,
            marker=marker(model, dark),
            error_x=interval(value, low, high, color=palette.color(model, dark), width=0),
            customdata=_hover(of_model, "failure_rate"),
            hovertemplate=f"<b>{model.label}</b><br>%{{customdata}}<extra></extra>",
        )
    fig.update_layout(showlegend=True)
    fig.update_yaxes(
        tickvals=list(range(len(names))), ticktext=ticks, range=[len(names) - 0.4, -0.6]
    )
    top = max(float(rows["failure_rate_high"].max()), 0.05)
    return fig.update_xaxes(
        title="Failure rate · lower is better",
        tickformat=".0%",
        range=[-0.015 * top, 1.02 * top],  # markers at 0 must not cover the labels
        showline=True,
    )


def _all_strengths(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["strength"] == ALL] if (rows["strength"] == ALL).any() else rows


def _hover(rows: pd.DataFrame, value: str) -> list[str]:
    """Return the value with its interval and number of texts for each row."""
    return [
        f"{percent(rate)} of {copies:.0f} texts, 95% interval {percent(low)} to {percent(high)}"
        for rate, low, high, copies in zip(
            *(rows[each] for each in columns_of(value)), rows["copies"], strict=True
        )
    ]


def noise_by_strength(
    rows: pd.DataFrame, models: Sequence[ComparedModel], dark: bool = False, height: int = 330
) -> go.Figure:
    """Draw accuracy by strength, from the original texts; without labels, the failure rate."""
    value = "accuracy" if rows["accuracy"].notna().any() else "failure_rate"
    known = ("accuracy", "clean_accuracy") if value == "accuracy" else (value,)
    fig = figure(
        dark,
        height,
        margin={"l": 60, "r": 20, "t": 40, "b": 48},
        showlegend=True,
        scattermode="group",
    )
    shown = rows[rows["perturbation"] == ALL]
    for model in with_rows(ordered(models), shown):
        of_model = shown[shown["job"] == model.job]
        points = of_model[of_model["strength"] != ALL]
        if value == "accuracy":
            columns = dict(zip(columns_of("clean_accuracy"), columns_of(value), strict=True))
            clean = overall(of_model)[[*columns, "copies"]].rename(columns=columns)
            points = pd.concat([clean.assign(strength=CLEAN), points])
        middle, low, high = (points[each] for each in columns_of(value))
        fig.add_scatter(
            x=points["strength"],
            y=middle,
            mode="lines+markers",
            name=model.short,
            line={"color": palette.color(model, dark), "width": 1.5},
            marker=marker(model, dark),
            error_y=interval(middle, low, high, color=palette.color(model, dark)),
            customdata=_hover(points, value),
            hovertemplate=f"<b>{model.label}</b><br>%{{x}}: %{{customdata}}<extra></extra>",
        )
    is_accuracy = value == "accuracy"
    ends = shown[[each for name in known for each in columns_of(name)]].to_numpy().ravel()
    title = "Accuracy · higher is better" if is_accuracy else "Failure rate · lower is better"
    fig.update_xaxes(title="Strength of the noise", showgrid=False, showline=True)
    return fig.update_yaxes(title=title, tickformat=".0%", range=padded(ends, low=0.0, high=1.0))


def robustness_by_text(
    values: pd.DataFrame,
    models: Sequence[ComparedModel],
    quantities: Mapping[str, Quantity],
    dark: bool = False,
    height: int = 330,
) -> go.Figure:
    """Draw the accuracy of every model, grouped by kind of text, such as noisy text.

    `values` are rows of `quantities.summary`.
    """
    fig = figure(
        dark,
        height,
        margin={"l": 60, "r": 20, "t": 40, "b": 48},
        showlegend=True,
        scattermode="group",
    )
    for model in with_rows(ordered(models), values):
        row = values[values["job"] == model.job].iloc[0]
        known = {name: each.key for name, each in quantities.items() if pd.notna(row[each.key])}
        middle, low, high = (
            [row[f"{key}{end}"] for key in known.values()] for end in ("", "_low", "_high")
        )
        sizes = [row[f"{key}_n"] for key in known.values()]
        fig.add_scatter(
            x=list(known),
            y=middle,
            mode="markers",
            name=model.short,
            marker=marker(model, dark, size=10),
            error_y=interval(middle, low, high, color=palette.color(model, dark), thickness=2),
            customdata=[
                f"{percent(a)} (95% interval {percent(b)} to {percent(c)}), n = {n:.0f}"
                for a, b, c, n in zip(middle, low, high, sizes, strict=True)
            ],
            hovertemplate=f"<b>{model.label}</b><br>%{{x}}: %{{customdata}}<extra></extra>",
        )
    ends = [values[f"{each.key}{end}"] for each in quantities.values() for end in ("_low", "_high")]
    limits = padded(pd.concat(ends), low=0.0, high=1.0)
    fig.update_xaxes(
        title="Evaluated text",
        showgrid=False,
        showline=True,
        categoryorder="array",
        categoryarray=list(quantities),
    )
    return fig.update_yaxes(title="Accuracy · higher is better", tickformat=".0%", range=limits)
