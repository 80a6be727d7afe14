"""Tables as compressed JSON with exact floats, and back. Knows nothing of where they are kept."""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

import pandas as pd


def text(frame: pd.DataFrame) -> bytes:
    """A table as JSON; the columns' kinds are kept for those whose every value is missing."""
    kinds = {str(name): _kind(frame[name]) for name in frame}
    rows = [
        {str(name): to_plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    return json.dumps({"kinds": kinds, "rows": rows}, allow_nan=False, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def pack(frame: pd.DataFrame) -> bytes:
    """The same at a sixth of the size."""
    return repack(text(frame))


def repack(written: bytes) -> bytes:
    """A table that is JSON already."""
    return zlib.compress(written)


def unpack(content: bytes | str) -> pd.DataFrame:
    """The table again; stores made before 2026-11-28 hold plain text."""
    stored = _read(content)
    frame = pd.DataFrame(stored["rows"], columns=list(stored["kinds"]))
    return frame.astype({name: kind for name, kind in stored["kinds"].items() if kind != "any"})


def to_plain_rows(content: bytes | str) -> list[dict[str, Any]]:
    """The plain rows, missing values as None."""
    return _read(content)["rows"]


def _read(content: bytes | str) -> dict[str, Any]:
    return json.loads(content if isinstance(content, str) else zlib.decompress(content))


def _kind(column: pd.Series) -> str:
    return {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}.get(column.dtype.kind, "any")


def to_plain(value: Any) -> Any:
    """A cell as JSON knows it: NaN and infinities become None, arrays lists."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
