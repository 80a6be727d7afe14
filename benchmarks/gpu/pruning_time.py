"""Pruning time compared with a lower bound: the time that the device needs for the counted work.

Random models of BERT's shapes, 128 sequences of 128 tokens. Lower bound: the maximum of FLOPs /
rate of a large matrix product and bytes / bandwidth of a large copy, both measured here. Methods
that take more than 2.5 times their bound are profiled on two layers: the profiler needs more than
a minute to read the events of twelve.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from benchmarks.lower_bounds import bytes_moved, flops
from prune_core.methods import METHODS
from prune_core.models.devices import matrix_precision, seed_everything
from prune_core.models.units import gradient_dtype
from prune_core.plugins import Batch, Method, build, no_report

from .device_setup import DeviceSetup, Row
from .synchronizations import SynchronizationCounter

LIMIT = 90.0  # seconds
REPEATS, PATIENCE = 3, 12.0  # best of REPEATS; fewer after PATIENCE seconds for one method
SLOW = 2.5  # times the lower bound
PROFILED = 2  # layers
SPARSITY = 0.5
SEQUENCES = {"kprune": 160}  # 20K tokens; others 128
GOALS = {
    "akr": 2.0,
    "sparsegpt": 1.0,
    "akr_plus": 6.0,
    "kprune": 5.0,
}  # seconds on BERT-base, on an H100 or H200
NAMES = ("magnitude", "wanda", "sparsegpt", "akr", "kprune", "kwon", "akr_plus")


def run(setup: DeviceSetup) -> Iterator[Row]:
    """Yield the rates of the device, rows of BERT-base, profiles of slow methods, BERT-large."""
    with matrix_precision(tf32=False):
        rates = {dtype: matrix_rate(setup, dtype) for dtype in (torch.float32, torch.bfloat16)}
        bandwidth = copy_rate(setup)
        yield {
            "table": "device",
            "fp32, TFLOP/s": rates[torch.float32] / 1e12,
            "bf16, TFLOP/s": rates[torch.bfloat16] / 1e12,
            "copy, GB/s": bandwidth / 1e9,
        }
        slow = []
        for shape in ("BERT-base", "BERT-large"):
            model = setup.shape(shape)
            for name in NAMES:
                method, batches = (
                    build(METHODS, name, {"sparsity": SPARSITY}),
                    setup.sample(SEQUENCES.get(name, 128)),
                )
                row = _timed(
                    setup,
                    shape,
                    model,
                    method=method,
                    batches=batches,
                    rates=rates,
                    bandwidth=bandwidth,
                )
                yield row
                slow += [(method, batches)] if row["ratio"] > SLOW else []
            for method, batches in slow if shape == "BERT-base" else []:
                yield {
                    "table": "profiles",
                    "method": method.title,
                    **profiled(setup, method, batches),
                }


def _timed(
    setup: DeviceSetup,
    shape: str,
    model: nn.Module,
    method: Method,
    batches: list[Batch],
    rates: dict[torch.dtype, float],
    bandwidth: float,
) -> Row:
    def prune() -> None:
        seed_everything(0)
        method.prune(pruned, batches, no_report)

    times: list[float] = []
    peak = float("nan")
    for _ in range(1 + REPEATS):  # the first is a warm-up
        pruned = copy.deepcopy(model)
        seconds, peak = setup.peak(prune)
        times.append(seconds)
        if sum(times) > PATIENCE:
            break
    best = min(times[1:] or times)
    work, moved = flops(method, model, batches), bytes_moved(method, model, batches)
    gradient_type = gradient_dtype("auto", setup.device)  # dtype of K-prune's and Kwon's gradients
    rate = lambda purpose: rates[gradient_type if purpose == "gradients" else torch.float32]  # noqa: E731
    lower_bound = max(
        sum(count / rate(purpose) for purpose, count in work.items()), moved / bandwidth
    )
    goal = GOALS.get(method.name) if shape == "BERT-base" else None
    return {
        "table": "methods",
        "shape": shape,
        "method": method.title,
        "seconds": best,
        "goal, s": goal,
        "TFLOP": sum(work.values()) / 1e12,
        "GB moved": moved / 1e9,
        "lower bound, s": lower_bound,
        "ratio": best / lower_bound,
        "peak MB": peak / 1e6,
        "FLOPs by purpose": work,
        "timed passes": len(times) - 1,
    }


def profiled(setup: DeviceSetup, method: Method, batches: list[Batch]) -> Row:
    """Return the ten longest operations (by device time if measured) and the waits of the host."""
    from torch.profiler import ProfilerActivity, profile

    model = setup.shape("BERT-base", PROFILED)
    work = partial(method.prune, model, batches, no_report)
    cuda = setup.device.type == "cuda"
    with profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    ) as recorded:
        setup.seconds(work)
    with SynchronizationCounter() as synchronizations:
        work()
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, key))
    longest = [
        {"operation": event.key, "calls": event.count, "ms": getattr(event, key) / 1e3}
        for event in events[:10]
    ]
    host = sorted(events, key=lambda event: -event.self_cpu_time_total)
    synchronised = sum(event.count for event in events if "Synchronize" in event.key)
    return {
        "ten longest": longest,
        "host synchronisations": synchronised,
        "synchronizing operations": dict(synchronizations.counts),
        "ten longest on the host": [
            {"operation": e.key, "calls": e.count, "ms": e.self_cpu_time_total / 1e3}
            for e in host[:10]
        ],
    }


def matrix_rate(setup: DeviceSetup, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a large matrix product, best of several."""
    size = 512 if setup.tiny else 8192 if setup.device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=setup.device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / min(setup.seconds(lambda: a @ b) for _ in range(8))


def copy_rate(setup: DeviceSetup) -> float:
    """Return the bytes per second read and written by a large copy, best of several."""
    source = torch.randn(
        2**20 if setup.tiny else 2**28 if setup.device.type == "cuda" else 2**26,
        device=setup.device,
    )
    target = torch.empty_like(source)
    return (
        2
        * source.numel()
        * source.element_size()
        / min(setup.seconds(lambda: target.copy_(source)) for _ in range(8))
    )
