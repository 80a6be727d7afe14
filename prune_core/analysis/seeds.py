"""Pool runs that differ only in their seed: means, intervals over seeds and examples, paired tests.

Every table that a stage returns is declared here, once: in `IDENTITY` if it is averaged over seeds,
in `ONE_SEED` if charts show the rows of a single seed and say which.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from ..errors import PruneError
from ..statistics import bootstrap_p_value, nested_resamples
from ..store.job import Job
from .compared_models import ComparedModel

# Identity columns of the averaged tables: rows of two seeds that agree in them are one quantity
IDENTITY: dict[str, tuple[str, ...]] = {
    "accuracy": (),
    "attack": ("recipe",),
    "attack_slice": ("kind", "slice"),  # computed from attack_example
    "budget": (),
    "cost": ("model",),
    "drift": ("block", "pooling"),
    "drift_adversarial": ("block", "pooling"),
    "latency": ("model", "batch", "length"),
    "prune": ("block", "projection"),
    "reconstruction": ("block", "projection"),
    "sensitivity": ("block",),
}
ONE_SEED = (
    *("attack_example", "drift_example", "drift_map", "prediction", "sensitivity_example"),
    "transfer",  # single examples, like those above: two seeds may have other ones
    "unit",  # which heads and neurons a model keeps
    *("quantization", "formats", "repair"),  # exported files: one model is deployed, not an average
    *("distil", "timing"),  # single evaluations, single passes
)
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


def identity(name: str) -> tuple[str, ...]:
    """Return the identity columns of an averaged table; raise PruneError for other tables."""
    if name in IDENTITY:
        return IDENTITY[name]
    if name in ONE_SEED:
        raise PruneError(f"The table {name!r} has no mean over seeds; take one seed's rows.")
    raise PruneError(f"The table {name!r} is not declared in analysis/seeds.py; declare it.")


def pooled(
    name: str,
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    predictions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the rows of a table averaged over the seeds of each model, under the model's job.

    `predictions` holds the rows of every run, for the interval of the accuracy difference. Columns
    `low` and `high` of a fraction span seeds and examples together, `seeds_low` and `seeds_high`
    the seeds alone, `examples_low` and `examples_high` the examples alone (the mean of the single
    runs' intervals). Anything but numbers is kept where all seeds agree and is None elsewhere.
    """
    keys = list(identity(name))
    several = [model for model in models if model.runs]
    if rows.empty or not several:
        return rows
    parts = [rows[rows["job"].isin([model.job for model in models if not model.runs])]]
    for model in several:
        model_rows = rows[rows["job"].isin(model.runs)]
        if len(model_rows):
            mean = _intervals(
                name, _means(model_rows, keys), model_rows, model=model, predictions=predictions
            )
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
    return table[[column for column in rows if column in table]]


SPREAD = {
    "accuracy": (
        ("score", "low", "high"),
        ("dense_score", "dense_low", "dense_high"),
        ("difference", "difference_low", "difference_high"),
    ),
    "attack": (
        ("accuracy", "accuracy_low", "accuracy_high"),
        ("under_attack", "under_attack_low", "under_attack_high"),
        ("success_rate", "success_low", "success_high"),
    ),
}
SPREAD["attack_slice"] = SPREAD["attack"]


def _intervals(
    name: str,
    table: pd.DataFrame,
    rows: pd.DataFrame,
    model: ComparedModel,
    predictions: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return the means with their intervals over seeds, examples, and both."""
    spread = SPREAD.get(name, ())
    # a rate of nothing is None
    rows = rows.astype({column: float for columns in spread for column in columns})
    groups = _groups(rows, IDENTITY[name])
    for value, low, high in spread:
        mean, half = groups[value].mean().to_numpy(), t_half_width(groups[value])
        below, above = mean - groups[low].mean().to_numpy(), groups[high].mean().to_numpy() - mean
        ends = mean - np.hypot(half, below), mean + np.hypot(half, above)
        table[f"seeds_{low}"], table[f"seeds_{high}"] = mean - half, mean + half
        table[f"examples_{low}"], table[f"examples_{high}"] = mean - below, mean + above
        table[low], table[high] = ends if name == "accuracy" else np.clip(ends, 0, 1)
    if name != "accuracy":
        return table
    table["p_value"] = np.nan  # a mean of p-values is not a p-value
    if predictions is not None and rows["metric"].iloc[0] in HITS:
        resamples = hierarchical(predictions[predictions["job"].isin(model.runs)])
        low, high = np.quantile(resamples, (0.025, 0.975))
        table["difference_low"], table["difference_high"] = float(low), float(high)
        table["p_value"] = bootstrap_p_value(resamples)
    return table


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
