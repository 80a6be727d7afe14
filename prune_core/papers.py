"""Published figures, and a study's own beside them: read and checked from assets/papers, joined with a study's rows.

A file holds a paper's set-up and its exhibits (tables and plots) as printed. Knows nothing of plotly, Streamlit or SQL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from . import PruneError
from . import formatting as f
from .catalogue import CATALOGUE
from .metrics import METRICS
from .palette import Model, ordered
from .quantities import available, summary
from .store import ROOT, Job

HOME = ROOT / "assets" / "papers"
ATTRIBUTES = ("model", "task", "method", "sparsity", "pattern", "attack", "layer", "texts", "parameters", "retrained")
TEXTS = ("model", "task", "pattern", "attack", "texts")  # attributes that are "" where an exhibit does not have them
UNITS = {"percent": 0.01, "one": 1.0}
READ_OFF = 0.005  # about how far a figure that was read off a plot may be wrong
OWN = {"AKR": "akr", "K-prune": "kprune", "Kwon et al.": "kwon"}  # a paper's name for a method -> ours
TASKS = {
    "sst2": "SST-2", "ag_news": "AG News", "imdb": "IMDB", "mrpc": "MRPC", "qqp": "QQP", "stsb": "STS-B", "squad": "SQuAD 1.1",
    "squad_v2": "SQuAD 2.0", "demo": "the bundled film reviews",
}  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """How a published quantity is named and written."""

    title: str
    show: Callable[[float], str]
    tick: str  # plotly's format


AXES = {
    **{name: Axis(METRICS[name].title, f.percent, ".0%") for name in ("accuracy", "spearman", "answer_f1")},
    "under_attack": Axis("Accuracy under attack", f.percent, ".0%"),
    "success_rate": Axis("Attack success rate", f.percent, ".0%"),
    "distance": Axis("Distance from the dense embedding", f.plain, ".2f"),
    "speedup": Axis("Measured speed-up (times)", lambda value: f"{value:.2f} times", ".1f"),
    "lead": Axis("Lead of K-prune over Kwon et al. (points)", lambda value: f"{value:.1f} points", ".0f"),
}


@dataclass(frozen=True)
class Exhibit:
    """A table or plot of a paper. `figures` has a row a figure: ATTRIBUTES, metric, value (percent as a share)."""

    key: str
    paper: str
    citation: str
    number: str  # such as "Table 1"; "" where our notes have none
    title: str
    across: str  # what its figures are drawn against: sparsity, layer or task
    digitised: bool  # read off a plot
    note: str
    setup: dict[str, Any]
    figures: pd.DataFrame

    @property
    def against(self) -> str:
        """What is along its charts: weights or FLOPs (a share of them), layer or task."""
        return self.setup["removed"] if self.across == "sparsity" else self.across

    @property
    def source(self) -> str:
        """Where the figures stand."""
        return ", ".join(filter(None, (self.paper, self.number)))


@dataclass(frozen=True)
class Study:
    """What of a study can stand beside a paper: its jobs as models, and their tables by name."""

    jobs: Sequence[Job]
    models: Sequence[Model]
    tables: Mapping[str, pd.DataFrame]


# -- reading ------------------------------------------------------------------------------------------------------


@cache
def exhibits() -> dict[str, Exhibit]:
    """Every bundled exhibit by key."""
    return {exhibit.key: exhibit for path in sorted(HOME.glob("*.json")) for exhibit in read(path)}


def read(path: Path) -> list[Exhibit]:
    """The exhibits of one file; what is wrong with it is a sentence."""
    paper = json.loads(path.read_text(encoding="utf-8"))
    _has(paper, {"paper": str, "title": str, "setup": dict, "exhibits": list}, path.name)
    return [_exhibit(paper, each, f"{path.name}, {each.get('key', 'an exhibit without key')}") for each in paper["exhibits"]]


def _exhibit(paper: dict[str, Any], given: dict[str, Any], place: str) -> Exhibit:
    texts = dict.fromkeys(("key", "number", "title", "across", "unit", "note"), str)
    _has(given, {**texts, "digitised": bool, "facts": dict, "columns": list, "rows": list}, place)
    columns, rows = given["columns"], given["rows"]
    if strange := [name for name in [*columns, *given["facts"]] if name not in (*ATTRIBUTES, *AXES, "metric", "value")]:
        raise PruneError(f"{place}: {strange[0]!r} is no attribute and no figure; known are {', '.join((*ATTRIBUTES, *AXES))}.")
    if wrong := [row for row in rows if len(row) != len(columns)]:
        raise PruneError(f"{place}: {wrong[0]} has {len(wrong[0])} values for {len(columns)} columns.")
    if given["unit"] not in UNITS or given["across"] not in ("sparsity", "layer", "task"):
        raise PruneError(f"{place}: unit must be one of {', '.join(UNITS)}, across one of sparsity, layer, task.")
    table = pd.DataFrame(rows, columns=columns).assign(**given["facts"])
    if "metric" not in table:
        named = [name for name in table if name in AXES]
        table = table.melt([name for name in table if name not in named], named, "metric", "value")
    table["value"] *= UNITS[given["unit"]]
    if not table["value"].between(0, 1 if given["unit"] == "percent" else 100).all() or not set(table["metric"]) <= set(AXES):
        raise PruneError(f"{place}: a figure is no number of its unit, or bears an unknown name.")
    if table.duplicated([name for name in table if name != "value"]).any():
        raise PruneError(f"{place}: a figure is there twice.")
    table = table.reindex(columns=[*ATTRIBUTES, "metric", "value"]).fillna(dict.fromkeys(TEXTS, ""))
    kept = {name: given[name] for name in ("key", "number", "title", "across", "digitised", "note")}
    return Exhibit(paper=paper["paper"], citation=paper["title"], setup=paper["setup"], figures=table, **kept)


def _has(given: dict[str, Any], wanted: Mapping[str, type], place: str) -> None:
    for name, kind in wanted.items():
        if not isinstance(given.get(name), kind):
            raise PruneError(f"{place}: {name!r} is missing or no {kind.__name__}.")


# -- joining ------------------------------------------------------------------------------------------------------

POINT = ["series", "method", "own", "adversarial", "x", "value", "low", "high", "told", "seeds", "n"]  # seeds and n of the study's


def points(exhibit: Exhibit, figures: pd.DataFrame, metric: str, study: Study) -> pd.DataFrame:
    """What a chart draws (columns POINT): the paper's figures of one metric, and the study's in the same terms.

    `x` is a sparsity, a layer or a task; `method` is ours, "" for one that only the paper has.
    """
    printed = figures[figures["metric"] == metric]
    by_task = exhibit.across == "task"
    x = printed["task"].map(lambda task: TASKS.get(task, task)) if by_task else printed[exhibit.across]
    margin = READ_OFF if exhibit.digitised else float("nan")
    published = pd.DataFrame(
        {
            "series": printed["method"] + printed["pattern"].map(lambda pattern: f" {pattern}" if pattern else ""),
            "method": printed["method"].map(OWN).fillna(""), "own": False, "adversarial": printed["texts"] == "adversarial", "x": x,
            "value": printed["value"], "low": printed["value"] - margin, "high": printed["value"] + margin,
            "told": [_told(exhibit, row) for row in printed.to_dict("records")], "seeds": None, "n": None,
        }
    )  # fmt: skip
    found = {"distance": _distances, "speedup": _speedups, "lead": _lead}.get(metric, _figures)(exhibit, printed, metric, study)
    return pd.concat([published, found])[POINT] if len(found) else published[POINT]


def _told(exhibit: Exhibit, row: Mapping[str, Any]) -> str:
    """Where a published figure comes from."""
    weights = "" if f.missing(row["parameters"]) else f"{row['parameters']:.0f} M encoder weights"
    trained = {True: "retrained", False: "not retrained"}.get(row["retrained"], "")
    return ", ".join(filter(None, (exhibit.source, "read off a plot" * exhibit.digitised, weights, trained)))


def sample(points: pd.DataFrame) -> str:
    """How many seeds and sentences the study's points stand for; "" where it has none."""
    own = points[points["own"]]
    ends = lambda column: "–".join(f"{n:.0f}" for n in sorted({own[column].min(), own[column].max()}))  # noqa: E731
    if own.empty:
        return ""
    seeds = "1 seed" if (own["seeds"] == 1).all() else f"{ends('seeds')} seeds"
    return seeds if own["n"].isna().all() else f"{seeds}, n = {ends('n')} each"


