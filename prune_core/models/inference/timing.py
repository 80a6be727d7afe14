"""How long a forward pass takes, what it allocates, and where its time goes. Knows nothing of pruning or of tables."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ...errors import PruneError
from ...plugins import Batch, Report
from ..devices import device_of
from ..replay import max_tokens
from .contention import Contention

WARM_UP = 3  # passes
LEAST, PATIENCE = (
    3,
    20.0,
)  # timed passes of each model; seconds after which no more than these are made
# Operations that multiply matrices, as parts of their names: what multiply-accumulates count.
PRODUCTS = ("mm", "linear", "attention", "matmul")


def timing_batch(model: Any, batch: int, length: int) -> Batch:
    """Full-length sentences of arbitrary tokens: what they say does not change the work."""
    ids = torch.randint(
        5,
        min(1000, model.config.vocab_size),
        (batch, length),
        generator=torch.Generator().manual_seed(0),
    )
    device = device_of(model)
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids, device=device)}


def refuse_longer(model: Any, length: int, option: str) -> None:
    """The sentence for whoever would time more tokens than the model takes."""
    if length > max_tokens(model):
        raise PruneError(
            f"{option} is {length}, but the model takes at most {max_tokens(model)} tokens; lower it."
        )


class InterleavedTimes(NamedTuple):
    """Timed passes of several models."""

    seconds: list[list[float]]  # of each pass of each model
    other_load: float  # cores that other processes took meanwhile; see Contention


def time_interleaved(
    models: Sequence[nn.Module], batch: Batch, repeats: int, report: Report, settle: bool = False
) -> InterleavedTimes:
    """Time passes of the models in turn, so that a machine that slows down slows all of them.

    With `settle` an untimed pass goes before every timed one: threads of another runtime may still be spinning.
    """
    times: list[list[float]] = [[] for _ in models]
    on_cpu = batch["input_ids"].device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1  # one thread launches a GPU's kernels
    started = time.perf_counter()
    contention = Contention(threads)
    for repeat in range(-WARM_UP, repeats):
        if repeat == 0:
            contention = Contention(threads)
        if repeat >= LEAST and time.perf_counter() - started > PATIENCE:
            break
        for model, found in zip(models, times, strict=True):
            if settle:
                time_forward(model, batch)
            seconds = time_forward(model, batch)
            if repeat >= 0:
                found.append(seconds)
        report(max(0, repeat) / repeats, f"timed pass {max(0, repeat) + 1} of {repeats}")
    return InterleavedTimes(times, contention.other_load())


@torch.no_grad()
def time_forward(model: nn.Module, batch: Batch) -> float:
    """Seconds of one forward pass, the device's queue drained on both sides."""
    wait_for_device(batch["input_ids"].device)
    started = time.perf_counter()
    model(**batch)
    wait_for_device(batch["input_ids"].device)
    return time.perf_counter() - started


def wait_for_device(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Seconds between marks, by the device's own clock: on CUDA by events, for which nothing has to wait until they are read."""

    def __init__(self, device: torch.device):
        self._device, self._marks = device, list[Any]()
        self.mark()

    def mark(self) -> None:
        """The end of a lap and the beginning of the next."""
        if self._device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)

    def laps(self) -> list[float]:
        """Of every lap so far."""
        wait_for_device(self._device)
        between = zip(self._marks, self._marks[1:], strict=False)
        return [
            start.elapsed_time(end) / 1e3 if self._device.type == "cuda" else end - start
            for start, end in between
        ]


class Profile(NamedTuple):
    """Where one pass spends its time, and what it holds beside the weights."""

    products: float  # seconds in matrix products, the device's own on CUDA
    others: Counter[str]  # seconds in every other operation, by name
    allocated: float  # bytes at the fullest moment


@torch.no_grad()
def profile(model: nn.Module, batch: Batch) -> Profile | None:
    """One profiled pass on a CPU or CUDA; None on MPS, into which torch's profiler does not see.

    On a CPU the allocations are those that the profiler records, added up from operation to operation.
    """
    device = batch["input_ids"].device
    if device.type == "mps":
        return None
    cuda = device.type == "cuda"
    if cuda:
        wait_for_device(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else every profile writes two lines to stderr
    # CUDA's kernels are seen by the new recorder only, which takes seconds to start
    with torch.autograd.profiler.profile(
        use_kineto=cuda, use_device="cuda" if cuda else None, profile_memory=not cuda
    ) as recorded:
        model(**batch)
        wait_for_device(device)
    products, others = 0.0, Counter[str]()
    for event in recorded.key_averages():
        if (
            event.device_type != torch.autograd.DeviceType.CPU
        ):  # CUDA's kernels stand there again, by their own names
            continue
        seconds = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
        if any(word in event.key for word in PRODUCTS):
            products += seconds
        else:
            others[event.key.removeprefix("aten::").removeprefix("native_")] += seconds
    if cuda:
        return Profile(products, others, torch.cuda.max_memory_allocated(device) - held)
    now = most = 0
    for event in sorted(recorded.function_events, key=lambda event: event.time_range.end):
        now += event.self_cpu_memory_usage
        most = max(most, now)
    return Profile(products, others, most)


def peak_memory(model: nn.Module, profiled: Profile | None) -> float:
    """Bytes of the weights and of what a pass allocates beside them; NaN where that is unknown."""
    own = sum(
        tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()]
    )
    return own + profiled.allocated if profiled else float("nan")


def speedup_limit(
    dense: Profile | None, pruned: Profile | None, seconds: tuple[float, float], theoretical: float
) -> str:
    """Why the pruned model's pass takes longer than the dense one's over the ratio of their multiply-accumulates.

    `seconds` are the measured passes of both. The time beyond is shared out between matrix products, other operations
    and what lies between operations; the largest share is named.
    """
    said = f"Measured {seconds[0] / seconds[1]:.2f} times, counted {theoretical:.2f}"
    if dense is None or pruned is None:
        return f"{said}; torch's profiler does not see what this device does."
    spent = [
        _shares(profiled, wall) for profiled, wall in zip((dense, pruned), seconds, strict=True)
    ]
    beyond = [after - before / theoretical for before, after in zip(*spent, strict=True)]
    products, others, _ = range(3)
    worst = max(range(3), key=lambda kind: beyond[kind])
    share = spent[1][worst] / seconds[1]
    if worst == products:
        why = f"its smaller matrix products reach {spent[0][products] / theoretical / spent[1][products]:.0%} of the dense ones' rate"
    elif worst == others:
        names = ", ".join(name for name, _ in pruned.others.most_common(3))
        why = f"{share:.0%} of its time goes into other operations than matrix products ({names}), of which less was cut"
    else:
        why = f"{share:.0%} of its time passes between operations, which take so long to start whatever their size"
    return f"{said}: {why}."


def _shares(profiled: Profile, wall: float) -> tuple[float, float, float]:
    """Seconds of an unprofiled pass in matrix products, in other operations, and between operations."""
    inside = profiled.products + profiled.others.total()
    scale = min(1.0, wall / inside)  # profiling itself takes time
    return profiled.products * scale, profiled.others.total() * scale, wall - inside * scale
