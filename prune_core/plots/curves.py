"""Charts that compare models: a quantity against sparsity, one quantity against another."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..analysis import tradeoff
from ..analysis.compared_models import DENSE, ComparedModel, ordered
from ..analysis.quantities import Quantity
from ..formatting import missing
from . import palette
from .annotations import (
    NARROW,
    End,
    distinguishable,
    label_line_ends,
    label_points,
    padded,
    tick_format,
)
from .palette import INK, MUTED, fade, method_color
from .style import BOTTOM, TOP, figure, interval, marker


def against_sparsity(
    table: pd.DataFrame,
    models: Sequence[ComparedModel],
    quantity: Quantity,
    dark: bool = False,
    height: int = 300,
    compact: bool = False,
) -> go.Figure:
    """Draw one line per method over sparsity with 95% intervals; stars are N:M patterns."""
    fig = figure(dark, height, margin={"l": 62, "r": 72, "t": TOP, "b": BOTTOM})
    points = _points(table, models, quantity)
    if points.empty:
        return fig
    methods = list(dict.fromkeys(model.method for model in ordered(models) if not model.is_dense))
    top = max(points["x"].max(), 0.1)
    levels = sorted({round(x, 3) for x in points["x"]} | {0.0})
    # shift each method horizontally: intervals at one sparsity would overlap
    offsets = {
        method: (index - (len(methods) - 1) / 2) * 0.018 * top
        for index, method in enumerate(methods)
    }
    points["x"] += points["method"].map(offsets).fillna(0.0)
    bounded = quantity.tick == ".0%"
    values = [
        *points[["value", "low", "high"]].to_numpy().ravel(),
        *(value for runs in points["runs"] for value in runs),
    ]
    y_range = padded(
        values,
        low=0.0 if bounded or points["value"].min() >= 0 else None,
        high=1.0 if bounded else None,
    )
    dense = points[points["method"] == DENSE]
    _dense_line(fig, dense, dark)
    ends = []
    for method in methods:
        unpatterned = points[(points["method"] == method) & (points["pattern"] == "")]
        if len(unpatterned):
            # the full form, or the only one, averaged over seeds
            full = unpatterned[unpatterned["form"] == unpatterned["form"].min()]
            mean = full.groupby("x", as_index=False)["value"].mean()
            line = pd.concat([dense.head(1).assign(x=0.0), mean]).sort_values("x")
            of_method = [model for model in models if model.method == method]
            is_structured = any(model.structured for model in of_method)
            fig.add_scatter(
                x=line["x"],
                y=line["value"],
                mode="lines",
                line={
                    "color": method_color(method, dark),
                    "width": 2.2,
                    "dash": "dash" if is_structured else "solid",
                },
                hoverinfo="skip",
            )
            last, model = line.iloc[-1], of_method[0]
            ends.append(End(last["x"], last["value"], model.family, color=palette.ink(model, dark)))
        _marks(fig, points[points["method"] == method], models, quantity=quantity, dark=dark)
    if len(dense):
        if len(ends) == 0:
            ends.append(End(0.0, dense["value"].iloc[0], "Dense", color=INK[dark]))
        _marks(fig, dense, models, quantity=quantity, dark=dark)
    label_line_ends(fig, ends, y_range, height=height - TOP - BOTTOM, widest=NARROW)
    fig.update_xaxes(
        title=_sparsity_title(models, compact),
        tickvals=distinguishable(levels, top),
        tickformat=".3~p",
        tickangle=0,
        range=[-0.04 * top, top * 1.04],
        showgrid=False,
        showline=True,
    )
    return fig.update_yaxes(
        title=quantity.axis,
        range=list(y_range),
        tickformat=tick_format(quantity.tick, y_range),
        nticks=6,
    )


def _sparsity_title(models: Sequence[ComparedModel], compact: bool) -> str:
    """Return the title of the sparsity axis."""
    if any(model.structured for model in models):
        return "Removed (dashed: FLOPs)" if compact else "Weights removed (dashed: FLOPs removed)"
    return "Sparsity" if compact else "Sparsity (fraction of weights removed)"


def _points(
    table: pd.DataFrame, models: Sequence[ComparedModel], quantity: Quantity
) -> pd.DataFrame:
    form = {model.job: model.form or model.start for model in models}
    rows = table[table["job"].isin(form)] if quantity.key in table else table.iloc[:0]
    points = rows[["job", "label", "method", "pattern"]].assign(
        x=rows["requested_sparsity"], form=rows["job"].map(form)
    )
    for name, column in (
        ("value", quantity.key),
        ("low", f"{quantity.key}_low"),
        ("high", f"{quantity.key}_high"),
    ):
        points[name] = rows[column].astype(float) * quantity.scale if column in rows else np.nan
    points["n"] = rows.get(f"{quantity.key}_n", np.nan)
    no_runs = pd.Series([[] for _ in rows.index], index=rows.index, dtype=object)
    points["runs"] = rows.get(f"{quantity.key}_runs", no_runs).map(
        lambda values: [value * quantity.scale for value in values]
    )
    return points.dropna(subset="value")


def _dense_line(fig: go.Figure, dense: pd.DataFrame, dark: bool) -> None:
    """Draw the baseline across the full width, with its interval as a band."""
    for _, row in dense.head(1).iterrows():
        fig.add_hline(
            y=row["value"], line={"color": INK[dark], "width": 1.2, "dash": "dot"}, opacity=0.55
        )
        if not missing(row["low"]):
            fig.add_hrect(
                y0=row["low"],
                y1=row["high"],
                fillcolor=INK[dark],
                opacity=0.06,
                line_width=0,
                layer="below",
            )


def _marks(
    fig: go.Figure,
    points: pd.DataFrame,
    models: Sequence[ComparedModel],
    quantity: Quantity,
    dark: bool,
) -> None:
    by_job = {model.job: model for model in models}
    for row in points.itertuples():
        model = by_job[row.job]
        _draw_seeds(fig, [row.x] * len(row.runs), row.runs, color=palette.color(model, dark))
        fig.add_scatter(
            x=[row.x],
            y=[row.value],
            mode="markers",
            error_y=interval(row.value, row.low, row.high, color=palette.color(model, dark)),
            marker=marker(model, dark),
            name=model.label,
            hovertemplate=hover_text(
                _seed_label(model), [(quantity, row.value, row.low, row.high, row.n)]
            ),
            cliponaxis=False,
        )


def _draw_seeds(fig: go.Figure, xs: Sequence[float], ys: Sequence[float], color: str) -> None:
    """Draw the single seeds behind a mean."""
    if len(xs) > 1:
        fig.add_scatter(
            x=xs,
            y=ys,
            mode="markers",
            marker={"color": fade(color, 0.35), "size": 5},
            hoverinfo="skip",
            cliponaxis=False,
        )


def _seed_label(model: ComparedModel) -> str:
    return f"{model.label}, mean of {len(model.runs)} seeds" if model.runs else model.label


def hover_text(label: str, values: Sequence[tuple[Quantity, float, float, float, float]]) -> str:
    """Return the label and each quantity with interval and n; values are axis values."""
    lines = [f"<b>{label}</b>"]
    for quantity, value, low, high, n in values:
        shown, low_end, high_end = (
            quantity.show(end / quantity.scale) for end in (value, low, high)
        )
        line = f"{quantity.title}: {shown}"
        if not missing(low):
            line += f" (95%: {low_end} to {high_end})"
        if not missing(n):
            line += f", n = {n:.0f}"
        lines.append(line)
    return "<br>".join(lines) + "<extra></extra>"


DIMMED = 0.45
SMALL, LARGE = 9, 26  # diameters of marks in pixels if their area shows a third quantity


def scatter(
    table: pd.DataFrame,
    models: Sequence[ComparedModel],
    x: Quantity,
    y: Quantity,
    dark: bool = False,
    height: int = 430,
    size: Quantity | None = None,
) -> go.Figure:
    """Draw one point per model with intervals and the Pareto front; other models are dimmed.

    The ring marks the knee; `size` is a third quantity, shown by the area of the marks.
    """
    fig = figure(dark, height, margin={"l": 70, "r": 96, "t": TOP, "b": 56})
    xs, ys = (_points(table, models, quantity).set_index("job") for quantity in (x, y))
    shown = [model for model in ordered(models) if model.job in xs.index and model.job in ys.index]
    if not shown:
        return fig
    front = _front(fig, xs, ys, models=shown, x=x, y=y, dark=dark)
    sizes = _points(table, models, size).set_index("job") if size is not None else pd.DataFrame()
    widths = _widths(sizes["value"]) if len(sizes) else {}
    for model in shown:
        x_point, y_point, color = xs.loc[model.job], ys.loc[model.job], palette.color(model, dark)
        values = [(x, x_point), (y, y_point)]
        if size is not None and model.job in sizes.index:
            values.append((size, sizes.loc[model.job]))
        if len(x_point["runs"]) == len(y_point["runs"]):
            _draw_seeds(fig, x_point["runs"], y_point["runs"], color=color)
        fig.add_scatter(
            x=[x_point["value"]],
            y=[y_point["value"]],
            mode="markers",
            name=model.label,
            cliponaxis=False,
            opacity=1.0 if model in front else DIMMED,
            error_x=interval(x_point["value"], x_point["low"], x_point["high"], color=color),
            error_y=interval(y_point["value"], y_point["low"], y_point["high"], color=color),
            marker=marker(model, dark, widths.get(model.job, 13)),
            hovertemplate=hover_text(
                _seed_label(model),
                [(quantity, *point[["value", "low", "high", "n"]]) for quantity, point in values],
            ),
        )
    x_range, y_range = (
        padded(
            points.loc[[model.job for model in shown], ["value", "low", "high"]].to_numpy().ravel(),
            fraction=0.07,
        )
        for points in (xs, ys)
    )
    ends = [
        End(
            xs.loc[model.job]["value"],
            ys.loc[model.job]["value"],
            model.short,
            color=palette.ink(model, dark),
        )
        for model in shown
    ]
    label_points(fig, ends, x_range, y_range=y_range, height=height - TOP - 56, dark=dark)
    for axes, quantity, limits in ((fig.update_xaxes, x, x_range), (fig.update_yaxes, y, y_range)):
        arrow = {"higher": " · higher is better", "lower": " · lower is better"}.get(
            quantity.better, ""
        )
        axes(
            title=f"{quantity.axis}{arrow}",
            tickformat=tick_format(quantity.tick, limits),
            range=list(limits),
            showline=True,
        )
    return fig


def _widths(values: pd.Series) -> dict[int, float]:
    """Return diameters by job; areas are linear in the values."""
    if values.min() == values.max():
        return {}
    fraction = (values - values.min()) / (values.max() - values.min())
    return dict(np.sqrt(SMALL**2 + fraction * (LARGE**2 - SMALL**2)))


def _front(
    fig: go.Figure,
    xs: pd.DataFrame,
    ys: pd.DataFrame,
    models: Sequence[ComparedModel],
    x: Quantity,
    y: Quantity,
    dark: bool,
) -> list[ComparedModel]:
    """Draw the front and its knee; return its models, or all if neither direction is better."""
    if not (x.better and y.better) or len(models) < 2:
        return list(models)
    points = [
        (float(xs.loc[model.job]["value"]), float(ys.loc[model.job]["value"])) for model in models
    ]
    front = tradeoff.pareto_front(points, x.better, y.better)
    fig.add_scatter(
        x=[points[i][0] for i in front],
        y=[points[i][1] for i in front],
        mode="lines",
        hoverinfo="skip",
        line={"color": MUTED[dark], "width": 1.4, "dash": "dot"},
    )
    knee_index = tradeoff.knee(points, front)
    if knee_index is not None:
        fig.add_scatter(
            x=[points[knee_index][0]],
            y=[points[knee_index][1]],
            mode="markers",
            marker={
                "symbol": "circle-open",
                "size": 30,
                "color": INK[dark],
                "line": {"width": 1.4},
            },
            name="knee",
            hoverinfo="skip",
            cliponaxis=False,
        )
    return [models[i] for i in front]
