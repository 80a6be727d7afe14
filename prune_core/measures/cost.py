"""What a model costs: weights, work, bytes, memory and measured speed, and what holds the speed-up below the counted one.

A pruned model with dead heads or neurons is measured without them, as it would be deployed. `other_load` is the part of
a core that other processes took from the timed passes (0 to 1, NaN if unknown); times are unreliable above
contention.DISTURBED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from ..models.compact import alignment_neurons, compact_model, dead_units
from ..models.devices import device_of
from ..models.inference.timing import (
    peak_memory,
    profile,
    refuse_longer,
    speedup_limit,
    time_interleaved,
    timing_batch,
)
from ..models.replay import blocks, head_linears, linears, max_tokens
from ..plugins import Report, Rows, option, subrange
from .base import Measure, Pair

BATCHES, LENGTHS = (1, 8, 32), (32, 128, 384)  # of the grid
NEAR = 0.95  # of the counted speed-up is as good as it
ZEROS_ARE_NOT_FASTER = (
    "Ordinary matrix kernels multiply zeros like any other number, so unstructured sparsity brings no speed-up here; "
    "it needs a sparse runtime, or structured pruning."
)


@dataclass(frozen=True)
class Cost(Measure):
    """Parameters, multiply-accumulates of one sentence, bytes on disk, latency p50 and p95 after a warm-up, peak memory.

    Peak memory is the weights and the most that one pass has allocated beside them: by torch.cuda.max_memory_allocated
    on CUDA, by the allocations that torch's profiler sees on a CPU, unknown on MPS.
    """

    name = "cost"
    title = "Cost and speed"
    summary = "Parameters, zeros, multiply-accumulates, size on disk, memory and measured latency of both models"
    estimate = 3.0
    batch: int = option(8, "Sentences per batch when timing", low=1, high=4096)
    length: int = option(64, "Tokens per sentence when timing", low=2, high=512, unit="tokens")
    repeats: int = option(10, "Timed passes", low=3, high=10_000)
    grid: bool = option(
        False, "Also time batches of 1, 8 and 32 sentences of 32, 128 and 384 tokens"
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables `cost` (a row a model), `timing` (a row a timed pass) and, with the grid, `latency` (a row a model and point)."""
        report(0.0, "timing both models in turn")
        refuse_longer(pair.dense, self.length, "cost: length")
        heads, neurons = (0, 0) if pair.is_dense else dead_units(pair.pruned)
        shrunk = heads + neurons > 0
        models = (
            [pair.dense]
            if pair.is_dense
            else [pair.dense, compact_model(pair.pruned) if shrunk else pair.pruned]
        )
        points = [(self.batch, self.length), *(product(BATCHES, LENGTHS) if self.grid else ())]
        timed, passes = zip(
            *(
                self._timed(
                    models, batch, length, subrange(report, i / len(points), (i + 1) / len(points))
                )
                for i, (batch, length) in enumerate(points)
            ),
            strict=True,
        )
        dense, pruned = timed[0][0] | _fixed(models[0]), timed[0][-1] | _fixed(models[-1])
        pruned["model"], pruned["sparsity"] = (
            "pruned",
            count(pair.pruned)["sparsity"],
        )  # of the full shape
        if shrunk:
            left = alignment_neurons(pair.pruned)
            stay = (
                f" {left} dead neurons stay: widths are kept at multiples of 8, as odd ones are slow."
                if left
                else ""
            )
            pruned |= {
                "shrunk": True,
                "note": f"Measured without its {heads} dead heads and {neurons} dead neurons.{stay}",
            }
        elif pruned["nonzeros"] < dense["nonzeros"] and pruned["macs"] == dense["macs"]:
            pruned["note"] = ZEROS_ARE_NOT_FASTER
        report(1.0, "cost measured")
        single = [
            {"model": name, "turn": turn, "seconds": seconds}
            for name, own in zip(("dense", "pruned"), passes[0], strict=False)
            for turn, seconds in enumerate(own)
        ]
        rows: Rows = {"cost": pd.DataFrame([dense, pruned]), "timing": pd.DataFrame(single)}
        if self.grid:
            rows["latency"] = pd.DataFrame([row for point in timed[1:] for row in point])
        return rows

    def _timed(
        self, models: Sequence[nn.Module], batch: int, length: int, report: Report
    ) -> tuple[list[dict[str, Any]], list[list[float]]]:
        """One row a model at one batch size and length, and the seconds of its passes; none where no text is that long."""
        work = [macs(model, length) for model in models]
        rows: list[dict[str, Any]] = [
            {
                "model": name,
                "batch": batch,
                "length": length,
                "passes": 0,
                "macs": own,
                "latency_p50": np.nan,
                "latency_p95": np.nan,
                "throughput": np.nan,
                "peak_memory": np.nan,
                "speedup_theoretical": work[0] / own,
                "speedup_measured": np.nan,
                "limit": "",
                "device": str(device_of(models[0])),
                "other_load": np.nan,
            }
            for name, own in zip(("dense", "pruned"), work, strict=False)
        ]
        if length > max_tokens(models[0]):
            return [
                row
                | {"limit": f"Left out: the model takes at most {max_tokens(models[0])} tokens."}
                for row in rows
            ], []
        tokens = timing_batch(models[0], batch, length)
        times, other_load = time_interleaved(models, tokens, self.repeats, report=report)
        profiles = [profile(model, tokens) for model in models]
        for row, model, seconds, profiled in zip(rows, models, times, profiles, strict=True):
            p50, p95 = (float(np.percentile(seconds, q)) for q in (50, 95))
            row |= {
                "passes": len(seconds),
                "latency_p50": p50,
                "latency_p95": p95,
                "throughput": batch / p50,
                "other_load": other_load,
            }
            row |= {
                "peak_memory": peak_memory(model, profiled),
                "speedup_measured": rows[0]["latency_p50"] / p50,
            }
            if 1 < row["speedup_theoretical"] > row["speedup_measured"] / NEAR:
                row["limit"] = speedup_limit(
                    profiles[0],
                    profiled,
                    (rows[0]["latency_p50"], p50),
                    theoretical=row["speedup_theoretical"],
                )
        return rows, times


