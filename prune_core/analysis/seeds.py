"""Pool runs that differ only in their seed: means, intervals over seeds and examples, paired tests.

The views of the measures declare how each table is averaged (`Averaging`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from ..statistics import bootstrap_p_value, nested_resamples
from ..store.job import Job
from .compared_models import ComparedModel


@dataclass(frozen=True)
class Averaging:
    """How the rows of a table are averaged over seeds.

    Rows of two seeds that agree in the columns `identity` are one quantity; None: charts show the
    rows of a single seed and say which. `intervals`: (value, low, high) columns of fractions.
    """

    identity: tuple[str, ...] | None
    intervals: tuple[tuple[str, str, str], ...] = ()


ONE_SEED = Averaging(None)
OF_JOB = ("job", "label", "study", "method", "requested_sparsity", "sparsity", "pattern", "seed")
WORST = {"other_load": "max"}  # one disturbed run makes the mean of the times unreliable
RESAMPLES = 1000
HITS = ("accuracy", "binary_accuracy")  # metrics for which every prediction is correct or incorrect


def merge_seeds(models: Sequence[ComparedModel], jobs: Sequence[Job]) -> list[ComparedModel]:
    """Merge runs that differ only in seed; `job` is the one of the lowest seed, `runs` are all."""
    plans = {job.id: _plan(job) for job in jobs}
    groups: dict[str, list[ComparedModel]] = {}
    for model in models:
        groups.setdefault(plans[model.job], []).append(model)
    return [_merge(group) for group in groups.values()]


def _merge(group: Sequence[ComparedModel]) -> ComparedModel:
    if len(group) == 1:
        return group[0]
    first, *_ = group = sorted(group, key=lambda model: (model.seed, model.job))
    parts = first.label.split(" · ")
    return replace(
        first,
        label=" · ".join(part for part in parts if not part.startswith(("seed ", "job "))),
        runs=tuple(model.job for model in group),
    )


def _plan(job: Job) -> str:
    """Return the plan that runs of one model share; only the number of timed passes may differ."""
    measures = [
        {
            **measure,
            "options": {
                name: value for name, value in measure["options"].items() if name != "repeats"
            },
        }
        for measure in job.experiment.get("measures", ())
    ]
    return json.dumps(
        {**job.experiment, "seed": 0, "study": "", "device": "", "measures": measures},
        sort_keys=True,
    )


def infer_averaging(rows: pd.DataFrame) -> Averaging:
    """Return how a table that no view declares is averaged.

    Its rows are identified by texts and truth values, then by as many integer columns as needed,
    in their order. Rows of single examples, and rows that repeat these values, are not averaged.
    """
    columns = [name for name in rows if name not in OF_JOB]
    if "example" in columns or rows.map(lambda cell: isinstance(cell, list)).any(axis=None):
        return ONE_SEED
    keys = [name for name in columns if rows[name].dtype.kind not in "if"]
    jobs = [name for name in ("job",) if name in rows]
    for name in [None, *(name for name in columns if rows[name].dtype.kind == "i")]:
        keys += [name] if name else []
        subset = [*jobs, *keys]
        if not (rows.duplicated(subset).any() if subset else len(rows) > 1):
            return Averaging(tuple(keys))
    return ONE_SEED


def pooled(
    name: str,
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    averaging: Averaging,
    predictions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the rows of a table averaged over the seeds of each model, under the model's job.

    `predictions` holds the rows of every run, for the interval of the accuracy difference. Columns
    `low` and `high` of a fraction span seeds and examples together, `seeds_low` and `seeds_high`
    the seeds alone, `examples_low` and `examples_high` the examples alone (the mean of the single
    runs' intervals). Anything but numbers is kept where all seeds agree and is None elsewhere. A
    table that is not averaged has the rows of each model's first seed.
    """
    if averaging.identity is None:
        return rows[rows["job"].isin([model.job for model in models])] if len(rows) else rows
    keys = list(averaging.identity)
    several = [model for model in models if model.runs]
    if rows.empty or not several:
        return rows
    parts = [rows[rows["job"].isin([model.job for model in models if not model.runs])]]
    for model in several:
        model_rows = rows[rows["job"].isin(model.runs)]
        if len(model_rows):
            is_accuracy = name == "accuracy"  # its differences may be negative
            mean = _means(model_rows, keys)
            mean = _with_intervals(mean, model_rows, averaging, is_clipped=not is_accuracy)
            if is_accuracy:
                mean = _with_test(mean, model_rows, model, predictions=predictions)
            parts.append(mean.assign(job=model.job, label=model.label, seed=model.seed))
    return pd.concat(parts, ignore_index=True)


def means(models: Sequence[ComparedModel]) -> str:
    """Describe how values are averaged: "mean over 3 seeds"; empty if each model has one run."""
    most = max((len(model.runs) for model in models), default=0)
    return f"mean over {most} seeds" if most else ""


