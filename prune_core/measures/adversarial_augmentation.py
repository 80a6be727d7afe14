"""Attacked copies of calibration sentences, from which distillation learns. Knows batches and the attack, not how they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..analysis.attack_success import successes
from ..data.examples import TASK_TYPES, Examples
from ..data.tasks import Task
from ..data.tokens import batches
from ..errors import PruneError, require
from ..models.devices import device_of
from ..plugins import Batch, Method, Report
from ..pruning.distillation import AdversarialCopies
from .attack import Attack
from .base import Pair


def check_augmentation(method: Method, kind: str) -> None:
    """PruneError where a method asks for attacked copies that nothing would learn from, or that cannot be made."""
    if not method.distil_attacked:
        return
    if not method.distil:
        raise PruneError(
            "Attacked copies are for the tuning after pruning; say how many minutes of it (distil), or leave them out."
        )
    if kind not in Attack.kinds:
        raise PruneError(
            f"A model that gives {TASK_TYPES[kind]} cannot be attacked; leave distil_attacked out."
        )
    require("textattack", "attacks")


class AdversarialAugmentation:
    """Attacks a pruned model on the calibration sentences of `found`, batches and the examples in each, by what the dense one says."""

    def __init__(
        self,
        dense: nn.Module,
        tokenizer: Any,
        sample: Examples,
        found: Sequence[tuple[Batch, list[int]]],
        seed: int,
        max_length: int,
    ):
        self.dense, self.tokenizer, self.found, self.seed, self.max_length = (
            dense,
            tokenizer,
            found,
            seed,
            max_length,
        )
        self.sample = Examples(sample.texts, sample.pairs)

    def __call__(self, pruned: nn.Module, report: Report) -> list[AdversarialCopies]:
        """A batch: the copies that flipped the pruned model, and which rows (copies,) they are of; None where none did."""
        attack = Attack(recipes="DeepWordBug", examples=len(self.sample))
        task = Task("calibration", (), self.sample, evaluation=self.sample)
        pair = Pair(
            self.dense,
            pruned,
            self.tokenizer,
            task=task,
            seed=self.seed,
            batch_size=len(self.found[0][1]),
            max_length=self.max_length,
        )
        won = successes(attack.measure(pair, report)["attack_example"]).set_index("example")
        return [
            self._of(won.loc[[i for i in examples if i in won.index]], examples)
            for _, examples in self.found
        ]

    def _of(self, won: Any, examples: Sequence[int]) -> AdversarialCopies:
        if won.empty:
            return None
        second = won["perturbed_pair"].tolist() if self.sample.pairs else None
        copies = Examples(won["perturbed"].tolist(), second)
        ((batch, order),) = batches(
            self.tokenizer,
            copies,
            len(copies),
            max_length=self.max_length,
            device=device_of(self.dense),
        )
        return batch, torch.tensor([examples.index(won.index[i]) for i in order])
