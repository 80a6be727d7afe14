"""An experiment: checkpoint, data, at most one method, any measures, as plain data; and how it is run, stage by stage.

Knows nothing of jobs, SQL or pages: it takes a folder and a report, and yields tables.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.examples import DataSource
from ..errors import PruneError
from ..measures import MEASURES
from ..measures.attack import STOP_WORDS
from ..measures.base import Measure
from ..methods import METHODS
from ..models.checkpoints import folders, loading
from ..plugins import (
    DISTILLATION_OPTIONS,
    SECOND_STAGE_OPTIONS,
    TARGET_OPTIONS,
    Method,
    Options,
    build,
    distillation_label,
    second_stage_label,
    target_label,
)
from .content_hashes import hash_checkpoint, hash_data

PRUNE = "prune"  # the stage before the measures, and its table
ADDED_OPTIONS = (("tf32", False), ("min_words", None))
DATA_RULES = 3  # how tables become examples; the demo is read as ever
SOURCE_BEFORE = ("task", "text", "text_pair", "label", "calibration", "metric")
KEEP = {
    "difference": "as differences from the dense weights",
    "full": "as whole checkpoints",
    "none": "not at all",
}
PRUNE_SECONDS = 10.0  # a first guess for progress bars, of the demo on two cores


@dataclass(frozen=True)
class Experiment:
    """What to do; the dense baseline is the one without a method. Survives JSON."""

    checkpoint: str = "demo"
    source: DataSource = DataSource()
    method: Method | None = None
    measures: tuple[Measure, ...] = ()
    calibration: int = 256  # sentences
    evaluation: int = 0  # sentences, 0 = all
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    max_length: int = 128  # tokens
    study: str = ""
    min_words: int | None = (
        None  # least tokens of a calibration text; None: nine where enough of them have as many
    )
    tf32: bool = False  # on CUDA, matrix products read 10 bits of each fraction in place of 23: faster, and figures move
    keep: str = "difference"  # how pruned weights are kept, a key of KEEP; whatever it is, they can be made again from the seed

    def __post_init__(self) -> None:
        # a worker has another working directory than the person who asked
        object.__setattr__(self, "checkpoint", _absolute(self.checkpoint, folder=True))
        paths = {
            "task": _absolute(self.source.task),
            "calibration": _absolute(self.source.calibration),
        }
        object.__setattr__(self, "source", replace(self.source, **paths))
        object.__setattr__(self, "measures", tuple(self.measures))
        if self.min_words is not None and self.min_words < 0:
            raise PruneError(f"min words is {self.min_words}; it must be at least 0, or auto.")
        for name, low in (
            ("calibration", 1),
            ("evaluation", 0),
            ("batch_size", 1),
            ("max_length", 4),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise PruneError(
                    f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be at least {low}."
                )
        if self.keep not in KEEP:
            raise PruneError(f"keep is {self.keep!r}; choose {', '.join(KEEP)}.")
        names = [measure.name for measure in self.measures]
        if twice := {name for name in names if names.count(name) > 1}:
            raise PruneError(
                f"The measure {min(twice)} is there twice; give it once, with one set of options."
            )
        for measure in self.measures:
            if measure.reads and measure.reads not in names:
                raise PruneError(
                    f"{measure.name}, as asked for, reads what {measure.reads} finds; add the measure {measure.reads}."
                )
        if not names and self.method is None:
            raise PruneError("There is nothing to do: choose a method, a measure, or both.")

    @property
    def label(self) -> str:
        """How charts name this run."""
        name = "Dense" if self.method is None else self.method.label
        if self.method and (more := second_stage_label(self.method.to_dict())):
            name += f" · {more}"
        if self.method and (tuned := distillation_label(self.method.to_dict())):
            name += f" · {tuned}"
        return f"{name} · seed {self.seed}" if self.seed else name

    def to_dict(self) -> dict[str, Any]:
        """The experiment as plain data."""
        plain = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        plain["source"] = asdict(self.source)
        plain["method"] = _plugin_dict(self.method) if self.method else None
        plain["measures"] = [_plugin_dict(measure) for measure in self.measures]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Experiment:
        """The experiment from plain data."""
        values = dict(plain)
        known = [spec.name for spec in fields(cls)]
        if strange := [name for name in values if name not in known]:
            raise PruneError(f"An experiment has no {strange[0]!r}; it has {', '.join(known)}.")
        method = values.get("method")
        values["source"] = DataSource(**values.get("source") or {})
        values["method"] = build(METHODS, method["name"], method["options"]) if method else None
        values["measures"] = tuple(
            build(MEASURES, each["name"], each["options"]) for each in values.get("measures") or ()
        )
        return cls(**values)

    def data_key(self) -> dict[str, Any]:
        """What decides whether checkpoint and data go together: equal for the models of a study."""
        names = (
            "checkpoint",
            "source",
            "measures",
            "calibration",
            "evaluation",
            "seed",
            "max_length",
            "min_words",
        )
        labelled = self.method is not None and self.method.labelled
        return {name: value for name, value in self.to_dict().items() if name in names} | {
            "labelled": labelled
        }

    def key(self) -> str:
        """A hash of everything that decides the rows: equal keys, equal rows."""
        decides = {**self.to_dict(), "study": "", "version": __version__}
        for (
            name,
            usual,
        ) in (
            ADDED_OPTIONS
        ):  # what came later is left out where it is as usual, so that keys from before stay
            if decides[name] == usual:
                del decides[name]
        if self.method is not None:
            options = self.method.to_dict()
            unused = (() if target_label(options) else TARGET_OPTIONS) + (
                () if second_stage_label(options) else SECOND_STAGE_OPTIONS
            )
            unused += () if self.method.distil else DISTILLATION_OPTIONS
            unused += (
                () if self.method.distil_attacked else ("distil_attacked",)
            )  # as in keys from before it
            kept = {
                name: value
                for name, value in decides["method"]["options"].items()
                if name not in unused
            }
            decides["method"] = {**decides["method"], "options": kept}
        del decides["keep"]
        if self.source.task != "demo":
            decides["data"] = DATA_RULES
        if any(measure.name == "attack" for measure in self.measures):
            decides["attack"] = STOP_WORDS
        decides["source"] = {
            name: value
            for name, value in decides["source"].items()
            if value or name in SOURCE_BEFORE
        }
        content = json.dumps([decides, self.content()], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def content(self) -> list[list[list[str]]]:
        """[name, SHA-256] of the local files of checkpoint, task and calibration data."""
        data = (self.source.task, self.source.calibration)
        return [hash_checkpoint(self.checkpoint), *map(hash_data, data)]


def _plugin_dict(plugin: Options) -> dict[str, Any]:
    return {"name": plugin.name, "options": plugin.to_dict()}


def _absolute(name: str, folder: bool = False) -> str:
    """A local path made absolute; names of tasks and models stay as they are."""
    path = os.path.expanduser(name)
    found = os.path.isdir(path) if folder else os.path.exists(path)
    return (
        os.path.realpath(path)
        if name and name not in (*folders.BUNDLED, loading.MINILM) and found
        else name
    )


def ordered(measures: Collection[Measure]) -> list[Measure]:
    """Quick measures before slow ones, then those that read another's tables, otherwise as given."""
    return sorted(measures, key=lambda measure: (is_slow(measure), bool(measure.reads)))


