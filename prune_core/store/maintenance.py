"""Store maintenance: integrity check, backup, recovery, vacuum."""

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
    """Return the space of deleted rows to the disk; return the number of bytes freed."""
    before = store.path.stat().st_size
    with store.read() as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - store.path.stat().st_size


def backup(store: Store, folder: Path, weights: bool = True) -> int:
    """Copy the store into an empty folder, also while jobs run; return the size in bytes.

    The database copy is consistent; job folders are copied after it.
    """
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
    """Return one message per problem in a store's file; empty if every page and row is readable."""
    with _open(path) as db:
        errors = [f"The file: {problem}." for problem in _page_errors(db)]
        for table in _tables(db, path):
            entries = list(_read_entries(db, table))
            lost = sum(entry is None for entry in entries)
            if lost:
                errors.append(
                    f"Table {table}: {len(entries) - lost} entries can be read and {lost} cannot."
                )
    return errors


def recover(path: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Copy everything readable into a new store; return (recovered, lost) entries per table.

    `folder` must be empty. Job folders are copied. A finished job without any rows left becomes
    a failed one that can be resumed.
    """
    _empty_folder(folder)
    counts = {}
    with _open(path) as db, Store(folder).write() as new:
        for table in _tables(db, path):
            entries = list(_read_entries(db, table))
            for entry in filter(None, entries):
                columns, marks = ", ".join(entry), ", ".join("?" * len(entry))
                new.execute(
                    f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})",
                    list(entry.values()),
                )
            saved = sum(entry is not None for entry in entries)
            counts[table] = (saved, len(entries) - saved)
        if counts.get("rows", (0, 0))[1]:
            # unreadable rows do not reveal their job; jobs that lost all rows can be identified
            new.execute(
                "UPDATE job SET status = 'failed', done = '[]', "
                "error = 'Its results were lost with the damaged store; resume it.' "
                "WHERE status = 'done' AND id NOT IN (SELECT job FROM rows)"
            )
    if (path.parent / "jobs").is_dir():
        shutil.copytree(path.parent / "jobs", folder / "jobs", dirs_exist_ok=True)
    return counts


def _page_errors(db: sqlite3.Connection) -> list[str]:
    try:
        return [message for (message,) in db.execute("PRAGMA quick_check(20)") if message != "ok"]
    except sqlite3.DatabaseError as error:
        return [str(error)]


def _tables(db: sqlite3.Connection, path: Path) -> list[str]:
    try:
        existing = {
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    except sqlite3.DatabaseError as error:
        raise PruneError(
            f"Nothing can be read from {path} ({error}); replace it with a backup."
        ) from error
    return [name for name in TABLES if name in existing]


def _read_entries(db: sqlite3.Connection, table: str) -> Iterator[dict[str, Any] | None]:
    """Yield each entry of a table, None for one that cannot be read.

    Entries are read one by one, so a damaged page affects only its own.
    """
    try:
        numbers: Iterable[int] = [
            number for (number,) in db.execute(f"SELECT rowid FROM {table} ORDER BY rowid")
        ]
    except sqlite3.DatabaseError:
        numbers = range(1, db.execute("PRAGMA page_count").fetchone()[0] * 64)
    for number in numbers:
        try:
            row = db.execute(f"SELECT * FROM {table} WHERE rowid = ?", (number,)).fetchone()
            if row is not None:
                if table == "rows":
                    to_plain_rows(row["content"], row["name"])
                yield dict(row)
        except (sqlite3.DatabaseError, zlib.error, ValueError):
            yield None


def _empty_folder(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PruneError(f"{folder} is not an empty folder; name a new one.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise error_message(error, folder) or PruneError(
            f"The folder {folder} cannot be created: {error}."
        ) from error


def _open(path: Path) -> closing[sqlite3.Connection]:
    """Open the file read-only, without upgrading it."""
    if not path.is_file():
        raise PruneError(
            f"There is no store at {path}; set PRUNESCOPE_HOME to the folder of the store."
        )
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    return closing(db)
