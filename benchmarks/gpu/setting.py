"""What every section is given, and the models and samples that they share.

Knows nothing of what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from prune_core.models import replay
from prune_core.models.checkpoints import loading
from prune_core.models.inference.timing import wait_for_device
from prune_core.plugins import Batch

Row = dict[str, Any]  # one line of a table; "table" names it
SHAPES = {
    "BERT-base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
    "BERT-large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 2000,
}
BATCH = 32


@dataclass(frozen=True)
class Setting:
    """Where to measure, and whether only to see that it runs: small shapes, few repeats."""

    device: torch.device
    tiny: bool = False

    def shape(self, name: str, blocks: int = 0) -> nn.Module:
        """A random classifier of that shape on the device; random weights take the time that
        others do.
        """
        from transformers import AutoModelForSequenceClassification, BertConfig

        torch.manual_seed(0)
        options = dict(TINY if self.tiny else SHAPES[name])
        if blocks:
            options["num_hidden_layers"] = max(1, blocks // 6) if self.tiny else blocks
        return (
            AutoModelForSequenceClassification.from_config(BertConfig(num_labels=2, **options))
            .eval()
            .to(self.device)
        )

    def sample(self, sequences: int, length: int = 128) -> list[Batch]:
        """Full-length batches of arbitrary tokens with labels."""
        if self.tiny:
            sequences, length = max(8, sequences // 16), 16
        dice = torch.Generator().manual_seed(0)
        size = min(BATCH, max(1, sequences // 4))
        found = []
        for start in range(0, sequences, size):
            ids = torch.randint(5, 1000, (min(size, sequences - start), length), generator=dice)
            batch = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "labels": torch.arange(len(ids)) % 2,
            }
            found.append({key: value.to(self.device) for key, value in batch.items()})
        return found

    @property
    def on_cpu(self) -> Setting:
        """The same on the CPU."""
        return replace(self, device=torch.device("cpu"))

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of one call, the device's queue drained on both sides."""
        wait_for_device(self.device)
        started = time.perf_counter()
        work()
        wait_for_device(self.device)
        return time.perf_counter() - started

    def peak(self, work: Callable[[], Any]) -> tuple[float, float]:
        """(seconds, bytes allocated on top of what was there before); the bytes are not a number
        where torch does not count them.
        """
        if self.device.type != "cuda":
            return self.seconds(work), float("nan")
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        seconds = self.seconds(work)
        return seconds, torch.cuda.max_memory_allocated(self.device) - before

    def demo(self) -> tuple[nn.Module, Any]:
        """The demo checkpoint on the CPU with its tokenizer; with `tiny` its first block alone,
        which answers something too.
        """
        model, tokenizer = loading.load("demo")
        if self.tiny:
            modules, _ = replay.block_modules(model)[0]
            del modules[1:]
            model.config.num_hidden_layers = 1
        return model, tokenizer