def _fixed(model: nn.Module) -> dict[str, Any]:
    """What a model costs however it is used."""
    return {**count(model), "bytes": size_on_disk(model), "shrunk": False, "note": ""}


def count(model: nn.Module) -> dict[str, Any]:
    """Parameters and non-zeros of the whole model, sparsity of the encoder's prunable weights."""
    parameters = list(model.parameters())
    weights = [linear.weight for _, _, linear in linears(model)]
    zeros = sum(w.numel() - int(torch.count_nonzero(w)) for w in weights)
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in parameters),
        "sparsity": zeros / max(1, sum(w.numel() for w in weights)),
    }


def macs(model: nn.Module, length: int) -> int:
    """Multiply-accumulates of one sentence of that many tokens: Linears, attention products, and the head's one token; what a
    family adds for relative positions is left out."""
    matrices = [
        (part, linear, block.passes)
        for block in blocks(model)
        for part, linear in block.linears.items()
    ]
    every_token = sum(linear.weight.numel() * passes for _, linear, passes in matrices) * length
    attention = sum(
        2 * length * length * linear.out_features * passes
        for part, linear, passes in matrices
        if part == "query"
    )
    return every_token + attention + sum(linear.weight.numel() for _, linear in head_linears(model))


def size_on_disk(model: nn.Module) -> int:
    """Bytes of the safetensors file; zeros are stored like any other number."""
    return len(
        save(
            {
                name: tensor.detach().cpu().contiguous()
                for name, tensor in model.state_dict().items()
            }
        )
    )
