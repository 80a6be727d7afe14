"""Parameters, MACs, bytes, memory and latency of a model, and what limits its measured speed-up.

A pruned model with dead heads or neurons is measured without them, as it would be deployed.
`other_load` is the fraction of a core that other processes used during the timed passes (0 to 1,
NaN if unknown); times are unreliable above contention.DISTURBED.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import nn

from ..models.candidates import cold_start
from ..models.candidates.external import ExternalModel
from ..models.compact import alignment_neurons, compact_model, is_compactable, removed_units
from ..models.devices import device_of
from ..models.inference.queueing import percentile
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
REQUESTS = 400  # timed for a simulated load
PERCENTILES = (50, 95, 99)  # of its response times
NEAR = 0.95  # a measured speed-up of this fraction of the theoretical one counts as reached
ZEROS_ARE_NOT_FASTER = (
    "Dense matrix kernels multiply zeros like any other number, so unstructured sparsity brings no "
    "speed-up here; it needs a sparse runtime or structured pruning."
)


@dataclass(frozen=True)
class Cost(Measure):
    """Parameters, MACs per example, bytes on disk, p50 and p95 latency after warm-up, peak memory.

    Peak memory is the weights plus the largest allocation of one forward pass, from
    torch.cuda.max_memory_allocated on CUDA and torch's profiler on a CPU; unknown on MPS.
    """

    name = "cost"
    title = "Cost and speed"
    summary = (
        "Parameters, zeros, multiply-accumulates, size on disk, memory and measured latency of "
        "both models"
    )
    estimate = 3.0
    batch: int = option(8, "Batch size when timing", low=1, high=4096)
    length: int = option(64, "Sequence length when timing", low=2, high=512, unit="tokens")
    repeats: int = option(10, "Timed passes", low=3, high=10_000)
    grid: bool = option(False, "Also time batch sizes 1, 8 and 32 with 32, 128 and 384 tokens")
    fresh_process: bool = option(
        False,
        "Also measure load time and peak resident memory in a fresh process per model",
    )
    arrivals: float = option(
        0.0,
        "Also simulate a server that processes one text at a time with this rate of requests "
        "(Poisson), from timed forward passes; 0 = off",
        low=0.0,
        high=100_000.0,
        unit="requests/s",
    )

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Tables: `cost` (one row per model), `timing` (one per timed pass); with the grid,
        `latency` (one per model, batch size and length); under load, `service_time` (one per model
        and timed request).
        """
        report(0.0, "timing both models in turn")
        models = [pair.dense, *([] if pair.is_dense else [as_deployed(pair.pruned)])]
        for model in models:
            if not isinstance(model, ExternalModel):
                refuse_longer(model, self.length, "cost: length")
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
        dense, pruned = timed[0][0] | _sizes(models[0]), timed[0][-1] | _sizes(models[-1])
        # sparsity counts the removed units as zeros
        pruned |= {"model": "pruned", "sparsity": count(pair.pruned)["sparsity"]}
        if models[-1] is not pair.pruned:
            pruned |= {"shrunk": True, "note": _removal_note(pair.pruned)}
        elif pruned["nonzeros"] < dense["nonzeros"] and pruned["macs"] == dense["macs"]:
            pruned["note"] = ZEROS_ARE_NOT_FASTER
        loads, service = self._under_load(models, pair.seed, report)
        for row, model, load in (
            (dense, models[0], loads[0]),
            (pruned, models[-1], loads[-1]),
        ):
            busy = np.fmax(row["other_load"], load.get("other_load", np.nan))
            row |= load | self._fresh_start(pair, model, report) | {"other_load": busy}
        report(1.0, "cost measured")
        single = [
            {"model": name, "turn": turn, "seconds": seconds}
            for name, times in zip(("dense", "pruned"), passes[0], strict=False)
            for turn, seconds in enumerate(times)
        ]
        rows: Rows = {"cost": pd.DataFrame([dense, pruned]), "timing": pd.DataFrame(single)}
        if self.arrivals:
            rows["service_time"] = service
        if self.grid:
            rows["latency"] = pd.DataFrame([row for point in timed[1:] for row in point])
        return rows

    def _timed(
        self, models: Sequence[nn.Module], batch: int, length: int, report: Report
    ) -> tuple[list[dict[str, Any]], list[list[float]]]:
        """Return one row per model at this batch size and length, and the seconds of every pass.

        Times are NaN if the models do not accept that many tokens.
        """
        rows = _untimed_rows(models, batch, length)
        longest = min(max_tokens(each) for each in models if not isinstance(each, ExternalModel))
        if length > longest:
            reason = f"Left out: the model accepts at most {longest} tokens."
            return [row | {"limit": reason} for row in rows], []
        smallest = min(models, key=_vocabulary)
        tokens = timing_batch(smallest, batch, length)
        times, other_load = time_interleaved(models, tokens, self.repeats, report=report)
        profiles = [
            None if isinstance(model, ExternalModel) else profile(model, tokens) for model in models
        ]
        for row, model, seconds, profiled in zip(rows, models, times, profiles, strict=True):
            p50, p95 = (float(np.percentile(seconds, q)) for q in (50, 95))
            row |= {
                "passes": len(seconds),
                "latency_p50": p50,
                "latency_p95": p95,
                "throughput": batch / p50,
                "other_load": other_load,
                "peak_memory": peak_memory(model, profiled),
            }
            # after the update: the first row is its own reference
            row["speedup_measured"] = rows[0]["latency_p50"] / p50
            if 1 < row["speedup_theoretical"] > row["speedup_measured"] / NEAR:
                row["limit"] = speedup_limit(
                    profiles[0],
                    profiled,
                    (rows[0]["latency_p50"], p50),
                    theoretical=row["speedup_theoretical"],
                )
        return rows, times

    def _fresh_start(self, pair: Pair, model: nn.Module, report: Report) -> dict[str, float]:
        """Return load time (s) and peak resident memory (bytes) of a fresh process; {} if off."""
        if not self.fresh_process:
            return {}
        report(0.95, "starting a model in a fresh process")

        def start() -> tuple[float, float]:
            return cold_start.measure(model, pair.tokenizer_of(model), self.batch, self.length)

        key = ("fresh process", self.batch, self.length)
        is_dense = model is pair.dense
        seconds, memory = pair.of_dense(key, start, plain=True) if is_dense else start()
        return {"load_time": seconds, "resident_memory": memory}

    def _under_load(
        self, models: Sequence[nn.Module], seed: int, report: Report
    ) -> tuple[list[dict[str, float]], pd.DataFrame]:
        """Return percentiles of the response time (s) of each model at the rate `arrivals`.

        Also the service times (s) from which they are simulated.
        """
        if not self.arrivals:
            return [{} for _ in models], pd.DataFrame()
        smallest = min(models, key=_vocabulary)
        single = timing_batch(smallest, 1, self.length)
        times, other_load = time_interleaved(models, single, REQUESTS, subrange(report, 0.8, 0.95))
        columns, rows = [], []
        for name, service in zip(("dense", "pruned"), map(np.array, times), strict=False):
            columns.append(
                {
                    "arrivals": self.arrivals,
                    "requests": len(service),
                    "utilization": self.arrivals * float(service.mean()),
                    "other_load": other_load,
                    **{f"response_p{q}": self._response(service, q, seed) for q in PERCENTILES},
                }
            )
            rows.append(
                pd.DataFrame({"model": name, "turn": range(len(service)), "seconds": service})
            )
        return columns, pd.concat(rows, ignore_index=True)

    def _response(self, service: np.ndarray, q: int, seed: int) -> float:
        """Return a percentile of the response time (s); NaN if the server cannot keep up."""
        found = percentile(service, self.arrivals, q, seed)
        return found if np.isfinite(found) else np.nan


