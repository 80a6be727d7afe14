"""An experiment: checkpoint, data, at most one method, any measures, as plain data; and how it is run, stage by stage.

Knows nothing of jobs, SQL or pages: it takes a folder and a report, and yields tables.
"""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import random
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from . import PruneError, __version__, encoders
from .data import Task, batches, encode
from .data import load as load_task
from .examples import Source
from .measures import MEASURES
from .methods import METHODS
from .plugins import Measure, Method, Options, Pair, Report, Rows, build, part_of
from .shrink import refuse_shrunk
from .unitwise import UnitMethod

PRUNE = "prune"  # the stage before the measures, and its table
PRUNE_SECONDS = 10.0  # a first guess for progress bars, of the demo on two cores
THREADS = torch.get_num_threads()


class Stage(NamedTuple):
    """One finished step of a run."""

    name: str
    rows: Rows
    seconds: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """What to do; the dense baseline is the one without a method. Survives JSON."""

    checkpoint: str = "demo"
    source: Source = Source()
    method: Method | None = None
    measures: tuple[Measure, ...] = ()
    calibration: int = 256  # sentences
    evaluation: int = 0  # sentences, 0 = all
    seed: int = 0
    device: str = "auto"
    batch_size: int = 32
    max_length: int = 128  # tokens
    study: str = ""
    tf32: bool = False  # on CUDA, matrix products read 10 bits of each fraction in place of 23: faster, and figures move

    def __post_init__(self) -> None:
        # a worker has another working directory than the person who asked
        object.__setattr__(self, "checkpoint", _absolute(self.checkpoint, folder=True))
        paths = {"task": _absolute(self.source.task), "calibration": _absolute(self.source.calibration)}
        object.__setattr__(self, "source", replace(self.source, **paths))
        object.__setattr__(self, "measures", tuple(self.measures))
        for name, low in (("calibration", 1), ("evaluation", 0), ("batch_size", 1), ("max_length", 4), ("seed", 0)):
            if getattr(self, name) < low:
                raise PruneError(f"{name.replace('_', ' ')} is {getattr(self, name)}; it must be at least {low}.")
        names = [measure.name for measure in self.measures]
        if twice := {name for name in names if names.count(name) > 1}:
            raise PruneError(f"The measure {min(twice)} is there twice; give it once, with one set of options.")
        for measure in self.measures:
            if measure.reads and measure.reads not in names:
                raise PruneError(f"{measure.name}, as asked for, reads what {measure.reads} finds; add the measure {measure.reads}.")
        if not names and self.method is None:
            raise PruneError("There is nothing to do: choose a method, a measure, or both.")

    @property
    def label(self) -> str:
        """How charts name this run."""
        name = "Dense" if self.method is None else self.method.label
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
        values["source"] = Source(**values.get("source") or {})
        values["method"] = build(METHODS, method["name"], method["options"]) if method else None
        values["measures"] = tuple(build(MEASURES, each["name"], each["options"]) for each in values.get("measures") or ())
        return cls(**values)

    def key(self) -> str:
        """A hash of everything that decides the rows: equal keys, equal rows."""
        decides = {**self.to_dict(), "study": "", "version": __version__}
        if not self.tf32:
            del decides["tf32"]  # keys from before it existed stay
        stamps = [_stamp(path) for path in (self.checkpoint, self.source.task, self.source.calibration)]
        return hashlib.sha256(json.dumps([decides, stamps], sort_keys=True).encode()).hexdigest()


def _plugin_dict(plugin: Options) -> dict[str, Any]:
    return {"name": plugin.name, "options": plugin.to_dict()}


def _absolute(name: str, folder: bool = False) -> str:
    """A local path made absolute; names of tasks and models stay as they are."""
    path = Path(name).expanduser()
    found = path.is_dir() if folder else path.is_file()
    return str(path.resolve()) if name and name not in ("demo", encoders.MINILM) and found else name


def _stamp(name: str) -> list[Any]:
    """Size and time of a local file or of a folder's files, so that a changed one gives another key."""
    if not name:
        return []  # Path("") would be the working directory
    path = Path(encoders.resolve(name)) if name == "demo" else Path(name)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def ordered(measures: Collection[Measure]) -> list[Measure]:
    """Quick measures before slow ones, then those that read another's tables, otherwise as given."""
    return sorted(measures, key=lambda measure: (is_slow(measure), bool(measure.reads)))


