"""A planned study as plain files, for machines that share a folder but no database.

Each experiment has a folder and can run anywhere, in any order, any number of times; collect.py
imports the results into a store.

    plan.json                number of shards and the PruneScope version
    0001/experiment.json     the first experiment with label, key and the folders of its stages
    0001/record.json         its state: a Record
    0001/log.txt
    results/                 tables and weights of all stages, as in a store
    dense/                   cached results of the dense models, computed once

Knows nothing of SQL or of what starts the shards: a batch system, Ray (ray_cluster.py) or a user.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import Cancelled, PruneError
from ..plugins import Report
from ..store.job import Status
from ..store.locks import Lock
from ..store.results import Results
from ..versions import versions

if TYPE_CHECKING:
    from ..experiments.experiment import Experiment

PLAN = "plan.json"
EXPERIMENT = "experiment.json"
RECORD = "record.json"
CANCEL = "cancel"
DENSE = "dense"
RESULTS = "results"
TIMEOUT = 120.0  # seconds for a shared folder to release the lock of a machine that died
WAITING = "waiting for its attacks"
INTERVAL = 2.0  # seconds between writes of the progress


@dataclass(frozen=True)
class Record:
    """State of an experiment; its fields have the same names as those of store.job.Job."""

    status: str = Status.QUEUED
    error: str = ""
    progress: float = 0.0
    message: str = ""
    done: Sequence[str] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    finished: float | None = None

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the record of an experiment's folder; a new one if there is no file yet."""
        return cls(**_read(folder / RECORD)) if (folder / RECORD).is_file() else cls()

    def write(self, folder: Path) -> None:
        """Write the record atomically."""
        _write(folder / RECORD, asdict(self))


def plan(place: Path, experiments: Sequence[Experiment], shards: int) -> list[Path]:
    """Write the experiments into numbered folders; return the folders.

    There are at most as many shards as experiments. An existing plan of the same experiments is
    reused. Raise PruneError if there is nothing to plan or `place` contains other files.
    """
    from ..experiments.stage_keys import experiment_key, stage_folders

    if shards < 1:
        raise PruneError(f"shards is {shards}; it must be at least 1.")
    if not experiments:
        raise PruneError("There is nothing to plan: every experiment is finished.")
    contents = [
        {
            "label": each.label,
            "key": experiment_key(each),
            "experiment": each.to_dict(),
            "stages": stage_folders(each),
        }
        for each in experiments
    ]
    folders = [place / f"{number:04}" for number in range(1, len(contents) + 1)]
    if place.is_dir() and any(place.iterdir()):
        planned = experiment_folders(place) if (place / PLAN).is_file() else []
        existing = [read_description(folder)["key"] for folder in planned]
        if existing != [content["key"] for content in contents]:
            other = "another study" if existing else "other files"
            raise PruneError(f"{place} contains {other}; give an empty folder.")
    for folder, content in zip(folders, contents, strict=True):
        _write(folder / EXPERIMENT, content)
    _write(place / PLAN, {"version": __version__, "shards": min(shards, len(contents))})
    return folders


