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

from .setting import Row, Setting

LIMIT = 80.0  # seconds
WARM_UP, PASSES = 2, 7
POINTS = list(product((1, 8, 32, 128), (32, 128, 384)))  # (batch, length)
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


def run(setting: Setting) -> Iterator[Row]:
    """Yield one row per model, precision, batch and length; compiled models last."""
    points, precisions = ([(2, 16)], PRECISIONS[:2]) if setting.tiny else (POINTS, PRECISIONS)
    with matrix_precision(tf32=False):
        models = _models(setting)
        for dtype in precisions:
            yield from _latencies(
                "",
                {name: copy.deepcopy(model).to(dtype) for name, model in models.items()},
                dtype,
                points=points,
            )
        yield from _two_to_four(setting, points)
        if setting.device.type != "cuda":
            yield {"table": "compiled", "left out": "torch.compile is timed on CUDA only."}
            return
        selected = {name: models[name] for name in ("dense", "K-prune 80%, compact")}
        compiled = {
            name: torch.compile(copy.deepcopy(model).to(torch.bfloat16), dynamic=False)
            for name, model in selected.items()
        }
        yield from _latencies("compiled", compiled, torch.bfloat16, points=[(1, 128), (32, 128)])


def _models(setting: Setting) -> dict[str, nn.Module]:
    """Return dense and K-prune's compact models at 50 and 80%, with widths in multiples of 8."""
    dense = setting.shape("BERT-base")
    models = {"dense": dense}
    for sparsity in (0.5, 0.8):
        pruned = copy.deepcopy(dense)
        seed_everything(0)
        method = build(METHODS, "kprune", {"sparsity": sparsity, "multiple": 8, "adapt": False})
        method.prune(pruned, setting.sample(64), no_report)
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
                "sentences a second": batch / seconds,
                "times faster": latencies["dense"] / seconds,
            }


def _two_to_four(setting: Setting, points: Sequence[tuple[int, int]]) -> Iterator[Row]:
    """Compare a 2:4 model in fp16 with cuSPARSELt kernels with dense fp16."""
    if setting.device.type != "cuda" or torch.cuda.get_device_capability(setting.device) < (8, 0):
        yield {
            "table": "2:4",
            "left out": "Sparse matrix kernels need a CUDA device of the Ampere generation or "
            "later.",
        }
        return
    dense = setting.shape("BERT-base").half()
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
