"""Quantities: one value per model with its interval, computed from the rows of the measures.

Charts and tables refer to quantities by key.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from .. import formatting as f
from ..tasks import METRICS
from .compared_models import ComparedModel

Value = tuple[float, float, float, float]  # value, low, high, n; NaN if missing
RANKING_QUALITY = ("ndcg_old_index", "ndcg_reembedded")  # of a retrieval collection
NO_VALUE: Value = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Quantity:
    """One value per model: how to compute it from a table's rows, and how to format it."""

    key: str
    title: str
    axis: str  # with the unit
    table: str
    read: Callable[[pd.DataFrame], Value]
    show: Callable[[float], str]
    better: str = ""  # "higher", "lower", or "" if neither
    gloss: str = ""  # explanation in one sentence
    scale: float = 1.0  # raw value -> axis value
    tick: str = ""  # plotly tick format


def with_interval(rows: pd.DataFrame, column: str, low: str, high: str, n: str = "n") -> Value:
    """Return the value, the ends of its interval and the sample size of the first row."""
    row = rows.iloc[0]
    value, bottom, top, size = (
        float(row[c]) if row[c] is not None else np.nan for c in (column, low, high, n)
    )
    return value, bottom, top, size


def single_value(rows: pd.DataFrame, column: str) -> Value:
    """Return a column of the first row, without an interval."""
    return float(rows.iloc[0][column]), np.nan, np.nan, np.nan


def mean_value(rows: pd.DataFrame, column: str) -> Value:
    """Return the mean of a column, without an interval."""
    return float(rows[column].mean()), np.nan, np.nan, np.nan


def headline(metric: str) -> tuple[Quantity, Quantity]:
    """Return the task's metric, whose key is its name, and its difference from dense."""
    title, is_fraction = METRICS[metric].title, METRICS[metric].share
    show, tick = (f.percent, ".0%") if is_fraction else (f.plain, ".2f")
    return (
        Quantity(
            metric,
            title,
            title,
            table="accuracy",
            read=partial(with_interval, column="score", low="low", high="high"),
            show=show,
            better="higher",
            gloss=METRICS[metric].gloss,
            tick=tick,
        ),
        Quantity(
            "difference",
            f"{title} difference from dense",
            "Difference from dense (points)",
            table="accuracy",
            read=partial(
                with_interval, column="difference", low="difference_low", high="difference_high"
            ),
            show=f.points,
            better="higher",
            gloss=f"{title} minus the dense model's, on the same examples; a point is 0.01.",
            scale=100.0,
            tick="+.1f",
        ),
    )


def task_metric(quantities: Mapping[str, Quantity]) -> Quantity | None:
    """Return the quantity of the task's metric; None if it was not measured."""
    return next((quantity for key, quantity in quantities.items() if key in METRICS), None)


def quality(quantities: Mapping[str, Quantity]) -> list[Quantity]:
    """Return the measured quantities of quality, the most important first.

    These are nDCG@10 on a retrieval collection and the task's metric.
    """
    metric = task_metric(quantities)
    keys = (*RANKING_QUALITY, *([metric.key] if metric else []))
    return [quantities[key] for key in keys if key in quantities]


def summary(
    tables: Mapping[str, pd.DataFrame],
    models: Sequence[ComparedModel],
    quantities: Sequence[Quantity],
    single: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Return one row per model with `key`, `key_low`, `key_high` and `key_n` of each quantity.

    Values of unfinished stages are NaN. With the rows of every run (`single`), `key_runs` has the
    values of a model's seeds.
    """
    records = []
    for model in models:
        row: dict[str, object] = {
            "job": model.job,
            "label": model.label,
            "method": model.method,
            "family": model.family,
            "requested_sparsity": model.sparsity,
            "pattern": model.pattern,
            "seed": model.seed,
        }
        for quantity in quantities:
            rows = tables[quantity.table]
            model_rows = rows[rows["job"] == model.job]
            row |= dict(
                zip(
                    (quantity.key, *(f"{quantity.key}_{end}" for end in ("low", "high", "n"))),
                    quantity.read(model_rows) if len(model_rows) else NO_VALUE,
                    strict=True,
                )
            )
            all_rows = rows.iloc[:0] if single is None else single[quantity.table]
            by_seed = [all_rows[all_rows["job"] == job] for job in model.runs]
            row[f"{quantity.key}_runs"] = [
                quantity.read(model_rows)[0] for model_rows in by_seed if len(model_rows)
            ]
        records.append(row)
    return pd.DataFrame(records)
