"""Runs that differ only in their seed as one model: means with their intervals over seeds, and tests that pair seed and example.

Rows of several jobs in, rows of one job a model out; what looks at single examples keeps those of the first seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..runs.job import Job
from ..statistics import nested_draws, two_sided
from .compared import Model

KEYS = {"accuracy": [], "attack": ["recipe"], "reconstruction": ["block", "part"], "drift": ["block", "pooling"], "cost": ["model"]}
WORST = {"other_load": "max"}  # one disturbed run makes the mean of the times unreliable
RESAMPLES = 1000
HITS = ("accuracy",)  # metrics of answers that are right or wrong


def merged(models: Sequence[Model], jobs: Sequence[Job]) -> list[Model]:
    """One model for all runs of the same experiment; its job is that of the lowest seed, `runs` are all of them."""
    plans = {job.id: _plan(job) for job in jobs}
    groups: dict[str, list[Model]] = {}
    for model in models:
        groups.setdefault(plans[model.job], []).append(model)
    return [
        own[0] if len(own) == 1 else replace(own[0], label=_without_seed(own[0].label), runs=tuple(model.job for model in own))
        for own in (sorted(group, key=lambda m: (m.seed, m.job)) for group in groups.values())
    ]


def _plan(job: Job) -> str:
    """What runs of one model share; how often each was timed may differ."""
    measures = [
        {**each, "options": {name: value for name, value in each["options"].items() if name != "repeats"}}
        for each in job.experiment.get("measures", ())
    ]
    return json.dumps({**job.experiment, "seed": 0, "study": "", "device": "", "measures": measures}, sort_keys=True)


def _without_seed(label: str) -> str:
    return " · ".join(part for part in label.split(" · ") if not part.startswith(("seed ", "job ")))


def pooled(name: str, rows: pd.DataFrame, models: Sequence[Model], predictions: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows of a table with one job a model. `predictions` are the rows of every run, for intervals of accuracy.

    Numbers are means over seeds. Of shares with an interval, `low` and `high` span seeds and examples together; `seeds_low` and
    `seeds_high` the seeds alone, `examples_low` and `examples_high` the examples alone (the mean of the single runs' intervals).
    """
    several = [model for model in models if len(model.runs) > 1]
    if rows.empty or not several:
        return rows
    single = rows[rows["job"].isin([model.job for model in models if model not in several])]
    parts = [single]
    for model in several:
        own = rows[rows["job"].isin(model.runs)]
        if name not in KEYS:
            parts.append(own[own["job"] == model.job])
        elif len(own):
            one = _means(own, KEYS[name])
            parts.append(_intervals(name, one, own, model, predictions).assign(job=model.job, label=model.label, seed=model.seed))
    return pd.concat(parts, ignore_index=True)


def together(rows: pd.DataFrame, models: Sequence[Model]) -> pd.DataFrame:
    """Rows of every run under its model's job; `seed` still tells them apart. For tests that pair by seed and example."""
    owner = {job: model.job for model in models for job in model.runs or (model.job,)}
    return rows.assign(job=rows["job"].map(owner)) if len(rows) else rows


def _means(own: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per key: means of numbers, the maximum of WORST, the first value of everything else."""
    groups = own.assign(**{"": 0}).groupby([*keys, ""], sort=False, dropna=False)
    numbers = set(own.select_dtypes("number"))
    how = {column: "mean" if column in numbers else "first" for column in own if column not in keys} | WORST
    found = {column: getattr(groups[column], how[column])() for column in own if column not in keys}
    out = pd.DataFrame(found).reset_index().drop(columns="")
    return out[[column for column in own if column in out]]


SPREAD = {
    "accuracy": (("score", "low", "high"), ("dense_score", "dense_low", "dense_high"), ("difference", "difference_low", "difference_high")),
    "attack": (("accuracy", "accuracy_low", "accuracy_high"), ("under_attack", "under_attack_low", "under_attack_high"),
               ("success_rate", "success_low", "success_high")),
}  # fmt: skip


def _intervals(name: str, one: pd.DataFrame, own: pd.DataFrame, model: Model, predictions: pd.DataFrame | None) -> pd.DataFrame:
    """The means with what seeds, examples and both leave open."""
    for value, low, high in SPREAD.get(name, ()):
        for place, row in one.iterrows():
            same = own if not KEYS[name] else own[(own[KEYS[name]] == row[KEYS[name]]).all(axis=1)]
            values = same[value].dropna().astype(float)
            if values.empty:
                continue
            half = t_half(values.to_numpy())
            below, above = row[value] - same[low].mean(), same[high].mean() - row[value]
            one.loc[place, [f"seeds_{low}", f"seeds_{high}"]] = row[value] - half, row[value] + half
            one.loc[place, [f"examples_{low}", f"examples_{high}"]] = row[value] - below, row[value] + above
            one.loc[place, [low, high]] = row[value] - np.hypot(half, below), row[value] + np.hypot(half, above)
    if name == "accuracy" and predictions is not None and own["metric"].iloc[0] in HITS:
        draws = hierarchical(predictions[predictions["job"].isin(model.runs)])
        low, high = np.quantile(draws, (0.025, 0.975))
        one["difference_low"], one["difference_high"] = float(low), float(high)
        one["p_value"] = two_sided(draws)
    return one


def t_half(values: np.ndarray) -> float:
    """Half of the 95% interval of a mean over seeds, by Student's t; 0 of a single one."""
    if len(values) < 2:
        return 0.0
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def hierarchical(rows: pd.DataFrame) -> np.ndarray:
    """(resamples,) the difference of right answers, pruned minus dense, with seeds and examples drawn anew.

    Where all seeds are judged on the same examples, an example drawn is drawn for all of them; else each seed's are drawn apart.
    """
    sides = [(own["label"], own["dense"], own["pruned"], tuple(own["text"])) for _, own in rows.groupby("job", sort=False)]
    gaps = [(now == right).to_numpy(float) - (was == right).to_numpy(float) for right, was, now, _ in sides]
    if len({texts for *_, texts in sides}) > 1:
        return nested_draws(gaps, RESAMPLES)
    dice, k, n = np.random.default_rng(0), len(gaps), len(gaps[0])
    by_seed = dice.multinomial(k, np.full(k, 1 / k), RESAMPLES) / k  # (resamples, seeds)
    by_example = dice.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    return np.einsum("rs,se,re->r", by_seed, np.stack(gaps), by_example, optimize=True)
