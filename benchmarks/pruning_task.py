"""A dense model and its examples: how all benchmarks prune copies of it and score them.

Has no command line.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core.data import tokens
from prune_core.data.examples import DataSource, Examples
from prune_core.measures.attack import Attack
from prune_core.measures.base import Pair
from prune_core.methods import METHODS
from prune_core.models import devices, replay
from prune_core.models.checkpoints import loading
from prune_core.models.inference.predict import predict, probabilities
from prune_core.models.inference.timing import wait_for_device
from prune_core.plugins import Rows, build, no_report
from prune_core.pruning import pipeline
from prune_core.tasks import METRICS, TASK_TYPES, encoding, task_data

RECIPE = "TextFooler (MiniLM)"


@dataclass(frozen=True)
class PruningTask:
    """A task with two files, and its dense checkpoint."""

    evaluation_file: str
    calibration_file: str
    checkpoint: str
    evaluation: int = 1000  # evaluation examples, 0 = all
    max_length: int = 128
    metric: str = ""  # "" = the default metric of the task
    device: str = "cpu"
    batch_size: int = 32  # of the calibration sample
    attack: int = 0  # how many of these to attack with RECIPE; 0 = none
    precision: str = "fp32"  # of the attacked models

    @classmethod
    def of_folder(cls, folder: Path, checkpoint: str, **others: Any) -> PruningTask:
        """Use a folder with train.parquet and validation.parquet or test.parquet."""
        evaluation = next(
            path
            for name in ("validation", "test")
            if (path := folder / f"{name}.parquet").is_file()
        )
        return cls(str(evaluation), str(folder / "train.parquet"), checkpoint, **others)

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """(dense model, tokenizer)."""
        model, tokenizer = loading.load(self.checkpoint)
        return model.to(devices.pick_device(self.device)), tokenizer

    @cached_property
    def task(self) -> task_data.Task:
        """All calibration examples, and the evaluation sample."""
        model = self.loaded[0]
        source = DataSource(
            self.evaluation_file, calibration=self.calibration_file, metric=self.metric
        )
        return task_data.load(
            source, tuple(model.config.id2label.values()), kind=replay.task_type_of(model).name
        ).subsample(0, self.evaluation, 0)

    @cached_property
    def _dense(self) -> np.ndarray:
        return self._probabilities(self.loaded[0])

    def calibration_sample(self, sentences: int, seed: int) -> Examples:
        """Return a sample of calibration examples, selected as in an experiment."""
        pool = self.task.calibration
        return pool.sample(
            sentences, seed, tokens.long_enough(self.loaded[1], pool, tokens.MIN_CALIBRATION_TOKENS)
        )

    def pruned(
        self, method: str, settings: Mapping[str, Any], sample: Examples, seed: int = 0
    ) -> tuple[Any, Rows, float]:
        """Return (pruned copy, tables of the method, seconds)."""
        model, tokenizer = self.loaded
        device = devices.device_of(model)
        encoded = encoding.batches(
            tokenizer,
            sample,
            self.batch_size,
            max_length=self.max_length,
            device=device,
            labelled=sample.labels is not None,
        )
        batches = [batch for batch, _ in encoded]
        devices.seed_everything(seed)
        started = time.perf_counter()
        pruned_model, rows = pipeline.prune(
            build(METHODS, method, settings), model, batches, report=no_report, methods=METHODS
        )
        wait_for_device(device)
        return pruned_model, rows, time.perf_counter() - started

    def score(self, model: Any) -> float:
        """Return the task's metric on the evaluation sample, times 100."""
        predictions = predict(
            model, self.loaded[1], self.task.evaluation, batch_size=64, max_length=self.max_length
        ).predicted
        return 100 * METRICS[self.task.metric].compute(
            self.task.evaluation.labels or [], predictions
        )

    def metrics(self, method: str, settings: Mapping[str, Any], sample: Examples) -> dict[str, Any]:
        """Prune a copy and return its metrics.

        These are the task's metric, the mean KL divergence from dense (classifiers only), the
        seconds to prune and, if `attack` is set, accuracy under attack and for each example whether
        the attack failed (`held`). Without a method, the dense model is evaluated.
        """
        pruned, seconds = self.loaded[0], 0.0
        if method:
            pruned, _, seconds = self.pruned(method, settings, sample)
        result = {
            "accuracy": self.score(pruned) / 100,
            "divergence": TASK_TYPES[self.task.kind].label_divergence(
                self._dense, self._probabilities(pruned)
            )
            if self.task.kind == "classification"
            else float("nan"),
            "seconds": seconds,
        }
        if not self.attack:
            return result
        rows = self.attacked(pruned, self.task, self.attack)
        held = rows["attack_example"].sort_values("example")["outcome"] == "failed"
        return result | {
            "under_attack": float(rows["attack"]["under_attack"].iloc[0]),
            "held": held.tolist(),
        }

    def attacked(
        self,
        model: torch.nn.Module,
        task: task_data.Task,
        sentences: int,
        folder: Path | None = None,
    ) -> Rows:
        """Return the tables of an attack on that many evaluation examples.

        Finished examples are saved in the folder.
        """
        devices.seed_everything(0)
        attack = Attack(
            recipes=RECIPE, word_examples=sentences, time_budget=600, precision=self.precision
        )
        dense, tokenizer = self.loaded
        return attack.measure(
            Pair(dense, model, tokenizer, task=task, max_length=self.max_length, folder=folder),
            no_report,
        )

    def _probabilities(self, model: torch.nn.Module) -> np.ndarray:
        return probabilities(
            model, self.loaded[1], self.task.evaluation, batch_size=64, max_length=self.max_length
        )
