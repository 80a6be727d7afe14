"""Evidence from timings and files: latency, speed-up and size."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..models.inference import contention, queueing
from ..statistics import quantile_band, quantile_bounds
from ..store.job import Job
from .bounded_metrics import BoundedMetric, exact
from .evidence import Evidence

# passes; with fewer, the largest is not a 95% bound of the 95th percentile (0.95 ** 59 < 0.05)
MIN_PASSES = 59


def _cost(measured: Evidence, column: str) -> float:
    rows = measured.tables["cost"]
    return float(rows.loc[rows["model"] == "pruned", column].iloc[0])


def timed_passes(job: Job) -> int:
    """Return the passes for measuring cost again: as before, but enough for a 95th percentile."""
    repeats = (
        measure["options"].get("repeats", 0)
        for measure in job.experiment["measures"]
        if measure["name"] == "cost"
    )
    return max(MIN_PASSES + 1, max(repeats, default=0))


def _no_passes(measured: Evidence) -> str:
    return (
        "single passes were not stored; measure again "
        f"(python -m prune_core remeasure {measured.job.id} cost)"
    )


def latency_p95(measured: Evidence) -> BoundedMetric | str:
    """Return the 95th percentile of the pruned model's times, in seconds."""
    times = measured.tables["timing"]
    if times.empty:
        return _no_passes(measured)
    seconds = times.loc[times["model"] == "pruned", "seconds"].to_numpy()
    detail = ""
    if len(seconds) < MIN_PASSES:
        detail = (
            f"{len(seconds)} timed passes are too few for a 95th percentile; measure 60 "
            f"(python -m prune_core remeasure {measured.job.id} cost --set cost.repeats=60)"
        )
    metric = BoundedMetric(
        _cost(measured, "latency_p95"),
        len(seconds),
        lambda alpha: quantile_bounds(seconds, 0.95, alpha),
        detail=detail,
    )
    return _undisturbed(measured, metric)


def response_p50(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the median of the response time under load, in seconds."""
    return _response_time(measured, 50)


def response_p95(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the 95th percentile of the response time under load, in seconds."""
    return _response_time(measured, 95)


def response_p99(measured: Evidence) -> dict[str, BoundedMetric | str]:
    """Return the 99th percentile of the response time under load, in seconds."""
    return _response_time(measured, 99)


def _response_time(measured: Evidence, q: int) -> dict[str, BoundedMetric | str]:
    """Return the percentile `q` of the response time under a Poisson load, in seconds.

    The group is the rate. The bounds are those of a queue in which each quantile of the service
    time is replaced by its bound: slower services never shorten a queue.
    """
    remeasure = f"python -m prune_core remeasure {measured.job.id} cost --set cost.arrivals=RATE"
    times = measured.tables["service_time"]
    if times.empty:
        return {"": f"not measured under load; measure with a rate of requests ({remeasure})"}
    service = times.loc[times["model"] == "pruned", "seconds"].to_numpy()
    rate, seed = _cost(measured, "arrivals"), int(measured.job.experiment.get("seed", 0))

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = quantile_band(service, alpha)
        return (
            queueing.percentile(low, rate, q, seed),
            queueing.percentile(high, rate, q, seed),
        )

    value, detail = queueing.percentile(service, rate, q, seed), ""
    if np.isinf(bounds(measured.alpha)[1]):
        detail = f"{len(service)} timed requests are too few to bound this percentile"
    if np.isinf(value):
        detail = f"requests arrive faster than the model processes them ({rate:g} per second)"
    metric = BoundedMetric(value, len(service), bounds, detail=detail)
    return {f"{rate:g} requests/s": _undisturbed(measured, metric)}


def time_ratio(measured: Evidence) -> BoundedMetric | str:
    """Return the median time of the pruned model as a fraction of the dense model's."""
    times = measured.tables["timing"]
    if times.empty:
        return _no_passes(measured)
    by_model = times.pivot(index="turn", columns="model", values="seconds")
    ratios = (by_model["pruned"] / by_model["dense"]).to_numpy()
    metric = BoundedMetric(
        float(np.median(ratios)), len(ratios), lambda alpha: quantile_bounds(ratios, 0.5, alpha)
    )
    return _undisturbed(measured, metric)


def _undisturbed(measured: Evidence, metric: BoundedMetric) -> BoundedMetric:
    """Remove the bounds if other processes used the processor during the measurement."""
    busy = disturbance(measured.tables["cost"])
    if not busy:
        return metric
    option = " --set cost.repeats=60" if metric.detail else ""
    return metric._replace(
        bounds=lambda alpha: (-np.inf, np.inf),
        detail=f"{busy}; measure again on an idle machine "
        f"(python -m prune_core remeasure {measured.job.id} cost{option})",
    )


def disturbance(timed: pd.DataFrame) -> str:
    """Describe the load by other processes during the timing of a table (`cost`, `formats`).

    Empty if there was none, or for old tables without this column.
    """
    loads = timed["other_load"].dropna() if "other_load" in timed else []
    return contention.disturbance(max(loads, default=None))


def resident_memory(measured: Evidence) -> BoundedMetric | str:
    """Return the peak resident memory of a fresh process, in bytes."""
    return _of_fresh_process(measured, "resident_memory")


def load_time(measured: Evidence) -> BoundedMetric | str:
    """Return the time from the start of a process to the output of a batch, in seconds."""
    found = _of_fresh_process(measured, "load_time")
    return found if isinstance(found, str) else _undisturbed(measured, found)


def _of_fresh_process(measured: Evidence, column: str) -> BoundedMetric | str:
    if column not in measured.tables["cost"]:
        return (
            "it was not measured in a fresh process; measure again (python -m prune_core remeasure "
            f"{measured.job.id} cost --set cost.fresh_process=true)"
        )
    return exact(_cost(measured, column))


def size(measured: Evidence) -> BoundedMetric:
    """Return the size of the weights file, in bytes."""
    return exact(_cost(measured, "bytes"))
