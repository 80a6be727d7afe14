"""Run an experiment stage by stage: pruning, then each measure, every stage with its own seed.

Knows nothing of the store or of the queue.
"""

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

from ..data.examples import Examples
from ..data.tasks import Task
from ..data.tokens import batches, encode
from ..errors import PruneError
from ..measures.adversarial_augmentation import AdversarialAugmentation
from ..measures.base import Pair
from ..methods import METHODS
from ..models import devices, replay
from ..models.checkpoints import difference, folders, loading, verification
from ..models.compact import refuse_compact
from ..models.devices import device_of, matrix_precision, seed_everything
from ..models.inference import predict
from ..plugins import Method, Report, Rows, subrange
from ..pruning import pipeline
from ..pruning.unitwise import UnitMethod
from .content_hashes import hash_checkpoint
from .data_check import DataReader, check_measures
from .dense_cache import DenseCache
from .experiment import PRUNE, Experiment, estimate_seconds, stages

THREADS = torch.get_num_threads()


class Stage(NamedTuple):
    """A finished stage of a run."""

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
    """Run the stages that are not `done`, one by one; save the pruned model in folder/checkpoint.

    `known`: tables of the finished stages; `batch_size`: one that fits into memory, if the
    experiment's own did not; `until`: stop before this stage; `shared`: folder with cached results
    of dense models, which several processes may use.

    Raise PruneError if the data or the checkpoint cannot be used, and Cancelled from `report`.
    """
    if PRUNE in done and not (folder / "checkpoint").is_dir():
        done = [name for name in done if name != PRUNE]
    seconds = estimate_seconds(experiment)
    total = sum(seconds.values())
    start = sum(seconds[name] for name in stages(experiment) if name in done) / total
    report(start, f"loading {experiment.checkpoint}")
    runner = _Runner(
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
        end = start + seconds[name] / total
        yield runner.stage(name, subrange(report, start, end))
        start = end
    if experiment.method and experiment.keep == "none":
        # deleted only now, because a resumed run would need it
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def run_attack_chunk(
    experiment: Experiment,
    folder: Path,
    known: Rows,
    batch_size: int,
    chunk: tuple[int, int],
    report: Report,
    shared: Path | None = None,
) -> None:
    """Run one chunk of an experiment's attacks; its earlier stages must be finished.

    `chunk` is (index, number of chunks). The outcomes are saved in the folder, where the attack
    stage finds them.
    """
    _Runner(
        experiment,
        folder,
        dict(known),
        batch_size=batch_size or experiment.batch_size,
        shared=shared,
        chunk=chunk,
    ).stage("attack", report)


def preload() -> None:
    """Load the demo's dense model before the first job."""
    if (folders.BUNDLED["demo"] / "config.json").is_file():
        device = str(devices.pick_device("auto"))
        _dense("demo", json.dumps(hash_checkpoint("demo")), device)


@lru_cache(maxsize=1)  # a sweep loads its dense model once and measures it once
def _dense(checkpoint: str, content: str, device: str) -> tuple[nn.Module, Any]:
    """Return the model on the device and its tokenizer; `content` is the hash of its files."""
    model, tokenizer = loading.load(checkpoint)
    return model.to(device), tokenizer


@lru_cache(maxsize=1)
def _shared(context: str, data: DataReader) -> tuple[Task, dict[Any, Any]]:
    """Return the task and the memo in which measures cache results of the dense model."""
    return data(), {}


def prune_copy(
    method: Method,
    dense: nn.Module,
    tokenizer: Any,
    sample: Examples,
    seed: int,
    batch_size: int,
    max_length: int,
    report: Report,
) -> tuple[nn.Module, Rows]:
    """Return a copy of the dense model pruned on calibration examples, and the tables."""
    calibration_batches = [
        *batches(
            tokenizer,
            sample,
            batch_size,
            max_length=max_length,
            device=device_of(dense),
            labelled=sample.labels is not None,
        )
    ]
    augmentation = AdversarialAugmentation(
        dense, tokenizer, sample, calibration_batches, seed=seed, max_length=max_length
    )
    return pipeline.prune(
        method,
        dense,
        [batch for batch, _ in calibration_batches],
        report=report,
        methods=METHODS,
        copier=augmentation,
    )


class _Runner:
    """The dense model, the pruned model (once there is one) and the task of a run."""

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
        content = experiment.content_hashes()
        self._load_dense(json.dumps(content[0]))
        kind = replay.task_type_of(self.dense)
        check_measures(experiment, kind)
        context = json.dumps(
            [
                experiment.checkpoint,
                content,
                str(self.device),
                experiment.batch_size,
                experiment.max_length,
                experiment.tf32,
            ]
        )
        labels = loading.label_names(self.dense.config)
        data = DataReader(experiment, labels, kind, tokenizer=self.tokenizer)
        self.task, self.memo = _shared(context, data)
        self._verify_once()
        self.shared = (
            DenseCache(shared, context + json.dumps(data.key), self.device).get if shared else None
        )
        self.pruned: nn.Module | None = self.dense if experiment.method is None else None

    def _load_dense(self, content: str) -> None:
        checkpoint = self.experiment.checkpoint
        try:
            self.dense, self.tokenizer = _dense(checkpoint, content, str(self.device))
        except torch.OutOfMemoryError:
            raise PruneError(
                f"{checkpoint} does not fit into the memory of {self.device}; use --device cpu."
            ) from None
        if self.experiment.method:
            refuse_compact(self.dense, checkpoint)

    def _verify_once(self) -> None:
        """Compare the dense model with plain transformers, unless an earlier run here did."""
        if "verified" in self.memo:
            return
        verification.check(
            self.experiment.checkpoint,
            self.dense,
            self.tokenizer,
            examples=self.task.evaluation,
            max_length=self.experiment.max_length,
        )
        self.memo["verified"] = True

    def stage(self, name: str, report: Report) -> Stage:
        """Run one stage; if the device runs out of memory, restart it with half the batch size."""
        if name != PRUNE and self.pruned is None:  # an earlier run has pruned it
            self.pruned = loading.load(str(self.folder / "checkpoint"))[0].to(self.device)
        while True:
            # seeded here, after all loading, and not once per run: a resumed run equals an
            # uninterrupted one
            seed_everything(self.experiment.seed)
            # UMAP's numba changes the number of threads, on which the rounding of sums depends
            torch.set_num_threads(THREADS)
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            started = time.perf_counter()
            try:
                with matrix_precision(self.experiment.tf32):
                    rows = self._prune(report) if name == PRUNE else self._measure(name, report)
                break
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise PruneError(
                        f"{name}: the memory of {self.device} is too small even for one example at "
                        "a time; lower the max length or the sample sizes, or use --device cpu."
                    ) from None
            # outside the handler, where the failed stage's tensors have been freed
            self.batch_size //= 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            report(0.0, f"out of memory: restarted with batch size {self.batch_size}")
        self.rows |= rows
        return Stage(name, rows, time.perf_counter() - started, facts=self._facts())

    def _prune(self, report: Report) -> Rows:
        method = self.experiment.method
        assert method is not None, "only a run with a method has a prune stage"
        self.pruned, rows = prune_copy(
            self._at_task_length(method),
            self.dense,
            self.tokenizer,
            sample=self.task.calibration,
            seed=self.experiment.seed,
            batch_size=self.batch_size,
            max_length=self.experiment.max_length,
            report=report,
        )
        folder = self.folder / "checkpoint"
        partial_folder = self.folder / "checkpoint.part"
        shutil.rmtree(partial_folder, ignore_errors=True)  # of an interrupted run
        if self.experiment.keep == "full":
            loading.save(self.pruned, self.tokenizer, partial_folder)
            self.weights = difference.weights_hash(self.pruned)
        else:
            self.weights = difference.save(
                self.pruned, self.dense, self.experiment.checkpoint, folder=partial_folder
            )
        shutil.rmtree(folder, ignore_errors=True)
        partial_folder.rename(folder)  # atomic: a partial checkpoint never appears
        return rows

    def _at_task_length(self, method: Method) -> Method:
        """Set the text length of a FLOPs budget to the mean length of the evaluation examples."""
        if not isinstance(method, UnitMethod) or method.length:
            return method
        if "length" not in self.memo:
            rows = encode(self.tokenizer, self.task.evaluation, self.experiment.max_length).inputs[
                "input_ids"
            ]
            self.memo["length"] = sum(map(len, rows)) / len(rows)
        return replace(method, length=self.memo["length"])

    def _measure(self, name: str, report: Report) -> Rows:
        assert self.pruned is not None, "pruned or loaded before"
        measure = next(each for each in self.experiment.measures if each.name == name)
        experiment = self.experiment
        pair = Pair(
            self.dense,
            self.pruned,
            self.tokenizer,
            task=self.task,
            seed=experiment.seed,
            batch_size=self.batch_size,
            max_length=experiment.max_length,
            memo=self.memo,
            folder=self.folder,
            rows=self.rows,
            shared=self.shared,
            chunk=self.chunk,
        )
        return measure.measure(pair, report)

    def _facts(self) -> dict[str, Any]:
        """Return what the store records about the run besides its rows."""
        # how close the run came to its target (speedup, latency or size)
        target_notes = self.rows.get("budget", {}).get("note", [])
        facts: dict[str, Any] = {
            "device": str(self.device),
            "device_title": devices.device_title(self.device),
            "dtype": str(next(self.dense.parameters()).dtype).removeprefix("torch."),
            "batch_size": self.batch_size,
            "kind": self.task.kind,
            "pairs": self.task.evaluation.pairs is not None,
            "metric": self.task.metric,
            "label_names": list(self.task.label_names),
            "notes": [*getattr(self.dense, "notes", []), *self.task.notes, *target_notes],
            "labels": self.task.label_map,
            "calibration_n": len(self.task.calibration),
            "evaluation_n": len(self.task.evaluation),
        }
        if self.task.evaluation.binary:
            facts["threshold"] = predict.threshold(self.dense.config)  # of the output
            facts["notes"].append(predict.binary_note(self.dense.config))
        if self.weights:
            facts["weights"] = self.weights  # hash that identifies re-pruned weights as the same
        if self.device.type == "cuda":
            self.peak_memory = max(self.peak_memory, torch.cuda.max_memory_allocated(self.device))
            facts |= {"peak_memory": self.peak_memory, "tf32": self.experiment.tf32}  # bytes
        return facts


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error means out of memory; PyTorch has no exception class for the CPU's memory."""
    is_known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_known or "can't allocate memory" in str(error)
