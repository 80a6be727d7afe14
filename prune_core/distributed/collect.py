"""What ran elsewhere becomes jobs of the store: the folders of shards.py, also while they are at work. Knows nothing of torch."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..store.job import JSON, Status
from ..store.store import Store
from . import shards
from .shards import Record

UNFINISHED = (
    "It was not finished when it was collected: {done} of its stages were. python -m prune_core run-shard goes on with it, and collect "
    "brings it here."
)


def collect(store: Store, place: Path) -> Counter[str]:
    """Bring what there is into the store, a job an experiment; how many are done, failed, cancelled, unfinished, not begun.

    Repeated, it changes only what has gone on since.
    """
    counts: Counter[str] = Counter()
    for folder in shards.folders_of(place):
        record = Record.of(folder)
        if record.status == Status.QUEUED:
            counts["not begun"] += 1
            continue
        counts["unfinished" if record.status == Status.RUNNING else record.status] += 1
        adopt_shard(
            store, folder, _unfinished(record) if record.status == Status.RUNNING else record
        )
    return counts


def _unfinished(record: Record) -> Record:
    """As a job shows it that nobody here runs."""
    return replace(
        record,
        status=Status.FAILED,
        error=UNFINISHED.format(done=len(record.done) or "none"),
        message="",
    )


def adopt_shard(store: Store, folder: Path, record: Record, worker: str = "") -> int:
    """One experiment's job, made or brought up to date; its number. `worker` is the process of this machine that looks after it.

    A job of the same key and study that is done, queued or run by somebody else here is left as it is. One is done when its weights
    are here too: whoever is ended before that goes on with the next collect.
    """
    if record.status == Status.DONE and (folder / "checkpoint").is_dir():
        id, is_ours = _adopted(
            store,
            folder,
            replace(record, status=Status.RUNNING) if worker else _unfinished(record),
            worker=worker,
        )
        if not is_ours:
            return id
    return _adopted(store, folder, record, worker=worker)[0]


def _adopted(store: Store, folder: Path, record: Record, worker: str) -> tuple[int, bool]:
    """(the job, whether it is this experiment's)."""
    known = shards.describe(folder)
    experiment = known["experiment"]
    values = asdict(record) | {
        "label": known["label"],
        "key": known["key"],
        "study": experiment["study"],
        "device": experiment["device"],
        "experiment": experiment,
        "worker": worker,
    }
    if record.status != Status.RUNNING:
        values["cancel"] = 0  # it has been heard, and is not for the next time
    columns = {name: json.dumps(each) if name in JSON else each for name, each in values.items()}
    id, is_ours = _written(store, columns, shards.tables(folder))
    if not is_ours:
        return id, False
    if (folder / "checkpoint").is_dir() and not store.has_weights(id):
        part = store.folder(id) / "checkpoint.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder / "checkpoint", part).rename(store.folder(id) / "checkpoint")
    if (folder / "log.txt").is_file():
        shutil.copyfile(folder / "log.txt", store.folder(id) / "log.txt")
    return id, True


def _written(store: Store, values: dict[str, Any], tables: dict[str, bytes]) -> tuple[int, bool]:
    """(the job, whether it is the one that these values are of); all or nothing."""
    with store.write() as db:
        query = "SELECT * FROM job WHERE key = ? AND study = ? ORDER BY id DESC LIMIT 1"
        row = db.execute(query, (values["key"], values["study"])).fetchone()
        if row is None:
            columns, marks = ", ".join((*values, "created")), ", ".join("?" * (len(values) + 1))
            created = (
                values["started"] or time.time()
            )  # alike, as of a command of one's own: no worker here tries it once more
            id = int(
                db.execute(
                    f"INSERT INTO job ({columns}) VALUES ({marks})", (*values.values(), created)
                ).lastrowid
                or 0
            )
            store.note(db, "collected", values["study"], id)
        else:
            id = int(row["id"])
            is_others = row["status"] == Status.RUNNING and row["worker"] != values["worker"]
            if is_others or row["status"] in (Status.DONE, Status.QUEUED):
                return id, False
            db.execute(
                f"UPDATE job SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?",
                (*values.values(), id),
            )
        found = [(id, name, content) for name, content in tables.items()]
        db.executemany("INSERT OR REPLACE INTO rows (job, name, content) VALUES (?, ?, ?)", found)
    return id, True
