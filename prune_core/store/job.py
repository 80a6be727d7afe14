"""An experiment with a status: what the store keeps of it, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any


class Status:
    """The five states of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """An experiment with a status, progress, timings and versions: one row of the database."""

    id: int
    study: str
    label: str
    key: str
    experiment: dict[str, Any]
    device: str  # as asked for, "auto" included; facts say which it was
    status: str
    progress: float
    message: str
    stage: str  # the stage it is in, "" before the first
    done: tuple[str, ...]  # finished stages
    seconds: dict[str, float]  # by finished stage
    versions: dict[str, str]
    facts: dict[str, Any]
    error: str
    cancel: bool  # the user asked for it to stop
    created: float
    started: float | None
    finished: float | None
    estimate_left: float | None  # seconds
    worker: str  # whose lock says whether it is alive
    deferred: bool  # its quick stages are over and it waits with the slow ones


COLUMNS = [spec.name for spec in fields(Job)]
JSON = ("experiment", "done", "seconds", "versions", "facts")


def from_row(row: Mapping[str, Any]) -> Job:
    """The job in a row of the database."""
    return _read(tuple(row[name] for name in COLUMNS))


@lru_cache(
    maxsize=4096
)  # a page asks for the same jobs many times over; nobody changes what a Job holds
def _read(columns: tuple[Any, ...]) -> Job:
    values = dict(zip(COLUMNS, columns, strict=True))
    values.update({name: json.loads(values[name]) for name in JSON})
    values.update(
        done=tuple(values["done"]), cancel=bool(values["cancel"]), deferred=bool(values["deferred"])
    )
    return Job(**values)
