"""Tables as JSON text with exact floats, and back. Knows nothing of where the text is kept."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd


def to_text(frame: pd.DataFrame) -> str:
    """A table as JSON; the columns' kinds are kept for those whose every value is missing."""
    kinds = {str(name): _kind(frame[name]) for name in frame}
    rows = [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
    return json.dumps({"kinds": kinds, "rows": rows}, allow_nan=False, ensure_ascii=False)


def from_text(text: str) -> pd.DataFrame:
    """The table of a text."""
    stored = json.loads(text)
    frame = pd.DataFrame(stored["rows"], columns=list(stored["kinds"]))
    return frame.astype({name: kind for name, kind in stored["kinds"].items() if kind != "any"})


def rows_of_text(text: str) -> list[dict[str, Any]]:
    """The plain rows of a text, missing values as None."""
    return json.loads(text)["rows"]


def _kind(column: pd.Series) -> str:
    return {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}.get(column.dtype.kind, "any")


def plain(value: Any) -> Any:
    """A cell as JSON knows it: NaN and infinities become None, arrays lists."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
