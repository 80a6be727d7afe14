"""Export of all rows of some jobs as Parquet, one file per table."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import PruneError
from .store import Store
from .tables import write_table


def parquet(store: Store, ids: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """Yield (file name, content) of every table of the jobs; PruneError if they have no rows."""
    names = list(dict.fromkeys(name for id in ids for name in store.tables(id)))
    if not names:
        raise PruneError(
            f"Job {', '.join(map(str, ids))} has no rows yet; wait until a stage has finished."
        )
    for name in names:
        out = io.BytesIO()
        write_table(store.rows(name, list(ids)), out)
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