def drawn(exhibit: Exhibit, study: Study) -> list[Model]:
    """The models whose sparsity is a share of what the paper's is of; dense belongs to both."""
    flops = exhibit.setup["removed"] == "FLOPs"
    return [model for model in ordered(study.models) if model.is_dense or model.structured == flops]


def recipe_of(attack: str, study: Study) -> str:
    """The study's recipe of that attack's name, whole or with parts replaced; "" where it has none."""
    rows = study.tables.get("attack", pd.DataFrame())
    return next((recipe for recipe in (rows["recipe"] if len(rows) else ()) if recipe.split(" (")[0] == attack), "")


def _figures(exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: Study) -> pd.DataFrame:
    """The study's figures against sparsity."""
    attack = next(iter(printed["attack"]), "")
    recipe = recipe_of(attack, study)
    key = {"under_attack": f"under_attack:{recipe}", "success_rate": f"success:{recipe}"}.get(metric, "accuracy")
    if key == "accuracy" and metric not in set(study.tables["accuracy"].get("metric", ())):
        return pd.DataFrame()
    return _averaged(_runs(exhibit, study, key), key)


def _runs(exhibit: Exhibit, study: Study, *keys: str) -> pd.DataFrame:
    """Those quantities of every model that can be drawn, with its line's name and x; empty where one was not measured."""
    quantities = available(study.tables)
    models = drawn(exhibit, study)
    if not models or not set(keys) <= set(quantities):
        return pd.DataFrame()
    rows = summary(study.tables, models, [quantities[key] for key in keys])
    return rows.assign(series=rows["job"].map(_series(study)), x=rows["asked"])


