"""The model card of an export: what was pruned from what, how to load it, and every figure with its interval and n."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..analysis.compared_models import models_of
from ..analysis.quantities import TABLES, Quantity, available, summary
from ..data.metrics import METRICS
from ..models.checkpoints import model_card
from ..store.job import Job
from ..store.store import Store


def write_export_card(store: Store, job: Job, folder: Path, is_cut: bool) -> None:
    """README.md of an exported folder, in the form that the Hub reads."""
    job = store.job(job.id)  # an export may have made its weights again
    judged, source = store.rows("accuracy", [job.id]), Path(job.experiment["source"]["task"]).name
    metric = str(judged["metric"].iloc[0]) if len(judged) else ""
    base = job.experiment["checkpoint"]
    loads = (
        f'prune_core.load("{folder.name}")'
        if is_cut
        else f'AutoModelFor….from_pretrained("{folder.name}")'
    )
    facts, options = job.facts, job.experiment["method"]["options"]
    told = ", ".join(
        f"{name} {value}" for name, value in options.items() if value not in ("", None)
    )
    text = [
        f"**{Path(base).name or base}** pruned by PruneScope, without retraining: {job.label} ({told}), seed {job.experiment['seed']}, "
        f"calibrated on {facts.get('calibration_n', 'some')} texts. {'Its dead heads and neurons are cut out. ' if is_cut else ''}"
        f"Loads by `{loads}`.",
        f"Measured on {facts.get('evaluation_n', 'some')} texts of {source}, on {facts.get('device_title', job.device)}; intervals are 95%."
        " They say nothing of other data: measure on your own before it ships.",
        _table(store, job),
    ]
    if facts.get("remade", facts.get("weights")) != facts.get("weights"):
        text.insert(
            2,
            "**These weights were made again from the run's seed and differ from the ones that were measured.**",
        )
    # agreement with dense, where the data had no labels, is no figure of the task
    is_task = metric in METRICS and not METRICS[metric].against_dense
    figures = {metric: float(judged["score"].iloc[0])} if is_task else {}
    model_card.write(
        folder,
        base,
        facts.get("kind", "classification"),
        data=source,
        metrics=figures,
        text="\n\n".join(text) + "\n",
    )


def metrics_of(store: Store, job: Job) -> tuple[list[Quantity], dict[str, Any]]:
    """The figures that the job has, and its row of the summary, as `quantities.summary` gives it."""
    tables = {name: store.rows(name, [job.id]) for name in TABLES}
    quantities = list(available(tables).values())
    return quantities, summary(tables, models_of([job]), quantities).to_dict("records")[
        0
    ] if quantities else {}


def _table(store: Store, job: Job) -> str:
    quantities, row = metrics_of(store, job)
    lines = ["| figure | value | interval | n | what it is |", "|---|---|---|---|---|"]
    for q in quantities:
        value, low, high, n = (row[q.key + end] for end in ("", "_low", "_high", "_n"))
        between = "" if math.isnan(low) else f"{q.show(low)} to {q.show(high)}"
        lines.append(
            f"| {q.title} | {q.show(value)} | {between} | {'' if math.isnan(n) else f'{n:,.0f}'} | {q.gloss} |"
        )
    return (
        "\n".join(lines)
        if quantities
        else f"Nothing was measured; see `python -m prune_core show {job.id}`."
    )
