"""Fine-tunes by accuracy and accuracy under attack, and the path of their average."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..formatting import percent
from .annotations import End, label_points, padded, tick_format
from .palette import HUES, MUTED, PAPER, mix
from .style import figure, interval

TOP, BOTTOM = 40, 56
SCORES = {"accuracy": "Accuracy", "under_attack": "Accuracy under attack"}
# by the recipe's option `adversarial`
KINDS = {
    "none": ("standard fine-tune", "#0072B2", "circle"),
    "freelb": ("adversarial fine-tune (FreeLB)", HUES["kprune"], "diamond"),
}
AVERAGE = HUES["akr"]

Row = Mapping[str, Any]  # a candidate or an attempt of a soup.json


def soup_path(record: Mapping[str, Any], dark: bool = False, height: int = 480) -> go.Figure:
    """Draw candidates of a soup.json with 95% intervals and the path of the average.

    Crosses are rejected averages, the star is the final one.
    """
    fig = figure(dark, height, margin={"l": 70, "r": 40, "t": TOP, "b": BOTTOM}, showlegend=True)

    def text_color(color: str) -> str:
        return mix(color, "#ffffff" if dark else "#000000", 0.3)

    candidates, ends = record["candidates"], []
    for kind, (title, color, symbol) in KINDS.items():
        rows = [row for row in candidates if row["recipe"].get("adversarial", "none") == kind]
        _add(
            fig,
            rows,
            title,
            marker={
                "color": color,
                "symbol": symbol,
                "size": 12,
                "line": {"color": PAPER[dark], "width": 1.2},
            },
            **_bars(rows, color),
        )
        ends += [
            End(row["accuracy"], row["under_attack"], row["name"], color=text_color(color))
            for row in rows
        ]
    rejected, accepted = (
        [row for row in record["attempts"] if row["taken"] == is_accepted]
        for is_accepted in (False, True)
    )
    _add(
        fig,
        rejected,
        "rejected average",
        marker={"color": MUTED[dark], "symbol": "x-thin-open", "size": 9, "line": {"width": 1.6}},
    )
    *earlier, final = accepted
    _add(
        fig,
        accepted,
        "average",
        mode="lines+markers",
        line={"color": AVERAGE, "width": 2},
        marker={
            "symbol": ["circle-open"] * len(earlier) + ["star"],
            "size": [15] * len(earlier) + [19],
            "color": AVERAGE,
        },
    )
    if len(final["ingredients"]) > 1:
        ends.append(
            End(final["accuracy"], final["under_attack"], "average", color=text_color(AVERAGE))
        )
    x_range, y_range = (
        padded(
            [row[score + end] for row in candidates for end in ("_low", "_high")]
            + [row[score] for row in accepted + rejected],
            0.0,
            1.0,
        )
        for score in SCORES
    )
    label_points(fig, ends, x_range, y_range=y_range, height=height - TOP - BOTTOM, dark=dark)
    for axes, title, number, limits in zip(
        (fig.update_xaxes, fig.update_yaxes),
        SCORES.values(),
        (candidates[0]["n"], candidates[0]["attack_n"]),
        (x_range, y_range),
        strict=True,
    ):
        axes(
            title=f"{title} · higher is better (n = {number})",
            tickformat=tick_format(".0%", limits),
            range=list(limits),
            showline=True,
        )
    return fig


def _add(
    fig: go.Figure, rows: Sequence[Row], title: str, mode: str = "markers", **style: Any
) -> None:
    """Add the rows as one trace, if there are any."""
    if rows:
        x, y = ([row[score] for row in rows] for score in SCORES)
        fig.add_scatter(
            x=x,
            y=y,
            mode=mode,
            name=title,
            text=[_describe(row) for row in rows],
            hovertemplate="%{text}<extra></extra>",
            cliponaxis=False,
            **style,
        )


def _describe(row: Row) -> str:
    name = row["name"] if "name" in row else " + ".join(row["ingredients"])

    def span(key: str) -> str:
        return (
            f"{percent(row[key])} ({percent(row[f'{key}_low'])} to {percent(row[f'{key}_high'])})"
        )

    return "<br>".join(
        [f"<b>{name}</b>", *(f"{title} {span(key)}" for key, title in SCORES.items())]
    )


def _bars(rows: Sequence[Row], color: str) -> dict[str, Any]:
    """Return intervals of both scores; only candidates have them, as others would overlap."""

    def column(key: str) -> list[float]:
        return [row[key] for row in rows]

    return {
        axis: interval(column(key), column(f"{key}_low"), column(f"{key}_high"), color=color)
        for axis, key in zip(("error_x", "error_y"), SCORES, strict=True)
    }
