"""A dense model and its evaluation sentences, on which the quality benchmarks judge pruned copies of it. Knows no command line."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core import data, encoders
from prune_core.examples import Source
from prune_core.experiment import seed_everything
from prune_core.measures.accuracy import divergence
from prune_core.measures.attack import Attack
from prune_core.methods import METHODS
from prune_core.plugins import Pair, Rows, build, quiet
from prune_core.predict import probabilities

RECIPE = "TextFooler (MiniLM)"


@dataclass(frozen=True)
class Bench:
    """One task, a folder with train.parquet and validation.parquet or test.parquet, and its dense checkpoint."""

    folder: Path
    checkpoint: str
    evaluation: int = 1000  # sentences to judge by
    max_length: int = 128
    attack: int = 0  # of these, sentences to attack with RECIPE; 0 = none
    precision: str = "fp32"  # of the models under attack

    @cached_property
    def loaded(self) -> tuple[Any, Any]:
        """(dense model, tokenizer)."""
        return encoders.load(self.checkpoint)

    @cached_property
    def task(self) -> data.Task:
        """All calibration sentences, and the evaluation sample."""
        evaluation = next(path for name in ("validation", "test") if (path := self.folder / f"{name}.parquet").is_file())
        source = Source(str(evaluation), calibration=str(self.folder / "train.parquet"))
        return data.load(source, tuple(self.loaded[0].config.id2label.values())).sampled(0, self.evaluation, 0)

    @cached_property
    def _dense(self) -> np.ndarray:
        return self._said(self.loaded[0])

    def draw(self, sentences: int, seed: int) -> data.Examples:
        """A sample of calibration sentences."""
        return self.task.calibration.sample(sentences, seed, data.CALIBRATION_WORDS)

    def figures(self, method: str, settings: Mapping[str, Any], sample: data.Examples) -> dict[str, Any]:
        """Accuracy, mean KL divergence from dense, seconds to prune, and where asked for accuracy under attack with the
        sentences it held on; without a method, of the dense model."""
        model, tokenizer = self.loaded
        pruned, seconds = model, 0.0
        if method:
            batches = [batch for batch, _ in data.batches(tokenizer, sample, 32, self.max_length, torch.device("cpu"))]
            pruned, started = copy.deepcopy(model), time.perf_counter()
            build(METHODS, method, settings).prune(pruned, batches, quiet)
            seconds = time.perf_counter() - started
        said = self._said(pruned)
        found = {
            "accuracy": float((said.argmax(-1) == self.task.evaluation.labels).mean()),
            "divergence": divergence(self._dense, said),
            "seconds": seconds,
        }
        if not self.attack:
            return found
        rows = self.attacked(pruned, self.task, self.attack)
        held = rows["attack_example"].sort_values("example")["outcome"] == "failed"
        return found | {"under_attack": float(rows["attack"]["under_attack"].iloc[0]), "held": held.tolist()}

    def attacked(self, model: torch.nn.Module, task: data.Task, sentences: int, folder: Path | None = None) -> Rows:
        """The attack's tables for that many of the task's evaluation sentences; what is done is kept in the folder."""
        seed_everything(0)
        attack = Attack(recipes=RECIPE, word_examples=sentences, time_budget=600, precision=self.precision)
        dense, tokenizer = self.loaded
        return attack.measure(Pair(dense, model, tokenizer, task, max_length=self.max_length, folder=folder), quiet)

    def _said(self, model: torch.nn.Module) -> np.ndarray:
        return probabilities(model, self.loaded[1], self.task.evaluation, 64, self.max_length)
