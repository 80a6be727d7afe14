"""The store: jobs and rows in one SQLite file, checkpoints and logs in folders next to it.

All SQL is in this module and in schema, studies, adversarial_pool, maintenance and
distributed.collect. Independent of torch, of experiments (plain dicts here) and of pages.
"""

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

from ..aliases import current_name, former_name
from ..errors import PruneError
from ..paths import IS_CLONE, ROOT
from ..plugins import target_label
from .job import COLUMNS, JSON, Job, Status, from_row
from .packed_rows import pack, to_plain_rows, unpack
from .schema import FILE, error_message, upgrade


def default_home() -> Path:
    """Return $PRUNESCOPE_HOME, else runs/ in a git clone, else the user's data folder."""
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    default = ROOT / "runs" if IS_CLONE else data / "prunescope"
    return Path(os.environ.get("PRUNESCOPE_HOME") or default).expanduser().resolve()


def system_user() -> str:
    """Return the name of the user who runs this process, or their ID: containers lack names."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class Store:
    """Jobs and rows. Every call opens its own connection, so threads can share a Store."""

    # name of the user for the log of actions; the dashboard replaces it with the session's user
    current_user: ClassVar[Callable[[], str]] = staticmethod(system_user)

    def __init__(self, home: Path | None = None):
        self.home = Path(home).resolve() if home else default_home()
        self.path = self.home / FILE
        with self.read() as db:
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode = WAL")  # readers never wait for the worker
            upgrade(db, self.path)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open a connection that does not wait for writers.

        Raise PruneError if the file cannot be opened, is damaged or the disk is full.
        """
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
        """Open an exclusive write transaction."""
        with self.read() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite has already rolled back if the disk is full
                    db.execute("ROLLBACK")
                raise

    # -- submitting -----------------------------------------------------------------------------

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
        """Add a job; return its ID.

        The job is queued, or running if `worker` names the process that runs it itself. `estimate`
        is in seconds.
        """
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
            self.record_event(db, "submitted", study, id)
            return id

    def copy(self, id: int, study: str) -> int:
        """Copy a finished job with rows and checkpoint to another study; nothing is computed."""
        same = [name for name in COLUMNS if name not in ("id", "study", "created", "experiment")]
        columns = ", ".join(same)
        with self.write() as db:
            inserted = db.execute(
                f"INSERT INTO job (study, created, experiment, {columns}) "
                f"SELECT ?, ?, json_set(experiment, '$.study', ?), {columns} FROM job WHERE id = ?",
                (study, time.time(), study, id),
            )
            new = int(inserted.lastrowid or 0)
            db.execute(
                "INSERT INTO rows (job, name, content) "
                "SELECT ?, name, content FROM rows WHERE job = ?",
                (new, id),
            )
            self.record_event(db, f"copied job {id}", study, new)
        if (self.folder(id) / "checkpoint").is_dir():
            # hard links, not copies: the files are never changed in place
            shutil.copytree(
                self.folder(id) / "checkpoint",
                self.folder(new) / "checkpoint",
                copy_function=os.link,
                dirs_exist_ok=True,
            )
        return new

    def cancel(self, id: int) -> None:
        """Cancel a queued job at once, or request a running one to stop; PruneError if ended."""
        with self.write() as db:
            status = self._job(db, id).status
            if status == Status.QUEUED:
                db.execute(
                    "UPDATE job SET status = ?, finished = ? WHERE id = ?",
                    (Status.CANCELLED, time.time(), id),
                )
            elif status == Status.RUNNING:
                db.execute("UPDATE job SET cancel = 1, message = 'cancelling' WHERE id = ?", (id,))
            else:
                raise PruneError(f"Job {id} is already {status}; there is nothing to cancel.")
            self.record_event(db, "cancelled", "", id)

    def resume(self, id: int) -> None:
        """Queue a failed or cancelled job again; its finished stages are not repeated.

        Raise PruneError if the job has another status.
        """
        with self.write() as db:
            status = self._job(db, id).status
            if status not in (Status.FAILED, Status.CANCELLED):
                raise PruneError(
                    f"Job {id} is {status}; only a failed or cancelled job can be resumed."
                )
            db.execute(
                "UPDATE job SET status = ?, cancel = 0, error = '', message = '', worker = '', "
                "finished = NULL, deferred = 0 WHERE id = ?",
                (Status.QUEUED, id),
            )
            self.record_event(db, "resumed", "", id)

    def requeue(self, id: int) -> None:
        """Queue a failed job again, at most once; `facts["again"]` then holds its error."""
        with self.write() as db:
            job = self._job(db, id)
            if job.status == Status.FAILED and "again" not in job.facts:
                db.execute(
                    "UPDATE job SET status = ?, worker = '', error = '', message = 'retrying', "
                    "finished = NULL, deferred = 0, facts = ? WHERE id = ?",
                    (Status.QUEUED, json.dumps(job.facts | {"again": job.error}), id),
                )

    # -- reading --------------------------------------------------------------------------------

    def job(self, id: int) -> Job:
        """Return one job by its ID; PruneError if there is none."""
        with self.read() as db:
            return self._job(db, id)

    def jobs(self, study: str | None = None) -> list[Job]:
        """Return all jobs, or those of a study, oldest first."""
        where, values = ("", ()) if study is None else ("WHERE study = ?", (study,))
        with self.read() as db:
            return [
                from_row(row)
                for row in db.execute(f"SELECT * FROM job {where} ORDER BY id", values)
            ]

    def studies(self) -> list[str]:
        """Return the names of the studies, the one with the newest job first."""
        with self.read() as db:
            return [
                row["study"]
                for row in db.execute("SELECT study FROM job GROUP BY study ORDER BY MAX(id) DESC")
            ]

    def find(self, key: str, study: str | None = None) -> Job | None:
        """Return the newest job with that key that is queued, running or done."""
        with self.read() as db:
            row = db.execute(
                "SELECT * FROM job WHERE key = ? AND status IN ('queued', 'running', 'done') "
                "AND study = COALESCE(?, study) ORDER BY id DESC LIMIT 1",
                (key, study),
            ).fetchone()
        return from_row(row) if row else None

    def tables(self, id: int) -> list[str]:
        """Return the names of the tables of a job so far, in the order in which they were added."""
        with self.read() as db:
            results = db.execute("SELECT name FROM rows WHERE job = ? ORDER BY rowid", (id,))
            return [current_name(row["name"]) for row in results]

    def rows(self, table: str, jobs: Sequence[int]) -> pd.DataFrame:
        """Concatenate one table of several jobs, in the order of `jobs`; empty if none has it.

        Columns prepended: job, label, study, method, requested_sparsity, sparsity, pattern, seed.
        `sparsity` is the requested one, except in tables that have a column with the realized
        sparsity (prune, reconstruction, cost), which is not replaced.
        """
        marks = ", ".join("?" * len(jobs))
        with self.read() as db:
            query = "SELECT job.*, rows.content FROM rows JOIN job ON job.id = rows.job"
            results = db.execute(
                f"{query} WHERE rows.name IN (?, ?) AND rows.job IN ({marks})",
                (table, former_name(table), *jobs),
            ).fetchall()
        by_job = {row["id"]: row for row in results}
        frames = []
        for id in dict.fromkeys(jobs):
            if id in by_job:
                frame = unpack(by_job[id]["content"], table)
                identity = _identity(from_row(by_job[id]))
                for position, (name, value) in enumerate(
                    (n, v) for n, v in identity.items() if n not in frame
                ):
                    frame.insert(position, name, [value] * len(frame))
                frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def records(self, id: int) -> dict[str, list[dict[str, Any]]]:
        """Return every table of a job as plain rows, missing values as None."""
        with self.read() as db:
            results = db.execute(
                "SELECT name, content FROM rows WHERE job = ? ORDER BY rowid", (id,)
            ).fetchall()
        return {
            current_name(row["name"]): to_plain_rows(row["content"], row["name"]) for row in results
        }

    def folder(self, id: int) -> Path:
        """Return the folder of a job, with checkpoint/ and log.txt; create it if needed."""
        folder = self.home / "jobs" / str(id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def has_weights(self, id: int) -> bool:
        """Whether the weights of a pruned job are saved."""
        return (self.home / "jobs" / str(id) / "checkpoint").is_dir()

    def checkpoint(self, job: Job) -> str:
        """Return the checkpoint of a job: its folder if pruned, the original one if dense.

        Raise PruneError if the pruned weights are not saved.
        """
        if not job.experiment.get("method"):
            return job.experiment["checkpoint"]
        if not self.has_weights(job.id):
            raise PruneError(
                f"The pruned weights of job {job.id} ({job.label}) are not here: they were not "
                f"saved, or were deleted; run python -m prune_core reprune {job.id} to re-prune "
                "from the seed."
            )
        return str(self.folder(job.id) / "checkpoint")

    # -- running --------------------------------------------------------------------------------

    def claim(self, devices: Collection[str], worker: str) -> Job | None:
        """Mark the next queued job for one of these devices as running and return it, if any.

        Order: studies by their first queued job; within a study, jobs with quick stages before
        deferred ones; then by ID.
        """
        marks = ", ".join("?" * len(devices))
        with self.write() as db:
            row = db.execute(
                "SELECT id FROM job JOIN (SELECT study AS of, MIN(id) AS first FROM job "
                "WHERE status = 'queued' GROUP BY study) ON of = study "
                f"WHERE status = 'queued' AND device IN ({marks}) "
                "ORDER BY first, deferred, id LIMIT 1",
                tuple(devices),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE job SET status = ?, worker = ?, message = '', "
                "started = COALESCE(started, ?) WHERE id = ?",
                (Status.RUNNING, worker, time.time(), row["id"]),
            )
        return self.job(row["id"])

    def defer(self, id: int) -> bool:
        """Requeue a running job, whose next stage is slow, behind the other jobs of its study.

        Return False if there is no such job: then the running one continues.
        """
        with self.write() as db:
            changed = db.execute(
                "UPDATE job SET status = 'queued', worker = '', deferred = 1, message = ? "
                "WHERE id = ? AND status = 'running' AND cancel = 0 AND deferred = 0 "
                "AND EXISTS (SELECT 1 FROM job AS other WHERE other.study = job.study "
                "AND other.device = job.device AND other.status = 'queued' "
                "AND (other.deferred = 0 OR other.id < job.id))",
                ("waiting for the quick measures of other models", id),
            )
            return changed.rowcount == 1

    def update(self, id: int, **columns: Any) -> None:
        """Set columns of a job; values of JSON columns are encoded."""
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
        """Save a finished stage in one transaction: its tables, its duration and new facts."""
        packed = [(id, name, pack(frame)) for name, frame in tables.items()]
        with self.write() as db:
            job = self._job(db, id)
            db.executemany(
                "INSERT OR REPLACE INTO rows (job, name, content) VALUES (?, ?, ?)", packed
            )
            done = [*(name for name in job.done if name != stage), stage]
            columns = (done, {**job.seconds, stage: seconds}, {**job.facts, **facts})
            db.execute(
                "UPDATE job SET done = ?, seconds = ?, facts = ? WHERE id = ?",
                (*map(json.dumps, columns), id),
            )

    def finish(self, id: int, status: str, error: str, worker: str) -> bool:
        """End a job that this worker runs; return False if it had ended already."""
        completed = ", progress = 1.0" if status == Status.DONE else ""
        with self.write() as db:
            changed = db.execute(
                "UPDATE job SET status = ?, error = ?, finished = ?, cancel = 0, message = '', "
                f"estimate_left = 0{completed} "
                "WHERE id = ? AND status = 'running' AND worker = ?",
                (status, error, time.time(), id, worker),
            )
            return changed.rowcount == 1

    def record_event(
        self, db: sqlite3.Connection, what: str, study: str, job: int | None = None
    ) -> None:
        """Record an action with its user and time, in the transaction of the action."""
        db.execute(
            "INSERT INTO event (at, who, what, study, job) VALUES (?, ?, ?, ?, ?)",
            (time.time(), Store.current_user(), what, study, job),
        )

    def events(self, last: int = 100) -> pd.DataFrame:
        """Return the latest user actions, newest first: at, who, what, study, job."""
        with self.read() as db:
            query = (
                "SELECT at, who, what, COALESCE(NULLIF(event.study, ''), job.study, '') AS study, "
                "job FROM event LEFT JOIN job ON job.id = event.job ORDER BY event.id DESC LIMIT ?"
            )
            rows = [tuple(row) for row in db.execute(query, (last,))]
        return pd.DataFrame(rows, columns=["at", "who", "what", "study", "job"])

    def _job(self, db: sqlite3.Connection, id: int) -> Job:
        row = db.execute("SELECT * FROM job WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise PruneError(f"There is no job {id}; see python -m prune_core jobs.")
        return from_row(row)


def _identity(job: Job) -> dict[str, Any]:
    """Return the columns that identify a job in each of its rows."""
    method = job.experiment.get("method")
    options = method["options"] if method else {}
    requested = float(options.get("sparsity", 0.0))  # an N:M pattern has set it
    return {
        "job": job.id,
        "label": job.label,
        "study": job.study,
        "method": method["name"] if method else "dense",
        "requested_sparsity": requested,
        "sparsity": requested,
        "pattern": options.get("pattern") or target_label(options),
        "seed": job.experiment.get("seed", 0),
    }
