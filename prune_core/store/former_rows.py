"""Migration of stores before version 3, which held tables as compressed JSON in SQLite."""

import json
import shutil
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pandas as pd

from ..aliases import COLUMNS, current_experiment, current_name
from .results import CHECKPOINT, PRUNE, Results

LOST = "Some of its results were lost with the damaged store; resume it."


def to_folders(db: sqlite3.Connection, home: Path) -> None:
    """Write the tables of all jobs as stage folders, move their weights there, drop the tables."""
    for job in db.execute("SELECT id, experiment, done, seconds, facts FROM job").fetchall():
        _move(db, home, *job)
    db.execute("DROP TABLE rows")


def _move(
    db: sqlite3.Connection, home: Path, id: int, plan: str, done: str, seconds: str, facts: str
) -> None:
    finished = [current_name(name) for name in json.loads(done)]
    durations = {current_name(name): value for name, value in json.loads(seconds).items()}
    by_stage = _tables_by_stage(db, id, finished)
    experiment = current_experiment(json.loads(plan))
    stages = [PRUNE] if experiment["method"] else []
    stages += [measure["name"] for measure in experiment["measures"]]
    folders = {name: f"job-{id}/{name}" for name in dict.fromkeys((*stages, *by_stage))}
    results = Results(home / "results", folders)
    for stage, tables in by_stage.items():
        results.write(stage, tables, durations.get(stage, 0.0), json.loads(facts))
    weights = home / "jobs" / str(id) / CHECKPOINT
    if weights.is_dir() and PRUNE in folders and not results.checkpoint.exists():
        results.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(weights, results.checkpoint)
    columns = {
        "done": [stage for stage in finished if stage in by_stage],
        "seconds": durations,
        "stages": folders,
        "tables": {name: folders[stage] for stage, tables in by_stage.items() for name in tables},
    }
    _update(db, id, **{name: json.dumps(value) for name, value in columns.items()})
    if len(columns["done"]) < len(finished):
        _update(db, id, status="failed", error=LOST)


def _tables_by_stage(
    db: sqlite3.Connection, id: int, finished: list[str]
) -> dict[str, dict[str, pd.DataFrame]]:
    by_stage: dict[str, dict[str, pd.DataFrame]] = {}
    stage = ""
    query = "SELECT name, content FROM rows WHERE job = ? ORDER BY rowid"
    for former, content in db.execute(query, (id,)):
        name = current_name(former)
        if name in finished or not stage:  # the first table of a stage has its name
            stage = name
        by_stage.setdefault(stage, {})[name] = decode(name, content)
    return by_stage


def _update(db: sqlite3.Connection, id: int, **columns: str) -> None:
    assignments = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE job SET {assignments} WHERE id = ?", (*columns.values(), id))


def decode(name: str, content: bytes | str) -> pd.DataFrame:
    """Decode a table; stores made before 2026-11-28 hold uncompressed text."""
    try:
        text = content if isinstance(content, str) else zlib.decompress(content)
        stored: dict[str, Any] = json.loads(text)
    except (zlib.error, ValueError) as error:
        raise sqlite3.DatabaseError(f"malformed table {name}: {error}") from error
    frame = pd.DataFrame(stored["rows"], columns=list(stored["kinds"]))
    frame = frame.astype({name: kind for name, kind in stored["kinds"].items() if kind != "any"})
    return frame.rename(columns=COLUMNS.get(name, {}))
