"""What is compared: a run as charts see it, what it is called, and in which order. Knows no colours."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plugins import target_label
from ..store.job import Job
from .ablation import forms

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
)  # everywhere


@dataclass(frozen=True)
class ComparedModel:
    """A run as charts see it: which rows are its own, what it is called, how it was pruned."""

    job: int
    label: str
    method: str = DENSE
    sparsity: float = 0.0
    pattern: str = ""  # or the target that was asked for in the place of a share
    seed: int = 0
    structured: bool = False  # whole heads and neurons went, and sparsity is a share of FLOPs
    runs: tuple[
        int, ...
    ] = ()  # where several seeds are one model: the jobs of all of them, its own among them
    form: str = (
        ""  # where a method was run with different options: what this run changes of the full form
    )
    start: str = ""  # where a study has several checkpoints: this one's name, "" for the first

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
        """The method's own title, which its label begins with: AKR, SparseGPT."""
        return self.label.split(" · ")[0].removesuffix(self.level).strip(" −") or self.method

    @property
    def short(self) -> str:
        """The label where a chart has little room; the minus sign still says that FLOPs went, not weights."""
        return self.label.replace(" FLOPs", "")

    @property
    def level(self) -> str:
        """What was asked for: 70%, 2:4, 70% FLOPs or 3 times faster."""
        return (
            self.pattern or f"{self.sparsity:.1%}".replace(".0%", "%") + " FLOPs" * self.structured
        )


def with_rows(models: Iterable[ComparedModel], rows: pd.DataFrame) -> list[ComparedModel]:
    """The models that a table has rows of."""
    known = set(rows["job"]) if len(rows) else set()
    return [model for model in models if model.job in known]


def ordered(models: Iterable[ComparedModel]) -> list[ComparedModel]:
    """Dense first, then by method, sparsity, pattern, seed: the same order on every page."""
    rank = {name: place for place, name in enumerate(ORDER)}

    def place(m: ComparedModel) -> tuple[Any, ...]:
        return (
            rank.get(m.method, len(rank)),
            m.method,
            m.pattern != "",
            m.sparsity,
            m.pattern,
            m.start,
            m.seed,
            m.job,
        )

    return sorted(models, key=place)


def _model(job: Job, label: str, form: str, start: str) -> ComparedModel:
    """A job as charts see it."""
    method, seed = job.experiment.get("method"), int(job.experiment.get("seed", 0))
    if not method:
        return ComparedModel(job.id, label, seed=seed, start=start)
    options = method["options"]
    structured = (
        "keep_one_head" in options
    )  # as every UnitMethod has it; asking the class would import torch into pages
    pattern = options.get("pattern") or target_label(options)
    return ComparedModel(
        job.id,
        label,
        method["name"],
        sparsity=float(options.get("sparsity", 0.0)),
        pattern=pattern,
        seed=seed,
        structured=structured,
        runs=(),
        form=form,
        start=start,
    )


def models_of(jobs: Sequence[Job]) -> list[ComparedModel]:
    """The jobs as models in the usual order; labels say what options change, and where two are still the same the job's number."""
    plans: dict[str, dict[int, Any]] = {}
    for job in jobs:
        if method := job.experiment.get("method"):
            plans.setdefault(method["name"], {})[job.id] = method["options"]
    form = {id: told for own in plans.values() for id, told in forms(own).items()}
    start = _starts(jobs)
    said = {
        job.id: [*job.label.split(" · "), start[job.id], *form.get(job.id, "").split(", ")]
        for job in jobs
    }
    labels = {
        id: " · ".join(dict.fromkeys(filter(None, own))) for id, own in said.items()
    }  # what a label says is not said twice
    shared = Counter(labels.values())
    named = {
        id: label if shared[label] == 1 else f"{label} · job {id}" for id, label in labels.items()
    }
    return ordered(
        _model(job, named[job.id], form.get(job.id, ""), start=start[job.id]) for job in jobs
    )


def _starts(jobs: Sequence[Job]) -> dict[int, str]:
    """Names of the jobs' checkpoints where they are not the first job's."""
    names = {job.id: str(job.experiment.get("checkpoint", "")) for job in jobs}
    first = names[min(names)] if names else ""
    return {
        id: "" if name == first else os.path.basename(name.rstrip("/"))
        for id, name in names.items()
    }