def _series(study: Study) -> dict[int, str]:
    """Each job's line: its method, and where a study has several forms of it, what they differ in."""
    plans = {job.id: _plan(job) for job in study.jobs}
    names = {}
    for model in study.models:
        same = [plans[other.job] for other in study.models if other.method == model.method and other.job in plans]
        own = plans[model.job]
        differ = [f"{name} {own[name]}" for name in own if any(str(plan.get(name)) != str(own[name]) for plan in same)]
        names[model.job] = " ".join(filter(None, (model.family, model.pattern, f"({', '.join(differ)})" if differ else "")))
    return names


def _plan(job: Job) -> dict[str, Any]:
    """What makes a job another form of a method, and not another seed or sparsity."""
    sizes = {name: job.experiment.get(name) for name in ("calibration", "evaluation", "checkpoint")}
    options = (job.experiment["method"] or {}).get("options", {})
    return sizes | {name: value for name, value in options.items() if name not in ("sparsity", "pattern")}


def _averaged(runs: pd.DataFrame, key: str) -> pd.DataFrame:
    """One point a line and x: the mean over seeds between lowest and highest; of a single seed its 95% interval."""
    if runs.empty:
        return runs
    out = []
    runs = runs.dropna(subset=key)
    for (series, method, x), same in runs.groupby(["series", "method", "x"], sort=False):
        values, one = same[key], len(same) == 1
        low, high = (same[f"{key}_low"].iloc[0], same[f"{key}_high"].iloc[0]) if one else (values.min(), values.max())
        seeds, size = len(same), same[f"{key}_n"].iloc[0]
        told = f"this study, {'1 seed' if one else f'mean of {seeds} seeds'}" + ("" if f.missing(size) else f", n = {size:.0f}")
        adversarial = bool(same["adversarial"].iloc[0]) if "adversarial" in same else False
        out.append((series, method, True, adversarial, x, values.mean(), low, high, told, seeds, size))
    return pd.DataFrame(out, columns=POINT)


