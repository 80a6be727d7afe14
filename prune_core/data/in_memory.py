"""Tables that are given in Python: frames, dicts of columns, data sets, lists of rows, or a file's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import PruneError
from ..plugins import closest_match
from . import tables, tasks
from .arrow_tables import class_names, replace_na
from .examples import DataSource
from .label_pairs import format_pairs, to_text
from .labels import OUT
from .tables import Table

COLUMNS = {1: ("text",), 2: ("text", "label"), 3: ("text", "text_pair", "label")}  # of a tuple
KINDS = "a table, a dict of columns, a file, or a list of texts or of (text, label) tuples"


def table(data: Any, options: Mapping[str, Any] | None = None) -> tuple[Table, DataSource]:
    """(rows of the split to evaluate on, how to read them)."""
    source = source_of(str(data) if isinstance(data, (str, Path)) else "data", options)
    if isinstance(data, (str, Path)):
        form = tasks.form(source)
        split = source.split or tables.splits(source.task, form, source.text)[1]
        return _said(tables.read(source.task, form, split, text=source.text), split, source), source
    names: dict[str, list[str]] = {}
    split, note = source.split, list[str]()
    is_several = isinstance(data, Mapping) and data and all(map(_is_data_set, data.values()))
    if is_several:  # a DatasetDict
        name = tables.part_of(data, split, "data")
        data, split, note = data[name], "", [f"Evaluated on split {name!r}."]
    if not isinstance(data, pd.DataFrame) and _is_data_set(data):
        features = getattr(data, "features", None)
        for column, feature in features.to_dict().items() if features else ():
            names |= {column: classes} if (classes := class_names(feature)) else {}
        data = data.to_pandas()
    found = Table(_plain(_frame(data)), names=names, notes=note)
    split = split or ("" if note else tables.usual_splits(tables.splits_of(found.rows)[1])[1])
    if split:
        rows = tables.of_split(found.rows, split, "data").reset_index(drop=True)
        found = found._replace(rows=rows)
    return _said(found, split, source), source


def _said(found: Table, split: str, source: DataSource) -> Table:
    """With a note where a split was taken that was not asked for."""
    if not split or source.split:
        return found
    note = f"Evaluated on split {split!r}; name another with reading={{'split': …}}."
    return found._replace(notes=[*found.notes, note])


def _is_data_set(data: Any) -> bool:
    return hasattr(data, "to_pandas") and not isinstance(data, type)


def _frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        if data.columns.nlevels > 1:
            raise PruneError(
                "data: its columns have several levels (a MultiIndex); name them with one level each, "
                "such as data.columns = data.columns.get_level_values(0)."
            )
        return data.reset_index(drop=True).rename(columns=str)
    if isinstance(data, Mapping):
        try:
            return pd.DataFrame({str(name): _listed(column) for name, column in data.items()})
        except ValueError as error:
            raise PruneError(
                f"data: {error}; give a list of equal length for each column."
            ) from None
    if getattr(getattr(data, "dtype", None), "kind", "") in ("O", "U"):  # an array of texts or rows
        data = data.tolist()
    if hasattr(data, "dtype") or not isinstance(data, Iterable):
        raise PruneError(f"data is a {type(data).__name__}; give {KINDS}.")
    frame = pd.DataFrame([_row(row, place) for place, row in enumerate(data)])
    return frame.dropna(axis="columns", how="all")


def _listed(column: Any) -> Any:
    return column.tolist() if hasattr(column, "tolist") else column


def _row(row: Any, place: int) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    cells = (row,) if isinstance(row, str) else row
    if not isinstance(cells, (tuple, list)) or len(cells) not in COLUMNS:
        size = f" of {len(cells)}" if isinstance(cells, (tuple, list)) else ""
        raise PruneError(
            f"data: row {place + 1} is a {type(row).__name__}{size}; give a text, (text, label) or "
            "(text, second text, label)."
        )
    return dict(zip(COLUMNS[len(cells)], cells, strict=True))


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """With tensors and numpy scalars as numbers or lists, and pd.NA as None."""
    rows = replace_na(rows)
    for name in rows.select_dtypes(object):
        if rows[name].map(lambda value: hasattr(value, "tolist")).any():
            rows[name] = pd.Series([*map(_listed, rows[name])], index=rows.index, dtype=object)
    return rows


def source_of(where: str, options: Mapping[str, Any] | None) -> DataSource:
    """How to read data, from what `reading` says; PruneError for an unknown name or value."""
    unused = ("task", "calibration", "metric", "config")
    known = [spec.name for spec in fields(DataSource) if spec.name not in unused]
    if strange := [name for name in options or {} if name not in known]:
        close = closest_match(str(strange[0]), known)
        raise PruneError(f"reading has no {strange[0]!r}.{close} It has: {', '.join(known)}.")
    return DataSource(
        where, **{name: _word(name, value) for name, value in (options or {}).items()}
    )


def _word(name: str, value: Any) -> str:
    """An option as the command line takes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if name == "labels" and isinstance(value, Mapping):
        pairs = {to_text(key): OUT if label is None else str(label) for key, label in value.items()}
        return format_pairs(pairs)
    if name == "label" and isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    raise PruneError(f"reading: {name} is {value!r}; give a text.")
