"""Direct labels at line ends, pushed apart so that none covers another. Knows pixels, not rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True)
class End:
    """Where a line ends, and what to write there."""

    x: float
    y: float
    text: str
    color: str


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The positions moved as little as needed to be `gap` apart and within low..high (pixels); their order is kept."""
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


def at_ends(fig: go.Figure, ends: Sequence[End], y_range: tuple[float, float], height: float, size: float = 12.5) -> None:
    """Write each label beside its line's end; `height` is the plot area's, in pixels."""
    span = (y_range[1] - y_range[0]) or 1.0
    pixels = [(end.y - y_range[0]) / span * height for end in ends]
    for end, pixel, place in zip(ends, pixels, spread(pixels, size + 3, size / 2, height - size / 2), strict=True):
        fig.add_annotation(
            x=end.x,
            y=end.y,
            yshift=place - pixel,
            xshift=8,
            text=end.text,
            xanchor="left",
            yanchor="middle",
            showarrow=False,
            font={"size": size, "color": end.color},
        )


def padded(values: Sequence[float], low: float | None = None, high: float | None = None, share: float = 0.08) -> tuple[float, float]:
    """A range around the values with some air, never past `low` and `high`."""
    known = [value for value in values if value == value]
    if not known:
        return (0.0 if low is None else low), (1.0 if high is None else high)
    bottom, top = min(known), max(known)
    air = (top - bottom or abs(top) or 1.0) * share
    bottom, top = bottom - air, top + air
    return (bottom if low is None else max(bottom, low)), (top if high is None else min(top, high))


def apart(levels: Sequence[float], top: float) -> list[float]:
    """Tick places from sorted ones, leaving out those whose labels would touch the one before; `top` is the axis' length."""
    kept: list[float] = []
    for level in levels:
        if not kept or level - kept[-1] > 0.09 * top:
            kept.append(level)
    return kept
