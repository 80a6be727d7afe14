"""A job as plain data: an experiment with its status, as stored in the database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from ..aliases import current_experiment
from ..plugins import CANDIDATE, target_label


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
    device: str  # as requested, "auto" included; facts have the actual one
    status: str
    progress: float
    message: str
    stage: str  # the current stage, "" before the first
    done: tuple[str, ...]  # finished stages
    seconds: dict[str, float]  # by finished stage
    versions: dict[str, str]
    facts: dict[str, Any]
    error: str
    cancel: bool  # the user has requested cancellation
    created: float
    started: float | None
    finished: float | None
    estimate_left: float | None  # seconds
    worker: str  # name of the worker process, whose lock shows whether it is alive
    deferred: bool  # its quick stages are done and it is queued for its slow ones
    stages: dict[str, str] = field(default_factory=dict)  # folder of each, below results/
    tables: dict[str, str] = field(default_factory=dict)  # folder of each table so far

    @property
    def units(self) -> str:
        """What the evaluation consists of: examples, or queries of a retrieval collection."""
        return "queries" if "retrieval" in self.done else "examples"

    @property
    def is_candidate(self) -> bool:
        """Whether the job measures a model from elsewhere, which was not pruned here."""
        return (self.experiment.get("method") or {}).get("name") == CANDIDATE

    @property
    def identity(self) -> dict[str, Any]:
        """The columns that identify the job in each of its rows."""
        method = self.experiment.get("method")
        options = method["options"] if method else {}
        requested = float(options.get("sparsity", 0.0))  # an N:M pattern has set it
        return {
            "job": self.id,
            "label": self.label,
            "study": self.study,
            "method": method["name"] if method else "dense",
            "requested_sparsity": requested,
            "sparsity": requested,
            "pattern": options.get("pattern") or target_label(options),
            "seed": self.experiment.get("seed", 0),
        }


COLUMNS = [spec.name for spec in fields(Job)]
JSON = ("experiment", "done", "seconds", "versions", "facts", "stages", "tables")


def from_row(row: Mapping[str, Any]) -> Job:
    """Return the job in a row of the database."""
    return _read(tuple(row[name] for name in COLUMNS))


# a page requests the same jobs many times; nobody modifies the contents of a Job
@lru_cache(maxsize=4096)
def _read(columns: tuple[Any, ...]) -> Job:
    values = dict(zip(COLUMNS, columns, strict=True))
    values.update({name: json.loads(values[name]) for name in JSON})
    values.update(
        experiment=current_experiment(values["experiment"]),
        done=tuple(values["done"]),
        cancel=bool(values["cancel"]),
        deferred=bool(values["deferred"]),
    )
    return Job(**values)
