"""Differences in setup between a paper and a study, from the recorded facts of both."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .. import formatting as f
from ..attacks.catalogue import CATALOGUE
from ..tasks import METRICS
from .published import AXES, TASKS, Exhibit
from .published_comparison import ComparedStudy, chart_points, recipe_of, task_title


def differences(exhibit: Exhibit, figures: pd.DataFrame, study: ComparedStudy) -> list[str]:
    """Return one sentence in Markdown for each difference in setup."""
    if not study.jobs:
        return []
    return [
        f"**{aspect}.** Paper: {paper}; this study: {here}."
        for aspect, paper, here in _compared(exhibit, figures, study)
        if paper and here and paper != here
    ]


def _compared(
    exhibit: Exhibit, figures: pd.DataFrame, study: ComparedStudy
) -> Iterator[tuple[str, str, str]]:
    """Yield (aspect, paper, study); texts are equal without a difference, "" if unknown."""
    setup, plans = exhibit.setup, [job.experiment for job in study.jobs]
    facts = [job.facts for job in study.jobs]
    model, task = (next(iter(figures[name]), "") for name in ("model", "task"))
    checkpoints = _join(Path(plan["checkpoint"]).name for plan in plans)
    is_same = model and checkpoints.lower().startswith(model.lower())
    yield "Model", model, model if is_same else f"the checkpoint {checkpoints}"
    if len(blocks := study.tables.get("drift", pd.DataFrame())) and exhibit.across == "layer":
        yield "Layers", f"{figures['layer'].max():.0f}", f"{blocks['block'].max() + 1}"
    yield "Initial checkpoint", setup.get("start", ""), "the checkpoint without changes"
    if exhibit.across != "task":
        yield "Task", TASKS.get(task, task), task_title(study)
        metrics = ("accuracy", "spearman", "answer_f1")
        yield (
            "Metric",
            _join(AXES[metric].title for metric in metrics if metric in set(figures["metric"])),
            _join(METRICS[metric].title for metric in study.tables["accuracy"].get("metric", ())),
        )
        sample = setup.get("evaluation", {}).get(task)
        yield (
            "Evaluation sample",
            _count(sample, "examples"),
            _count(_join(job_facts.get("evaluation_n") for job_facts in facts), "examples"),
        )
        yield from _attacks(figures, study, sample)
    yield from _calibration(setup, study)
    yield (
        "Maximum length",
        _count(setup.get("max_length", {}).get(task), "tokens"),
        _count(_join(plan.get("max_length") for plan in plans), "tokens"),
    )
    seeds = len({plan["seed"] for plan in plans})
    study_seeds = f"a mean of {seeds} seeds" if seeds > 1 else "1 seed"
    yield (
        "Seeds",
        f"a mean of {setup['seeds']} seeds" if "seeds" in setup else "",
        study_seeds,
    )
    if "speedup" in set(figures["metric"]):
        yield "Device", setup["device"], _join(job_facts.get("device_title") for job_facts in facts)
    for method, options in setup["options"].items():
        yield from _options(method, options, study)
    if excluded := sorted(
        {model.family for model in study.models}
        - {model.family for model in chart_points(exhibit, study)}
    ):
        other = "weights" if setup["removed"] == "FLOPs" else "FLOPs"
        yield (
            "Sparsity",
            f"a fraction of {setup['removed']}",
            f"a fraction of {other} for {', '.join(excluded)}, which are therefore not shown",
        )


def _attacks(
    figures: pd.DataFrame, study: ComparedStudy, n: int | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the attack with its replaced parts, its sample and its limits."""
    attack = next(iter(figures["attack"]), "")
    if not attack:
        return
    recipe = recipe_of(attack, study)
    if not recipe:
        yield "Attack", attack, "not run"
        return
    replaced = CATALOGUE[recipe].replaces if recipe in CATALOGUE else ""
    if replaced:
        replaced = f": {replaced[:1].lower()}{replaced[1:].removesuffix('.')}"
    yield "Attack", attack, recipe + replaced
    rows = study.tables["attack"]
    yield (
        "Attacked examples",
        _count(n, "examples"),
        _count(_join(rows.loc[rows["recipe"] == recipe, "n"]), "examples"),
    )
    limits = _join(
        f"{measure['options']['query_budget']} queries and "
        f"{measure['options']['time_budget']:g} s per example"
        for job in study.jobs
        for measure in job.experiment.get("measures", ())
        if measure["name"] == "attack"
    )
    yield "Limits of an attack", "none reported", limits and f"at most {limits}"


def _calibration(setup: Mapping[str, Any], study: ComparedStudy) -> Iterator[tuple[str, str, str]]:
    low, high, unit = (setup["calibration"][name] for name in ("least", "most", "unit"))
    noun = "examples" if unit == "sentences" else unit
    paper = f"{low} to {high} {noun}" if low < high else f"{f.count(high)} {noun}"
    sizes = {job.facts["calibration_n"] for job in study.jobs if "calibration_n" in job.facts}
    methods = [job.experiment["method"] or {} for job in study.jobs]
    tokens = _join(
        {
            method["options"]["tokens"]
            for method in methods
            if method.get("options", {}).get("tokens")
        }
    )
    here = paper
    if unit != "sentences" or not all(low <= size <= high for size in sizes):
        here = _count(_join(sorted(sizes)), "examples")
        here += tokens and f" with at most {tokens} tokens"
    yield "Calibration", paper, here


def _options(
    method: str, paper: Mapping[str, Any], study: ComparedStudy
) -> Iterator[tuple[str, str, str]]:
    """Yield the options of a method that differ from the paper."""
    plans = [
        job.experiment["method"]["options"]
        for job in study.jobs
        if (job.experiment["method"] or {}).get("name") == method
    ]
    title = next((model.family for model in study.models if model.method == method), method)
    changed = [
        name for name in paper if any(name in plan and plan[name] != paper[name] for plan in plans)
    ]
    yield (
        f"Options of {title}",
        ", ".join(f"{name} {_word(paper[name])}" for name in changed),
        ", ".join(f"{name} {_join(plan[name] for plan in plans)}" for name in changed),
    )


def _join(values: Any) -> str:
    """Join distinct values by "or"."""
    return " or ".join(dict.fromkeys(_word(value) for value in values if value is not None))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(n: object, noun: str) -> str:
    return f"{n} {noun}" if n else ""
