"""A study as plain files, for machines that share a folder but no database: each experiment a folder of its own, run anywhere, in any
order, any number of times; collecting.py brings them into a store.

    plan.json                in how many shards the experiments are run, and by which PruneScope
    0001/experiment.json     the first one, its label and its key
    0001/record.json         what became of it: a Record
    0001/rows/accuracy.json  its tables
    0001/checkpoint, 0001/log.txt
    dense/                   what all of them need to know of their dense models, found once

Knows nothing of SQL and of who starts the shards: a batch system, Ray (cluster.py), a person.
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
from ..store import packed_rows
from ..store.job import Status
from ..store.locks import Lock
from ..versions import versions

if TYPE_CHECKING:
    import pandas as pd

    from ..experiments.experiment import Experiment

PLAN, EXPERIMENT, RECORD, CANCEL, DENSE = (
    "plan.json",
    "experiment.json",
    "record.json",
    "cancel",
    "dense",
)
TIMEOUT = 120.0  # seconds in which a shared folder lets go of the lock of a machine that died
WAITS = "waits for its attacks"
EVERY = 2.0  # seconds between writes of the progress


@dataclass(frozen=True)
class Record:
    """What became of an experiment so far; the names are those of a Job."""

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
    def of(cls, folder: Path) -> Record:
        """What is written there."""
        return cls(**_read(folder / RECORD)) if (folder / RECORD).is_file() else cls()

    def write(self, folder: Path) -> None:
        """Nobody ever reads half of it."""
        _write(folder / RECORD, asdict(self))


def plan(place: Path, experiments: Sequence[Experiment], shards: int) -> list[Path]:
    """Write the experiments down, each in a folder of its own, in at most as many shards as there are experiments; the folders."""
    if shards < 1:
        raise PruneError(f"shards is {shards}; it must be at least 1.")
    if not experiments:
        raise PruneError("There is nothing to write down: every experiment is finished.")
    wanted = [
        {"label": each.label, "key": each.key(), "experiment": each.to_dict()}
        for each in experiments
    ]
    folders = [place / f"{number:04}" for number in range(1, len(wanted) + 1)]
    if place.is_dir() and any(place.iterdir()):
        there = (
            [describe(each)["key"] for each in folders_of(place)]
            if (place / PLAN).is_file()
            else []
        )
        if there != [each["key"] for each in wanted]:
            raise PruneError(
                f"{place} holds {'another study' if there else 'other files'}; give an empty folder."
            )
    for folder, content in zip(folders, wanted, strict=True):
        _write(folder / EXPERIMENT, content)
    _write(place / PLAN, {"version": __version__, "shards": min(shards, len(wanted))})
    return folders


def folders_of(place: Path, shard: int | None = None) -> list[Path]:
    """The folders of all experiments, or of one shard's: neighbours, which share their dense model."""
    if not (place / PLAN).is_file():
        raise PruneError(
            f"{place} holds no plan; python -m prune_core sweep FILE --shards N --out {place} writes one."
        )
    known = _read(place / PLAN)
    if known["version"] != __version__:
        raise PruneError(
            f"{place} was planned by PruneScope {known['version']} and this is {__version__}; use that one, or plan it anew."
        )
    found = sorted(
        (each.parent for each in place.glob(f"*/{EXPERIMENT}")),
        key=lambda folder: (len(folder.name), folder.name),
    )
    if shard is None:
        return found
    if not 1 <= shard <= known["shards"]:
        raise PruneError(f"There is no shard {shard}; {place} has 1 to {known['shards']}.")
    return found[
        (shard - 1) * len(found) // known["shards"] : shard * len(found) // known["shards"]
    ]


def perform(folder: Path, report: Report, until: str = "") -> Record:
    """Run the experiment of that folder to its end, whatever that is, or up to a stage; what is finished there is not done again."""
    lock = Lock(folder / "lock")
    if not lock.take(patience=TIMEOUT):
        raise PruneError(
            f"{folder} is being run by another process; wait for it, or stop it first."
        )
    try:
        record = Record.of(folder)
        return (
            record
            if record.status == Status.DONE
            else _Run(folder, record, report).to_its_end(until)
        )
    finally:
        lock.release()


