"""Run an experiment stage by stage: pruning, then each measure, every stage with its own seed.

The only loop over stages: of jobs, shards, Ray tasks and `api.run`. Independent of jobs and SQL.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..data.examples import Examples
from ..errors import PruneError
from ..measures.adversarial_augmentation import AdversarialAugmentation
from ..measures.base import Pair
from ..methods import METHODS
from ..models import devices, replay
from ..models.checkpoints import difference, folders, loading, verification
from ..models.compact import refuse_compact
from ..models.devices import device_of, matrix_precision, seed_everything
from ..plugins import Method, Report, Rows, subrange
from ..pruning import pipeline
from ..pruning.unitwise import UnitMethod
from ..store.results import PRUNE, Results
from ..tasks import regression
from ..tasks.encoding import batches, encode
from ..tasks.task_data import Task
from .content_hashes import hash_checkpoint, hash_data
from .data_check import DataReader, check_measures
from .dense_cache import DenseCache
from .experiment import Experiment, estimate_seconds, stages

THREADS = torch.get_num_threads()


class Stage(NamedTuple):
    """A finished stage of a run."""

    name: str
    rows: Rows
    seconds: float
    facts: dict[str, Any]


def run(
    experiment: Experiment,
    results: Results,
    work: Path,
    report: Report,
    batch_size: int = 0,
    until: str = "",
    shared: Path | None = None,
) -> Iterator[Stage]:
    """Run the stages that are not finished, one by one, and write their results.

    `work`: folder for the outcomes of an attack that is not finished; `batch_size`: one that fits
    into memory, if the experiment's own did not; `until`: stop before this stage; `shared`: folder
    with cached results of dense models, which several processes may use.
    """
    pending = pending_stages(experiment, results)
    if not pending:
        return
    seconds = estimate_seconds(experiment)
    total = sum(seconds.values())
    start = 1 - sum(seconds[name] for name in pending) / total
    report(start, f"loading {experiment.checkpoint}")
    runner = _Runner(
        experiment,
        results,
        work,
        batch_size=batch_size or experiment.batch_size,
        shared=shared,
    )
    for name in pending:
        if name == until:
            return
        end = start + seconds[name] / total
        stage = runner.stage(name, subrange(report, start, end))
        if not results.is_done(name):  # else weights were pruned again, or another process is done
            results.write(name, stage.rows, stage.seconds, stage.facts)
        yield stage
        start = end
    if PRUNE in pending and experiment.keep == "none":
        # deleted only now, because a resumed run would need it
        shutil.rmtree(results.checkpoint, ignore_errors=True)


def pending_stages(experiment: Experiment, results: Results) -> list[str]:
    """Return the stages that are not finished, in order.

    If a measure needs pruned weights that were not saved, pruning is one of them.
    """
    pending = [name for name in stages(experiment) if not results.is_done(name)]
    if pending and experiment.method and PRUNE not in pending and not results.checkpoint.is_dir():
        pending = [PRUNE, *pending]
    return pending


def run_attack_chunk(
    experiment: Experiment,
    results: Results,
    work: Path,
    batch_size: int,
    chunk: tuple[int, int],
    report: Report,
    shared: Path | None = None,
) -> None:
    """Run one chunk of an experiment's attacks; its earlier stages must be finished.

    The outcomes are saved in the folder `work` for the attack stage.
    """
    _Runner(
        experiment,
        results,
        work,
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
        results: Results,
        work: Path,
        batch_size: int,
        shared: Path | None,
        chunk: tuple[int, int] = (0, 1),
    ):
        self.experiment, self.results, self.work = experiment, results, work
        self.rows: Rows = {}  # tables of finished stages
        if experiment.method and results.is_done(PRUNE):
            self.rows |= results.read(PRUNE)
        self.device = devices.pick_device(experiment.device)
        self.batch_size, self.chunk = batch_size, chunk
        self.peak_memory, self.weights = 0, ""
        source = experiment.source
        content = [
            hash_checkpoint(experiment.checkpoint),
            hash_data(source.task),
            hash_data(source.calibration),
        ]
        self._load_dense(json.dumps(content[0]))
        kind = replay.task_type_of(self.dense).name
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
            self.pruned = loading.load(str(self.results.checkpoint))[0].to(self.device)
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
        folder = self.results.checkpoint
        partial_folder = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        shutil.rmtree(partial_folder, ignore_errors=True)  # of an interrupted run
        if self.experiment.keep == "full":
            loading.save(self.pruned, self.tokenizer, partial_folder)
            self.weights = difference.weights_hash(self.pruned)
        else:
            self.weights = difference.save(
                self.pruned, self.dense, self.experiment.checkpoint, folder=partial_folder
            )
        if self.results.is_done(PRUNE):
            self._refuse_other_weights(partial_folder)
            if folder.is_dir():  # another process has pruned meanwhile
                shutil.rmtree(partial_folder)
                return rows
        shutil.rmtree(folder, ignore_errors=True)
        partial_folder.rename(folder)  # atomic: a partial checkpoint never appears
        return rows

    def _refuse_other_weights(self, partial_folder: Path) -> None:
        """Raise PruneError if re-pruned weights differ from those that were measured before."""
        if self.results.record(PRUNE).facts.get("weights", self.weights) != self.weights:
            shutil.rmtree(partial_folder)
            raise PruneError(
                "The re-pruned weights differ from those of the finished stages: other library "
                "versions, another device or number of threads round differently. Run the "
                "experiment with --again to compute all stages with the new weights."
            )

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
        experiment = self.experiment
        measure = next(each for each in experiment.measures if each.name == name)
        if measure.reads and measure.reads not in self.rows:
            self.rows |= self.results.read(measure.reads)
        pair = Pair(
            self.dense,
            self.pruned,
            self.tokenizer,
            task=self.task,
            seed=experiment.seed,
            batch_size=self.batch_size,
            max_length=experiment.max_length,
            memo=self.memo,
            folder=self.work,
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
            facts["threshold"] = regression.threshold(self.dense.config)  # of the output
            facts["notes"].append(regression.binary_note(self.dense.config))
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
