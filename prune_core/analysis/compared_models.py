"""Compared models: runs as shown in charts, with their labels and order."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plugins import CANDIDATE
from ..store.job import Job
from .ablation import form_labels

DENSE = "dense"
ORDER = (
    DENSE,
    "magnitude",
    "wanda",
    "ria",
    "dsnot",
    "sparsegpt",
    "alps",
    "akr",
    "akr_plus",
    "block_drop",
    "osscar",
    "ziplm",
    "kwon",
    "kprune",
    "kprune_plus",
    CANDIDATE,
)  # of methods in all charts and tables


@dataclass(frozen=True)
class ComparedModel:
    """A run, or several seeds of a run, as shown in charts: job, label and how it was pruned."""

    job: int
    label: str
    method: str = DENSE
    sparsity: float = 0.0
    pattern: str = ""  # N:M, or another target than a sparsity
    seed: int = 0
    structured: bool = False  # heads and neurons are removed, and sparsity is a fraction of FLOPs
    runs: tuple[int, ...] = ()  # jobs of all seeds, `job` included, if seeds are averaged
    form: str = ""  # changed options, if a method was run with different options
    start: str = ""  # name of the initial checkpoint, "" for the study's first one

    @property
    def is_dense(self) -> bool:
        """True for the baseline."""
        return self.method == DENSE

    @property
    def jobs(self) -> tuple[int, ...]:
        """The jobs of all its seeds."""
        return self.runs or (self.job,)

    @property
    def family(self) -> str:
        """The title of the method, with which the label begins: AKR, SparseGPT."""
        return self.label.split(" · ")[0].removesuffix(self.level).strip(" −") or self.method

    @property
    def short(self) -> str:
        """The label for charts with little space; the minus sign still marks FLOPs."""
        return self.label.replace(" FLOPs", "")

    @property
    def level(self) -> str:
        """The requested target: 70%, 2:4, 70% FLOPs or 3 times faster."""
        if self.pattern:
            return self.pattern
        percentage = f"{self.sparsity:.1%}".replace(".0%", "%")
        return f"{percentage} FLOPs" if self.structured else percentage


def with_rows(models: Iterable[ComparedModel], rows: pd.DataFrame) -> list[ComparedModel]:
    """Return the models that have rows in a table."""
    known = set(rows["job"]) if len(rows) else set()
    return [model for model in models if model.job in known]


def ordered(models: Iterable[ComparedModel]) -> list[ComparedModel]:
    """Sort models: dense first, then by method, sparsity, pattern and seed."""
    return sorted(
        models,
        key=lambda model: (
            ORDER.index(model.method) if model.method in ORDER else len(ORDER),
            model.method,
            model.pattern != "",
            model.sparsity,
            model.pattern,
            model.start,
            model.seed,
            model.job,
        ),
    )


def _model(job: Job, label: str, form: str, start: str) -> ComparedModel:
    """Convert a job to a model."""
    method, identity = job.experiment.get("method"), job.identity
    return ComparedModel(
        job.id,
        label,
        **{name: identity[name] for name in ("method", "sparsity", "pattern", "seed")},
        structured=(method or {}).get("removes") == "units",
        form=form,
        start=start,
    )


def models_of(jobs: Sequence[Job]) -> list[ComparedModel]:
    """Convert jobs to sorted models with unique labels.

    Labels name changed options and, if they are still equal, the number of the job.
    """
    plans: dict[str, dict[int, Any]] = {}
    for job in jobs:
        method = job.experiment.get("method")
        if method and not job.is_candidate:
            plans.setdefault(method["name"], {})[job.id] = method["options"]
    form_of = {
        id: label
        for plans_of_method in plans.values()
        for id, label in form_labels(plans_of_method).items()
    }
    start_of = _checkpoint_names(jobs)
    parts = (
        [*job.label.split(" · "), start_of[job.id], *form_of.get(job.id, "").split(", ")]
        for job in jobs
    )
    labels = {
        job.id: " · ".join(dict.fromkeys(filter(None, parts_of_job)))
        for job, parts_of_job in zip(jobs, parts, strict=True)
    }  # without repetitions
    counts = Counter(labels.values())
    unique = {
        id: label if counts[label] == 1 else f"{label} · job {id}" for id, label in labels.items()
    }
    return ordered(
        _model(job, unique[job.id], form_of.get(job.id, ""), start=start_of[job.id]) for job in jobs
    )


def _checkpoint_names(jobs: Sequence[Job]) -> dict[int, str]:
    """Return the name of each job's checkpoint, "" for that of the first job."""
    names = {job.id: str(job.experiment.get("checkpoint", "")) for job in jobs}
    first = names[min(names)] if names else ""
    return {
        id: "" if name == first else os.path.basename(name.rstrip("/"))
        for id, name in names.items()
    }
