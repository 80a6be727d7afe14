"""What a model costs: weights, work, bytes on disk and measured latency, and whether its zeros buy anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from ..encoders import device_of, head_linears, linears
from ..plugins import Measure, Pair, Report, Rows, option

ZEROS_ARE_NOT_FASTER = (
    "Ordinary matrix kernels multiply zeros like any other number, so unstructured sparsity brings no speed-up here; "
    "it needs a sparse runtime, or structured pruning."
)


@dataclass(frozen=True)
class Cost(Measure):
    """Parameters, multiply-accumulates of one sentence, bytes on disk, latency p50 and p95 after a warm-up."""

    name = "cost"
    title = "Cost and speed"
    summary = "Parameters, zeros, multiply-accumulates, size on disk and measured latency of both models"
    estimate = 3.0
    batch: int = option(8, "Sentences per batch when timing", low=1, high=4096)
    length: int = option(64, "Tokens per sentence when timing", low=2, high=512, unit="tokens")
    repeats: int = option(10, "Timed passes", low=3, high=10_000)

    def measure(self, pair: Pair, report: Report) -> Rows:
        report(0.0, "timing both models in turn")
        times = self._latencies(pair, report)
        rows = [self._row("dense", pair.dense, times[0]), self._row("pruned", pair.pruned, times[-1])]
        rows[1]["note"] = "" if pair.is_dense else note(rows[0], rows[1])
        report(1.0, "cost measured")
        return {"cost": pd.DataFrame(rows)}

    def _latencies(self, pair: Pair, report: Report) -> list[np.ndarray]:
        """Seconds of each timed pass; the models take turns, so that a machine that slows down slows both."""
        models = [pair.dense] if pair.is_dense else [pair.dense, pair.pruned]
        batch = timing_batch(pair.dense, self.batch, self.length)
        times: list[list[float]] = [[] for _ in models]
        for repeat in range(-3, self.repeats):  # three passes to warm up
            for model, found in zip(models, times, strict=True):
                seconds = timed(model, batch)
                if repeat >= 0:
                    found.append(seconds)
            report(max(0, repeat) / self.repeats, f"timed pass {max(0, repeat) + 1} of {self.repeats}")
        return [np.array(found) for found in times]

    def _row(self, name: str, model: nn.Module, times: np.ndarray) -> dict[str, Any]:
        counts = count(model)
        p50, p95 = (float(np.percentile(times, q)) for q in (50, 95))
        return {
            "model": name, **counts, "macs": macs(model, self.length), "bytes": size_on_disk(model),
            "batch": self.batch, "length": self.length, "latency_p50": p50, "latency_p95": p95,
            "throughput": self.batch / p50, "device": str(device_of(model)), "note": "",
        }  # fmt: skip


def note(dense: dict[str, Any], pruned: dict[str, Any]) -> str:
    """One sentence on what the pruned model's zeros are worth."""
    return ZEROS_ARE_NOT_FASTER if pruned["nonzeros"] < dense["nonzeros"] and pruned["macs"] == dense["macs"] else ""


def count(model: nn.Module) -> dict[str, Any]:
    """Parameters and non-zeros of the whole model, sparsity of the encoder's prunable weights."""
    parameters = list(model.parameters())
    weights = [linear.weight for _, _, linear in linears(model)]
    zeros = sum(w.numel() - int(torch.count_nonzero(w)) for w in weights)
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in parameters),
        "sparsity": zeros / sum(w.numel() for w in weights),
    }


def macs(model: nn.Module, length: int) -> int:
    """Multiply-accumulates of one sentence of that many tokens: Linears, attention products, and the head's one token."""
    every_token = sum(linear.weight.numel() for _, _, linear in linears(model)) * length
    attention = sum(2 * length * length * linear.out_features for _, part, linear in linears(model) if part == "query")
    return every_token + attention + sum(linear.weight.numel() for _, linear in head_linears(model))


def size_on_disk(model: nn.Module) -> int:
    """Bytes of the safetensors file; zeros are stored like any other number."""
    return len(save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}))


def timing_batch(model: Any, batch: int, length: int) -> dict[str, torch.Tensor]:
    """Full-length sentences of arbitrary tokens: what they say does not change the work."""
    ids = torch.randint(5, min(1000, model.config.vocab_size), (batch, length), generator=torch.Generator().manual_seed(0))
    device = device_of(model)
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids, device=device)}


@torch.no_grad()
def timed(model: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    """Seconds of one forward pass, the device's queue drained on both sides."""
    wait(batch["input_ids"].device)
    started = time.perf_counter()
    model(**batch)
    wait(batch["input_ids"].device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
