"""The values of a chart as a table, read from the plotly figure."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import CLICKABLE


def to_table(figure: go.Figure) -> pd.DataFrame:
    """Return one row per mark: `series`, `x`, `y`, interval ends (`x_low`), `z` of heat maps."""
    frames = [frame for trace in figure.data for frame in _frames(trace)]
    if not frames:
        return pd.DataFrame(columns=["series", "x", "y"])
    return pd.concat(frames, ignore_index=True)


def _frames(trace: Any) -> Iterator[pd.DataFrame]:
    if trace.type == "heatmap":
        z = np.asarray(trace.z, dtype=object)
        across, upwards = _axis(trace.x, z.shape[1]), _axis(trace.y, z.shape[0])
        cells = [(across[j], upwards[i], value) for (i, j), value in np.ndenumerate(z)]
        yield pd.DataFrame(cells, columns=["x", "y", "z"]).assign(series=trace.name or "")
        return
    is_text = trace.type == "scatter" and trace.mode == "text"
    if trace.x is None or trace.y is None or is_text or _is_invisible(trace):
        return
    frame = pd.DataFrame({"series": trace.name or "", "x": list(trace.x), "y": list(trace.y)})
    for name in ("x", "y"):
        bar = getattr(trace, f"error_{name}", None)
        if bar is not None and bar.array is not None:
            above = np.asarray(bar.array, dtype=float)
            below = above if bar.arrayminus is None else np.asarray(bar.arrayminus, dtype=float)
            middle = frame[name].astype(float)
            frame[f"{name}_low"], frame[f"{name}_high"] = middle - below, middle + above
    yield frame


def _axis(values: Any, length: int) -> list[Any]:
    return list(range(length)) if values is None else list(values)


def _is_invisible(trace: Any) -> bool:
    """Whether a trace only receives clicks."""
    return getattr(trace, "marker", None) is not None and trace.marker.color == CLICKABLE
