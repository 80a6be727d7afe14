"""A store looked after: checked, backed up, what can be read of a damaged one saved, space given back. Knows nothing of what jobs do."""

from __future__ import annotations

import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import PruneError
from .packed_rows import to_plain_rows
from .schema import FILE, error_message
from .store import Store

TABLES = ("job", "rows", "pool", "tag", "event")


def compact(store: Store) -> int:
    """Give space that deletions left back to the disk; bytes freed."""
    before = store.path.stat().st_size
    with store.read() as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - store.path.stat().st_size


def backup(store: Store, folder: Path, weights: bool = True) -> int:
    """A copy that is whole at one instant, while jobs run; into an empty folder, its bytes. Job folders are copied behind it."""
    _empty_folder(folder)
    try:
        with store.read() as db, closing(sqlite3.connect(folder / FILE)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file
        if weights and (store.home / "jobs").is_dir():
            shutil.copytree(
                store.home / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("*.part")
            )
    except (sqlite3.Error, OSError) as error:
        raise error_message(error, folder) or error from error
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def integrity_errors(path: Path) -> list[str]:
    """What is wrong with a store's file, a sentence each; empty where every page and every row can be read."""
    with _open(path) as db:
        found = [f"The file: {said}." for said in _pages(db)]
        for table in _tables(db, path):
            entries = list(_entry_count(db, table))
            lost = sum(entry is None for entry in entries)
            if lost:
                found.append(
                    f"Of the table {table}, {len(entries) - lost} entries can be read and {lost} cannot."
                )
    return found


def recover(path: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Save what can be read into a new store in an empty folder; of each table how many entries were saved, and how many not.

    Job folders are copied. A job that had finished and has lost a table of its rows is made to be resumed.
    """
    _empty_folder(folder)
    kept = {}
    with _open(path) as db, Store(folder).write() as new:
        for table in _tables(db, path):
            entries = list(_entry_count(db, table))
            for entry in filter(None, entries):
                columns, marks = ", ".join(entry), ", ".join("?" * len(entry))
                new.execute(
                    f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})",
                    list(entry.values()),
                )
            saved = sum(entry is not None for entry in entries)
            kept[table] = (saved, len(entries) - saved)
        if kept.get("rows", (0, 0))[
            1
        ]:  # which job's they were cannot be read: those that are left with none are known
            new.execute(
                "UPDATE job SET status = 'failed', done = '[]', error = 'Its figures were lost with the damaged store; resume it.' "
                "WHERE status = 'done' AND id NOT IN (SELECT job FROM rows)"
            )
    if (path.parent / "jobs").is_dir():
        shutil.copytree(path.parent / "jobs", folder / "jobs", dirs_exist_ok=True)
    return kept


def _pages(db: sqlite3.Connection) -> list[str]:
    try:
        return [said for (said,) in db.execute("PRAGMA quick_check(20)") if said != "ok"]
    except sqlite3.DatabaseError as error:
        return [str(error)]


def _tables(db: sqlite3.Connection, path: Path) -> list[str]:
    try:
        there = {
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    except sqlite3.DatabaseError as error:
        raise PruneError(
            f"Nothing of {path} can be read ({error}); put a backup of it in its place."
        ) from error
    return [name for name in TABLES if name in there]


def _entry_count(db: sqlite3.Connection, table: str) -> Iterator[dict[str, Any] | None]:
    """Each entry by its number, None for one that cannot be read: a damaged page takes no more with it than what it holds."""
    try:
        numbers: Iterable[int] = [
            number for (number,) in db.execute(f"SELECT rowid FROM {table} ORDER BY rowid")
        ]
    except sqlite3.DatabaseError:
        numbers = range(1, db.execute("PRAGMA page_count").fetchone()[0] * 64)
    for number in numbers:
        try:
            found = db.execute(f"SELECT * FROM {table} WHERE rowid = ?", (number,)).fetchone()
            if found is not None:
                if table == "rows":
                    to_plain_rows(found["content"])
                yield dict(found)
        except (sqlite3.DatabaseError, zlib.error, ValueError):
            yield None


def _empty_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PruneError(f"{folder} is not an empty folder; name a new one.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise error_message(error, folder) or PruneError(
            f"{folder} cannot be made: {error}."
        ) from error


def _open(path: Path) -> closing[sqlite3.Connection]:
    """The file as it is, to be read only."""
    if not path.is_file():
        raise PruneError(
            f"There is no store at {path}; PRUNESCOPE_HOME says where it is looked for."
        )
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    return closing(db)
