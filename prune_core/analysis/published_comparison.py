"""Results of a study in the terms of a paper's exhibit, as points for one chart."""

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
from .quantities import Quantity, summary, task_metric

MAX_VARIANTS = 3  # of one method; with more, as in an ablation, only the full one is drawn
DIGITIZATION_ERROR = 0.005  # approximate error of a value that was digitized from a plot
METHODS = {"AKR": "akr", "K-prune": "kprune", "Kwon et al.": "kwon"}  # name in a paper -> method
POINT = [
    "series",
    "method",
    "is_study",
    "adversarial",
    "x",
    "value",
    "low",
    "high",
    "detail",
    "seeds",
    "n",
]  # seeds and n are None for published points


@dataclass(frozen=True)
class ComparedStudy:
    """A study to compare with a paper: jobs, models, tables by name, quantities by key."""

    jobs: Sequence[Job]
    models: Sequence[ComparedModel]
    tables: Mapping[str, pd.DataFrame]
    quantities: Mapping[str, Quantity]


def points(
    exhibit: Exhibit, values: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """Return the points of a chart (columns POINT): published and measured values of a metric.

    `x` is a sparsity, a layer or a task; `method` is "" for methods that only the paper has.
    """
    printed = values[values["metric"] == metric]
    margin = DIGITIZATION_ERROR if exhibit.digitised else float("nan")
    published = pd.DataFrame(
        {
            "series": printed["method"]
            + printed["pattern"].map(lambda pattern: f" {pattern}" if pattern else ""),
            "method": printed["method"].map(METHODS).fillna(""),
            "is_study": False,
            "adversarial": printed["texts"] == "adversarial",
            "x": printed[exhibit.across].map(lambda value: TASKS.get(value, value)),
            "value": printed["value"],
            "low": printed["value"] - margin,
            "high": printed["value"] + margin,
            "detail": [_published_detail(exhibit, row) for row in printed.to_dict("records")],
            "seeds": None,
            "n": None,
        }
    )
    readers = {"distance": _distances, "speedup": _speedups, "lead": _lead}
    measured = readers.get(metric, _against_sparsity)(exhibit, printed, metric, study=study)
    return pd.concat([published, measured])[POINT] if len(measured) else published[POINT]


def _published_detail(exhibit: Exhibit, row: Mapping[str, Any]) -> str:
    """Describe the source of a published value for its hover text."""
    weights = "" if f.missing(row["parameters"]) else f"{row['parameters']:.0f} M encoder weights"
    trained = {True: "retrained", False: "not retrained"}.get(row["retrained"], "")
    origin = "digitized from a plot" if exhibit.digitised else ""
    return ", ".join(filter(None, (exhibit.source, origin, weights, trained)))


def sample(points: pd.DataFrame) -> str:
    """Return the numbers of seeds and examples behind the study's points; "" without points."""
    study_points = points[points["is_study"]]

    def ends(column: str) -> str:
        return "–".join(
            f"{n:.0f}" for n in sorted({study_points[column].min(), study_points[column].max()})
        )

    if study_points.empty:
        return ""
    seeds = "1 seed" if (study_points["seeds"] == 1).all() else f"{ends('seeds')} seeds"
    return seeds if study_points["n"].isna().all() else f"{seeds}, n = {ends('n')} each"


def chart_points(exhibit: Exhibit, study: ComparedStudy) -> list[ComparedModel]:
    """Return dense and the models whose sparsity counts the same as the paper's.

    For a method with many forms, only the full one is returned.
    """
    flops = exhibit.setup["removed"] == "FLOPs"
    forms = Counter(method for method, _ in {(model.method, model.form) for model in study.models})
    return [
        model
        for model in ordered(study.models)
        if (not model.form or forms[model.method] <= MAX_VARIANTS)
        and (model.is_dense or model.structured == flops)
    ]


def recipe_of(attack: str, study: ComparedStudy) -> str:
    """Return the study's recipe of an attack, original or with replaced parts; "" if none."""
    recipes = study.tables.get("attack", pd.DataFrame()).get("recipe", ())
    return next((recipe for recipe in recipes if recipe.split(" (")[0] == attack), "")


def _against_sparsity(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """Return the study's values against sparsity."""
    recipe = recipe_of(next(iter(printed["attack"]), ""), study)
    key = {"under_attack": f"under_attack:{recipe}", "success_rate": f"success:{recipe}"}.get(
        metric, metric
    )
    return _averaged(_runs(exhibit, study, key), key)


def _runs(exhibit: Exhibit, study: ComparedStudy, *keys: str) -> pd.DataFrame:
    """Return quantities of the comparable models with `series` and `x`; empty if any is missing."""
    quantities = study.quantities
    models = chart_points(exhibit, study)
    if not models or not set(keys) <= set(quantities):
        return pd.DataFrame()
    rows = summary(study.tables, models, [quantities[key] for key in keys])
    return rows.assign(series=rows["job"].map(_series(study)), x=rows["requested_sparsity"])


def _series(study: ComparedStudy) -> dict[int, str]:
    """Return the series of each job: its method, with the options in which its runs differ."""
    plans = {
        job.id: {name: job.experiment.get(f"{name}_size") for name in ("calibration", "evaluation")}
        for job in study.jobs
    }
    names = {}
    for model in study.models:
        others = [
            plans[other.job]
            for other in study.models
            if other.method == model.method and other.job in plans
        ]
        plan = plans[model.job]
        sizes = (
            f"{name} {plan[name]}"
            for name in plan
            if any(other[name] != plan[name] for other in others)
        )
        details = ", ".join(filter(None, (model.start, model.form, *sizes)))
        names[model.job] = " ".join(
            filter(None, (model.family, model.pattern, details and f"({details})"))
        )
    return names


def _averaged(runs: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return one point per series and x: mean over seeds with their range.

    A single seed has its 95% interval instead.
    """
    if runs.empty:
        return runs
    records = []
    runs = runs.dropna(subset=key)
    for (series, method, x), group in runs.groupby(["series", "method", "x"], sort=False):
        values, is_single = group[key], len(group) == 1
        seeds, size = len(group), group[f"{key}_n"].iloc[0]
        low, high, detail = values.min(), values.max(), f"this study, mean of {seeds} seeds"
        if is_single:
            low, high = group[f"{key}_low"].iloc[0], group[f"{key}_high"].iloc[0]
            detail = "this study, 1 seed"
        if not f.missing(size):
            detail += f", n = {size:.0f}"
        adversarial = "adversarial" in group and bool(group["adversarial"].iloc[0])
        records.append(
            (series, method, True, adversarial, x, values.mean(), low, high, detail, seeds, size)
        )
    return pd.DataFrame(records, columns=POINT)


def _distances(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """Return 1 − mean cosine by layer at the exhibit's sparsity, original and adversarial."""
    sparsities = set(printed["sparsity"])
    jobs = [
        model.job
        for model in chart_points(exhibit, study)
        if model.sparsity in sparsities and not model.pattern
    ]
    series, parts = _series(study), []
    for table in ("drift", "drift_adversarial"):
        rows = study.tables.get(table, pd.DataFrame())
        if len(rows):
            rows = rows[rows["job"].isin(jobs) & (rows["pooling"] == rows["pooling"].iloc[0])]
        if len(rows):
            runs = rows.assign(
                distance=1 - rows["cosine"],
                distance_low=float("nan"),
                distance_high=float("nan"),
                distance_n=rows["n"],
                x=rows["block"] + 1,
                series=rows["job"].map(series),
                adversarial=table != "drift",
            )
            parts.append(_averaged(runs, "distance"))
    return pd.concat(parts) if parts else pd.DataFrame()


def _speedups(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """Return the largest speed-up of each method with a mean loss below three points."""
    runs = _runs(exhibit, study, "speedup", "difference")
    if runs.empty:
        return runs
    runs = runs[runs["method"] != "dense"]
    loss = _averaged(runs, "difference").rename(columns={"value": "difference"})[
        ["series", "x", "difference"]
    ]
    if loss.empty:
        return pd.DataFrame()
    speedups = _averaged(runs, "speedup").merge(loss, on=["series", "x"])
    accurate = speedups[speedups["difference"] > -0.03]
    if accurate.empty:
        return pd.DataFrame()
    best = accurate.sort_values("value").groupby("series", as_index=False).last()
    details = [
        f"{row.detail}, {f.points(row.difference)} at {row.x:.0%} fewer FLOPs"
        for row in best.itertuples()
    ]
    return best.assign(detail=details, x=task_title(study))


def _lead(
    exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: ComparedStudy
) -> pd.DataFrame:
    """Return K-prune's mean task metric minus Kwon et al.'s at the exhibit's budget."""
    score = task_metric(study.quantities)
    means = _averaged(_runs(exhibit, study, score.key), score.key) if score else pd.DataFrame()
    if means.empty:
        return means
    means = means[means["x"].isin(set(printed["sparsity"]))].groupby("method").first()
    if not {"kprune", "kwon"} <= set(means.index):
        return pd.DataFrame()
    ours, other = means.loc["kprune"], means.loc["kwon"]
    return pd.DataFrame([ours]).assign(
        method="kprune",
        value=100 * (ours["value"] - other["value"]),
        low=float("nan"),
        high=float("nan"),
        x=task_title(study),
    )


def task_of(study: ComparedStudy) -> str:
    """Return the task of the study's experiments; "" without jobs."""
    return study.jobs[0].experiment["source"]["task"] if study.jobs else ""


def task_title(study: ComparedStudy) -> str:
    """Return the title of the task, or the name of the file."""
    return TASKS.get(task_of(study)) or Path(task_of(study)).name
