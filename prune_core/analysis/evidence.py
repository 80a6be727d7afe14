"""Evidence for deployment: the stored measurements of a pruned job and of its dense model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..errors import PruneError
from ..store.job import Job
from ..store.store import Store
from ..tasks import DEFAULT, METRICS, TaskType, prediction_type

SLICES = ("length", "label")  # predefined; keyword:WORD and column:NAME are custom
CONFIDENCE = 95.0  # %, one-sided


class JobTables(dict[str, pd.DataFrame]):
    """Tables by name, each read from the store at its first use; empty if not measured."""

    def __init__(self, store: Store, jobs: Sequence[int]) -> None:
        super().__init__()
        self._store, self._jobs = store, jobs

    def __missing__(self, name: str) -> pd.DataFrame:
        self[name] = self._store.rows(name, self._jobs)
        return self[name]


@dataclass(frozen=True)
class Evidence:
    """Measurements of a pruned job and of its dense model, and how a policy slices them."""

    job: Job
    dense: Job | None
    tables: Mapping[str, pd.DataFrame]  # of the pruned job
    dense_tables: Mapping[str, pd.DataFrame]
    slices: tuple[str, ...] = SLICES
    alpha: float = 1 - CONFIDENCE / 100  # one-sided error probability

    @property
    def kind(self) -> str:
        """The name of the task type."""
        return str(self.job.facts.get("kind", DEFAULT))

    @property
    def prediction_type(self) -> TaskType:
        """The task type of the stored predictions."""
        return prediction_type(self.kind, str(self.job.facts.get("metric", "")))

    @property
    def label_names(self) -> list[str]:
        """The names of the model's labels."""
        return list(self.job.facts.get("label_names", []))

    @property
    def metric(self) -> str:
        """The metric of the task."""
        rows = self.tables["accuracy"]
        measured = rows["metric"].iloc[0] if len(rows) else self.job.facts.get("metric")
        return str(measured or "accuracy")

    @property
    def is_labelled(self) -> bool:
        """Whether accuracy was measured against labels rather than the dense model."""
        return not METRICS[self.metric].against_dense


def metric_of(accuracy: pd.DataFrame) -> str:
    """Return the metric of the table; accuracy if it is empty or without labels."""
    metric = str(accuracy["metric"].iloc[0]) if len(accuracy) else "accuracy"
    return "accuracy" if METRICS[metric].against_dense else metric


def evidence(store: Store, job: Job) -> Evidence:
    """Load the measurements of a pruned job and of the dense model with the same data and seed."""
    if not job.experiment.get("method"):
        raise PruneError(f"Job {job.id} is the dense model; choose the job of a pruned model.")
    shared = ("checkpoint", "source", "seed", "evaluation_size", "max_length")
    dense = next(
        (
            other
            for other in reversed(store.jobs(job.study))
            if not other.experiment.get("method")
            and all(other.experiment.get(key) == job.experiment.get(key) for key in shared)
        ),
        None,
    )
    dense_tables = JobTables(store, [dense.id] if dense else [])
    return Evidence(job, dense, JobTables(store, [job.id]), dense_tables)
