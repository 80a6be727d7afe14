"""Tables as Parquet files, and back.

Lists of numbers or texts are Arrow lists. Columns of mixed types (a label that is an integer in one
row and a list in another) are JSON texts, marked in the metadata of the column.
"""

import io
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import PruneError

JSON = {b"json": b"1"}  # metadata of a column whose values are JSON texts
TYPES = {"f": pa.float64(), "i": pa.int64(), "u": pa.int64(), "b": pa.bool_()}


def write_table(frame: pd.DataFrame, file: Path | io.BytesIO) -> None:
    """Write a table; infinite numbers become missing values. TypeError for other objects."""
    fields, arrays = [], []
    for name in frame:
        array, metadata = _encode(frame[name])
        fields.append(pa.field(str(name), array.type, metadata=metadata))
        arrays.append(array)
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), file)


def read_table(file: Path) -> pd.DataFrame:
    """Read a table written by `write_table`; PruneError if the file is damaged."""
    try:
        # one thread: starting more takes longer than reading a file of this size
        table = pq.read_table(file, use_threads=False, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise PruneError(
            f"{file} cannot be read ({str(error)[:120]}); delete the folder {file.parent} and "
            "resume the job, which computes this stage again."
        ) from None
    columns = {field.name: _decode(field, table[field.name]) for field in table.schema}
    return pd.DataFrame(columns, index=range(table.num_rows))


def concat_tables(tables: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Concatenate one table of several models; `tables` are pairs (identity, rows).

    The columns that identify the model (job, label, method, ...) come first. A column that the
    table has itself is not replaced: `sparsity` is the realized one in some tables. Empty if there
    are no tables.
    """
    frames = []
    for identity, rows in tables:
        missing = {name: value for name, value in identity.items() if name not in rows}
        frames.append(pd.concat([pd.DataFrame(missing, index=rows.index), rows], axis=1))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _encode(column: pd.Series) -> tuple[pa.Array, dict[bytes, bytes] | None]:
    if column.dtype.kind in TYPES:
        numbers = column.to_numpy()
        if column.dtype.kind == "f":
            numbers = [value if math.isfinite(value) else None for value in numbers.tolist()]
        return pa.array(numbers, TYPES[column.dtype.kind]), None
    values = [to_plain(value) for value in column]
    try:
        array = pa.array(values)
    except (
        pa.ArrowException,
        UnicodeEncodeError,
        OverflowError,
    ):  # mixed types, or half a surrogate
        return _encode_json(values), JSON
    return (_encode_json(values), JSON) if _has_json_type(array.type) else (array, None)


def _encode_json(values: list[Any]) -> pa.Array:
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _has_json_type(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type are stored as JSON: anything but scalars and flat lists."""
    if pa.types.is_list(kind):
        return pa.types.is_nested(kind.value_type) or pa.types.is_null(kind.value_type)
    return pa.types.is_nested(kind)


def _decode(field: pa.Field, column: pa.ChunkedArray) -> Any:
    if (field.metadata or {}).get(b"json"):
        values = [None if text is None else json.loads(text) for text in column.to_pylist()]
        return pd.Series(values, dtype=object)
    if pa.types.is_list(field.type) or pa.types.is_null(field.type):
        return pd.Series(column.to_pylist(), dtype=object)
    return column.to_pandas()


def to_plain(value: Any) -> Any:
    """Convert a cell for JSON: NaN and infinities become None, arrays and tuples lists."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def to_plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain data, missing values as None."""
    return [
        {str(name): to_plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]
