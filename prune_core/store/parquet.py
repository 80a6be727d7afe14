"""Export of all rows of some jobs as Parquet, one file per table."""

import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from ..errors import PruneError
from .store import Store


def parquet(store: Store, ids: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Yield (file name, content) of every table of the jobs; PruneError if they have no rows."""
    names = list(dict.fromkeys(name for id in ids for name in store.tables(id)))
    if not names:
        raise PruneError(
            f"Job {', '.join(map(str, ids))} has no rows yet; wait until a stage has finished."
        )
    for name in names:
        out = io.BytesIO()
        _plain(store.rows(name, list(ids))).to_parquet(out, index=False)
        yield f"{name}.parquet", out.getvalue()


def write(store: Store, ids: Sequence[int], folder: Path) -> list[Path]:
    """Write the tables into a folder, created if needed; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in parquet(store, ids):
        (folder / name).write_bytes(content)
        written.append(folder / name)
    return written


def zipped(store: Store, ids: Sequence[int]) -> bytes:
    """Return the Parquet files as one ZIP archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parquet(store, ids):
            file.writestr(name, content)
    return out.getvalue()


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of mixed types (a label or a list of tags) to JSON.

    Parquet allows one type per column.
    """

    def to_json(value: object) -> str | None:
        return None if value is None else json.dumps(value, default=str)

    mixed = [name for name in rows.columns if rows[name].dropna().map(type).nunique() > 1]
    return rows.assign(**{name: rows[name].map(to_json) for name in mixed})
