"""Tables given in Python: DataFrames, dicts of columns, datasets, lists of rows, or a file name."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import PruneError
from ..plugins import closest_match
from . import retrieval_files, tables
from .arrow_tables import class_names, replace_na
from .examples import DataSource
from .label_pairs import format_pairs, to_text
from .labels import LEAVE_OUT
from .retrieval import RetrievalCollection
from .tables import Table

COLUMNS = {
    1: ("text",),
    2: ("text", "label"),
    3: ("text", "text_pair", "label"),
}  # of a tuple, by its length
COLLECTION = ("corpus", "queries", "qrels")  # parts of a retrieval collection, in BEIR's order
KINDS = "a table, a dict of columns, a file, or a list of texts or of (text, label) tuples"


def read_table(data: Any, options: Mapping[str, Any] | None = None) -> tuple[Table, DataSource]:
    """Return (rows of the split to evaluate on, how to read them)."""
    source = source_of(str(data) if isinstance(data, (str, Path)) else "data", options)
    if isinstance(data, (str, Path)):
        form = tables.dialect_of(source)
        split = (
            source.split or tables.train_and_evaluation_splits(source.task, form, source.text)[1]
        )
        return _note_split(
            tables.read(source.task, form, split, text=source.text), split, source
        ), source
    names: dict[str, list[str]] = {}
    split, note = source.split, list[str]()
    if isinstance(data, Mapping) and data and all(map(_is_data_set, data.values())):
        name = tables.choose_split(data, split, "data")
        data, split, note = data[name], "", [f"Evaluated on split {name!r}."]
    if not isinstance(data, pd.DataFrame) and _is_data_set(data):
        features = getattr(data, "features", None)
        for column, feature in features.to_dict().items() if features else ():
            names |= {column: classes} if (classes := class_names(feature)) else {}
        data = data.to_pandas()
    parsed = Table(_to_plain_values(_to_frame(data)), names=names, notes=note)
    split = split or (
        "" if note else tables.standard_splits(tables.split_column(parsed.rows)[1])[1]
    )
    if split:
        parsed = parsed._replace(
            rows=tables.rows_of_split(parsed.rows, split, "data").reset_index(drop=True)
        )
    return _note_split(parsed, split, source), source


def read_collection(
    data: Any, options: Mapping[str, Any] | None = None
) -> RetrievalCollection | None:
    """Return a retrieval collection given as such, or as three dicts; None for other data.

    The dicts (see `retrieval_files.from_dicts`) are a tuple or have the keys in `COLLECTION`.
    """
    if isinstance(data, RetrievalCollection):
        return data
    if isinstance(data, Mapping) and {*data} == {*COLLECTION}:
        data = tuple(data[name] for name in COLLECTION)
    are_dicts = isinstance(data, tuple) and all(isinstance(each, Mapping) for each in data)
    if not are_dicts or len(data) != len(COLLECTION):
        return None
    corpus, queries, qrels = data
    if not all(isinstance(grades, Mapping) for grades in qrels.values()):
        return None
    skip = source_of("data", options).bad_rows == "skip"
    return retrieval_files.from_dicts(corpus, queries, qrels, name="data", skip=skip)


def _note_split(parsed: Table, split: str, source: DataSource) -> Table:
    """Add a note if the evaluation split was chosen automatically."""
    if not split or source.split:
        return parsed
    note = f"Evaluated on split {split!r}; choose another with reading={{'split': …}}."
    return parsed._replace(notes=[*parsed.notes, note])


def _is_data_set(data: Any) -> bool:
    return hasattr(data, "to_pandas") and not isinstance(data, type)


def _to_frame(data: Any) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        if data.columns.nlevels > 1:
            raise PruneError(
                "data: its columns have several levels (a MultiIndex); flatten them, such as with "
                "data.columns = data.columns.get_level_values(0)."
            )
        return data.reset_index(drop=True).rename(columns=str)
    if isinstance(data, Mapping):
        try:
            return pd.DataFrame({str(name): _to_list(column) for name, column in data.items()})
        except ValueError as error:
            raise PruneError(
                f"data: {error}; give lists of equal length for all columns."
            ) from None
    if getattr(getattr(data, "dtype", None), "kind", "") in ("O", "U"):  # an array of texts or rows
        data = data.tolist()
    if hasattr(data, "dtype") or not isinstance(data, Iterable):
        raise PruneError(f"data is a {type(data).__name__}; give {KINDS}.")
    return pd.DataFrame([_to_record(row, place) for place, row in enumerate(data)]).dropna(
        axis="columns", how="all"
    )


def _to_list(column: Any) -> Any:
    return column.tolist() if hasattr(column, "tolist") else column


def _to_record(row: Any, place: int) -> Mapping[str, Any]:
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


def _to_plain_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Convert tensors and NumPy scalars to numbers or lists, and pd.NA to None."""
    rows = replace_na(rows)
    for name in rows.select_dtypes(object):
        if rows[name].map(lambda value: hasattr(value, "tolist")).any():
            rows[name] = pd.Series([*map(_to_list, rows[name])], index=rows.index, dtype=object)
    return rows


def source_of(task: str, options: Mapping[str, Any] | None) -> DataSource:
    """Build the DataSource of `reading` options; PruneError for an unknown name or value."""
    unused = ("task", "calibration", "metric", "config")
    known = [spec.name for spec in fields(DataSource) if spec.name not in unused]
    if unknown := [name for name in options or {} if name not in known]:
        raise PruneError(
            f"reading has no option {unknown[0]!r}.{closest_match(str(unknown[0]), known)} "
            f"It has: {', '.join(known)}."
        )
    return DataSource(
        task, **{name: _option_text(name, value) for name, value in (options or {}).items()}
    )


def _option_text(name: str, value: Any) -> str:
    """Format an option as on the command line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or isinstance(value, str | int):
        return "" if value is None else str(value)
    if name == "labels" and isinstance(value, Mapping):
        return format_pairs(
            {
                to_text(key): LEAVE_OUT if label is None else str(label)
                for key, label in value.items()
            }
        )
    if name == "label" and isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    raise PruneError(f"reading: {name} is {value!r}; give a string.")
