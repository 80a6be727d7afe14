"""Every difference between a paper's set-up and a study's in words, from both sides' facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .. import formatting as f
from ..attacks.catalogue import CATALOGUE
from ..data.metrics import METRICS
from .published import AXES, TASKS, Exhibit
from .published_comparison import ComparedStudy, chart_points, recipe_of, task_title


def differences(exhibit: Exhibit, figures: pd.DataFrame, study: ComparedStudy) -> list[str]:
    """Every difference between the paper's set-up and the study's as a sentence in Markdown, from both sides' facts."""
    if not study.jobs:
        return []
    return [
        f"**{what}.** In the paper {theirs}; here {ours}."
        for what, theirs, ours in _compared(exhibit, figures, study)
        if theirs and ours and theirs != ours
    ]


def _compared(
    exhibit: Exhibit, figures: pd.DataFrame, study: ComparedStudy
) -> Iterator[tuple[str, str, str]]:
    """(what, in the paper, here): texts that are equal where nothing differs, empty where a side does not say."""
    setup, plans = exhibit.setup, [job.experiment for job in study.jobs]
    facts = [job.facts for job in study.jobs]
    model, task = (next(iter(figures[name]), "") for name in ("model", "task"))
    checkpoints = _said(Path(plan["checkpoint"]).name for plan in plans)
    yield (
        "Model",
        model,
        model
        if model and checkpoints.lower().startswith(model.lower())
        else f"the checkpoint {checkpoints}",
    )
    if len(blocks := study.tables.get("drift", pd.DataFrame())) and exhibit.across == "layer":
        yield "Layers", f"{figures['layer'].max():.0f}", f"{blocks['block'].max() + 1}"
    yield "Start", setup.get("start", ""), "the checkpoint as it was given"
    if exhibit.across != "task":
        yield "Task", TASKS.get(task, task), task_title(study)
        yield from _judged(figures, study)
        theirs = setup.get("evaluation", {}).get(task)
        yield (
            "Evaluation sample",
            _sentences(theirs),
            _sentences(_said(fact.get("evaluation_n") for fact in facts)),
        )
        yield from _attacked(figures, study, theirs)
    yield from _calibrated(setup, study)
    yield (
        "Longest text",
        _tokens(setup.get("max_length", {}).get(task)),
        _tokens(_said(plan.get("max_length") for plan in plans)),
    )
    seeds = len({plan["seed"] for plan in plans})
    yield (
        "Seeds",
        f"a mean of {setup['seeds']} seeds" if "seeds" in setup else "",
        f"{'a mean of ' * (seeds > 1)}{f.plural(seeds, 'seed')}",
    )
    if "speedup" in set(figures["metric"]):
        yield "Device", setup["device"], _said(fact.get("device_title") for fact in facts)
    for method, options in setup["options"].items():
        yield from _options(method, options, study)
    if left := sorted(
        {model.family for model in study.models}
        - {model.family for model in chart_points(exhibit, study)}
    ):
        other = "weights" if setup["removed"] == "FLOPs" else "FLOPs"
        yield (
            "Sparsity",
            f"a share of {setup['removed']}",
            f"of {other} for {', '.join(left)}, which are therefore not drawn",
        )


def _judged(figures: pd.DataFrame, study: ComparedStudy) -> Iterator[tuple[str, str, str]]:
    theirs = [
        AXES[metric].title
        for metric in ("accuracy", "spearman", "answer_f1")
        if metric in set(figures["metric"])
    ]
    ours = study.tables["accuracy"].get("metric", pd.Series(dtype=str))
    yield "Judged by", _said(theirs), _said(METRICS[metric].title for metric in ours)


def _attacked(
    figures: pd.DataFrame, study: ComparedStudy, n: int | None
) -> Iterator[tuple[str, str, str]]:
    """The attack, what is replaced of it, its sample and its limits."""
    attack = next(iter(figures["attack"]), "")
    if not attack:
        return
    recipe = recipe_of(attack, study)
    if not recipe:
        yield "Attack", attack, "it was not run"
        return
    replaced = CATALOGUE[recipe].replaces if recipe in CATALOGUE else ""
    yield (
        "Attack",
        attack,
        f"{recipe}: {replaced[:1].lower()}{replaced[1:].removesuffix('.')}" if replaced else recipe,
    )
    rows = study.tables["attack"]
    yield (
        "Attacked sentences",
        _sentences(n),
        _sentences(_said(rows.loc[rows["recipe"] == recipe, "n"])),
    )
    options = [
        each["options"]
        for job in study.jobs
        for each in job.experiment.get("measures", ())
        if each["name"] == "attack"
    ]
    limits = _said(
        f"{each['query_budget']} queries and {each['time_budget']:g} s a sentence"
        for each in options
    )
    yield "Limits of an attack", "none is on record", limits and f"at most {limits}"


def _calibrated(setup: Mapping[str, Any], study: ComparedStudy) -> Iterator[tuple[str, str, str]]:
    least, most, unit = (setup["calibration"][name] for name in ("least", "most", "unit"))
    theirs = f"{least} to {most} {unit}" if least < most else f"{f.count(most)} {unit}"
    sizes = {job.facts["calibration_n"] for job in study.jobs if "calibration_n" in job.facts}
    inside = unit == "sentences" and all(least <= size <= most for size in sizes)
    methods = [job.experiment["method"] or {} for job in study.jobs]
    tokens = _said(
        {
            method["options"]["tokens"]
            for method in methods
            if method.get("options", {}).get("tokens")
        }
    )
    yield (
        "Calibration",
        theirs,
        theirs
        if inside
        else _sentences(_said(sorted(sizes))) + (tokens and f", of them at most {tokens} tokens"),
    )


def _options(
    method: str, paper: Mapping[str, Any], study: ComparedStudy
) -> Iterator[tuple[str, str, str]]:
    """Options of a method that are not as the paper has them."""
    plans = [
        job.experiment["method"]["options"]
        for job in study.jobs
        if (job.experiment["method"] or {}).get("name") == method
    ]
    title = next((model.family for model in study.models if model.method == method), method)
    differ = [
        name for name in paper if any(name in plan and plan[name] != paper[name] for plan in plans)
    ]
    ours = ", ".join(f"{name} {_said(plan[name] for plan in plans)}" for name in differ)
    yield f"Options of {title}", ", ".join(f"{name} {_word(paper[name])}" for name in differ), ours


def _said(values: Any) -> str:
    """Distinct values in words."""
    return " or ".join(dict.fromkeys(_word(value) for value in values if value is not None))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sentences(n: object) -> str:
    return f"{n} sentences" if n else ""


def _tokens(n: object) -> str:
    return f"{n} tokens" if n else ""
