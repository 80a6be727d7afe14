"""Latency of dense, compact and 2:4 models by precision, batch size and length.

Compact models are also compiled; 2:4 models use the sparse kernels of the device.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import product
from statistics import median

import torch
from torch import nn

from prune_core.methods import METHODS
from prune_core.models import replay
from prune_core.models.compact import compact_model
from prune_core.models.devices import matrix_precision, seed_everything
from prune_core.models.inference.timing import time_forward, timing_batch
from prune_core.plugins import build, no_report

from .device_setup import DeviceSetup, Row

LIMIT = 80.0  # seconds
WARM_UP, PASSES = 2, 7
POINTS = list(product((1, 8, 32, 128), (32, 128, 384)))  # (batch, length)
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


def run(setup: DeviceSetup) -> Iterator[Row]:
    """Yield one row per model, precision, batch and length; compiled models last."""
    points, precisions = ([(2, 16)], PRECISIONS[:2]) if setup.tiny else (POINTS, PRECISIONS)
    with matrix_precision(tf32=False):
        models = _models(setup)
        for dtype in precisions:
            yield from _latencies(
                "",
                {name: copy.deepcopy(model).to(dtype) for name, model in models.items()},
                dtype,
                points=points,
            )
        yield from _two_to_four(setup, points)
        if setup.device.type != "cuda":
            yield {"table": "compiled", "skipped": "torch.compile is timed on CUDA only."}
            return
        selected = {name: models[name] for name in ("dense", "K-prune 80%, compact")}
        compiled = {
            name: torch.compile(copy.deepcopy(model).to(torch.bfloat16), dynamic=False)
            for name, model in selected.items()
        }
        yield from _latencies("compiled", compiled, torch.bfloat16, points=[(1, 128), (32, 128)])


def _models(setup: DeviceSetup) -> dict[str, nn.Module]:
    """Return dense and K-prune's compact models at 50 and 80%, with widths in multiples of 8."""
    dense = setup.shape("BERT-base")
    models = {"dense": dense}
    for sparsity in (0.5, 0.8):
        pruned = copy.deepcopy(dense)
        seed_everything(0)
        method = build(METHODS, "kprune", {"sparsity": sparsity, "multiple": 8, "adapt": False})
        method.prune(pruned, setup.sample(64), no_report)
        models[f"K-prune {sparsity:.0%}, compact"] = compact_model(pruned)
    return models


def _latencies(
    table: str, models: dict[str, nn.Module], dtype: torch.dtype, points: Sequence[tuple[int, int]]
) -> Iterator[Row]:
    for batch, length in points:
        latencies: dict[str, float] = {}
        for name, model in models.items():
            tokens = timing_batch(model, batch, length)
            times = [time_forward(model, tokens) for _ in range(WARM_UP + PASSES)][WARM_UP:]
            latencies[name] = median(times)
        for name, seconds in latencies.items():
            yield {
                "table": table or "latency",
                "model": name,
                "precision": str(dtype).removeprefix("torch."),
                "batch": batch,
                "length": length,
                "ms": seconds * 1e3,
                "examples per second": batch / seconds,
                "speed-up": latencies["dense"] / seconds,
            }


def _two_to_four(setup: DeviceSetup, points: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Compare a 2:4 model in fp16 with cuSPARSELt kernels with dense fp16."""
    if setup.device.type != "cuda" or torch.cuda.get_device_capability(setup.device) < (8, 0):
        yield {
            "table": "2:4",
            "skipped": "Sparse matrix kernels need a CUDA device of the Ampere generation or "
            "later.",
        }
        return
    dense = setup.shape("BERT-base").half()
    pruned = copy.deepcopy(dense).float()
    build(METHODS, "magnitude", {"pattern": "2:4"}).prune(pruned, [], no_report)
    masked = pruned.half()  # the same weights with dense kernels, for the expected outputs
    sparse = copy.deepcopy(masked)
    for _, _, linear in replay.linears(sparse):
        linear.weight = nn.Parameter(
            torch.sparse.to_sparse_semi_structured(linear.weight.detach()), requires_grad=False
        )
    with torch.no_grad():
        tokens = timing_batch(dense, 8, 128)
        expected, outputs = masked(**tokens).logits.float(), sparse(**tokens).logits.float()
    difference = float((expected - outputs).abs().max())
    yield {
        "table": "2:4 outputs",
        "largest difference of a logit": difference,
        "largest logit": float(expected.abs().max()),
    }
    yield from _latencies(
        "2:4", {"dense": dense, "2:4 with sparse kernels": sparse}, torch.float16, points=points
    )