def is_slow(measure: Measure) -> bool:
    """Whether it takes so long that a study does it last."""
    return bool(getattr(measure, "slow", False))


def stages(experiment: Experiment) -> list[str]:
    """The steps of a run in their order: prune, then every measure."""
    return ([PRUNE] if experiment.method else []) + [measure.name for measure in ordered(experiment.measures)]


def estimates(experiment: Experiment) -> dict[str, float]:
    """Rough seconds of every stage, for progress bars."""
    seconds = {PRUNE: getattr(experiment.method, "estimate", PRUNE_SECONDS)} if experiment.method else {}
    return seconds | {measure.name: float(getattr(measure, "estimate", 5.0)) for measure in ordered(experiment.measures)}


def run(
    experiment: Experiment, folder: Path, report: Report, done: Collection[str] = (), known: Rows | None = None
) -> Iterator[Stage]:
    """Do the stages that are not `done`, one by one; what is pruned is kept in folder/checkpoint. `known`: tables of what is done."""
    if PRUNE in done and not (folder / "checkpoint").is_dir():
        done = [name for name in done if name != PRUNE]
    seconds = estimates(experiment)
    whole = sum(seconds.values())
    start = sum(seconds[name] for name in stages(experiment) if name in done) / whole
    report(start, f"loading {experiment.checkpoint}")
    bench = _Bench(experiment, folder, dict(known or {}))
    for name in stages(experiment):
        if name in done:
            continue
        end = start + seconds[name] / whole
        yield bench.stage(name, part_of(report, start, end))
        start = end


def preload() -> None:
    """Load what the demo needs ahead of the first job."""
    if (encoders.DEMO / "config.json").is_file():
        _dense("demo", json.dumps(_stamp("demo")), str(encoders.pick_device("auto")))


@lru_cache(maxsize=1)  # a sweep loads its dense model once
def _dense(checkpoint: str, stamp: str, device: str) -> tuple[nn.Module, Any]:
    model, tokenizer = encoders.load(checkpoint)
    return model.to(device), tokenizer


@lru_cache(maxsize=1)  # and measures it once: the memo is where measures keep what they know of the dense model
def _shared(frame: str, source: Source, labels: tuple[str, ...], kind: str, sizes: tuple[int, int, int]) -> tuple[Task, dict[Any, Any]]:
    calibration, evaluation, seed = sizes
    return load_task(source, labels, seed, kind).sampled(calibration, evaluation, seed), {}


