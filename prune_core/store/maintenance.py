"""Store maintenance: integrity check, backup, recovery, rebuilding of the index, vacuum."""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import PruneError
from . import former_rows
from .job import Status
from .results import CHECKPOINT, RECORD, read_record
from .schema import FILE, MIGRATIONS, error_message
from .store import DESCRIPTION, JOB_FILE, Store
from .tables import read_table

TABLES = ("job", "rows", "pool", "tag", "event")  # rows: before version 3
FOLDERS = ("results", "jobs")


def compact(store: Store) -> int:
    """Return the space of deleted rows to the disk; return the number of bytes freed."""
    before = store.path.stat().st_size
    with store.read() as db:
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before - store.path.stat().st_size


def backup(store: Store, folder: Path, weights: bool = True) -> int:
    """Copy the store into an empty folder, also while jobs run; return the size in bytes.

    The database copy is consistent; folders are copied after it.
    """
    _empty_folder(folder)
    ignored = shutil.ignore_patterns("*.part", *([] if weights else [CHECKPOINT]))
    try:
        with store.read() as db, closing(sqlite3.connect(folder / FILE)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file
        for name in FOLDERS:
            if (store.home / name).is_dir():
                shutil.copytree(store.home / name, folder / name, ignore=ignored)
    except (sqlite3.Error, OSError) as error:
        raise error_message(error, folder) or error from error
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def integrity_errors(path: Path) -> list[str]:
    """Return one message per problem in a store; empty if everything is readable."""
    with _open(path) as db:
        errors = [f"The file: {problem}." for problem in _page_errors(db)]
        for table in _tables(db, path):
            entries = list(_read_entries(db, table))
            lost = sum(entry is None for entry in entries)
            if lost:
                errors.append(
                    f"Table {table}: {len(entries) - lost} entries can be read and {lost} cannot."
                )
    return errors + _damaged_stages(path.parent)


def _damaged_stages(home: Path) -> list[str]:
    """Return one message per stage folder that cannot be read."""
    errors = []
    for file in sorted((home / "results").glob(f"*/*/{RECORD}")):
        try:
            for name in read_record(file.parent).tables:
                read_table(file.parent / f"{name}.parquet")
        except PruneError as error:
            errors.append(str(error))
    return errors


def recover(path: Path, folder: Path) -> dict[str, tuple[int, int]]:
    """Copy everything readable into a new store; return (recovered, lost) entries per table.

    `folder` must be empty. Jobs that the damaged file has lost are made again from their folders.
    """
    _empty_folder(folder)
    counts = {}
    for name in FOLDERS:
        if (path.parent / name).is_dir():
            shutil.copytree(path.parent / name, folder / name)
    with _open(path) as db, closing(sqlite3.connect(folder / FILE)) as new:
        tables = _tables(db, path)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        new.executescript(";".join(MIGRATIONS[: version or 1]))
        for table in tables:
            entries = list(_read_entries(db, table))
            for entry in filter(None, entries):
                columns, marks = ", ".join(entry), ", ".join("?" * len(entry))
                new.execute(
                    f"INSERT OR REPLACE INTO {table} ({columns}) VALUES ({marks})",
                    list(entry.values()),
                )
            saved = sum(entry is not None for entry in entries)
            counts[table] = (saved, len(entries) - saved)
        new.execute(f"PRAGMA user_version = {version}")
        new.commit()
    rebuild(Store(folder))  # opening it upgrades it
    return counts


def rebuild(store: Store) -> int:
    """Add the jobs whose folders the index lacks; return their number.

    A job whose stages are not all finished becomes a failed one that can be resumed.
    """
    known, added = {job.id for job in store.jobs()}, 0
    for file in sorted((store.home / "jobs").glob(f"*/{JOB_FILE}")):
        id = int(file.parent.name)
        if id not in known:
            _restore_job(store, id, json.loads(file.read_text(encoding="utf-8")))
            added += 1
    return added


def _restore_job(store: Store, id: int, description: dict[str, Any]) -> None:
    values = {name: description[name] for name in DESCRIPTION} | {"id": id, "status": "failed"}
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    plain = [json.dumps(value) if isinstance(value, dict) else value for value in values.values()]
    with store.write() as db:
        db.execute(f"INSERT INTO job ({columns}) VALUES ({marks})", plain)
    store.index(id, *description["stages"])
    job = store.job(id)
    complete = {*job.done} == {*job.stages}
    store.update(
        id,
        status=Status.DONE if complete else Status.FAILED,
        error="" if complete else "It was not finished when the index was made again; resume it.",
        started=job.created,
        finished=time.time(),
        progress=1.0 if complete else 0.0,
    )


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
                    former_rows.decode(row["name"], row["content"])
                yield dict(row)
        except (sqlite3.DatabaseError, ValueError):
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