def is_slow(measure: Measure) -> bool:
    """Whether it takes so long that a study does it last."""
    return bool(getattr(measure, "slow", False))


def stages(experiment: Experiment) -> list[str]:
    """The steps of a run in their order: prune, then every measure."""
    return ([PRUNE] if experiment.method else []) + [
        measure.name for measure in ordered(experiment.measures)
    ]


def estimates(experiment: Experiment) -> dict[str, float]:
    """Rough seconds of every stage, for progress bars."""
    method = experiment.method
    seconds = (
        {PRUNE: getattr(method, "estimate", PRUNE_SECONDS) + 60 * method.distil} if method else {}
    )
    return seconds | {
        measure.name: float(getattr(measure, "estimate", 5.0))
        for measure in ordered(experiment.measures)
    }


def disk(experiment: Experiment) -> float:
    """Bytes that a run's pruned weights take at most, about; 0 for a dense one, NaN where the checkpoint is not on this machine."""
    if experiment.method is None or experiment.keep == "none":
        return 0.0
    place = folders.BUNDLED.get(experiment.checkpoint, Path(experiment.checkpoint))
    encoder, whole = folders.weight_bytes(folders.config_of(place))
    if not whole:
        return float("nan")
    left = (
        1 - float(getattr(experiment.method, "sparsity", 0.5)) + 1 / 32
    )  # the values, and a bit for each weight
    return whole if experiment.keep == "full" else encoder * min(1.0, left)