def _distances(exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: Study) -> pd.DataFrame:
    """1 − mean cosine by block, at the exhibit's sparsity, on original and on adversarial sentences."""
    asked = set(printed["sparsity"])
    jobs = [model.job for model in drawn(exhibit, study) if model.sparsity in asked and not model.pattern]
    series, found = _series(study), []
    for table in ("drift", "drift_adversarial"):
        rows = study.tables.get(table, pd.DataFrame())
        rows = rows[rows["job"].isin(jobs) & (rows["pooling"] == rows["pooling"].iloc[0])] if len(rows) else rows
        if len(rows):
            interval = {"distance_low": float("nan"), "distance_high": float("nan"), "distance_n": rows["n"]}
            runs = rows.assign(distance=1 - rows["cosine"], **interval, x=rows["block"] + 1, series=rows["job"].map(series))
            found.append(_averaged(runs.assign(adversarial=table != "drift"), "distance"))
    return pd.concat(found) if found else pd.DataFrame()


def _speedups(exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: Study) -> pd.DataFrame:
    """Of each method the fastest budget whose mean loss is below three points."""
    runs = _runs(exhibit, study, "speedup", "difference")
    if runs.empty:
        return runs
    runs = runs[runs["method"] != "dense"]
    lost = _averaged(runs, "difference").rename(columns={"value": "difference"})[["series", "x", "difference"]]
    found = _averaged(runs, "speedup").merge(lost, on=["series", "x"]) if len(lost) else pd.DataFrame()
    if found.empty or not (found["difference"] > -0.03).any():
        return pd.DataFrame()
    best = found[found["difference"] > -0.03].sort_values("value").groupby("series", as_index=False).last()
    told = [f"{row.told}, {f.points(row.difference)} at {row.x:.0%} fewer FLOPs" for row in best.itertuples()]
    return best.assign(told=told, x=task_title(study))


def _lead(exhibit: Exhibit, printed: pd.DataFrame, metric: str, study: Study) -> pd.DataFrame:
    """K-prune's mean figure minus Kwon et al.'s at the exhibit's budget."""
    found = _averaged(_runs(exhibit, study, "accuracy"), "accuracy")
    if found.empty:
        return found
    found = found[found["x"].isin(set(printed["sparsity"]))].groupby("method").first()
    if not {"kprune", "kwon"} <= set(found.index):
        return pd.DataFrame()
    ours, other = found.loc["kprune"], found.loc["kwon"]
    return pd.DataFrame([ours]).assign(
        method="kprune", value=100 * (ours["value"] - other["value"]), low=float("nan"), high=float("nan"), x=task_title(study)
    )


# -- what is different --------------------------------------------------------------------------------------------


def task_of(study: Study) -> str:
    """The study's task as its experiments name it."""
    return study.jobs[0].experiment["source"]["task"] if study.jobs else ""


def task_title(study: Study) -> str:
    """The task's own name; a file's where it is one's own."""
    return TASKS.get(task_of(study)) or Path(task_of(study)).name


def differences(exhibit: Exhibit, figures: pd.DataFrame, study: Study) -> list[str]:
    """Every difference between the paper's set-up and the study's as a sentence in Markdown, from both sides' facts."""
    if not study.jobs:
        return []
    return [
        f"**{what}.** In the paper {theirs}; here {ours}."
        for what, theirs, ours in _compared(exhibit, figures, study)
        if theirs and ours and theirs != ours
    ]


