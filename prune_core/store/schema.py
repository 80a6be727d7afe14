"""Schema of the index, migrations from earlier versions, and messages for database errors."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import PruneError
from . import former_rows

FILE = "prunescope.sqlite"
# Each migration upgrades by one version; the first one also accepts tables of files made before
# versions were counted.
MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT, study TEXT NOT NULL, label TEXT NOT NULL,
    key TEXT NOT NULL, experiment TEXT NOT NULL, device TEXT NOT NULL, status TEXT NOT NULL,
    progress REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT '', done TEXT NOT NULL DEFAULT '[]',
    seconds TEXT NOT NULL DEFAULT '{}', versions TEXT NOT NULL DEFAULT '{}',
    facts TEXT NOT NULL DEFAULT '{}', error TEXT NOT NULL DEFAULT '',
    cancel INTEGER NOT NULL DEFAULT 0, created REAL NOT NULL, started REAL, finished REAL,
    estimate_left REAL, worker TEXT NOT NULL DEFAULT '', deferred INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS job_key ON job (key);
CREATE INDEX IF NOT EXISTS job_study ON job (study);
CREATE TABLE IF NOT EXISTS rows (
    job INTEGER NOT NULL REFERENCES job (id), name TEXT NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (job, name)
);
CREATE TABLE IF NOT EXISTS pool (
    id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, pair TEXT, perturbed TEXT NOT NULL,
    label TEXT NOT NULL, recipe TEXT NOT NULL, model TEXT NOT NULL, study TEXT NOT NULL,
    note TEXT NOT NULL, added REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS tag (study TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (study, tag))
""",
    """
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    study TEXT NOT NULL, job INTEGER
)
""",
    """
ALTER TABLE job ADD COLUMN stages TEXT NOT NULL DEFAULT '{}';
ALTER TABLE job ADD COLUMN tables TEXT NOT NULL DEFAULT '{}'
""",
)
VERSION = len(MIGRATIONS)

DAMAGED = (
    "The store {path} is damaged ({what}). python -m prune_core store check lists what can be "
    "recovered; python -m prune_core store rescue FOLDER recovers it."
)
FULL = (
    "The disk that holds {path} is full. Free some space, then continue: finished work is saved, "
    "and resumed jobs continue after it."
)
MESSAGES = {
    "malformed": DAMAGED,
    "not a database": DAMAGED,
    "is full": FULL,
    "readonly": (
        "PruneScope may not write to {path}; grant this user write permission, or set "
        "PRUNESCOPE_HOME to a folder that it may write to."
    ),
    "unable to open": (
        "PruneScope cannot open {path}; set PRUNESCOPE_HOME to an existing folder that this user "
        "may write to."
    ),
    "disk I/O error": (
        "The disk that holds {path} does not respond ({what}); check that it is mounted and has "
        "space left, then try again."
    ),
    "locked": "The store {path} is locked by another process; try again in a moment.",
}

SYSTEM_ERRORS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full",
    errno.EACCES: "unable to open",
    errno.ENOTDIR: "unable to open",
    errno.EEXIST: "unable to open",
    errno.EROFS: "readonly",
    errno.EIO: "disk I/O error",
}


def upgrade(db: sqlite3.Connection, path: Path) -> None:
    """Upgrade a file to this version in one transaction; refuse a later version unchanged.

    The file before the upgrade is saved next to it.
    """
    version = _version(db, path)
    if version == VERSION:
        return
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'job'").fetchone():
        with closing(sqlite3.connect(path.with_suffix(f".version{version}.sqlite"))) as copy:
            db.backup(copy)
    db.execute("BEGIN IMMEDIATE")
    try:
        # read again inside the transaction: another process may have upgraded it in the meantime
        for script in MIGRATIONS[_version(db, path) :]:
            for statement in script.split(";"):
                db.execute(statement)
        has_rows = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone()
        if has_rows:
            former_rows.to_folders(db, path.parent)
        db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    if has_rows:
        db.execute("VACUUM")  # the space of the tables


def _version(db: sqlite3.Connection, path: Path) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise PruneError(
            f"The store {path} was made by a newer PruneScope (its version is {version}, this one "
            f"reads up to {VERSION}): update PruneScope, or set PRUNESCOPE_HOME to another folder."
        )
    return version


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raise errors of the disk as PruneError that says how to fix them."""
    try:
        yield
    except OSError as error:
        raise error_message(error, path) or error from error


def is_full(error: Exception, path: Path) -> PruneError | None:
    """Return the message for a full disk if any library's error says so, else None."""
    return PruneError(FULL.format(path=path)) if "No space left on device" in str(error) else None


def error_message(error: sqlite3.Error | OSError, path: Path) -> PruneError | None:
    """Return a message that says how to fix a database or disk error; None for a bug."""
    text = SYSTEM_ERRORS.get(error.errno or 0, "") if isinstance(error, OSError) else str(error)
    message = next((message for words, message in MESSAGES.items() if words in text), None)
    return PruneError(message.format(path=path, what=error)) if message else None
