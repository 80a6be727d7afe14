"""Import the results of experiments that ran elsewhere, from the folders that shards.py writes.

The experiments may still be running. Does not import torch.
"""

import json
import os
import shutil
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..store.job import JSON, Status
from ..store.results import PRUNE, Results
from ..store.store import Store
from . import shards
from .shards import Record

UNFINISHED = (
    "It was not finished when it was collected: {done} of its stages were. Continue it with "
    "python -m prune_core run-shard and collect it again."
)


def collect(store: Store, place: Path) -> Counter[str]:
    """Import the experiments of a plan, one job each; return the number of jobs by state.

    The states are done, failed, cancelled, unfinished and not begun. Repeated calls update only
    what has changed.
    """
    counts: Counter[str] = Counter()
    for folder in shards.experiment_folders(place):
        record = Record.read(folder)
        if record.status == Status.QUEUED:
            counts["not begun"] += 1
            continue
        if record.status == Status.RUNNING:
            counts["unfinished"] += 1
            record = _unfinished(record)
        else:
            counts[record.status] += 1
        adopt_shard(store, folder, record)
    return counts


def _unfinished(record: Record) -> Record:
    """Convert a running record to a failed one, because no process of this store runs it."""
    return replace(
        record,
        status=Status.FAILED,
        error=UNFINISHED.format(done=len(record.done) or "none"),
        message="",
    )


def adopt_shard(store: Store, folder: Path, record: Record, worker: str = "") -> int:
    """Create or update the job of an experiment's folder; return its ID.

    `worker` is the process of this machine that follows it. A job of the same key and study that
    is done, queued or run by another process here is left unchanged. Results are copied first, so
    that a job which is done has all of them.
    """
    description = shards.read_description(folder)
    experiment = description["experiment"]
    _copy_results(shards.read_results(folder), store)
    values = asdict(record) | {
        "label": description["label"],
        "key": description["key"],
        "study": experiment["study"],
        "device": experiment["device"],
        "experiment": experiment,
        "stages": description["stages"],
        "worker": worker,
    }
    if record.status != Status.RUNNING:
        values["cancel"] = 0  # the request has been served and must not stop a later run
    columns = {name: json.dumps(value) if name in JSON else value for name, value in values.items()}
    id, is_ours = _upsert(store, columns)
    if is_ours:
        store.index(id, *description["stages"])
        if (folder / "log.txt").is_file():
            shutil.copyfile(folder / "log.txt", store.folder(id) / "log.txt")
    return id


def _copy_results(source: Results, store: Store) -> None:
    """Copy finished stages and weights that the store lacks."""
    copies = Results(store.home / "results", source.folders)
    stages = [name for name in source.folders if source.is_done(name) and not copies.is_done(name)]
    pairs = [(source.folder(name), copies.folder(name)) for name in stages]
    if PRUNE in source.folders and source.checkpoint.is_dir() and not copies.checkpoint.is_dir():
        pairs.insert(0, (source.checkpoint, copies.checkpoint))
    for original, copy in pairs:
        part = copy.with_name(f"{copy.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(original, part)
        part.rename(copy)


def _upsert(store: Store, values: dict[str, Any]) -> tuple[int, bool]:
    """Write the job in one transaction; return (job, whether the values were written)."""
    with store.write() as db:
        query = "SELECT * FROM job WHERE key = ? AND study = ? ORDER BY id DESC LIMIT 1"
        row = db.execute(query, (values["key"], values["study"])).fetchone()
        if row is None:
            columns, marks = ", ".join((*values, "created")), ", ".join("?" * (len(values) + 1))
            # equal to `started`, as for a user's own command: workers here will not requeue it
            created = values["started"] or time.time()
            inserted = db.execute(
                f"INSERT INTO job ({columns}) VALUES ({marks})", (*values.values(), created)
            )
            id = int(inserted.lastrowid or 0)
            store.record_event(db, "collected", values["study"], id)
        else:
            id = int(row["id"])
            is_others = row["status"] == Status.RUNNING and row["worker"] != values["worker"]
            if is_others or row["status"] in (Status.DONE, Status.QUEUED):
                return id, False
            db.execute(
                f"UPDATE job SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?",
                (*values.values(), id),
            )
    return id, True
