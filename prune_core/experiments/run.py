"""How an experiment is run: one stage after the other, pruning first, each from its seed. Knows nothing of the store."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..data.tasks import Task
from ..data.tokens import batches, encode
from ..errors import PruneError
from ..measures.adversarial_augmentation import AdversarialAugmentation
from ..measures.base import Pair
from ..methods import METHODS
from ..models import devices, replay
from ..models.checkpoints import difference, folders, loading, verification
from ..models.compact import refuse_compact
from ..models.devices import matrix_precision, seed_everything
from ..models.inference import predict
from ..plugins import Method, Report, Rows, subrange
from ..pruning import pipeline
from ..pruning.unitwise import UnitMethod
from .content_hashes import hash_checkpoint
from .data_check import DataReader, check_measures
from .dense_cache import DenseCache
from .experiment import PRUNE, Experiment, estimates, stages

THREADS = torch.get_num_threads()


class Stage(NamedTuple):
    """One finished step of a run."""

    name: str
    rows: Rows
    seconds: float
    facts: dict[str, Any]


def run(
    experiment: Experiment,
    folder: Path,
    report: Report,
    done: Collection[str] = (),
    known: Rows | None = None,
    batch_size: int = 0,
    until: str = "",
    shared: Path | None = None,
) -> Iterator[Stage]:
    """Do the stages that are not `done`, one by one; what is pruned is kept in folder/checkpoint. `known`: tables of what is done;
    `batch_size`: what was found to fit into memory, where the experiment's own did not; `until`: a stage before which to end;
    `shared`: a folder of what is known of dense models, by this process or others."""
    if PRUNE in done and not (folder / "checkpoint").is_dir():
        done = [name for name in done if name != PRUNE]
    seconds = estimates(experiment)
    whole = sum(seconds.values())
    start = sum(seconds[name] for name in stages(experiment) if name in done) / whole
    report(start, f"loading {experiment.checkpoint}")
    bench = _Runner(
        experiment,
        folder,
        dict(known or {}),
        batch_size=batch_size or experiment.batch_size,
        shared=shared,
    )
    for name in stages(experiment):
        if name in done:
            continue
        if name == until:
            return
        end = start + seconds[name] / whole
        yield bench.stage(name, subrange(report, start, end))
        start = end
    if experiment.method and experiment.keep == "none":
        shutil.rmtree(
            folder / "checkpoint", ignore_errors=True
        )  # until here a resumed run had needed it


def attack(
    experiment: Experiment,
    folder: Path,
    known: Rows,
    batch_size: int,
    chunk: tuple[int, int],
    report: Report,
    shared: Path | None = None,
) -> None:
    """One chunk of an experiment's attacks, behind the stages before it; the outcomes wait in the folder for the attack stage."""
    _Runner(
        experiment,
        folder,
        dict(known),
        batch_size=batch_size or experiment.batch_size,
        shared=shared,
        chunk=chunk,
    ).stage("attack", report)


def preload() -> None:
    """Load what the demo needs ahead of the first job."""
    if (folders.BUNDLED["demo"] / "config.json").is_file():
        content = json.dumps(hash_checkpoint("demo"))
        _dense("demo", content, str(devices.pick_device("auto")))


@lru_cache(maxsize=1)  # a sweep loads its dense model once
def _dense(checkpoint: str, content: str, device: str) -> tuple[nn.Module, Any]:
    model, tokenizer = loading.load(checkpoint)
    return model.to(device), tokenizer


@lru_cache(
    maxsize=1
)  # and measures it once: the memo is where measures keep what they know of the dense model
def _shared(frame: str, data: DataReader) -> tuple[Task, dict[Any, Any]]:
    return data(), {}


