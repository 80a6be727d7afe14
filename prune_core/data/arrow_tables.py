"""Parquet and Arrow files as tables: bytes become text, pd.NA None, and class names are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..errors import PruneError

PARQUET = (".parquet", ".pq")
Columns = tuple[pd.DataFrame, dict[str, list[str]]]  # rows, and names of numbered classes by column


def unpacked_size(content: bytes) -> int:
    """Bytes that the columns of a Parquet file take without compression."""
    import pyarrow.parquet as pq

    written = pq.read_metadata(_buffer(content))
    return sum(written.row_group(i).total_byte_size for i in range(written.num_row_groups))


def read(content: bytes, kind: str, path: str) -> Columns:
    """The rows of a file of that kind; PruneError for a column of bytes that are not text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kind in PARQUET:
        return to_frame(pq.read_table(_buffer(content)), path)
    try:
        table = pa.ipc.open_file(_buffer(content)).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_stream(_buffer(content)).read_all()
    return to_frame(table, path)


def _buffer(content: bytes) -> Any:
    import pyarrow as pa

    return pa.BufferReader(content)


def to_frame(table: Any, path: str) -> Columns:
    """A pyarrow table as rows; `datasets` writes what numbered classes are called into the schema."""
    written = (table.schema.metadata or {}).get(b"huggingface")
    features = json.loads(written).get("info", {}).get("features", {}) if written else {}
    names = {
        column: found for column, feature in features.items() if (found := class_names(feature))
    }
    return replace_na(_with_text(table, path).to_pandas()), names


def replace_na(rows: pd.DataFrame) -> pd.DataFrame:
    """With None in place of pd.NA, which pandas' nullable columns hold."""
    rows = rows.copy(deep=False)
    for place, dtype in enumerate(rows.dtypes):
        if getattr(dtype, "na_value", None) is pd.NA:
            column = rows.iloc[:, place]
            rows.isetitem(place, column.astype(object).where(column.notna(), None))
    return rows


def _with_text(table: Any, path: str) -> Any:
    """Columns of bytes, also in lists, as text."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        wanted = _text_type(field.type)
        if wanted == field.type:
            continue
        try:
            column = table.column(place).cast(wanted)
        except pa.ArrowInvalid:
            raise PruneError(
                f"{path}: column {field.name!r} holds bytes that are not UTF-8 text; decode it, or leave "
                "it out, where the file is written."
            ) from None
        table = table.set_column(place, field.name, column)
    return table


def _text_type(kind: Any) -> Any:
    """The type with strings in place of bytes."""
    import pyarrow as pa

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
    """Of a ClassLabel, or of a list of them, in the plain form that `datasets` writes."""
    if isinstance(feature, list):
        feature = feature[0] if feature else {}
    if not isinstance(feature, Mapping):
        return []
    return (
        list(feature["names"])
        if feature.get("_type") == "ClassLabel"
        else class_names(feature.get("feature"))
    )
