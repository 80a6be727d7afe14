"""An experiment as data: checkpoint, examples, at most one method, measures; and its stages.

Knows nothing of jobs, SQL or pages.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..aliases import current_experiment
from ..data.examples import DataSource
from ..errors import PruneError
from ..measures import MEASURES
from ..measures.base import Measure
from ..methods import METHODS
from ..models.checkpoints import folders, loading
from ..plugins import (
    CANDIDATE,
    Method,
    Options,
    build,
    distillation_label,
    second_stage_label,
)
from ..store.results import PRUNE
from .candidate import CandidateModel
from .settings import RunSettings

PRUNE_SECONDS = 10.0  # default estimate for progress bars: the demo on two cores


@dataclass(frozen=True)
class Experiment(RunSettings):
    """An experiment; without a method, it measures the dense baseline.

    Raises PruneError for values out of range, duplicate measures, or nothing to do.
    """

    source: DataSource = DataSource()
    method: Method | None = None
    measures: tuple[Measure, ...] = ()
    study: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        # a worker has another working directory than the user who submits
        object.__setattr__(self, "checkpoint", _absolute(self.checkpoint, folder=True))
        source = replace(
            self.source,
            task=_absolute(self.source.task),
            calibration=_absolute(self.source.calibration),
        )
        object.__setattr__(self, "source", source)
        if isinstance(self.method, CandidateModel):
            method = replace(
                self.method,
                path=_absolute(self.method.path),
                tokenizer=_absolute(self.method.tokenizer),
            )
            object.__setattr__(self, "method", method)
        object.__setattr__(self, "measures", tuple(self.measures))
        names = [measure.name for measure in self.measures]
        if duplicates := {name for name in names if names.count(name) > 1}:
            raise PruneError(
                f"The measure {min(duplicates)} is listed twice; list it once, with one set of "
                "options."
            )
        check_reads(self.measures)
        if not names and self.method is None:
            raise PruneError("There is nothing to do: choose a method, a measure, or both.")

    @property
    def label(self) -> str:
        """The name of the run in charts, such as "AKR 70% · seed 1"."""
        options = self.method.to_dict() if self.method else {}
        parts = [
            self.method.label if self.method else "Dense",
            second_stage_label(options),
            distillation_label(options),
            f"seed {self.seed}" if self.seed else "",
        ]
        return " · ".join(filter(None, parts))

    def to_dict(self) -> dict[str, Any]:
        """Return the experiment as plain data."""
        plain = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        plain["source"] = asdict(self.source)
        plain["method"] = None
        if self.method:
            plain["method"] = _plugin_dict(self.method) | {"removes": self.method.removes}
        plain["measures"] = [_plugin_dict(measure) for measure in self.measures]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Experiment:
        """Create the experiment from plain data, with former names; PruneError for unknown keys."""
        values = current_experiment(plain)
        known = [spec.name for spec in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise PruneError(f"An experiment has no {unknown[0]!r}; it has {', '.join(known)}.")
        method = values.get("method")
        values["source"] = DataSource(**values.get("source") or {})
        values["method"] = (
            build({**METHODS, CANDIDATE: CandidateModel}, method["name"], method["options"])
            if method
            else None
        )
        values["measures"] = tuple(
            build(MEASURES, each["name"], each["options"]) for each in values.get("measures") or ()
        )
        return cls(**values)

    def data_key(self) -> dict[str, Any]:
        """Return what the data check depends on; it is equal for the models of a study."""
        names = (
            "checkpoint",
            "pooling",
            "source",
            "measures",
            "calibration_size",
            "evaluation_size",
            "seed",
            "max_length",
            "min_words",
        )
        return {
            **{name: value for name, value in self.to_dict().items() if name in names},
            "labelled": self.method is not None and self.method.labelled,
        }


def _plugin_dict(plugin: Options) -> dict[str, Any]:
    return {"name": plugin.name, "options": plugin.to_dict()}


def _absolute(name: str, folder: bool = False) -> str:
    """Make a local path absolute; names of tasks and models are returned unchanged."""
    path = os.path.expanduser(name)
    exists = os.path.isdir(path) if folder else os.path.exists(path)
    is_path = name and name not in (*folders.BUNDLED, loading.MINILM) and exists
    return os.path.realpath(path) if is_path else name


def check_reads(measures: Collection[Measure]) -> None:
    """Raise PruneError if a measure reads the tables of another that is not among them."""
    names = [measure.name for measure in measures]
    for measure in measures:
        if measure.reads and measure.reads not in names:
            raise PruneError(
                f"{measure.name} with these options reads the results of {measure.reads}; add the "
                f"measure {measure.reads}."
            )


def order_measures(measures: Collection[Measure]) -> list[Measure]:
    """Sort quick measures before slow ones, then those that read another's tables to the end."""
    return sorted(measures, key=lambda measure: (is_slow(measure), bool(measure.reads)))


def is_slow(measure: Measure) -> bool:
    """Whether a study runs the measure after the quick ones of all models."""
    return bool(getattr(measure, "slow", False))


def stages(experiment: Experiment) -> list[str]:
    """Return the stages of a run in order: prune, then every measure."""
    return ([PRUNE] if experiment.method else []) + [
        measure.name for measure in order_measures(experiment.measures)
    ]


def estimate_seconds(experiment: Experiment) -> dict[str, float]:
    """Estimate the seconds of every stage on the demo with two cores, for progress bars."""
    method = experiment.method
    pruning = (
        {PRUNE: getattr(method, "estimate", PRUNE_SECONDS) + 60 * method.distil} if method else {}
    )
    return pruning | {
        measure.name: float(getattr(measure, "estimate", 5.0))
        for measure in order_measures(experiment.measures)
    }


def estimate_disk(experiment: Experiment) -> float:
    """Estimate the bytes on disk of a run's pruned weights, at most.

    0 for a dense model, NaN if the checkpoint is not on this machine.
    """
    if experiment.method is None or experiment.keep == "none":
        return 0.0
    place = folders.BUNDLED.get(experiment.checkpoint, Path(experiment.checkpoint))
    encoder, total = folders.weight_bytes(folders.config_of(place))
    if not total:
        return float("nan")
    # the remaining values, and one bit per weight
    fraction = 1 - float(getattr(experiment.method, "sparsity", 0.5)) + 1 / 32
    return total if experiment.keep == "full" else encoder * min(1.0, fraction)
