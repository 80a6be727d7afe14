"""A study's own figures in the terms of a paper's exhibit, as points for one chart.

Knows nothing of plotly, Streamlit or SQL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .. import formatting as f
from ..store.job import Job
from .compared_models import ComparedModel, ordered
from .published import TASKS, Exhibit
from .quantities import available, summary

MOST_FORMS = 3  # of one method; where there are more, as in an ablation, only the full one is drawn
READ_OFF = 0.005  # about how far a figure that was read off a plot may be wrong
OWN = {
    "AKR": "akr",
    "K-prune": "kprune",
    "Kwon et al.": "kwon",
}  # a paper's name for a method -> ours
POINT = [
    "series",
    "method",
    "own",
    "adversarial",
    "x",
    "value",
    "low",
    "high",
    "detail",
    "seeds",
    "n",
]  # seeds and n of the study's


@dataclass(frozen=True)
class ComparedStudy:
    """What of a study can stand beside a paper: its jobs as models, and their tables by name."""

    jobs: Sequence[Job]
    models: Sequence[ComparedModel]
    tables: Mapping[str, pd.DataFrame]


def points(
    exhibit: Exhibit, figures: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """What a chart draws (columns POINT): the paper's figures of one metric, and the study's in the same terms.

    `x` is a sparsity, a layer or a task; `method` is ours, "" for one that only the paper has.
    """
    printed = figures[figures["metric"] == metric]
    by_task = exhibit.across == "task"
    x = (
        printed["task"].map(lambda task: TASKS.get(task, task))
        if by_task
        else printed[exhibit.across]
    )
    margin = READ_OFF if exhibit.digitised else float("nan")
    published = pd.DataFrame(
        {
            "series": printed["method"]
            + printed["pattern"].map(lambda pattern: f" {pattern}" if pattern else ""),
            "method": printed["method"].map(OWN).fillna(""),
            "own": False,
            "adversarial": printed["texts"] == "adversarial",
            "x": x,
            "value": printed["value"],
            "low": printed["value"] - margin,
            "high": printed["value"] + margin,
            "detail": [_told(exhibit, row) for row in printed.to_dict("records")],
            "seeds": None,
            "n": None,
        }
    )
    found = {"distance": _distances, "speedup": _speedups, "lead": _lead}.get(metric, _figures)(
        exhibit, printed, metric, study
    )
    return pd.concat([published, found])[POINT] if len(found) else published[POINT]


def _told(exhibit: Exhibit, row: Mapping[str, Any]) -> str:
    """Where a published figure comes from."""
    weights = "" if f.missing(row["parameters"]) else f"{row['parameters']:.0f} M encoder weights"
    trained = {True: "retrained", False: "not retrained"}.get(row["retrained"], "")
    return ", ".join(
        filter(None, (exhibit.source, "read off a plot" * exhibit.digitised, weights, trained))
    )


def sample(points: pd.DataFrame) -> str:
    """How many seeds and sentences the study's points stand for; "" where it has none."""
    own = points[points["own"]]

    def ends(column: str) -> str:
        return "–".join(f"{n:.0f}" for n in sorted({own[column].min(), own[column].max()}))

    if own.empty:
        return ""
    seeds = "1 seed" if (own["seeds"] == 1).all() else f"{ends('seeds')} seeds"
    return seeds if own["n"].isna().all() else f"{seeds}, n = {ends('n')} each"


def chart_points(exhibit: Exhibit, study: ComparedStudy) -> list[ComparedModel]:
    """The models whose sparsity is a share of what the paper's is of, and of a method in many forms its full one; dense always."""
    flops, forms = (
        exhibit.setup["removed"] == "FLOPs",
        Counter(method for method, _ in {(m.method, m.form) for m in study.models}),
    )
    few = [
        model
        for model in ordered(study.models)
        if not model.form or forms[model.method] <= MOST_FORMS
    ]
    return [model for model in few if model.is_dense or model.structured == flops]


def recipe_of(attack: str, study: ComparedStudy) -> str:
    """The study's recipe of that attack's name, whole or with parts replaced; "" where it has none."""
    rows = study.tables.get("attack", pd.DataFrame())
    return next(
        (
            recipe
            for recipe in (rows["recipe"] if len(rows) else ())
            if recipe.split(" (")[0] == attack
        ),
        "",
    )


