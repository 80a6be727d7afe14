"""The record of every run: jobs and rows in one SQLite file, checkpoints and logs in folders beside it.

All SQL is here, in schema, studies, pool, safekeeping and collecting.
Knows nothing of torch, of experiments (plain dicts here) or of pages.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from ..errors import PruneError
from ..paths import IS_CLONE, ROOT
from ..plugins import target_label
from .job import COLUMNS, JSON, Job, Status, from_row
from .packed_rows import pack, to_plain_rows, unpack
from .schema import FILE, error_message, upgrade


def default_home() -> Path:
    """$PRUNESCOPE_HOME, or runs/ beside the package."""
    own = (
        ROOT / "runs"
        if IS_CLONE
        else Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "prunescope"
    )
    return Path(os.environ.get("PRUNESCOPE_HOME") or own).expanduser().resolve()


def system_user() -> str:
    """Who runs this process; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class Store:
    """Jobs and rows. Every call opens its own connection, so one Store serves any number of threads."""

    asker: ClassVar[Callable[[], str]] = staticmethod(
        system_user
    )  # who submits, cancels, deletes; a dashboard asks its session

    def __init__(self, home: Path | None = None):
        self.home = Path(home).resolve() if home else default_home()
        self.path = self.home / FILE
        with self.read() as db:
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode = WAL")  # readers never wait for the worker
            upgrade(db, self.path)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that waits for nobody who writes; a file or disk that fails is a PruneError."""
        db = None
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
            db.row_factory = sqlite3.Row
            yield db
        except (sqlite3.Error, OSError) as error:
            raise error_message(error, self.path) or error from error
        finally:
            if db is not None:
                db.close()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction that nobody else writes in between."""
        with self.read() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk has rolled back by itself
                    db.execute("ROLLBACK")
                raise

    # -- asking for work ------------------------------------------------------------------------------------------

    def submit(
        self,
        experiment: dict[str, Any],
        label: str,
        key: str,
        study: str,
        device: str,
        *,
        worker: str = "",
        estimate: float | None = None,
    ) -> int:
        """A new job; queued, or already running where `worker` (a process that brings its own) is named."""
        now = time.time()
        values = {
            "study": study,
            "label": label,
            "key": key,
            "experiment": json.dumps(experiment),
            "device": device,
            "status": Status.RUNNING if worker else Status.QUEUED,
            "created": now,
            "started": now if worker else None,
            "worker": worker,
            "estimate_left": estimate,
        }
        with self.write() as db:
            columns, marks = ", ".join(values), ", ".join("?" * len(values))
            id = int(
                db.execute(
                    f"INSERT INTO job ({columns}) VALUES ({marks})", list(values.values())
                ).lastrowid
                or 0
            )
            self.note(db, "submitted", study, id)
            return id

    def copy(self, id: int, study: str) -> int:
        """A finished job as a job of another study, rows and checkpoint included; nothing is computed."""
        same = [name for name in COLUMNS if name not in ("id", "study", "created", "experiment")]
        columns = ", ".join(same)
        with self.write() as db:
            made = db.execute(
                f"INSERT INTO job (study, created, experiment, {columns}) "
                f"SELECT ?, ?, json_set(experiment, '$.study', ?), {columns} FROM job WHERE id = ?",
                (study, time.time(), study, id),
            )
            new = int(made.lastrowid or 0)
            db.execute(
                "INSERT INTO rows (job, name, content) SELECT ?, name, content FROM rows WHERE job = ?",
                (new, id),
            )
            self.note(db, f"copied job {id}", study, new)
        if (self.folder(id) / "checkpoint").is_dir():
            # links, not copies: the files are never changed in place
            shutil.copytree(
                self.folder(id) / "checkpoint",
                self.folder(new) / "checkpoint",
                copy_function=os.link,
                dirs_exist_ok=True,
            )
        return new

    def cancel(self, id: int) -> None:
        """A queued job is over at once; a running one is told to stop."""
        with self.write() as db:
            status = self._status(db, id)
            if status == Status.QUEUED:
                db.execute(
                    "UPDATE job SET status = ?, finished = ? WHERE id = ?",
                    (Status.CANCELLED, time.time(), id),
                )
            elif status == Status.RUNNING:
                db.execute("UPDATE job SET cancel = 1, message = 'cancelling' WHERE id = ?", (id,))
            else:
                raise PruneError(f"Job {id} is already {status}; there is nothing to cancel.")
            self.note(db, "cancelled", "", id)

    def resume(self, id: int) -> None:
        """Queue a failed or cancelled job again; its finished stages are kept."""
        with self.write() as db:
            status = self._status(db, id)
            if status not in (Status.FAILED, Status.CANCELLED):
                raise PruneError(
                    f"Job {id} is {status}; only a failed or cancelled job can be resumed."
                )
            db.execute(
                "UPDATE job SET status = ?, cancel = 0, error = '', message = '', worker = '', finished = NULL, deferred = 0 "
                "WHERE id = ?",
                (Status.QUEUED, id),
            )
            self.note(db, "resumed", "", id)

    def again(self, id: int) -> None:
        """Queue a failed job once more, and note why; nothing where somebody else has."""
        with self.write() as db:
            job = from_row(db.execute("SELECT * FROM job WHERE id = ?", (id,)).fetchone())
            if job.status == Status.FAILED and "again" not in job.facts:
                facts = json.dumps(job.facts | {"again": job.error})
                db.execute(
                    "UPDATE job SET status = ?, worker = '', error = '', message = 'once more', finished = NULL, deferred = 0, "
                    "facts = ? WHERE id = ?",
                    (Status.QUEUED, facts, id),
                )

    # -- reading --------------------------------------------------------------------------------------------------

    def job(self, id: int) -> Job:
        """One job by its number."""
        with self.read() as db:
            row = db.execute("SELECT * FROM job WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise PruneError(f"There is no job {id}; see python -m prune_core jobs.")
        return from_row(row)

    def jobs(self, study: str | None = None) -> list[Job]:
        """All jobs, or those of a study, oldest first."""
        where, values = ("", ()) if study is None else ("WHERE study = ?", (study,))
        with self.read() as db:
            return [
                from_row(row)
                for row in db.execute(f"SELECT * FROM job {where} ORDER BY id", values)
            ]

    def studies(self) -> list[str]:
        """Names of the studies, the one with the newest job first."""
        with self.read() as db:
            return [
                row["study"]
                for row in db.execute("SELECT study FROM job GROUP BY study ORDER BY MAX(id) DESC")
            ]

    def find(self, key: str, study: str | None = None) -> Job | None:
        """The newest job with that key that is queued, running or done."""
        where = "key = ? AND status IN ('queued', 'running', 'done')" + (
            "" if study is None else " AND study = ?"
        )
        values = (key,) if study is None else (key, study)
        with self.read() as db:
            row = db.execute(
                f"SELECT * FROM job WHERE {where} ORDER BY id DESC LIMIT 1", values
            ).fetchone()
        return from_row(row) if row else None

    def tables(self, id: int) -> list[str]:
        """Names of the tables a job has so far, in the order they came."""
        with self.read() as db:
            return [
                row["name"]
                for row in db.execute("SELECT name FROM rows WHERE job = ? ORDER BY rowid", (id,))
            ]

    def rows(self, table: str, jobs: Sequence[int]) -> pd.DataFrame:
        """That table of those jobs, one under the other, in the jobs' order; empty where none has it.

        Prepended: job, label, study, method, asked, sparsity, pattern, seed. `asked` is the sparsity asked for; so is
        `sparsity`, except in tables with a realised `sparsity` of their own (prune, reconstruction, cost), which is kept.
        """
        marks = ", ".join("?" * len(jobs))
        with self.read() as db:
            query = "SELECT job.*, rows.content FROM rows JOIN job ON job.id = rows.job"
            found = db.execute(
                f"{query} WHERE rows.name = ? AND rows.job IN ({marks})", (table, *jobs)
            ).fetchall()
        by_job = {row["id"]: row for row in found}
        frames = []
        for id in dict.fromkeys(jobs):
            if id in by_job:
                frame, known = unpack(by_job[id]["content"]), _identity(from_row(by_job[id]))
                for place, (name, value) in enumerate(
                    (n, v) for n, v in known.items() if n not in frame
                ):
                    frame.insert(place, name, [value] * len(frame))
                frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def records(self, id: int) -> dict[str, list[dict[str, Any]]]:
        """Every table of a job as plain rows, missing values as None."""
        with self.read() as db:
            found = db.execute(
                "SELECT name, content FROM rows WHERE job = ? ORDER BY rowid", (id,)
            ).fetchall()
        return {row["name"]: to_plain_rows(row["content"]) for row in found}

    def folder(self, id: int) -> Path:
        """The job's own folder: checkpoint/ and log.txt."""
        folder = self.home / "jobs" / str(id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has_weights(self, id: int) -> bool:
        """Whether a pruned job's weights are kept."""
        return (self.home / "jobs" / str(id) / "checkpoint").is_dir()

    def checkpoint(self, job: Job) -> str:
        """Where the job's model is: its own folder's for a pruned one, what it was given for a dense one."""
        if not job.experiment.get("method"):
            return job.experiment["checkpoint"]
        path = self.folder(job.id) / "checkpoint"
        if not self.has_weights(job.id):
            raise PruneError(
                f"Job {job.id} ({job.label}) has no pruned weights here: they were not kept, or freed; "
                f"python -m prune_core remake {job.id} makes them again."
            )
        return str(path)

    # -- doing work -----------------------------------------------------------------------------------------------

    def claim(self, devices: Collection[str], worker: str) -> Job | None:
        """Take the next queued job for one of these devices: earliest study first, quick stages before slow, then in order."""
        marks = ", ".join("?" * len(devices))
        with self.write() as db:
            row = db.execute(
                f"SELECT id FROM job JOIN (SELECT study AS of, MIN(id) AS first FROM job WHERE status = 'queued' GROUP BY study) "
                f"ON of = study WHERE status = 'queued' AND device IN ({marks}) ORDER BY first, deferred, id LIMIT 1",
                tuple(devices),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE job SET status = ?, worker = ?, message = '', started = COALESCE(started, ?) WHERE id = ?",
                (Status.RUNNING, worker, time.time(), row["id"]),
            )
        return self.job(row["id"])

    def defer(self, id: int) -> bool:
        """Put a running job in the line of its study's slow stages; False where its turn in that line is now."""
        with self.write() as db:
            changed = db.execute(
                "UPDATE job SET status = 'queued', worker = '', deferred = 1, message = ? "
                "WHERE id = ? AND status = 'running' AND cancel = 0 AND deferred = 0 AND EXISTS (SELECT 1 FROM job AS other WHERE "
                "other.study = job.study AND other.device = job.device AND other.status = 'queued' "
                "AND (other.deferred = 0 OR other.id < job.id))",
                ("waits for the other models' quick measures", id),
            )
            return changed.rowcount == 1

    def update(self, id: int, **columns: Any) -> None:
        """Set columns of a job."""
        values = [json.dumps(value) if name in JSON else value for name, value in columns.items()]
        with self.write() as db:
            db.execute(
                f"UPDATE job SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
                (*values, id),
            )

    def add_rows(
        self,
        id: int,
        tables: dict[str, pd.DataFrame],
        stage: str,
        seconds: float,
        facts: dict[str, Any],
    ) -> None:
        """A finished stage: its tables, its time and what is known by now, all or nothing."""
        texts = [(id, name, pack(frame)) for name, frame in tables.items()]
        with self.write() as db:
            job = from_row(db.execute("SELECT * FROM job WHERE id = ?", (id,)).fetchone())
            db.executemany(
                "INSERT OR REPLACE INTO rows (job, name, content) VALUES (?, ?, ?)", texts
            )
            done = json.dumps([*(name for name in job.done if name != stage), stage])
            times, known = (
                json.dumps({**job.seconds, stage: seconds}),
                json.dumps({**job.facts, **facts}),
            )
            db.execute(
                "UPDATE job SET done = ?, seconds = ?, facts = ? WHERE id = ?",
                (done, times, known, id),
            )

    def finish(self, id: int, status: str, error: str, worker: str) -> bool:
        """End a job that this worker runs; False where it had ended already."""
        whole = ", progress = 1.0" if status == Status.DONE else ""
        with self.write() as db:
            changed = db.execute(
                f"UPDATE job SET status = ?, error = ?, finished = ?, cancel = 0, message = '', estimate_left = 0{whole} "
                "WHERE id = ? AND status = 'running' AND worker = ?",
                (status, error, time.time(), id, worker),
            )
            return changed.rowcount == 1

    def note(self, db: sqlite3.Connection, what: str, study: str, job: int | None = None) -> None:
        """Write down who did this, within the same transaction."""
        db.execute(
            "INSERT INTO event (at, who, what, study, job) VALUES (?, ?, ?, ?, ?)",
            (time.time(), Store.asker(), what, study, job),
        )

    def events(self, last: int = 100) -> pd.DataFrame:
        """The last things that people did: at, who, what, study, job; the newest first."""
        with self.read() as db:
            query = "SELECT at, who, what, COALESCE(NULLIF(event.study, ''), job.study, '') AS study, job FROM event "
            found = db.execute(
                f"{query} LEFT JOIN job ON job.id = event.job ORDER BY event.id DESC LIMIT ?",
                (last,),
            ).fetchall()
        return pd.DataFrame(
            [tuple(row) for row in found], columns=["at", "who", "what", "study", "job"]
        )

    def _status(self, db: sqlite3.Connection, id: int) -> str:
        row = db.execute("SELECT status FROM job WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise PruneError(f"There is no job {id}; see python -m prune_core jobs.")
        return row["status"]


def _identity(job: Job) -> dict[str, Any]:
    """What every row of a job bears."""
    method = job.experiment.get("method")
    options = method["options"] if method else {}
    asked = float(options.get("sparsity", 0.0))  # an N:M pattern has set it
    return {
        "job": job.id,
        "label": job.label,
        "study": job.study,
        "method": method["name"] if method else "dense",
        "asked": asked,
        "sparsity": asked,
        "pattern": options.get("pattern") or target_label(options),
        "seed": job.experiment.get("seed", 0),
    }