def _vocabulary(model: Any) -> int:
    return int(model.config.vocab_size)


def as_deployed(model: nn.Module) -> nn.Module:
    """Return the model without its dead heads and neurons; the model itself if it has none."""
    is_external = isinstance(model, ExternalModel)
    return model if is_external or not is_compactable(model) else compact_model(model)


def _removal_note(pruned: nn.Module) -> str:
    """Describe which units the compact model lacks."""
    note = f"Measured as the compact model, which lacks {removed_units(pruned)}."
    if padding := alignment_neurons(pruned):
        note += f" {padding} dead neurons stay: widths that are not multiples of 8 are slow."
    return note


def _untimed_rows(models: Sequence[nn.Module], batch: int, length: int) -> list[dict[str, Any]]:
    """Return one row per model, dense first, with its MACs; what must be timed is NaN."""
    # the multiply-accumulates of a model file are unknown
    work = [np.nan if isinstance(model, ExternalModel) else macs(model, length) for model in models]
    return [
        {
            "model": name,
            "batch": batch,
            "length": length,
            "passes": 0,
            "macs": count,
            "latency_p50": np.nan,
            "latency_p95": np.nan,
            "throughput": np.nan,
            "peak_memory": np.nan,
            "speedup_theoretical": work[0] / count,
            "speedup_measured": np.nan,
            "limit": "",
            "device": str(device_of(models[0])),
            "other_load": np.nan,
        }
        for name, count in zip(("dense", "pruned"), work, strict=False)
    ]


def _sizes(model: nn.Module) -> dict[str, Any]:
    """Return the columns that do not depend on batch size and length."""
    size = getattr(model, "size", None) or size_on_disk(model)  # a candidate has a file
    return {**count(model), "bytes": size, "shrunk": False, "note": ""}


def count(model: nn.Module) -> dict[str, Any]:
    """Return parameters and nonzeros of the whole model, and the sparsity of its prunable weights.

    Sparsity is the fraction of zeros in the encoder's weight matrices, 0 to 1.
    """
    if isinstance(model, ExternalModel):
        return {"parameters": model.parameter_count, "nonzeros": np.nan, "sparsity": np.nan}
    parameters = list(model.parameters())
    weights = [linear.weight for _, _, linear in linears(model)]
    zeros = sum(w.numel() - int(torch.count_nonzero(w)) for w in weights)
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in parameters),
        "sparsity": zeros / max(1, sum(w.numel() for w in weights)),
    }


def macs(model: nn.Module, length: int) -> int:
    """Return the multiply-accumulates of one example of `length` tokens.

    Counts Linears, attention products and the classification head (one token), without terms for
    relative positions.
    """
    matrices = [
        (projection, linear, block.passes)
        for block in blocks(model)
        for projection, linear in block.linears.items()
    ]
    every_token = sum(linear.weight.numel() * passes for _, linear, passes in matrices) * length
    attention = sum(
        2 * length * length * linear.out_features * passes
        for projection, linear, passes in matrices
        if projection == "query"
    )
    return every_token + attention + sum(linear.weight.numel() for _, linear in head_linears(model))


def size_on_disk(model: nn.Module) -> int:
    """Return the bytes of the model as a safetensors file; zeros take as much space as others."""
    return len(
        save(
            {
                name: tensor.detach().cpu().contiguous()
                for name, tensor in model.state_dict().items()
            }
        )
    )