class _Bench:
    """The dense model, the pruned one once it is there, and the task of one run."""

    def __init__(self, experiment: Experiment, folder: Path, known: Rows):
        self.experiment, self.folder, self.rows = experiment, folder, known
        self.device = encoders.pick_device(experiment.device)
        self.batch_size = experiment.batch_size
        self.peak_memory = 0
        stamp = json.dumps(_stamp(experiment.checkpoint))
        try:
            self.dense, self.tokenizer = _dense(experiment.checkpoint, stamp, str(self.device))
        except torch.OutOfMemoryError:
            raise PruneError(f"{experiment.checkpoint} does not fit into the memory of {self.device}; use --device cpu.") from None
        if experiment.method:
            refuse_shrunk(self.dense, experiment.checkpoint)
        config: Any = self.dense.config
        self.labels = tuple(str(config.id2label[index]) for index in range(config.num_labels))
        stamps = [_stamp(path) for path in (experiment.source.task, experiment.source.calibration)]
        frame = json.dumps([experiment.checkpoint, stamp, stamps, str(self.device), experiment.batch_size, experiment.max_length])
        sizes = (experiment.calibration, experiment.evaluation, experiment.seed)
        self._check_measures(encoders.kind_of(self.dense))
        self.task, self.memo = _shared(frame, experiment.source, self.labels, encoders.kind_of(self.dense), sizes)
        self.pruned: nn.Module | None = self.dense if experiment.method is None else None

    def _check_measures(self, kind: str) -> None:
        """A measure that cannot look at this kind of model is an error before anything is computed."""
        for measure in self.experiment.measures:
            if kind not in measure.kinds:
                gives = {"regression": "scores", "span": "answers in a text", "classification": "labels"}[kind]
                raise PruneError(f"{measure.title} cannot be measured on a model that gives {gives}; leave the measure {measure.name} out.")

    def stage(self, name: str, report: Report) -> Stage:
        """One stage; where the device's memory is too small, again from its start with half the batch."""
        pruned = self._pruned() if name != PRUNE else None
        while True:
            # seeded here, behind all loading, and not once per run: a resumed run equals an uninterrupted one
            seed_everything(self.experiment.seed)
            torch.set_num_threads(THREADS)  # UMAP's numba leaves another number behind, and sums round by it
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            started = time.perf_counter()
            try:
                with matrix_precision(self.experiment.tf32):
                    rows = self._prune(report) if pruned is None else self._measure(name, pruned, report)
                break
            except torch.OutOfMemoryError:
                if self.batch_size == 1:
                    raise PruneError(
                        f"{name}: the memory of {self.device} is too small even for one sentence at a time; "
                        "lower the max length or the sample sizes, or use --device cpu."
                    ) from None
            self.batch_size //= 2  # outside the handler, where the failed stage's tensors are free again
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            report(0.0, f"out of memory: again with batches of {self.batch_size}")
        self.rows |= rows
        return Stage(name, rows, time.perf_counter() - started, self._facts())

    def _prune(self, report: Report) -> Rows:
        method = self.experiment.method
        assert method is not None, "only a run with a method has a prune stage"
        model = copy.deepcopy(self.dense)
        sample = self.task.calibration
        labelled = sample.labels is not None
        found = batches(self.tokenizer, sample, self.batch_size, self.experiment.max_length, self.device, labelled)
        rows = self._at_task_length(method).prune(model, [batch for batch, _ in found], report)
        self.pruned = model.eval()
        encoders.save(model, self.tokenizer, self.folder / "checkpoint")
        return rows

    def _at_task_length(self, method: Method) -> Method:
        """A method with a FLOPs budget counts FLOPs at the mean length of what the model will be evaluated on."""
        if not isinstance(method, UnitMethod) or method.length:
            return method
        if "length" not in self.memo:
            rows = encode(self.tokenizer, self.task.evaluation, self.experiment.max_length).inputs["input_ids"]
            self.memo["length"] = sum(map(len, rows)) / len(rows)
        return replace(method, length=self.memo["length"])

    def _pruned(self) -> nn.Module:
        """The pruned model, from its folder where an earlier run has pruned it."""
        if self.pruned is None:
            self.pruned = encoders.load(str(self.folder / "checkpoint"))[0].to(self.device)
        return self.pruned

    def _measure(self, name: str, pruned: nn.Module, report: Report) -> Rows:
        measure = next(each for each in self.experiment.measures if each.name == name)
        experiment = self.experiment
        pair = Pair(
            self.dense, pruned, self.tokenizer, self.task, experiment.seed, self.batch_size, experiment.max_length,
            self.memo, self.folder, self.rows,
        )  # fmt: skip
        return measure.measure(pair, report)

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "device": str(self.device),
            "device_title": encoders.device_title(self.device),
            "dtype": str(next(self.dense.parameters()).dtype).removeprefix("torch."),
            "batch_size": self.batch_size,
            "kind": self.task.kind,
            "pairs": self.task.evaluation.pairs is not None,
            "metric": self.task.metric,
            "label_names": list(self.labels),
            "calibration_n": len(self.task.calibration),
            "evaluation_n": len(self.task.evaluation),
        }
        if self.device.type == "cuda":
            self.peak_memory = max(self.peak_memory, torch.cuda.max_memory_allocated(self.device))
            facts |= {"peak_memory": self.peak_memory, "tf32": self.experiment.tf32}  # bytes
        return facts


@contextmanager
def matrix_precision(tf32: bool) -> Iterator[None]:
    """Whether CUDA's fp32 matrix products may use TF32, stated and not left to torch's default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's generators; nothing else in the package reseeds globally."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@cache
def versions() -> dict[str, str]:
    """What the rows were made with."""
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "textattack", "numpy", "umap-learn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found | {"prunescope": __version__, "commit": _commit(), "machine": f"{platform.system()} {platform.machine()}"}


def _commit() -> str:
    """The git commit, with + where files differ from it; empty outside a clone."""
    try:
        describe = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(describe, cwd=encoders.ROOT, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