def seed_note(models: Sequence[ComparedModel]) -> str:
    """Name the seed shown for averaged models: "seed 0 (one of 3 seeds)"; empty without any."""
    several = [model for model in models if model.runs]
    if not several:
        return ""
    first = {model.seed for model in several}
    seed = f"seed {first.pop()}" if len(first) == 1 else "the first seed of each model"
    return f"{seed} (one of {max(len(model.runs) for model in several)} seeds)"


def seeds_together(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> pd.DataFrame:
    """Return the rows of every run under its model's job, for tests paired by example and seed."""
    owner = {job: model.job for model in models for job in model.jobs}
    return rows.assign(job=rows["job"].map(owner)) if len(rows) else rows


def _groups(rows: pd.DataFrame, keys: Sequence[str]) -> Any:
    """Rows of the same quantity, one per seed, in their first order."""
    return rows.assign(**{"": 0}).groupby([*keys, ""], sort=False, dropna=False)


def _means(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return one row per combination of keys: means of numbers, maxima of WORST, common values."""
    groups = _groups(rows, keys)
    numbers = set(rows.select_dtypes("number"))
    columns = {}
    for column in rows.columns.difference(keys, sort=False):
        values = groups[column]
        if column in WORST:
            columns[column] = getattr(values, WORST[column])()
        elif column in numbers:
            mean = values.mean()
            # sizes that all seeds share stay integers
            is_integer = is_integer_dtype(rows[column]) and (mean % 1 == 0).all()
            columns[column] = mean.astype(rows[column].dtype) if is_integer else mean
        else:
            columns[column] = values.first().where(values.nunique(dropna=False) == 1, None)
    table = pd.DataFrame(columns).reset_index().drop(columns="")
    # a mean of p-values is not a p-value
    table = table.assign(**{name: np.nan for name in table if str(name).endswith("_p")})
    return table[[column for column in rows if column in table]]


def _with_intervals(
    means: pd.DataFrame, rows: pd.DataFrame, averaging: Averaging, is_clipped: bool
) -> pd.DataFrame:
    """Return the means with their intervals over seeds, examples, and both."""
    # a rate of nothing is None
    rows = rows.astype({column: float for columns in averaging.intervals for column in columns})
    groups = _groups(rows, averaging.identity or ())
    for value, low, high in averaging.intervals:
        mean, half = groups[value].mean().to_numpy(), t_half_width(groups[value])
        below, above = mean - groups[low].mean().to_numpy(), groups[high].mean().to_numpy() - mean
        ends = mean - np.hypot(half, below), mean + np.hypot(half, above)
        means[f"seeds_{low}"], means[f"seeds_{high}"] = mean - half, mean + half
        means[f"examples_{low}"], means[f"examples_{high}"] = mean - below, mean + above
        # differences and Kendall's tau may be negative
        is_fraction = is_clipped and not value.endswith(("difference", "tau"))
        means[low], means[high] = np.clip(ends, 0, 1) if is_fraction else ends
    return means


def _with_test(
    means: pd.DataFrame,
    rows: pd.DataFrame,
    model: ComparedModel,
    predictions: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return the means of the table `accuracy` with a test over seeds and examples."""
    means["p_value"] = np.nan  # a mean of p-values is not a p-value
    if predictions is not None and rows["metric"].iloc[0] in HITS:
        resamples = hierarchical(predictions[predictions["job"].isin(model.runs)])
        low, high = np.quantile(resamples, (0.025, 0.975))
        means["difference_low"], means["difference_high"] = float(low), float(high)
        means["p_value"] = bootstrap_p_value(resamples)
    return means


def t_half_width(values: Any) -> np.ndarray:
    """(groups,) half of the 95% interval of each group's mean by Student's t; 0 for one value."""
    from scipy.stats import t

    n = values.count().to_numpy()
    half = t.ppf(0.975, np.maximum(n - 1, 1)) * values.std().to_numpy() / np.sqrt(np.maximum(n, 1))
    return np.where(n > 1, half, 0.0)


def hierarchical(rows: pd.DataFrame) -> np.ndarray:
    """Return (resamples,) accuracy differences, pruned minus dense, over seeds and examples.

    If all seeds use the same examples, each example is resampled for all seeds together; otherwise
    the examples of each seed are resampled separately.
    """
    sides = [
        (group["label"], group["dense"], group["pruned"], tuple(group["text"]))
        for _, group in rows.groupby("job", sort=False)
    ]
    gaps = [
        (pruned == labels).to_numpy(float) - (dense == labels).to_numpy(float)
        for labels, dense, pruned, _ in sides
    ]
    if len({texts for *_, texts in sides}) > 1:
        return nested_resamples(gaps, RESAMPLES)
    rng, seeds, examples = np.random.default_rng(0), len(gaps), len(gaps[0])
    by_seed = (
        rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    )  # (resamples, seeds)
    by_example = rng.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES) / examples
    return np.einsum("rs,se,re->r", by_seed, np.stack(gaps), by_example, optimize=True)
