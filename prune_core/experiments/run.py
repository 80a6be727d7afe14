"""Run an experiment stage by stage: pruning, then each measure, every stage with its own seed.

`run` is the only loop over stages: of jobs, shards, Ray tasks and `api.run`. `StageRunner` runs one
stage on loaded models, also for `api.compare`. Independent of jobs and SQL.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from ..data.examples import Examples
from ..errors import PruneError
from ..measures.adversarial_augmentation import AdversarialAugmentation
from ..measures.base import Measure, Pair
from ..methods import METHODS
from ..models import devices, replay
from ..models.candidates import loading as candidates
from ..models.candidates.facts import Fact
from ..models.checkpoints import difference, folders, loading, verification
from ..models.compact import refuse_compact
from ..models.devices import device_of, matrix_precision, seed_everything
from ..plugins import CANDIDATE, Method, Report, Rows, subrange
from ..pruning import pipeline
from ..pruning.unitwise import UnitMethod
from ..store.results import PRUNE, Results
from ..tasks import regression
from ..tasks.encoding import batches, encode
from ..tasks.task_data import Task
from .candidate import CandidateModel, check_kind, check_loaded
from .content_hashes import hash_checkpoint, hash_data
from .data_check import DataReader, check_measures
from .dense_cache import DenseCache
from .experiment import Experiment, estimate_seconds, stages


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
    runner = _ExperimentRunner(experiment, results, work, batch_size, shared)
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
    if isinstance(experiment.method, CandidateModel):
        return pending  # its file is loaded again
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
    runner = _ExperimentRunner(experiment, results, work, batch_size, shared, chunk)
    runner.stage("attack", report)


def preload() -> None:
    """Load the demo's dense model before the first job."""
    if (folders.BUNDLED["demo"] / "config.json").is_file():
        device = str(devices.pick_device("auto"))
        _dense("demo", json.dumps(hash_checkpoint("demo")), device)


@lru_cache(maxsize=1)  # a sweep loads its dense model once and measures it once
def _dense(checkpoint: str, content: str, device: str, pooling: str = "") -> tuple[nn.Module, Any]:
    """Return the model on the device and its tokenizer; `content` is the hash of its files."""
    model, tokenizer = loading.load(checkpoint, pooling=pooling)
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