def _figures(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """The study's figures against sparsity."""
    attack = next(iter(printed["attack"]), "")
    recipe = recipe_of(attack, study)
    key = {"under_attack": f"under_attack:{recipe}", "success_rate": f"success:{recipe}"}.get(
        metric, "accuracy"
    )
    if key == "accuracy" and metric not in set(study.tables["accuracy"].get("metric", ())):
        return pd.DataFrame()
    return _averaged(_runs(exhibit, study, key), key)


def _runs(exhibit: Exhibit, study: ComparedStudy, *keys: str) -> pd.DataFrame:
    """Those quantities of every model that can be drawn, with its line's name and x; empty where one was not measured."""
    quantities = available(study.tables)
    models = chart_points(exhibit, study)
    if not models or not set(keys) <= set(quantities):
        return pd.DataFrame()
    rows = summary(study.tables, models, [quantities[key] for key in keys])
    return rows.assign(series=rows["job"].map(_series(study)), x=rows["asked"])


def _series(study: ComparedStudy) -> dict[int, str]:
    """Each job's line: its method, and where a study has several forms of it, what they differ in."""
    plans = {
        job.id: {name: job.experiment.get(name) for name in ("calibration", "evaluation")}
        for job in study.jobs
    }
    names = {}
    for model in study.models:
        same = [
            plans[other.job]
            for other in study.models
            if other.method == model.method and other.job in plans
        ]
        own = plans[model.job]
        differ = (
            f"{name} {own[name]}" for name in own if any(plan[name] != own[name] for plan in same)
        )
        told = ", ".join(filter(None, (model.start, model.form, *differ)))
        names[model.job] = " ".join(
            filter(None, (model.family, model.pattern, told and f"({told})"))
        )
    return names


def _averaged(runs: pd.DataFrame, key: str) -> pd.DataFrame:
    """One point a line and x: the mean over seeds between lowest and highest; of a single seed its 95% interval."""
    if runs.empty:
        return runs
    out = []
    runs = runs.dropna(subset=key)
    for (series, method, x), same in runs.groupby(["series", "method", "x"], sort=False):
        values, one = same[key], len(same) == 1
        low, high = (
            (same[f"{key}_low"].iloc[0], same[f"{key}_high"].iloc[0])
            if one
            else (values.min(), values.max())
        )
        seeds, size = len(same), same[f"{key}_n"].iloc[0]
        told = f"this study, {'1 seed' if one else f'mean of {seeds} seeds'}" + (
            "" if f.missing(size) else f", n = {size:.0f}"
        )
        adversarial = bool(same["adversarial"].iloc[0]) if "adversarial" in same else False
        out.append(
            (series, method, True, adversarial, x, values.mean(), low, high, told, seeds, size)
        )
    return pd.DataFrame(out, columns=POINT)


def _distances(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """1 − mean cosine by block, at the exhibit's sparsity, on original and on adversarial sentences."""
    asked = set(printed["sparsity"])
    jobs = [
        model.job
        for model in chart_points(exhibit, study)
        if model.sparsity in asked and not model.pattern
    ]
    series, found = _series(study), []
    for table in ("drift", "drift_adversarial"):
        rows = study.tables.get(table, pd.DataFrame())
        rows = (
            rows[rows["job"].isin(jobs) & (rows["pooling"] == rows["pooling"].iloc[0])]
            if len(rows)
            else rows
        )
        if len(rows):
            interval = {
                "distance_low": float("nan"),
                "distance_high": float("nan"),
                "distance_n": rows["n"],
            }
            runs = rows.assign(
                distance=1 - rows["cosine"],
                **interval,
                x=rows["block"] + 1,
                series=rows["job"].map(series),
            )
            found.append(_averaged(runs.assign(adversarial=table != "drift"), "distance"))
    return pd.concat(found) if found else pd.DataFrame()


def _speedups(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """Of each method the fastest budget whose mean loss is below three points."""
    runs = _runs(exhibit, study, "speedup", "difference")
    if runs.empty:
        return runs
    runs = runs[runs["method"] != "dense"]
    lost = _averaged(runs, "difference").rename(columns={"value": "difference"})[
        ["series", "x", "difference"]
    ]
    found = (
        _averaged(runs, "speedup").merge(lost, on=["series", "x"]) if len(lost) else pd.DataFrame()
    )
    if found.empty or not (found["difference"] > -0.03).any():
        return pd.DataFrame()
    best = (
        found[found["difference"] > -0.03]
        .sort_values("value")
        .groupby("series", as_index=False)
        .last()
    )
    told = [
        f"{row.detail}, {f.points(row.difference)} at {row.x:.0%} fewer FLOPs"
        for row in best.itertuples()
    ]
    return best.assign(detail=told, x=task_title(study))


def _lead(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """K-prune's mean figure minus Kwon et al.'s at the exhibit's budget."""
    found = _averaged(_runs(exhibit, study, "accuracy"), "accuracy")
    if found.empty:
        return found
    found = found[found["x"].isin(set(printed["sparsity"]))].groupby("method").first()
    if not {"kprune", "kwon"} <= set(found.index):
        return pd.DataFrame()
    ours, other = found.loc["kprune"], found.loc["kwon"]
    return pd.DataFrame([ours]).assign(
        method="kprune",
        value=100 * (ours["value"] - other["value"]),
        low=float("nan"),
        high=float("nan"),
        x=task_title(study),
    )


def task_of(study: ComparedStudy) -> str:
    """The study's task as its experiments name it."""
    return study.jobs[0].experiment["source"]["task"] if study.jobs else ""


def task_title(study: ComparedStudy) -> str:
    """The task's own name; a file's where it is one's own."""
    return TASKS.get(task_of(study)) or Path(task_of(study)).name
