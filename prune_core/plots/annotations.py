"""Labels at line ends and next to points, placed in pixels without overlap."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from .palette import MUTED, fade


@dataclass(frozen=True)
class End:
    """The end of a line or a point, with its label."""

    x: float
    y: float
    text: str
    color: str


GLYPH = 0.53  # mean width of a letter, as a fraction of the font size
# pixels for labels next to a plot area of full page width, and next to one of several in a row
WIDE, NARROW = 240, 150


def room(texts: Sequence[str], low: float = 0, size: float = 12.5, high: float = WIDE) -> float:
    """Return the width in pixels of the longest line of the texts, within `low` and `high`."""
    lines = [re.sub("<[^>]*>", "", line) for text in texts for line in text.split("<br>")]
    return min(max(low, 16 + GLYPH * size * max(map(len, lines), default=0)), high)


def spread_positions(
    positions: Sequence[float], gap: float, low: float, high: float
) -> list[float]:
    """Move positions as little as possible to be `gap` apart within low..high (pixels)."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = [positions[i] for i in order]
    for _ in range(60):  # relaxation: both of an overlapping pair move by half
        for first in range(len(placed) - 1):
            overlap = gap - (placed[first + 1] - placed[first])
            if overlap > 1e-6:
                placed[first] -= overlap / 2
                placed[first + 1] += overlap / 2
        if placed:
            placed[0] = max(placed[0], low)
            placed[-1] = min(placed[-1], high)
    by_index = dict(zip(order, placed, strict=True))
    return [by_index[index] for index in range(len(positions))]


def label_line_ends(
    fig: go.Figure,
    ends: Sequence[End],
    y_range: tuple[float, float],
    height: float,
    size: float = 12.5,
    edge: float | None = None,
    widest: float = WIDE,
) -> None:
    """Write each label at the end of its line; `height` is that of the plot area in pixels.

    With `edge`, the end of the plot area, all labels are beyond it and linked to shorter lines.
    The right margin grows up to `widest`; a wider label is split into lines.
    """
    texts = [
        end.text.replace(" · ", "<br>") if room([end.text], 0, size) >= widest else end.text
        for end in ends
    ]
    fig.update_layout(margin_r=room(texts, fig.layout.margin.r or 0, size, high=widest))
    line_height = (size + 3) * max((text.count("<br>") + 1 for text in texts), default=1)
    span = (y_range[1] - y_range[0]) or 1.0
    pixels = [(end.y - y_range[0]) / span * height for end in ends]
    positions = spread_positions(pixels, line_height, size / 2, high=height - size / 2)
    for end, text, pixel, position in zip(ends, texts, pixels, positions, strict=True):
        if edge is not None and (end.x < edge or abs(position - pixel) > size / 2):
            fig.add_shape(
                type="line",
                x0=end.x,
                y0=end.y,
                x1=edge,
                y1=y_range[0] + position / height * span,
                layer="below",
                line={"color": fade(end.color, 0.45), "width": 0.8},
            )
        fig.add_annotation(
            x=end.x if edge is None else edge,
            y=end.y,
            yshift=position - pixel,
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
    height: float,
    dark: bool,
) -> None:
    """Write a name next to each point at the nearest free position, with a line if it is far.

    `height` is the height of the plot area in pixels.
    """
    width = 520  # pixels: a width that fits small screens; larger ones only have more room
    pixels = [
        (
            (point.x - x_range[0]) / (x_range[1] - x_range[0]) * width,
            (point.y - y_range[0]) / (y_range[1] - y_range[0]) * height,
        )
        for point in points
    ]
    occupied = [(across - 8, up - 8, across + 8, up + 8) for across, up in pixels]
    for point, (across, up) in zip(points, pixels, strict=True):
        length = GLYPH * 12.5 * len(point.text)
        offsets = [
            (dx, dy)
            for distance in (13, 26, 42, 58, 76)
            for dx, dy in (
                (11, distance),
                (-11 - length, distance),
                (11, -distance),
                (-11 - length, -distance),
            )
        ]
        boxes = {
            (dx, dy): (across + dx, up + dy - 8, across + dx + length, up + dy + 8)
            for dx, dy in offsets
        }
        inside = [
            offset
            for offset, (left, low, right, _) in boxes.items()
            if left > 0 and right < width + fig.layout.margin.r and 0 < low < height - 16
        ]
        free = (
            offset for offset in inside if not any(_overlap(boxes[offset], box) for box in occupied)
        )
        dx, dy = next(free, offsets[0])
        occupied.append(boxes[dx, dy])
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


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def padded(
    values: Sequence[float],
    low: float | None = None,
    high: float | None = None,
    fraction: float = 0.08,
) -> tuple[float, float]:
    """Return a range around the values with a margin, limited to `low` and `high`."""
    known = [value for value in values if value == value]
    if not known:
        return low or 0.0, 1.0 if high is None else high
    bottom, top = min(known), max(known)
    margin = (top - bottom or abs(top) or 1.0) * fraction
    return (
        max(bottom - margin, -math.inf if low is None else low),
        min(top + margin, math.inf if high is None else high),
    )


def tick_format(form: str, limits: tuple[float, float]) -> str:
    """Return the format with enough decimals to distinguish ticks within the limits."""
    match = re.fullmatch(r"\.(\d)~?([%f])", form)
    if not match or limits[1] <= limits[0]:
        return form
    step = (limits[1] - limits[0]) / 8 * (100 if match[2] == "%" else 1)
    return f".{max(int(match[1]), math.ceil(-math.log10(step)))}~{match[2]}"


def distinguishable(levels: Sequence[float], top: float) -> list[float]:
    """Return sorted ticks whose labels do not overlap; `top` is the length of the axis."""
    selected: list[float] = []
    for level in levels:
        if not selected or level - selected[-1] > 0.09 * top:
            selected.append(level)
    return selected
