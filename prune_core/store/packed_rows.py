"""Tables as compressed JSON with exact floats, and back.

Former names of columns become current ones here and nowhere else.
"""

import json
import math
import zlib
from typing import Any

import pandas as pd

from ..aliases import current_columns


def to_json(frame: pd.DataFrame) -> bytes:
    """Encode a table as JSON, with the dtype of each column.

    The dtype of a column without any value could not be inferred from its values.
    """
    kinds = {str(name): _kind(frame[name]) for name in frame}
    rows = [
        {str(name): to_plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
    return json.dumps({"kinds": kinds, "rows": rows}, allow_nan=False, ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def pack(frame: pd.DataFrame) -> bytes:
    """Encode a table as compressed JSON, which is about six times smaller."""
    return compress(to_json(frame))


def compress(content: bytes) -> bytes:
    """Compress the JSON of a table."""
    return zlib.compress(content)


def unpack(content: bytes | str, table: str) -> pd.DataFrame:
    """Decode a table of that name; stores made before 2026-11-28 hold uncompressed text."""
    stored = _read(content, table)
    frame = pd.DataFrame(stored["rows"], columns=list(stored["kinds"]))
    return frame.astype({name: kind for name, kind in stored["kinds"].items() if kind != "any"})


def to_plain_rows(content: bytes | str, table: str) -> list[dict[str, Any]]:
    """Decode a table of that name as plain rows, missing values as None."""
    return _read(content, table)["rows"]


def _read(content: bytes | str, table: str) -> dict[str, Any]:
    """`kinds` (column -> dtype) and `rows`, under current names of columns."""
    stored = json.loads(content if isinstance(content, str) else zlib.decompress(content))
    return {
        "kinds": current_columns(table, stored["kinds"]),
        "rows": [current_columns(table, row) for row in stored["rows"]],
    }


def _kind(column: pd.Series) -> str:
    """Return the dtype to restore; "any" for texts, lists and mixed values."""
    return {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}.get(column.dtype.kind, "any")


def to_plain(value: Any) -> Any:
    """Convert a cell for JSON: NaN and infinities become None, arrays become lists."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