class _Runner:
    """The dense model, the pruned one once it is there, and the task of one run."""

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        known: Rows,
        batch_size: int,
        shared: Path | None,
        chunk: tuple[int, int] = (0, 1),
    ):
        self.experiment, self.folder, self.rows = experiment, folder, known
        self.device = devices.pick_device(experiment.device)
        self.batch_size, self.chunk = batch_size, chunk
        self.peak_memory, self.weights = 0, ""
        content = experiment.content()
        try:
            self.dense, self.tokenizer = _dense(
                experiment.checkpoint, json.dumps(content[0]), str(self.device)
            )
        except torch.OutOfMemoryError:
            raise PruneError(
                f"{experiment.checkpoint} does not fit into the memory of {self.device}; use --device cpu."
            ) from None
        if experiment.method:
            refuse_compact(self.dense, experiment.checkpoint)
        self.labels = loading.label_names(self.dense.config)
        frame = json.dumps(
            [
                experiment.checkpoint,
                content,
                str(self.device),
                experiment.batch_size,
                experiment.max_length,
                experiment.tf32,
            ]
        )
        kind = replay.task_type_of(self.dense)
        check_measures(experiment, kind)
        data = DataReader(experiment, self.labels, kind, tokenizer=self.tokenizer)
        self.task, self.memo = _shared(frame, data)
        if "verified" not in self.memo:
            verification.check(
                experiment.checkpoint,
                self.dense,
                self.tokenizer,
                examples=self.task.evaluation,
                max_length=experiment.max_length,
            )
            self.memo["verified"] = True
        self.elsewhere = (
            DenseCache(shared, frame + json.dumps(data.key), self.device).get if shared else None
        )
        self.pruned: nn.Module | None = self.dense if experiment.method is None else None

    def stage(self, name: str, report: Report) -> Stage:
        """One stage; where the device's memory is too small, again from its start with half the batch."""
        pruned = self._pruned() if name != PRUNE else None
        while True:
            # seeded here, behind all loading, and not once per run: a resumed run equals an uninterrupted one
            seed_everything(self.experiment.seed)
            torch.set_num_threads(
                THREADS
            )  # UMAP's numba leaves another number behind, and sums round by it
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            started = time.perf_counter()
            try:
                with matrix_precision(self.experiment.tf32):
                    rows = (
                        self._prune(report)
                        if pruned is None
                        else self._measure(name, pruned, report)
                    )
                break
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise PruneError(
                        f"{name}: the memory of {self.device} is too small even for one sentence at a time; "
                        "lower the max length or the sample sizes, or use --device cpu."
                    ) from None
            self.batch_size //= (
                2  # outside the handler, where the failed stage's tensors are free again
            )
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            report(0.0, f"out of memory: again with batches of {self.batch_size}")
        self.rows |= rows
        return Stage(name, rows, time.perf_counter() - started, facts=self._facts())

    def _prune(self, report: Report) -> Rows:
        method = self.experiment.method
        assert method is not None, "only a run with a method has a prune stage"
        sample = self.task.calibration
        labelled = sample.labels is not None
        length, seed = self.experiment.max_length, self.experiment.seed
        found = [
            *batches(
                self.tokenizer,
                sample,
                self.batch_size,
                max_length=length,
                device=self.device,
                labelled=labelled,
            )
        ]
        copier = AdversarialAugmentation(
            self.dense, self.tokenizer, sample, found=found, seed=seed, max_length=length
        )
        model, rows = pipeline.prune(
            self._at_task_length(method),
            self.dense,
            [batch for batch, _ in found],
            report=report,
            methods=METHODS,
            copier=copier,
        )
        self.pruned = model
        part, folder = self.folder / "checkpoint.part", self.folder / "checkpoint"
        shutil.rmtree(part, ignore_errors=True)  # of a run that broke off
        if self.experiment.keep == "full":
            loading.save(model, self.tokenizer, part)
            self.weights = difference.weights_hash(model)
        else:
            self.weights = difference.save(
                model, self.dense, self.experiment.checkpoint, folder=part
            )
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)  # nobody sees half a checkpoint
        return rows

    def _at_task_length(self, method: Method) -> Method:
        """A method with a FLOPs budget counts FLOPs at the mean length of what the model will be evaluated on."""
        if not isinstance(method, UnitMethod) or method.length:
            return method
        if "length" not in self.memo:
            rows = encode(self.tokenizer, self.task.evaluation, self.experiment.max_length).inputs[
                "input_ids"
            ]
            self.memo["length"] = sum(map(len, rows)) / len(rows)
        return replace(method, length=self.memo["length"])

    def _pruned(self) -> nn.Module:
        """The pruned model, from its folder where an earlier run has pruned it."""
        if self.pruned is None:
            self.pruned = loading.load(str(self.folder / "checkpoint"))[0].to(self.device)
        return self.pruned

    def _measure(self, name: str, pruned: nn.Module, report: Report) -> Rows:
        measure = next(each for each in self.experiment.measures if each.name == name)
        experiment = self.experiment
        pair = Pair(
            self.dense,
            pruned,
            self.tokenizer,
            task=self.task,
            seed=experiment.seed,
            batch_size=self.batch_size,
            max_length=experiment.max_length,
            memo=self.memo,
            folder=self.folder,
            rows=self.rows,
            elsewhere=self.elsewhere,
            chunk=self.chunk,
        )
        return measure.measure(pair, report)

    def _reached(self) -> list[str]:
        """What became of a target."""
        budget = self.rows.get("budget")
        return budget["said"].tolist() if budget is not None and "said" in budget else []

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "device": str(self.device),
            "device_title": devices.device_title(self.device),
            "dtype": str(next(self.dense.parameters()).dtype).removeprefix("torch."),
            "batch_size": self.batch_size,
            "kind": self.task.kind,
            "pairs": self.task.evaluation.pairs is not None,
            "metric": self.task.metric,
            "label_names": list(self.task.label_names),
            "notes": [*getattr(self.dense, "notes", []), *self.task.notes, *self._reached()],
            "labels": self.task.label_map,
            "calibration_n": len(self.task.calibration),
            "evaluation_n": len(self.task.evaluation),
        }
        if self.task.evaluation.binary:
            facts["threshold"] = predict.threshold(self.dense.config)  # of the output
            facts["notes"].append(predict.binary_note(self.dense.config))
        if self.weights:
            facts["weights"] = (
                self.weights
            )  # a hash, by which weights made again are known to be the same
        if self.device.type == "cuda":
            self.peak_memory = max(self.peak_memory, torch.cuda.max_memory_allocated(self.device))
            facts |= {"peak_memory": self.peak_memory, "tf32": self.experiment.tf32}  # bytes
        return facts


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch names its own error for a GPU's memory only; a CPU's is told by its words."""
    return isinstance(
        error, (torch.OutOfMemoryError, MemoryError)
    ) or "can't allocate memory" in str(error)
