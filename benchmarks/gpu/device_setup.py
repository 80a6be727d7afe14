"""Device, models and samples shared by all sections."""

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
class DeviceSetup:
    """The device, and whether to use small shapes and few repeats, to test the benchmark."""

    device: torch.device
    tiny: bool = False

    def shape(self, name: str, blocks: int = 0) -> nn.Module:
        """Return a randomly initialized classifier of that shape on the device."""
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
        """Return full-length batches of arbitrary tokens with labels."""
        if self.tiny:
            sequences, length = max(8, sequences // 16), 16
        rng = torch.Generator().manual_seed(0)
        size = min(BATCH, max(1, sequences // 4))
        batches = []
        for start in range(0, sequences, size):
            ids = torch.randint(5, 1000, (min(size, sequences - start), length), generator=rng)
            batch = {
                "input_ids": ids,
                "attention_mask": torch.ones_like(ids),
                "labels": torch.arange(len(ids)) % 2,
            }
            batches.append({key: value.to(self.device) for key, value in batch.items()})
        return batches

    @property
    def on_cpu(self) -> DeviceSetup:
        """The same setup on the CPU."""
        return replace(self, device=torch.device("cpu"))

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the seconds of one call, with device synchronization before and after."""
        wait_for_device(self.device)
        started = time.perf_counter()
        work()
        wait_for_device(self.device)
        return time.perf_counter() - started

    def peak(self, work: Callable[[], Any]) -> tuple[float, float]:
        """Return (seconds, peak bytes allocated by the call; NaN except on CUDA)."""
        if self.device.type != "cuda":
            return self.seconds(work), float("nan")
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        seconds = self.seconds(work)
        return seconds, torch.cuda.max_memory_allocated(self.device) - before

    def demo(self) -> tuple[nn.Module, Any]:
        """Return the demo model on the CPU and its tokenizer; with `tiny`, only the first layer."""
        model, tokenizer = loading.load("demo")
        if self.tiny:
            modules, _ = replay.block_modules(model)[0]
            del modules[1:]
            model.config.num_hidden_layers = 1
        return model, tokenizer