def _compared(exhibit: Exhibit, figures: pd.DataFrame, study: Study) -> Iterator[tuple[str, str, str]]:
    """(what, in the paper, here): texts that are equal where nothing differs, empty where a side does not say."""
    setup, plans = exhibit.setup, [job.experiment for job in study.jobs]
    facts = [job.facts for job in study.jobs]
    model, task = (next(iter(figures[name]), "") for name in ("model", "task"))
    checkpoints = _said(Path(plan["checkpoint"]).name for plan in plans)
    yield "Model", model, model if model and checkpoints.lower().startswith(model.lower()) else f"the checkpoint {checkpoints}"
    if len(blocks := study.tables.get("drift", pd.DataFrame())) and exhibit.across == "layer":
        yield "Layers", f"{figures['layer'].max():.0f}", f"{blocks['block'].max() + 1}"
    yield "Start", setup.get("start", ""), "the checkpoint as it was given"
    if exhibit.across != "task":
        yield "Task", TASKS.get(task, task), task_title(study)
        yield from _judged(figures, study)
        theirs = setup.get("evaluation", {}).get(task)
        yield "Evaluation sample", _sentences(theirs), _sentences(_said(fact.get("evaluation_n") for fact in facts))
        yield from _attacked(figures, study, theirs)
    yield from _calibrated(setup, study)
    yield "Longest text", _tokens(setup.get("max_length", {}).get(task)), _tokens(_said(plan.get("max_length") for plan in plans))
    seeds = len({plan["seed"] for plan in plans})
    yield "Seeds", f"a mean of {setup['seeds']} seeds" if "seeds" in setup else "", f"{'a mean of ' * (seeds > 1)}{f.plural(seeds, 'seed')}"
    if "speedup" in set(figures["metric"]):
        yield "Device", setup["device"], _said(fact.get("device_title") for fact in facts)
    for method, options in setup["options"].items():
        yield from _options(method, options, study)
    if left := sorted({model.family for model in study.models} - {model.family for model in drawn(exhibit, study)}):
        other = "weights" if setup["removed"] == "FLOPs" else "FLOPs"
        yield "Sparsity", f"a share of {setup['removed']}", f"of {other} for {', '.join(left)}, which are therefore not drawn"


def _judged(figures: pd.DataFrame, study: Study) -> Iterator[tuple[str, str, str]]:
    theirs = [AXES[metric].title for metric in ("accuracy", "spearman", "answer_f1") if metric in set(figures["metric"])]
    ours = study.tables["accuracy"].get("metric", pd.Series(dtype=str))
    yield "Judged by", _said(theirs), _said(METRICS[metric].title for metric in ours)


def _attacked(figures: pd.DataFrame, study: Study, n: int | None) -> Iterator[tuple[str, str, str]]:
    """The attack, what is replaced of it, its sample and its limits."""
    attack = next(iter(figures["attack"]), "")
    if not attack:
        return
    recipe = recipe_of(attack, study)
    if not recipe:
        yield "Attack", attack, "it was not run"
        return
    replaced = CATALOGUE[recipe].replaces if recipe in CATALOGUE else ""
    yield "Attack", attack, f"{recipe}: {replaced[:1].lower()}{replaced[1:].removesuffix('.')}" if replaced else recipe
    rows = study.tables["attack"]
    yield "Attacked sentences", _sentences(n), _sentences(_said(rows.loc[rows["recipe"] == recipe, "n"]))
    options = [each["options"] for job in study.jobs for each in job.experiment.get("measures", ()) if each["name"] == "attack"]
    limits = _said(f"{each['query_budget']} queries and {each['time_budget']:g} s a sentence" for each in options)
    yield "Limits of an attack", "none is on record", limits and f"at most {limits}"


def _calibrated(setup: Mapping[str, Any], study: Study) -> Iterator[tuple[str, str, str]]:
    least, most, unit = (setup["calibration"][name] for name in ("least", "most", "unit"))
    theirs = f"{least} to {most} {unit}" if least < most else f"{f.count(most)} {unit}"
    sizes = {job.facts["calibration_n"] for job in study.jobs if "calibration_n" in job.facts}
    inside = unit == "sentences" and all(least <= size <= most for size in sizes)
    methods = [job.experiment["method"] or {} for job in study.jobs]
    tokens = _said({method["options"]["tokens"] for method in methods if method.get("options", {}).get("tokens")})
    yield "Calibration", theirs, theirs if inside else _sentences(_said(sorted(sizes))) + (tokens and f", of them at most {tokens} tokens")


def _options(method: str, paper: Mapping[str, Any], study: Study) -> Iterator[tuple[str, str, str]]:
    """Options of a method that are not as the paper has them."""
    plans = [job.experiment["method"]["options"] for job in study.jobs if (job.experiment["method"] or {}).get("name") == method]
    title = next((model.family for model in study.models if model.method == method), method)
    differ = [name for name in paper if any(name in plan and plan[name] != paper[name] for plan in plans)]
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
