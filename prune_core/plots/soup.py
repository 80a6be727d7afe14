"""Fine-tunes by accuracy and accuracy under attack, and the path of their average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..formatting import percent
from .annotations import End, label_points, padded, tick_format
from .palette import HUES, MUTED, PAPER, mix
from .style import figure, interval

TOP, BOTTOM = 40, 56
SCORES = {"accuracy": "Accuracy", "under_attack": "Accuracy under attack"}
# by the option `adversarial` of the recipe
KINDS = {
    "none": ("plain fine-tune", "#0072B2", "circle"),
    "freelb": ("adversarial fine-tune (FreeLB)", HUES["kprune"], "diamond"),
}
AVERAGE = HUES["akr"]

Row = Mapping[str, Any]  # a candidate or an attempt of a soup.json


def soup_path(record: Mapping[str, Any], dark: bool = False, height: int = 480) -> go.Figure:
    """Candidates of a soup.json with 95% intervals, accepted averages joined, others crossed."""
    fig = figure(dark, height, margin={"l": 70, "r": 40, "t": TOP, "b": BOTTOM}, showlegend=True)
    readable = lambda color: mix(color, "#ffffff" if dark else "#000000", 0.3)  # noqa: E731
    candidates, ends = record["candidates"], []
    for kind, (title, color, symbol) in KINDS.items():
        rows = [row for row in candidates if row["recipe"].get("adversarial", "none") == kind]
        outline = {"color": PAPER[dark], "width": 1.2}
        _add(
            fig,
            rows,
            title,
            marker={"color": color, "symbol": symbol, "size": 12, "line": outline},
            **_bars(rows, color),
        )
        ends += [
            End(row["accuracy"], row["under_attack"], row["name"], color=readable(color))
            for row in rows
        ]
    left_out, taken = (
        [row for row in record["attempts"] if row["taken"] == is_taken]
        for is_taken in (False, True)
    )
    _add(
        fig,
        left_out,
        "average not taken",
        marker={"color": MUTED[dark], "symbol": "x-thin-open", "size": 9, "line": {"width": 1.6}},
    )
    *before, final = taken
    line = {"color": AVERAGE, "width": 2}
    marker = {
        "symbol": ["circle-open"] * len(before) + ["star"],
        "size": [15] * len(before) + [19],
        "color": AVERAGE,
    }
    _add(fig, taken, "average", mode="lines+markers", line=line, marker=marker)
    if len(final["ingredients"]) > 1:
        ends.append(
            End(final["accuracy"], final["under_attack"], "the average", color=readable(AVERAGE))
        )
    x_range, y_range = (
        padded(
            [row[score + end] for row in candidates for end in ("_low", "_high")]
            + [row[score] for row in taken + left_out],
            0.0,
            1.0,
        )
        for score in SCORES
    )
    label_points(fig, ends, x_range, y_range=y_range, tall=height - TOP - BOTTOM, dark=dark)
    counts = (candidates[0]["n"], candidates[0]["attack_n"])
    for axes, title, n, limits in zip(
        (fig.update_xaxes, fig.update_yaxes),
        SCORES.values(),
        counts,
        (x_range, y_range),
        strict=True,
    ):
        axes(
            title=f"{title} · more is better (n = {n})",
            tickformat=tick_format(".0%", limits),
            range=list(limits),
            showline=True,
        )
    return fig


def _add(
    fig: go.Figure, rows: Sequence[Row], title: str, mode: str = "markers", **look: Any
) -> None:
    """The rows as one trace; nothing where there are none."""
    if rows:
        x, y = ([row[score] for row in rows] for score in SCORES)
        told, hover = [_told(row) for row in rows], "%{text}<extra></extra>"
        fig.add_scatter(
            x=x,
            y=y,
            mode=mode,
            name=title,
            text=told,
            hovertemplate=hover,
            cliponaxis=False,
            **look,
        )


def _told(row: Row) -> str:
    name = row["name"] if "name" in row else " + ".join(row["ingredients"])

    def span(key: str) -> str:
        return (
            f"{percent(row[key])} ({percent(row[f'{key}_low'])} to {percent(row[f'{key}_high'])})"
        )

    return "<br>".join(
        [f"<b>{name}</b>", *(f"{title} {span(key)}" for key, title in SCORES.items())]
    )


def _bars(rows: Sequence[Row], color: str) -> dict[str, Any]:
    """Intervals of both scores; of candidates only, as those of the averages would hide them."""
    column = lambda key: [row[key] for row in rows]  # noqa: E731
    return {
        axis: interval(column(key), column(f"{key}_low"), column(f"{key}_high"), color=color)
        for axis, key in zip(("error_x", "error_y"), SCORES, strict=True)
    }
