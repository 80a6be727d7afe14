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
RowsAndClasses = tuple[pd.DataFrame, dict[str, list[str]]]  # (rows, class names by column)


def unpacked_size(content: bytes) -> int:
    """Uncompressed size of a Parquet file's columns in bytes."""
    metadata = pq.read_metadata(pa.BufferReader(content))
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def read(content: bytes, suffix: str, path: str) -> RowsAndClasses:
    """Read a Parquet or Arrow file; PruneError for a column of bytes that are not UTF-8 text.

    `suffix` is the ending of the file's format; `path` is only named in the error.
    """
    if suffix in PARQUET:
        return to_frame(pq.read_table(pa.BufferReader(content)), path)
    try:
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_stream(pa.BufferReader(content)).read_all()
    return to_frame(table, path)


def to_frame(table: Any, path: str) -> RowsAndClasses:
    """Convert a pyarrow table, and read the class names that `datasets` stores in its schema.

    PruneError for a column of bytes that are not UTF-8 text.
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
    for index, dtype in enumerate(rows.dtypes):
        if getattr(dtype, "na_value", None) is pd.NA:
            column = rows.iloc[:, index]
            rows.isetitem(index, column.astype(object).where(column.notna(), None))
    return rows


def _bytes_to_text(table: Any, path: str) -> Any:
    """Cast columns of bytes, and of lists of bytes, to text."""
    for index, field in enumerate(table.schema):
        text_type = _text_type(field.type)
        if text_type == field.type:
            continue
        try:
            table = table.set_column(index, field.name, table.column(index).cast(text_type))
        except pa.ArrowInvalid:
            raise PruneError(
                f"{path}: column {field.name!r} contains bytes that are not UTF-8 text; decode or "
                "drop the column before you write the file."
            ) from None
    return table


def _text_type(arrow_type: Any) -> Any:
    """Return the Arrow type with text in place of bytes, also within lists and dictionaries."""
    if pa.types.is_binary(arrow_type) or pa.types.is_binary_view(arrow_type):
        return pa.string()
    if pa.types.is_large_binary(arrow_type):
        return pa.large_string()
    if pa.types.is_dictionary(arrow_type):
        value_type = _text_type(arrow_type.value_type)
        return arrow_type if value_type == arrow_type.value_type else value_type
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        value_type = _text_type(arrow_type.value_type)
        if value_type == arrow_type.value_type:
            return arrow_type
        list_of = pa.large_list if pa.types.is_large_list(arrow_type) else pa.list_
        return list_of(value_type)
    return arrow_type


def class_names(feature: Any) -> list[str]:
    """Class names of a ClassLabel feature, or of a list of them, as serialized by `datasets`.

    [] for any other feature.
    """
    if isinstance(feature, list):
        feature = feature[0] if feature else {}
    if not isinstance(feature, Mapping):
        return []
    if feature.get("_type") == "ClassLabel":
        return list(feature["names"])
    return class_names(feature.get("feature"))