def attack(folder: Path, chunk: tuple[int, int]) -> None:
    """One chunk of that experiment's attacks, for which its other stages must be done; any number at the same time."""
    from ..experiments import run

    record = Record.of(folder)
    obeys = lambda progress, message: _check_stop(folder)  # noqa: E731
    run.attack(
        experiment_in(folder),
        folder,
        _known(folder),
        batch_size=record.facts.get("batch_size", 0),
        chunk=chunk,
        report=obeys,
        shared=folder.parent / DENSE,
    )


def experiment_in(folder: Path) -> Experiment:
    """The experiment of that folder."""
    from ..experiments.experiment import Experiment

    return Experiment.from_dict(describe(folder)["experiment"])


def _check_stop(folder: Path) -> None:
    """Stop where somebody has left the file `cancel`."""
    if (folder / CANCEL).exists():
        raise Cancelled


class _Run:
    """One experiment at work: every stage and, now and then, the progress are written down."""

    def __init__(self, folder: Path, record: Record, report: Report):
        self.folder, self.also, self.looked = folder, report, 0.0
        began = record.started or time.time()
        if (
            record.status == Status.RUNNING and record.message != WAITS
        ):  # whoever ran it is gone: we hold its lock
            record = replace(record, facts=record.facts | {"died": record.facts.get("died", 0) + 1})
        self.record = replace(
            record,
            status=Status.RUNNING,
            error="",
            versions=versions(),
            started=began,
            finished=None,
        )

    def to_its_end(self, until: str) -> Record:
        """The stages, and what ended them."""
        from ..experiments.run import run
        from ..queue.worker import error_status

        self.record.write(self.folder)
        try:
            batch, shared = self.record.facts.get("batch_size", 0), self.folder.parent / DENSE
            known = _known(self.folder)
            for stage in run(
                experiment_in(self.folder),
                self.folder,
                self.report,
                done=self.record.done,
                known=known,
                batch_size=batch,
                until=until,
                shared=shared,
            ):
                for name, frame in stage.rows.items():
                    _write_bytes(self.folder / "rows" / f"{name}.json", packed_rows.text(frame))
                self._set(
                    done=[*self.record.done, stage.name],
                    seconds=self.record.seconds | {stage.name: stage.seconds},
                    facts=self.record.facts | stage.facts,
                )
            if until:
                self._set(message=WAITS)
            else:
                self._set(status=Status.DONE, progress=1.0, message="", finished=time.time())
        except (Exception, KeyboardInterrupt) as error:
            status, sentence = error_status(error, self.folder)
            self._set(status=status, error=sentence, message="", finished=time.time())
            if isinstance(error, KeyboardInterrupt):
                raise
        return self.record

    def report(self, progress: float, message: str) -> None:
        """What stages call."""
        self.also(progress, message)
        if time.monotonic() - self.looked > EVERY:
            self.looked = time.monotonic()
            _check_stop(self.folder)
            self._set(progress=progress, message=message)

    def _set(self, **values: Any) -> None:
        self.record = replace(self.record, **values)
        self.record.write(self.folder)


def tables(folder: Path) -> dict[str, bytes]:
    """The tables that are there as the store keeps them, in the order in which they came."""
    return {path.stem: packed_rows.repack(path.read_bytes()) for path in _tables(folder)}


def describe(folder: Path) -> dict[str, Any]:
    """The experiment of that folder as plain data, with its label and key."""
    return _read(folder / EXPERIMENT)


def _known(folder: Path) -> dict[str, pd.DataFrame]:
    return {
        path.stem: packed_rows.unpack(path.read_bytes().decode("utf-8", "surrogatepass"))
        for path in _tables(folder)
    }


def _tables(folder: Path) -> list[Path]:
    """In the order in which they came."""
    return sorted(
        (folder / "rows").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PruneError(
            f"{path} cannot be read ({str(error)[:120]}); plan the study anew in an empty folder."
        ) from None


def _write(path: Path, content: dict[str, Any]) -> None:
    _write_bytes(path, json.dumps(content, indent=1).encode())


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, path)
