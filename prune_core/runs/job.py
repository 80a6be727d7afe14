"""An experiment with a status: what the store keeps of it, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
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
