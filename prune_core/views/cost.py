"""Cost: size, FLOPs, latency and speed-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from .. import formatting as f
from ..analysis import cost_evidence, takeaways
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion, reciprocal
from ..analysis.quantities import Quantity, Value
from ..analysis.seeds import Averaging
from ..models.inference.contention import DISTURBED
from .base import Chart, MeasureView, Tables, has_pruned


def _cost(rows: pd.DataFrame, column: str) -> Value:
    # the dense job has only rows of the dense model
    pruned = rows[rows["model"] == "pruned"]
    # rows of older studies may lack a column
    row = (pruned if len(pruned) else rows).iloc[0]
    return float(row.get(column, np.nan)), np.nan, np.nan, np.nan


def _work(rows: pd.DataFrame) -> Value:
    left = _cost(rows, "macs")[0] / float(rows.loc[rows["model"] == "dense", "macs"].iloc[0])
    return left, np.nan, np.nan, np.nan


QUANTITIES = (
    Quantity(
        "realised",
        "Realized sparsity",
        "Zeros in the encoder's matrices",
        table="cost",
        read=partial(_cost, column="sparsity"),
        show=f.percent,
        better="",
        gloss="Percentage of prunable weights that are exactly zero.",
        tick=".0%",
    ),
    Quantity(
        "nonzeros",
        "Weights left",
        "Non-zero weights (millions)",
        table="cost",
        read=partial(_cost, column="nonzeros"),
        show=f.millions,
        better="lower",
        gloss="Non-zero weights of the complete model, with embeddings.",
        scale=1e-6,
        tick=".1f",
    ),
    Quantity(
        "bytes",
        "Size on disk",
        "Size on disk (MB)",
        table="cost",
        read=partial(_cost, column="bytes"),
        show=f.size,
        better="lower",
        gloss="Unstructured zeros are stored like other values, so they do not make the file "
        "smaller.",
        scale=1e-6,
        tick=".0f",
    ),
    Quantity(
        "work",
        "FLOPs kept",
        "Multiply-adds relative to dense",
        table="cost",
        read=_work,
        show=f.percent,
        better="lower",
        gloss="Multiply-adds of one example; zeros count unless heads or neurons are removed.",
        tick=".0%",
    ),
    Quantity(
        "speedup",
        "Measured speed-up",
        "Speed-up over dense (times)",
        table="cost",
        read=partial(_cost, column="speedup_measured"),
        show=f.plain,
        better="higher",
        gloss="Speed-up over the dense model, timed in alternation; structured models are compact.",
        tick=".1f",
    ),
    Quantity(
        "latency",
        "Latency",
        "Latency p50 (ms per batch)",
        table="cost",
        read=partial(_cost, column="latency_p50"),
        show=f.milliseconds,
        better="lower",
        gloss="Median time per batch. Unstructured zeros give no speed-up with standard kernels.",
        scale=1e3,
        tick=".0f",
    ),
    Quantity(
        "resident_memory",
        "Resident memory",
        "Peak resident memory of a fresh process (MB)",
        table="cost",
        read=partial(_cost, column="resident_memory"),
        show=f.size,
        better="lower",
        gloss="Peak resident memory of a fresh process that loads the model and runs one batch, "
        "including the interpreter and libraries.",
        scale=1e-6,
        tick=".0f",
    ),
    Quantity(
        "load_time",
        "Load time",
        "Load time in a fresh process (s)",
        table="cost",
        read=partial(_cost, column="load_time"),
        show=f.seconds,
        better="lower",
        gloss="Time from the start of a fresh process to the output of its first batch.",
        tick=".1f",
    ),
    *(
        Quantity(
            f"response_p{q}",
            f"Response time p{q}",
            f"Response time under load, p{q} (ms)",
            table="cost",
            read=partial(_cost, column=f"response_p{q}"),
            show=f.milliseconds,
            better="lower",
            gloss="Waiting plus service time of a text, for one server and Poisson arrivals at the "
            "rate set by the option arrivals.",
            scale=1e3,
            tick=".0f",
        )
        for q in (50, 95, 99)
    ),
    Quantity(
        "other_load",
        "Load by other processes",
        "Load by other processes (fraction of a core)",
        table="cost",
        read=partial(_cost, column="other_load"),
        show=f.percent,
        better="",
        gloss="Processor time of other processes during timing; times are unreliable above "
        f"{DISTURBED:.0%} of a core.",
        tick=".0%",
    ),
)
# quantities whose columns only some tables have
OPTIONAL = (
    *("resident_memory", "load_time", "response_p50", "response_p95", "response_p99"),
    "other_load",
)
FRESH = {"fresh_process": True}
_cost_criterion = partial(
    Criterion, measure="cost", table="cost", in_default_policy=False, counts_examples=False
)
CRITERIA = (
    _cost_criterion(
        "latency_p95",
        "95th-percentile latency",
        "Longest 95th-percentile time of a batch, as timed by the cost measure",
        "ms",
        evidence=cost_evidence.latency_p95,
        default=50.0,
        scale=1000.0,
    ),
    *(
        _cost_criterion(
            f"response_p{q}",
            f"Response time p{q} under load",
            f"Highest {q}th percentile of the response time of a text under the Poisson load of "
            "the cost measure (its option arrivals)",
            "ms",
            evidence=evidence,
            default=default,
            scale=1000.0,
        )
        for q, evidence, default in (
            (50, cost_evidence.response_p50, 50.0),
            (95, cost_evidence.response_p95, 100.0),
            (99, cost_evidence.response_p99, 200.0),
        )
    ),
    _cost_criterion(
        "speedup",
        "Speed-up",
        "Lowest speed-up over the dense model, measured in alternation",
        "times",
        evidence=cost_evidence.time_ratio,
        default=1.0,
        scale=1.0,
        as_cost=reciprocal,
    ),
    _cost_criterion(
        "size",
        "Size on disk",
        "Largest weights file",
        "MB",
        evidence=cost_evidence.size,
        default=100.0,
        scale=1e-6,
    ),
    _cost_criterion(
        "resident_memory",
        "Peak resident memory",
        "Highest peak resident memory of a fresh process that loads the model and runs one batch",
        "MB",
        evidence=cost_evidence.resident_memory,
        default=1000.0,
        scale=1e-6,
        measure_options=FRESH,
    ),
    _cost_criterion(
        "load_time",
        "Load time",
        "Longest time from the start of a fresh process to the output of its first batch",
        "s",
        evidence=cost_evidence.load_time,
        default=10.0,
        scale=1.0,
        measure_options=FRESH,
    ),
)


def _quantities(tables: Tables) -> list[Quantity]:
    rows = tables["cost"]
    # older studies, short passes and runs without these options lack some columns
    return [
        each
        for each in QUANTITIES
        if each.key not in OPTIONAL or (each.key in rows and not rows[each.key].isna().all())
    ]


def _charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    from .. import plots

    if has_pruned(models):
        gloss = "Weights, file size, FLOPs and latency as fractions of the dense model's."
        yield Chart("Cost", gloss, plots.cost_savings(tables["cost"], models, dark))


VIEW = MeasureView(
    tables={
        "cost": Averaging(("model",)),
        "latency": Averaging(("model", "batch", "length")),
    },
    quantities=_quantities,
    takeaway=lambda tables, models: takeaways.cost(tables["cost"], models),
    charts=_charts,
    criteria=CRITERIA,
)
