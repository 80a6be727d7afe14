"""Time, memory and profile of a forward pass."""

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
MIN_PASSES = 3  # timed passes per model
PATIENCE = 20.0  # seconds after which timing stops, once there are MIN_PASSES
# parts of the names of operations that multiply matrices, which multiply-accumulates count
PRODUCTS = ("mm", "linear", "attention", "matmul")


def timing_batch(model: Any, batch: int, length: int) -> Batch:
    """Full-length texts of random tokens; their content does not affect the time."""
    ids = torch.randint(
        5,
        min(1000, model.config.vocab_size),
        (batch, length),
        generator=torch.Generator().manual_seed(0),
    )
    device = device_of(model)
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids, device=device)}


def refuse_longer(model: Any, length: int, option: str) -> None:
    """Raise PruneError if `length` exceeds the model's maximum; the message names `option`."""
    if length > max_tokens(model):
        raise PruneError(
            f"{option} is {length}, but the model accepts at most {max_tokens(model)} tokens; "
            "lower it."
        )


class InterleavedTimes(NamedTuple):
    """Timed passes of several models."""

    seconds: list[list[float]]  # per model and pass
    other_load: float  # cores taken by other processes meanwhile; see Contention


def time_interleaved(
    models: Sequence[nn.Module], batch: Batch, repeats: int, report: Report, settle: bool = False
) -> InterleavedTimes:
    """Time passes of the models alternately, so that a machine that slows down slows all of them.

    With `settle`, an untimed pass precedes every timed one: threads of another runtime may still be
    spinning.
    """
    times: list[list[float]] = [[] for _ in models]
    on_cpu = batch["input_ids"].device.type == "cpu"
    threads = torch.get_num_threads() if on_cpu else 1  # one thread launches a GPU's kernels
    started = time.perf_counter()
    contention = Contention(threads)
    for repeat in range(-WARM_UP, repeats):
        if repeat == 0:
            contention = Contention(threads)
        if repeat >= MIN_PASSES and time.perf_counter() - started > PATIENCE:
            break
        for model, model_times in zip(models, times, strict=True):
            if settle:
                time_forward(model, batch)
            seconds = time_forward(model, batch)
            if repeat >= 0:
                model_times.append(seconds)
        report(max(0, repeat) / repeats, f"timed pass {max(0, repeat) + 1} of {repeats}")
    return InterleavedTimes(times, contention.other_load())


@torch.no_grad()
def time_forward(model: nn.Module, batch: Batch) -> float:
    """Time one forward pass in seconds; the device's queue is drained before and after."""
    wait_for_device(batch["input_ids"].device)
    started = time.perf_counter()
    model(**batch)
    wait_for_device(batch["input_ids"].device)
    return time.perf_counter() - started


def wait_for_device(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Seconds between marks by the device's own clock.

    On CUDA by events, so that nothing waits until they are read.
    """

    def __init__(self, device: torch.device):
        self._device, self._marks = device, list[Any]()
        self.mark()

    def mark(self) -> None:
        """End a lap and begin the next."""
        if self._device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        self._marks.append(event)

    def laps(self) -> list[float]:
        """Seconds of every lap so far."""
        wait_for_device(self._device)
        pairs = zip(self._marks, self._marks[1:], strict=False)
        if self._device.type == "cuda":
            return [start.elapsed_time(end) / 1e3 for start, end in pairs]
        return [end - start for start, end in pairs]


class Profile(NamedTuple):
    """Time of one pass by type of operation, and the memory it allocates besides the weights."""

    products: float  # seconds in matrix products; device time on CUDA
    others: Counter[str]  # seconds in every other operation, by name
    allocated: float  # peak bytes


@torch.no_grad()
def profile(model: nn.Module, batch: Batch) -> Profile | None:
    """Profile one pass on a CPU or CUDA; None on MPS, which torch's profiler does not support.

    On a CPU, allocations are those recorded by the profiler, accumulated over operations.
    """
    device = batch["input_ids"].device
    if device.type == "mps":
        return None
    cuda = device.type == "cuda"
    if cuda:
        wait_for_device(device)
        torch.cuda.reset_peak_memory_stats(device)
        allocated_before = torch.cuda.memory_allocated(device)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise two lines on stderr
    # only the new recorder (kineto) records CUDA kernels; it takes seconds to start
    with torch.autograd.profiler.profile(
        use_kineto=cuda, use_device="cuda" if cuda else None, profile_memory=not cuda
    ) as trace:
        model(**batch)
        wait_for_device(device)
    products, others = 0.0, Counter[str]()
    for event in trace.key_averages():
        # CUDA kernels are listed a second time under their own names
        if event.device_type != torch.autograd.DeviceType.CPU:
            continue
        seconds = (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6
        if any(word in event.key for word in PRODUCTS):
            products += seconds
        else:
            others[event.key.removeprefix("aten::").removeprefix("native_")] += seconds
    if cuda:
        return Profile(products, others, torch.cuda.max_memory_allocated(device) - allocated_before)
    current = peak = 0
    for event in sorted(trace.function_events, key=lambda event: event.time_range.end):
        current += event.self_cpu_memory_usage
        peak = max(peak, current)
    return Profile(products, others, peak)


def peak_memory(model: nn.Module, profiled: Profile | None) -> float:
    """Bytes of the weights and of a pass's allocations; NaN if these are unknown."""
    weights = sum(
        tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers()]
    )
    return weights + profiled.allocated if profiled else float("nan")


def speedup_limit(
    dense: Profile | None, pruned: Profile | None, seconds: tuple[float, float], theoretical: float
) -> str:
    """Explain why the measured speedup is below the ratio of multiply-accumulates.

    `seconds` are the measured passes of the dense and the pruned model, `theoretical` the ratio of
    their multiply-accumulates. The excess time is divided into matrix products, other operations
    and the time between operations; the largest part is named.
    """
    measured = f"Measured speedup {seconds[0] / seconds[1]:.2f}, theoretical {theoretical:.2f}"
    if dense is None or pruned is None:
        return f"{measured}; torch's profiler does not support this device."
    dense_times, pruned_times = _split_time(dense, seconds[0]), _split_time(pruned, seconds[1])
    excess = [
        after - before / theoretical
        for before, after in zip(dense_times, pruned_times, strict=True)
    ]
    products, others, _ = range(3)
    worst = max(range(3), key=excess.__getitem__)
    fraction = pruned_times[worst] / seconds[1]
    if worst == products:
        rate = dense_times[products] / theoretical / pruned_times[products]
        reason = f"its smaller matrix products reach {rate:.0%} of the dense ones' rate"
    elif worst == others:
        names = ", ".join(name for name, _ in pruned.others.most_common(3))
        reason = (
            f"{fraction:.0%} of its time is spent in operations other than matrix products "
            f"({names}), of which less was removed"
        )
    else:
        reason = (
            f"{fraction:.0%} of its time is spent between operations, whose launch takes the same "
            "time at any size"
        )
    return f"{measured}: {reason}."


def _split_time(profiled: Profile, wall: float) -> tuple[float, float, float]:
    """Seconds of an unprofiled pass: matrix products, other operations, between operations."""
    recorded = profiled.products + profiled.others.total()
    scale = min(1.0, wall / recorded)  # profiling itself takes time
    return profiled.products * scale, profiled.others.total() * scale, wall - recorded * scale
