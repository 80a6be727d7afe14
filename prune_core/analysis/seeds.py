"""Pool runs that differ only in their seed: means, intervals over seeds and examples, paired tests.

Every table that a stage returns is declared here, once: in `IDENTITY` if it is averaged over seeds,
in `ONE_SEED` if charts show the rows of a single seed and say which.
"""

from __future__ import annotations

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
    "prune": ("block", "part"),
    "reconstruction": ("block", "part"),
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
    """One model for all runs of the same experiment; its job is that of the lowest seed, `runs` are all of them."""
    plans = {job.id: _plan(job) for job in jobs}
    groups: dict[str, list[ComparedModel]] = {}
    for model in models:
        groups.setdefault(plans[model.job], []).append(model)
    return [
        own[0]
        if len(own) == 1
        else replace(
            own[0], label=_without_seed(own[0].label), runs=tuple(model.job for model in own)
        )
        for own in (sorted(group, key=lambda m: (m.seed, m.job)) for group in groups.values())
    ]


def _plan(job: Job) -> str:
    """What runs of one model share; how often each was timed may differ."""
    measures = [
        {
            **each,
            "options": {
                name: value for name, value in each["options"].items() if name != "repeats"
            },
        }
        for each in job.experiment.get("measures", ())
    ]
    return json.dumps(
        {**job.experiment, "seed": 0, "study": "", "device": "", "measures": measures},
        sort_keys=True,
    )


def _without_seed(label: str) -> str:
    return " · ".join(part for part in label.split(" · ") if not part.startswith(("seed ", "job ")))


def identity(name: str) -> tuple[str, ...]:
    """Identity columns of a table that is averaged over seeds; PruneError for any other table."""
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
    """The rows of a table averaged over the seeds of each model, under the model's job.

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
        own = rows[rows["job"].isin(model.runs)]
        if len(own):
            one = _intervals(name, _means(own, keys), own, model=model, predictions=predictions)
            parts.append(one.assign(job=model.job, label=model.label, seed=model.seed))
    return pd.concat(parts, ignore_index=True)


def means(models: Sequence[ComparedModel]) -> str:
    """How values of these models are averaged: "mean over 3 seeds"; empty if each has one run."""
    most = max((len(model.runs) for model in models), default=0)
    return f"mean over {most} seeds" if most else ""


def seed_note(models: Sequence[ComparedModel]) -> str:
    """The seed shown of averaged models: "seed 0 (one of 3 seeds)"; empty if none is averaged."""
    several = [model for model in models if model.runs]
    if not several:
        return ""
    first = {model.seed for model in several}
    seed = f"seed {first.pop()}" if len(first) == 1 else "the first seed of each model"
    return f"{seed} (one of {max(len(model.runs) for model in several)} seeds)"


def seeds_together(rows: pd.DataFrame, models: Sequence[ComparedModel]) -> pd.DataFrame:
    """Rows of every run under its model's job, for tests paired by example and `seed`."""
    owner = {job: model.job for model in models for job in model.jobs}
    return rows.assign(job=rows["job"].map(owner)) if len(rows) else rows


def _groups(own: pd.DataFrame, keys: Sequence[str]) -> Any:
    """Rows of the same quantity, one per seed, in their first order."""
    return own.assign(**{"": 0}).groupby([*keys, ""], sort=False, dropna=False)


def _means(own: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per combination of keys: the mean of numbers, the maximum of WORST, the common value of anything else."""
    groups = _groups(own, keys)
    numbers = set(own.select_dtypes("number"))
    found = {}
    for column in own.columns.difference(keys, sort=False):
        values = groups[column]
        if column in WORST:
            found[column] = getattr(values, WORST[column])()
        elif column in numbers:
            mean = values.mean()
            # sizes that all seeds share stay integers
            whole = is_integer_dtype(own[column]) and (mean % 1 == 0).all()
            found[column] = mean.astype(own[column].dtype) if whole else mean
        else:
            found[column] = values.first().where(values.nunique(dropna=False) == 1, None)
    out = pd.DataFrame(found).reset_index().drop(columns="")
    return out[[column for column in own if column in out]]


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
    one: pd.DataFrame,
    own: pd.DataFrame,
    model: ComparedModel,
    predictions: pd.DataFrame | None,
) -> pd.DataFrame:
    """The means with their intervals over seeds, examples, and both."""
    spread = SPREAD.get(name, ())
    numbers = {column: float for each in spread for column in each}  # a rate of nothing is None
    groups = _groups(own.astype(numbers), IDENTITY[name])
    for value, low, high in spread:
        mean, half = groups[value].mean().to_numpy(), t_half(groups[value])
        below, above = mean - groups[low].mean().to_numpy(), groups[high].mean().to_numpy() - mean
        ends = mean - np.hypot(half, below), mean + np.hypot(half, above)
        one[f"seeds_{low}"], one[f"seeds_{high}"] = mean - half, mean + half
        one[f"examples_{low}"], one[f"examples_{high}"] = mean - below, mean + above
        one[low], one[high] = ends if name == "accuracy" else np.clip(ends, 0, 1)
    if name != "accuracy":
        return one
    one["p_value"] = np.nan  # a mean of p-values is not a p-value
    if predictions is not None and own["metric"].iloc[0] in HITS:
        draws = hierarchical(predictions[predictions["job"].isin(model.runs)])
        low, high = np.quantile(draws, (0.025, 0.975))
        one["difference_low"], one["difference_high"] = float(low), float(high)
        one["p_value"] = bootstrap_p_value(draws)
    return one


def t_half(values: Any) -> np.ndarray:
    """(groups,) half of the 95% interval of each group's mean by Student's t; 0 for one value."""
    from scipy.stats import t

    n = values.count().to_numpy()
    half = t.ppf(0.975, np.maximum(n - 1, 1)) * values.std().to_numpy() / np.sqrt(np.maximum(n, 1))
    return np.where(n > 1, half, 0.0)


def hierarchical(rows: pd.DataFrame) -> np.ndarray:
    """(resamples,) the difference of right answers, pruned minus dense, with seeds and examples drawn anew.

    Where all seeds are judged on the same examples, an example drawn is drawn for all of them; else each seed's are drawn apart.
    """
    sides = [
        (own["label"], own["dense"], own["pruned"], tuple(own["text"]))
        for _, own in rows.groupby("job", sort=False)
    ]
    gaps = [
        (now == right).to_numpy(float) - (was == right).to_numpy(float)
        for right, was, now, _ in sides
    ]
    if len({texts for *_, texts in sides}) > 1:
        return nested_resamples(gaps, RESAMPLES)
    dice, k, n = np.random.default_rng(0), len(gaps), len(gaps[0])
    by_seed = dice.multinomial(k, np.full(k, 1 / k), RESAMPLES) / k  # (resamples, seeds)
    by_example = dice.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    return np.einsum("rs,se,re->r", by_seed, np.stack(gaps), by_example, optimize=True)
