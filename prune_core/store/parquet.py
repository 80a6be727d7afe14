"""All rows of some jobs as Parquet files, a file a table. Knows nothing of what is in them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ..errors import PruneError
from .store import Store


def parquet(store: Store, ids: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of every table that the jobs have."""
    names = list(dict.fromkeys(name for id in ids for name in store.tables(id)))
    if not names:
        raise PruneError(
            f"Job {', '.join(map(str, ids))} has no rows yet; wait until a stage is finished."
        )
    for name in names:
        out = io.BytesIO()
        _plain(store.rows(name, list(ids))).to_parquet(out, index=False)
        yield f"{name}.parquet", out.getvalue()


def write(store: Store, ids: Sequence[int], folder: Path) -> list[Path]:
    """Write them into a folder; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in parquet(store, ids):
        (folder / name).write_bytes(content)
        written.append(folder / name)
    return written


def zipped(store: Store, ids: Sequence[int]) -> bytes:
    """The same as one file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parquet(store, ids):
            file.writestr(name, content)
    return out.getvalue()


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns of unlike values (a label here, a list of tags there) as JSON, as Parquet has one type a column."""
    unlike = [name for name in rows.columns if rows[name].dropna().map(type).nunique() > 1]
    return rows.assign(
        **{
            name: rows[name].map(
                lambda value: None if value is None else json.dumps(value, default=str)
            )
            for name in unlike
        }
    )
