"""Labels at line ends and beside points, placed without overlap, in pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from .palette import MUTED, fade


@dataclass(frozen=True)
class End:
    """Where a line ends or a point lies, and what to write there."""

    x: float
    y: float
    text: str
    color: str


GLYPH = 0.53  # a letter's mean width, of the size of its font
WIDE, NARROW = (
    240,
    150,
    # pixels that labels may take beside a plot area as wide as the page, and beside one of several
    # in a
    # row
)


def room(texts: Sequence[str], least: float = 0, size: float = 12.5, most: float = WIDE) -> float:
    """Width in pixels of the longest line of the texts, within `least` and `most`."""
    lines = [re.sub("<[^>]*>", "", line) for text in texts for line in text.split("<br>")]
    return min(max(least, 16 + GLYPH * size * max(map(len, lines), default=0)), most)


def spread_positions(
    positions: Sequence[float], gap: float, low: float, high: float
) -> list[float]:
    """The positions moved as little as possible to be `gap` apart within low..high (pixels)."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [positions[i] for i in order]
    for _ in range(60):  # relaxation: each overlapping pair gives way by half
        for first in range(len(placed) - 1):
            lack = gap - (placed[first + 1] - placed[first])
            if lack > 1e-6:
                placed[first] -= lack / 2
                placed[first + 1] += lack / 2
        if placed and placed[0] < low:
            placed[0] = low
        if placed and placed[-1] > high:
            placed[-1] = high
    out = [0.0] * len(positions)
    for place, index in zip(placed, order, strict=True):
        out[index] = place
    return out


def label_line_ends(
    fig: go.Figure,
    ends: Sequence[End],
    y_range: tuple[float, float],
    height: float,
    size: float = 12.5,
    edge: float | None = None,
    most: float = WIDE,
) -> None:
    """Write each label at the end of its line; `height` is that of the plot area in pixels.

    With `edge`, the end of the plot area, all labels are beyond it, linked to shorter lines.
    The right margin grows up to `most`; a wider label is split into lines.
    """
    texts = [
        end.text.replace(" · ", "<br>") if room([end.text], 0, size) >= most else end.text
        for end in ends
    ]
    fig.update_layout(margin_r=room(texts, fig.layout.margin.r or 0, size, most=most))
    tall = (size + 3) * max((text.count("<br>") + 1 for text in texts), default=1)
    span = (y_range[1] - y_range[0]) or 1.0
    pixels = [(end.y - y_range[0]) / span * height for end in ends]
    places = spread_positions(pixels, tall, size / 2, high=height - size / 2)
    for end, text, pixel, place in zip(ends, texts, pixels, places, strict=True):
        x = end.x if edge is None else edge
        if edge is not None and (end.x < edge or abs(place - pixel) > size / 2):
            fig.add_shape(
                type="line",
                x0=end.x,
                y0=end.y,
                x1=edge,
                y1=y_range[0] + place / height * span,
                layer="below",
                line={"color": fade(end.color, 0.45), "width": 0.8},
            )
        fig.add_annotation(
            x=x,
            y=end.y,
            yshift=place - pixel,
            xshift=8,
            text=text,
            align="left",
            xanchor="left",
            yanchor="middle",
            showarrow=False,
            font={"size": size, "color": end.color},
        )


def label_points(
    fig: go.Figure,
    points: Sequence[End],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    tall: float,
    dark: bool,
) -> None:
    """A name beside each point at the nearest free place; a thin line leads back from afar.

    `tall` is the height of the plot area in pixels.
    """
    wide = (
        520  # pixels, a width that holds on small screens; on larger ones there is only more room
    )
    spots = [
        (
            (p.x - x_range[0]) / (x_range[1] - x_range[0]) * wide,
            (p.y - y_range[0]) / (y_range[1] - y_range[0]) * tall,
        )
        for p in points
    ]
    taken = [(across - 8, up - 8, across + 8, up + 8) for across, up in spots]
    for point, (across, up) in zip(points, spots, strict=True):
        length = GLYPH * 12.5 * len(point.text)
        places = [
            (dx, dy)
            for far in (13, 26, 42, 58, 76)
            for dx, dy in ((11, far), (-11 - length, far), (11, -far), (-11 - length, -far))
        ]
        boxes = {
            (dx, dy): (across + dx, up + dy - 8, across + dx + length, up + dy + 8)
            for dx, dy in places
        }
        inside = [
            p
            for p, (left, low, right, _) in boxes.items()
            if left > 0 and right < wide + fig.layout.margin.r and 0 < low < tall - 16
        ]
        dx, dy = next(
            (p for p in inside if not any(_meet(boxes[p], box) for box in taken)), places[0]
        )
        taken.append(boxes[dx, dy])
        fig.add_annotation(
            x=point.x,
            y=point.y,
            text=point.text,
            ax=dx if dx > 0 else -11,
            ay=-dy,
            xanchor="left" if dx > 0 else "right",
            yanchor="middle",
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=fade(MUTED[dark], 0.7 if abs(dy) > 20 else 0.0),
            standoff=6,
            font={"size": 12.5, "color": point.color},
        )


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def padded(
    values: Sequence[float],
    low: float | None = None,
    high: float | None = None,
    share: float = 0.08,
) -> tuple[float, float]:
    """A range around the values with some air, never past `low` and `high`."""
    known = [value for value in values if value == value]
    if not known:
        return low or 0.0, 1.0 if high is None else high
    bottom, top = min(known), max(known)
    air = (top - bottom or abs(top) or 1.0) * share
    least = -math.inf if low is None else low
    most = math.inf if high is None else high
    return max(bottom - air, least), min(top + air, most)


def tick_format(form: str, limits: tuple[float, float]) -> str:
    """The format with as many decimals as ticks within these limits need to be told apart."""
    known = re.fullmatch(r"\.(\d)~?([%f])", form)
    if not known or limits[1] <= limits[0]:
        return form
    step = (limits[1] - limits[0]) / 8 * (100 if known[2] == "%" else 1)
    return f".{max(int(known[1]), math.ceil(-math.log10(step)))}~{known[2]}"


def distinguishable(levels: Sequence[float], top: float) -> list[float]:
    """Sorted ticks without those whose labels would overlap; `top` is the length of the axis."""
    kept: list[float] = []
    for level in levels:
        if not kept or level - kept[-1] > 0.09 * top:
            kept.append(level)
    return kept
