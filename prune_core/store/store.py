"""The store: results of stages in folders, and jobs, queue and studies in an SQLite file.

    results/                 tables and weights of stages, see results.py
    jobs/12/log.txt          log of a job, and outcomes of attacks that are not finished
    jobs/12/job.json         its experiment and the folders of its stages
    prunescope.sqlite        index of the jobs; `maintenance.rebuild` makes it from the folders

All SQL is in this module and in schema, studies, adversarial_pool, maintenance and
distributed.collect. Independent of torch, of experiments (plain dicts here) and of pages.
"""

import getpass
import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from ..errors import PruneError
from ..paths import IS_CLONE, ROOT
from .job import COLUMNS, JSON, Job, Status, from_row
from .results import PRUNE, Results, stage_of
from .schema import FILE, error_message, translated_errors, upgrade
from .tables import concat_tables, read_table, to_plain_rows

JOB_FILE = "job.json"
DESCRIPTION = ("study", "label", "key", "experiment", "device", "created", "stages")  # in JOB_FILE


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
        stages: Mapping[str, str] | None = None,
        worker: str = "",
        estimate: float | None = None,
    ) -> int:
        """Add a job; return its ID.

        `stages`: folder of every stage below results/; one of the job's own is the default. Stages
        whose folder exists are finished, and a job without other stages is done. Otherwise it is
        queued, or already running if `worker`, a process that runs it itself, is named.
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
            folders = dict(stages or default_folders(id, experiment))
            db.execute("UPDATE job SET stages = ? WHERE id = ?", (json.dumps(folders), id))
            for stage in folders:
                self._index(db, id, stage)
            if stages and not worker and {*self._job(db, id).done} == {*stages}:
                db.execute(
                    "UPDATE job SET status = ?, progress = 1.0, started = created, "
                    "finished = created, estimate_left = 0 WHERE id = ?",
                    (Status.DONE, id),
                )
        self.describe(id)
        return id

    def copy(self, id: int, study: str) -> int:
        """Copy a finished job to another study; both have the same stage folders."""
        same = [name for name in COLUMNS if name not in ("id", "study", "created", "experiment")]
        columns = ", ".join(same)
        with self.write() as db:
            inserted = db.execute(
                f"INSERT INTO job (study, created, experiment, {columns}) "
                f"SELECT ?, ?, json_set(experiment, '$.study', ?), {columns} FROM job WHERE id = ?",
                (study, time.time(), study, id),
            )
            new = int(inserted.lastrowid or 0)
            self.record_event(db, f"copied job {id}", study, new)
        self.describe(new)
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

    def results(self, job: Job) -> Results:
        """Return the results of a job's stages."""
        return Results(self.home / "results", job.stages)

    def tables(self, id: int) -> list[str]:
        """Return the names of the tables of a job so far, in the order in which they were added."""
        return list(self.job(id).tables)

    def rows(self, table: str, jobs: Sequence[int]) -> pd.DataFrame:
        """Concatenate one table of several jobs, in the order of `jobs`; empty if none has it.

        Columns prepended: job, label, study, method, requested_sparsity, sparsity, pattern, seed.
        `sparsity` is the requested one, except in tables that have a column with the realized
        sparsity (prune, reconstruction, cost), which is not replaced.
        """
        marks = ", ".join("?" * len(jobs))
        with self.read() as db:
            found = db.execute(f"SELECT * FROM job WHERE id IN ({marks})", tuple(jobs)).fetchall()
        by_id = {row["id"]: from_row(row) for row in found}
        ordered = (by_id[id] for id in dict.fromkeys(jobs) if id in by_id)
        return concat_tables(
            (job.identity, self._table(job, table)) for job in ordered if table in job.tables
        )

    def _table(self, job: Job, name: str) -> pd.DataFrame:
        return read_table(self.home / "results" / job.tables[name] / f"{name}.parquet")

    def records(self, id: int) -> dict[str, list[dict[str, Any]]]:
        """Return every table of a job as plain rows, missing values as None."""
        job = self.job(id)
        return {name: to_plain_rows(self._table(job, name)) for name in job.tables}

    def folder(self, id: int) -> Path:
        """Return the folder of a job, with log.txt; create it if needed."""
        folder = self.home / "jobs" / str(id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def weights(self, job: Job) -> Path:
        """Return the folder of a pruned job's weights, whether they are saved or not."""
        return self.results(job).checkpoint

    def has_weights(self, id: int) -> bool:
        """Whether the weights of a pruned job are saved."""
        job = self.job(id)
        return PRUNE in job.stages and self.weights(job).is_dir()

    def checkpoint(self, job: Job) -> str:
        """Return the checkpoint of a job: its weights if pruned, the original one if dense."""
        if not job.experiment.get("method"):
            return job.experiment["checkpoint"]
        if job.is_candidate:
            raise PruneError(
                f"Job {job.id} ({job.label}) measured a model from elsewhere, of which only "
                "results are stored; choose a dense or pruned model."
            )
        if not self.has_weights(job.id):
            raise PruneError(
                f"The pruned weights of job {job.id} ({job.label}) are not here: they were not "
                f"saved, or were deleted; run python -m prune_core reprune {job.id} to re-prune "
                "from the seed."
            )
        return str(self.weights(job))

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
        if not {*columns}.isdisjoint(DESCRIPTION):
            self.describe(id)

    def extend(
        self,
        id: int,
        experiment: dict[str, Any],
        key: str,
        stages: Mapping[str, str],
        what: str,
        worker: str = "",
    ) -> None:
        """Queue a finished job with a new plan; `stages` are folders of stages that it adds.

        Rows of a stage that it computes anew stay until the new ones are there. It is marked as
        running if `worker`, a process that runs it itself, is named.
        """
        job = self.job(id)
        self.update(
            id,
            experiment=experiment,
            key=key,
            stages=job.stages | dict(stages),
            done=[name for name in job.done if name not in stages],
            status=Status.RUNNING if worker else Status.QUEUED,
            worker=worker,
            message="",
            finished=None,
            deferred=0,
        )
        with self.write() as db:
            self.record_event(db, what, "", id)

    def add_rows(
        self,
        id: int,
        tables: dict[str, pd.DataFrame],
        stage: str,
        seconds: float,
        facts: dict[str, Any],
    ) -> None:
        """Add tables, the duration and facts to a stage; tables of the same name are replaced."""
        job = self.job(id)
        if job.stages.get(stage, "job-").startswith("job-"):  # without a key, or of a copied job
            self.update(id, stages=job.stages | {stage: f"job-{id}/{stage}"})
            job = self.job(id)
        results = self.results(job)
        before = results.read(stage) if results.is_done(stage) else {}
        with translated_errors(self.path):
            results.write(stage, before | tables, seconds=seconds, facts=facts)
        self.index(id, stage)

    def index(self, id: int, *stages: str) -> None:
        """Add finished stages to a job: their tables, durations and facts."""
        with self.write() as db:
            for stage in stages:
                self._index(db, id, stage)

    def _index(self, db: sqlite3.Connection, id: int, stage: str) -> None:
        """Add a stage to a job if it is finished."""
        job = self._job(db, id)
        results = self.results(job)
        if stage not in results.folders or not results.is_done(stage):
            return
        record = results.record(stage)
        done = [*(name for name in job.done if name != stage), stage]
        tables = {name: folder for name, folder in job.tables.items() if stage_of(folder) != stage}
        columns = {
            "done": done,
            "seconds": job.seconds | {stage: record.seconds},
            "facts": job.facts | record.facts,
            "versions": job.versions or record.versions,
            "tables": tables | dict.fromkeys(record.tables, results.folders[stage]),
        }
        db.execute(
            f"UPDATE job SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
            (*map(json.dumps, columns.values()), id),
        )

    def describe(self, id: int) -> None:
        """Write the file from which `maintenance.rebuild` makes the job again."""
        job = self.job(id)
        text = json.dumps({name: getattr(job, name) for name in DESCRIPTION}, indent=1)
        file = self.folder(id) / JOB_FILE
        with translated_errors(file):
            part = file.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, file)

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


def default_folders(id: int, experiment: Mapping[str, Any]) -> dict[str, str]:
    """Return the folders of the stages of an experiment whose keys are not known."""
    stages = [PRUNE] if experiment.get("method") else []
    stages += [measure["name"] for measure in experiment.get("measures") or ()]
    return {stage: f"job-{id}/{stage}" for stage in stages}
