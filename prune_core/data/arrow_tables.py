"""Read Parquet and Arrow files as tables.

Bytes are decoded to text, pd.NA becomes None, class names are preserved.
"""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import PruneError

PARQUET = (".parquet", ".pq")
Columns = tuple[pd.DataFrame, dict[str, list[str]]]  # (rows, class names by column)


def unpacked_size(content: bytes) -> int:
    """Uncompressed size of a Parquet file's columns in bytes."""
    metadata = pq.read_metadata(pa.BufferReader(content))
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def read(content: bytes, kind: str, path: str) -> Columns:
    """Read a Parquet or Arrow file; PruneError for a column of bytes that are not UTF-8 text."""
    if kind in PARQUET:
        return to_frame(pq.read_table(pa.BufferReader(content)), path)
    try:
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_stream(pa.BufferReader(content)).read_all()
    return to_frame(table, path)


def to_frame(table: Any, path: str) -> Columns:
    """Convert a pyarrow table; the class names that `datasets` stores in the schema are returned
    too.
    """
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata).get("info", {}).get("features", {}) if metadata else {}
    names = {
        column: classes for column, feature in features.items() if (classes := class_names(feature))
    }
    return replace_na(_bytes_to_text(table, path).to_pandas()), names


def replace_na(rows: pd.DataFrame) -> pd.DataFrame:
    """Replace pd.NA, used by pandas' nullable columns, with None."""
    rows = rows.copy(deep=False)
    for place, dtype in enumerate(rows.dtypes):
        if getattr(dtype, "na_value", None) is pd.NA:
            column = rows.iloc[:, place]
            rows.isetitem(place, column.astype(object).where(column.notna(), None))
    return rows


def _bytes_to_text(table: Any, path: str) -> Any:
    """Cast columns of bytes, and of lists of bytes, to text."""

    for place, field in enumerate(table.schema):
        text_type = _text_type(field.type)
        if text_type == field.type:
            continue
        try:
            table = table.set_column(place, field.name, table.column(place).cast(text_type))
        except pa.ArrowInvalid:
            raise PruneError(
                f"{path}: column {field.name!r} contains bytes that are not UTF-8 text; decode or "
                "drop the column before you write the file."
            ) from None
    return table


def _text_type(kind: Any) -> Any:
    """Return the Arrow type with strings in place of bytes."""

    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.large_string()
    if pa.types.is_dictionary(kind) and _text_type(kind.value_type) != kind.value_type:
        return _text_type(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _text_type(kind.value_type)
        make = pa.large_list if pa.types.is_large_list(kind) else pa.list_
        return make(inner) if inner != kind.value_type else kind
    return kind


def class_names(feature: Any) -> list[str]:
    """Class names of a ClassLabel feature, or of a list of them, as serialized by `datasets`."""
    if isinstance(feature, list):
        feature = feature[0] if feature else {}
    if not isinstance(feature, Mapping):
        return []
    return (
        list(feature["names"])
        if feature.get("_type") == "ClassLabel"
        else class_names(feature.get("feature"))
    )
