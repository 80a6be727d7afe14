"""Adversarial copies of calibration examples, for distillation after pruning."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from ..analysis.attack_success import successes
from ..data.examples import Examples
from ..errors import PruneError, require
from ..models.devices import device_of
from ..plugins import Batch, Method, Report
from ..pruning.distillation import AdversarialCopies
from ..tasks import TASK_TYPES
from ..tasks.encoding import batches
from ..tasks.task_data import Task
from .attack import Attack
from .base import Pair


def check_augmentation(method: Method, kind: str) -> None:
    """Raise PruneError if adversarial augmentation is requested without distillation, or is
    impossible.
    """
    if not method.distil_adversarial:
        return
    if not method.distil:
        raise PruneError(
            "distil_adversarial has no effect without distillation; set distil to a number of "
            "minutes, "
            "or leave distil_adversarial out."
        )
    if kind not in Attack.kinds:
        raise PruneError(
            f"A model that gives {TASK_TYPES[kind].output} cannot be attacked; leave "
            "distil_adversarial out."
        )
    require("textattack", "attacks")


class AdversarialAugmentation:
    """Attack a pruned model on calibration examples, with the dense predictions as labels.

    `batches` are the calibration batches, each with the indices of its examples.
    """

    def __init__(
        self,
        dense: nn.Module,
        tokenizer: Any,
        sample: Examples,
        batches: Sequence[tuple[Batch, list[int]]],
        *,
        seed: int,
        max_length: int,
    ):
        self.dense, self.tokenizer, self.batches = dense, tokenizer, batches
        self.seed, self.max_length = seed, max_length
        self.sample = Examples(sample.texts, sample.pairs)

    def __call__(self, pruned: nn.Module, report: Report) -> list[AdversarialCopies]:
        """For each batch, the successful copies and the rows they belong to, (copies,); None
        without any.
        """
        attack = Attack(recipes="DeepWordBug", examples=len(self.sample))

        pair = Pair(
            self.dense,
            pruned,
            self.tokenizer,
            task=Task("calibration", (), self.sample, evaluation=self.sample),
            seed=self.seed,
            batch_size=len(self.batches[0][1]),
            max_length=self.max_length,
        )
        adversarial = successes(attack.measure(pair, report)["attack_example"]).set_index("example")
        return [
            self._copies(adversarial.loc[[i for i in examples if i in adversarial.index]], examples)
            for _, examples in self.batches
        ]

    def _copies(self, adversarial: pd.DataFrame, examples: Sequence[int]) -> AdversarialCopies:
        if adversarial.empty:
            return None
        second = adversarial["perturbed_pair"].tolist() if self.sample.pairs else None
        copies = Examples(adversarial["perturbed"].tolist(), second)
        ((batch, order),) = batches(
            self.tokenizer,
            copies,
            len(copies),
            max_length=self.max_length,
            device=device_of(self.dense),
        )
        return batch, torch.tensor([examples.index(adversarial.index[i]) for i in order])