class StageRunner:
    """Runs stages on loaded models and adds their tables to the rows of the pair."""

    def __init__(self, pair: Pair, tf32: bool = False):
        self.pair, self.tf32 = pair, tf32

    def measure(self, measure: Measure, report: Report) -> tuple[Rows, float]:
        """Run a measure; return its tables and seconds."""
        return self.run(measure.name, lambda: measure.measure(self.pair, report), report)

    def run(self, name: str, compute: Callable[[], Rows], report: Report) -> tuple[Rows, float]:
        """Run one stage; if the device runs out of memory, restart it with half the batch size."""
        device, threads = device_of(self.pair.dense), torch.get_num_threads()
        while True:
            # seeded here, after all loading, and not once per run: a resumed run equals an
            # uninterrupted one
            seed_everything(self.pair.seed)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            started = time.perf_counter()
            try:
                with matrix_precision(self.tf32):
                    rows = compute()
                self.pair.rows.update(rows)
                return rows, time.perf_counter() - started
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.pair.batch_size == 1:
                    raise PruneError(
                        f"{name}: the memory of {device} is too small even for one example at a "
                        "time; lower the max length or the sample sizes, or use --device cpu."
                    ) from None
            finally:
                # UMAP's numba changes the number, on which the rounding of sums depends
                torch.set_num_threads(threads)
            # outside the handler, where the failed stage's tensors have been freed
            self.pair = replace(self.pair, batch_size=self.pair.batch_size // 2)
            if device.type == "cuda":
                torch.cuda.empty_cache()
            report(0.0, f"out of memory: restarted with batch size {self.pair.batch_size}")


class _ExperimentRunner(StageRunner):
    """Loads the dense model and the data of an experiment, and runs its stages."""

    def __init__(
        self,
        experiment: Experiment,
        results: Results,
        work: Path,
        batch_size: int,
        shared: Path | None,
        chunk: tuple[int, int] = (0, 1),
    ):
        self.experiment, self.results = experiment, results
        self.device = devices.pick_device(experiment.device)
        self.peak_memory, self.weights = 0, ""
        source = experiment.source
        content = [
            hash_checkpoint(experiment.checkpoint),
            hash_data(source.task),
            hash_data(source.calibration),
        ]
        dense, tokenizer = self._load_dense(json.dumps(content[0]))
        kind = replay.task_type_of(dense).name
        check_measures(experiment.measures, kind, experiment.method)
        context = json.dumps(
            [
                experiment.checkpoint,
                experiment.pooling,
                content,
                str(self.device),
                experiment.batch_size,
                experiment.max_length,
                experiment.tf32,
            ]
        )
        labels = loading.label_names(dense.config)
        data = DataReader(experiment, labels, kind, tokenizer=tokenizer)
        task, memo = _shared(context, data)
        cache = DenseCache(shared, context + json.dumps(data.key), self.device) if shared else None
        pair = Pair(
            dense,
            dense,  # replaced by the pruned model once there is one
            tokenizer,
            task=task,
            seed=experiment.seed,
            batch_size=batch_size or experiment.batch_size,
            max_length=experiment.max_length,
            memo=memo,
            folder=work,
            rows=results.read(PRUNE) if experiment.method and results.is_done(PRUNE) else {},
            shared=cache.get if cache else None,
            chunk=chunk,
        )
        super().__init__(pair, experiment.tf32)
        self._verify_once()

    def _load_dense(self, content: str) -> tuple[nn.Module, Any]:
        checkpoint = self.experiment.checkpoint
        try:
            pooling = self.experiment.pooling
            dense, tokenizer = _dense(checkpoint, content, str(self.device), pooling)
        except torch.OutOfMemoryError:
            raise PruneError(
                f"{checkpoint} does not fit into the memory of {self.device}; use --device cpu."
            ) from None
        if self.experiment.method and not isinstance(self.experiment.method, CandidateModel):
            refuse_compact(dense, checkpoint)
        return dense, tokenizer

    def _verify_once(self) -> None:
        """Compare the dense model with plain transformers, unless an earlier run here did."""
        pair = self.pair
        if "verified" in pair.memo:
            return
        verification.check(
            self.experiment.checkpoint,
            pair.dense,
            pair.tokenizer,
            examples=pair.task.evaluation,
            max_length=pair.max_length,
            pooling=self.experiment.pooling,
        )
        pair.memo["verified"] = True

    def stage(self, name: str, report: Report) -> Stage:
        """Run one stage of the experiment."""
        if name == PRUNE:
            rows, seconds = self.run(name, lambda: self._prune(report), report)
            return Stage(name, rows, seconds, self._facts())
        if self.experiment.method and self.pair.is_dense:  # an earlier run has pruned it
            if isinstance(self.experiment.method, CandidateModel):
                self._load_candidate(self.experiment.method)
            else:
                pruned = loading.load(str(self.results.checkpoint))[0].to(self.device)
                self.pair = replace(self.pair, pruned=pruned)
        measure = next(each for each in self.experiment.measures if each.name == name)
        if measure.reads and measure.reads not in self.pair.rows:
            self.pair.rows.update(self.results.read(measure.reads))
        rows, seconds = self.measure(measure, report)
        return Stage(name, rows, seconds, self._facts())

    def _prune(self, report: Report) -> Rows:
        method = self.experiment.method
        assert method is not None, "only a run with a method has a prune stage"
        if isinstance(method, CandidateModel):
            report(0.0, f"loading {method.label}")
            return {CANDIDATE: pd.DataFrame(self._load_candidate(method))}
        pair = self.pair
        pruned, rows = prune_copy(
            self._at_task_length(method),
            pair.dense,
            pair.tokenizer,
            sample=pair.task.calibration,
            seed=pair.seed,
            batch_size=pair.batch_size,
            max_length=pair.max_length,
            report=report,
        )
        self.pair = replace(pair, pruned=pruned)
        folder = self.results.checkpoint
        partial_folder = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        shutil.rmtree(partial_folder, ignore_errors=True)  # of an interrupted run
        if self.experiment.keep == "full":
            loading.save(pruned, pair.tokenizer, partial_folder)
            self.weights = difference.weights_hash(pruned)
        else:
            self.weights = difference.save(
                pruned,
                pair.dense,
                self.experiment.checkpoint,
                folder=partial_folder,
                pooling=self.experiment.pooling,
            )
        if self.results.is_done(PRUNE):
            self._refuse_other_weights(partial_folder)
            if folder.is_dir():  # another process has pruned meanwhile
                shutil.rmtree(partial_folder)
                return rows
        shutil.rmtree(folder, ignore_errors=True)
        partial_folder.rename(folder)  # atomic: a partial checkpoint never appears
        return rows

    def _load_candidate(self, candidate: CandidateModel) -> list[Fact]:
        """Load a candidate as the pruned model; return facts about it."""
        pair, experiment = self.pair, self.experiment
        check_kind(experiment.measures, candidate)
        model, tokenizer, facts = candidates.load(
            candidate.path,
            candidate.tokenizer,
            dense=pair.dense,
            dense_tokenizer=pair.tokenizer,
            task=pair.task,
            source=experiment.source,
            max_length=pair.max_length,
        )
        self.pair = replace(pair, pruned=model.to(self.device), pruned_tokenizer=tokenizer)
        check_loaded(experiment.measures, candidate, self.pair)
        return facts

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
        pair = self.pair
        if "length" not in pair.memo:
            rows = encode(pair.tokenizer, pair.task.evaluation, pair.max_length).inputs["input_ids"]
            pair.memo["length"] = sum(map(len, rows)) / len(rows)
        return replace(method, length=pair.memo["length"])

    def _facts(self) -> dict[str, Any]:
        """Return what the store records about the run besides its rows."""
        dense, task = self.pair.dense, self.pair.task
        # how close the run came to its target (speedup, latency or size)
        target_notes = self.pair.rows.get("budget", {}).get("note", [])
        facts: dict[str, Any] = {
            "device": str(self.device),
            "device_title": devices.device_title(self.device),
            "dtype": str(next(dense.parameters()).dtype).removeprefix("torch."),
            "batch_size": self.pair.batch_size,
            "kind": task.kind,
            "pairs": task.evaluation.pairs is not None,
            "metric": task.metric,
            "label_names": list(task.label_names),
            "notes": [*getattr(dense, "notes", []), *task.notes, *target_notes],
            "labels": task.label_map,
            "calibration_n": len(task.calibration),
            "evaluation_n": len(task.evaluation),
        }
        if task.evaluation.binary:
            facts["threshold"] = regression.threshold(dense.config)  # of the output
            facts["notes"].append(regression.binary_note(dense.config))
        if self.weights:
            facts["weights"] = self.weights  # hash that identifies re-pruned weights as the same
        if self.device.type == "cuda":
            self.peak_memory = max(self.peak_memory, torch.cuda.max_memory_allocated(self.device))
            facts |= {"peak_memory": self.peak_memory, "tf32": self.tf32}  # bytes
        return facts


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error means out of memory; PyTorch has no exception class for the CPU's memory."""
    is_known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return is_known or "can't allocate memory" in str(error)