def experiment_folders(place: Path, shard: int | None = None) -> list[Path]:
    """Return the folders of all experiments, or of one shard.

    The experiments of a shard are consecutive, so most of them share their dense model. `shard`
    counts from 1. Raise PruneError if there is no plan, no such shard or another version wrote it.
    """
    if not (place / PLAN).is_file():
        raise PruneError(
            f"{place} contains no plan; python -m prune_core sweep FILE --shards N --out {place} "
            "writes one."
        )
    content = _read(place / PLAN)
    if content["version"] != __version__:
        raise PruneError(
            f"{place} was planned by PruneScope {content['version']} and this is {__version__}; "
            "use that version, or plan the study again."
        )
    folders = sorted(
        (each.parent for each in place.glob(f"*/{EXPERIMENT}")),
        key=lambda folder: (len(folder.name), folder.name),
    )
    if shard is None:
        return folders
    shards = content["shards"]
    if not 1 <= shard <= shards:
        raise PruneError(f"There is no shard {shard}; {place} has 1 to {shards}.")
    return folders[(shard - 1) * len(folders) // shards : shard * len(folders) // shards]


def run_experiment(folder: Path, report: Report, until: str = "") -> Record:
    """Run the experiment of a folder to its end, or up to the stage `until`; return its record.

    Finished stages are not repeated. An error of the experiment is recorded and not raised; raise
    PruneError if another process runs it.
    """
    lock = Lock(folder / "lock")
    if not lock.acquire(patience=TIMEOUT):
        raise PruneError(
            f"{folder} is being run by another process; wait for it, or stop it first."
        )
    try:
        record = Record.read(folder)
        if record.status == Status.DONE:
            return record
        return _Run(folder, record, report).run(until)
    finally:
        lock.release()


def run_attack_chunk(folder: Path, chunk: tuple[int, int]) -> None:
    """Run one chunk of an experiment's attacks; its earlier stages must be finished.

    `chunk` is (index, number of chunks). Chunks may run at the same time.
    """
    from ..experiments import run

    def report(progress: float, message: str) -> None:
        _check_stop(folder)

    run.run_attack_chunk(
        read_experiment(folder),
        read_results(folder),
        folder,
        batch_size=Record.read(folder).facts.get("batch_size", 0),
        chunk=chunk,
        report=report,
        shared=folder.parent / DENSE,
    )


def read_experiment(folder: Path) -> Experiment:
    """Return the experiment of a folder."""
    from ..experiments.experiment import Experiment

    return Experiment.from_dict(read_description(folder)["experiment"])


def read_results(folder: Path) -> Results:
    """Return the results of the experiment of a folder."""
    return Results(folder.parent / RESULTS, read_description(folder)["stages"])


def _check_stop(folder: Path) -> None:
    """Raise Cancelled if the folder has the file `cancel`."""
    if (folder / CANCEL).exists():
        raise Cancelled


class _Run:
    """A running experiment; writes every finished stage and, at intervals, the progress."""

    def __init__(self, folder: Path, record: Record, report: Report):
        self.folder = folder
        self.caller_report = report
        self.last_write = 0.0
        if record.status == Status.RUNNING and record.message != WAITING:
            # the process that ran it has died, because this one holds its lock
            record = replace(record, facts=record.facts | {"died": record.facts.get("died", 0) + 1})
        self.record = replace(
            record,
            status=Status.RUNNING,
            error="",
            versions=versions(),
            started=record.started or time.time(),
            finished=None,
        )

    def run(self, until: str) -> Record:
        """Run the stages up to `until` ("": all); return the record with the status at the end."""
        from ..experiments.run import run
        from ..queue.worker import error_status

        results = read_results(self.folder)
        done = [name for name in results.folders if results.is_done(name)]
        self._set(done=done)
        try:
            stages = run(
                read_experiment(self.folder),
                results,
                self.folder,
                self.report,
                batch_size=self.record.facts.get("batch_size", 0),
                until=until,
                shared=self.folder.parent / DENSE,
            )
            for stage in stages:
                self._set(
                    done=[*(name for name in self.record.done if name != stage.name), stage.name],
                    seconds=self.record.seconds | {stage.name: stage.seconds},
                    facts=self.record.facts | stage.facts,
                )
            if until:
                self._set(message=WAITING)
            else:
                self._set(status=Status.DONE, progress=1.0, message="", finished=time.time())
        except (Exception, KeyboardInterrupt) as error:
            status, message = error_status(error, self.folder)
            self._set(status=status, error=message, message="", finished=time.time())
            if isinstance(error, KeyboardInterrupt):
                raise
        return self.record

    def report(self, progress: float, message: str) -> None:
        """Write the progress at intervals; raise Cancelled if requested. Called by the stages."""
        self.caller_report(progress, message)
        if time.monotonic() - self.last_write > INTERVAL:
            self.last_write = time.monotonic()
            _check_stop(self.folder)
            self._set(progress=progress, message=message)

    def _set(self, **values: Any) -> None:
        self.record = replace(self.record, **values)
        self.record.write(self.folder)


def read_description(folder: Path) -> dict[str, Any]:
    """Return the experiment of a folder as plain data, with label, key and folders of stages."""
    return _read(folder / EXPERIMENT)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PruneError(
            f"{path} cannot be read ({str(error)[:120]}); plan the study again in an empty folder."
        ) from None


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".part")
    partial_file.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(partial_file, path)  # atomic
