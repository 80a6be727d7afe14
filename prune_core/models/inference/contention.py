"""Measure the processor time that other processes take from a measurement."""

import os
import time
from typing import NamedTuple

DISTURBED = 0.15  # cores; on an idle machine with the dashboard open it is below 0.1
MIN_SECONDS = (
    0.25  # seconds; the system counts in steps of 10 ms, so shorter windows are too coarse
)


class Clocks(NamedTuple):
    """Processor seconds so far, and the time at which they were read."""

    wall: float
    all_processes: float  # on the cores this process may use; includes time stolen by other VMs
    this_process: float  # all threads


class Contention:
    """Measure how much processor time other processes take from `threads` busy threads of this one.

    Load that fits on the cores left free by these threads does not slow them and is not counted.
    Child processes count as others: no timed pass runs in one. Not detected: other processes on a
    GPU, and a container's quota.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self.start = _read()

    def other_load(self) -> float:
        """Return cores taken since the start, at most 1: a pass waits for its slowest thread.

        NaN if the window is too short or the system does not report processor times.
        """
        if self.start is None or (end := _read()) is None:
            return float("nan")
        wall, all_processes, this_process = (
            after - before for before, after in zip(self.start, end, strict=True)
        )
        if wall < MIN_SECONDS or all_processes <= 0:
            return float("nan")
        spare = max(0, _cores() - self.threads)
        return min(1.0, max(0.0, (all_processes - this_process) / wall - spare))


def _read() -> Clocks | None:
    """Read the clocks; None if psutil is missing or the system does not report processor times."""
    try:
        import psutil

        times = psutil.cpu_times(percpu=True)
    except (ImportError, OSError, RuntimeError, NotImplementedError):
        return None

    # guest time is already part of user time; waiting for a disk is idle time
    busy = ("user", "nice", "system", "irq", "softirq", "steal", "interrupt", "dpc")
    spent = sum(getattr(times[core], name, 0.0) for core in _usable(len(times)) for name in busy)
    return Clocks(time.perf_counter(), spent, time.process_time())


def _usable(cores: int) -> list[int]:
    """Cores that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):  # macOS, Windows
        return list(range(cores))
    return [core for core in os.sched_getaffinity(0) if core < cores]


def _cores() -> int:
    """Physical cores this process may run on: two threads on one core slow each other."""
    import psutil

    logical = psutil.cpu_count() or 1
    return min(psutil.cpu_count(logical=False) or logical, len(_usable(logical)))


def disturbance(other_load: float | None) -> str:
    """Return a clause if the passes were disturbed, else "". None and NaN are unknown."""
    if other_load is None or not other_load > DISTURBED:
        return ""
    amount = "a core or more" if other_load >= 1 else f"{other_load:.0%} of a core"
    return f"other processes took {amount} from the timed passes"
