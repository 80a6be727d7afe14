"""Model card of an export: what was pruned, how to load it, and all metrics with intervals."""

import math
from pathlib import Path
from typing import Any

from .. import views
from ..analysis.compared_models import models_of
from ..analysis.index_compatibility import KEPT_ALIGNED
from ..analysis.quantities import Quantity, summary
from ..formatting import percent
from ..models.checkpoints import model_card
from ..store.job import Job
from ..store.store import Store
from ..tasks import DEFAULT, METRICS, TASK_TYPES


def write_export_card(
    store: Store, job: Job, folder: Path, is_compact: bool, *, is_aligned: bool = False
) -> None:
    """Write the README.md of an exported folder, in the format of the Hub."""
    job = store.job(job.id)  # an export may have re-pruned its weights
    accuracy = store.rows("accuracy", [job.id])
    metric = str(accuracy["metric"].iloc[0]) if len(accuracy) else ""
    facts, experiment = job.facts, job.experiment
    base, data = experiment["checkpoint"], Path(experiment["source"]["task"]).name
    paragraphs = [
        _origin(job, folder, is_compact),
        f"Evaluated on {facts.get('evaluation_n', 'some')} {job.units} of {data}, on "
        f"{facts.get('device_title', job.device)}; intervals are 95%. The results do not "
        "generalize to other data: evaluate on your own before you deploy the model.",
        _table(store, job),
    ]
    if is_aligned:
        paragraphs.insert(1, _alignment(store, job))
    if facts.get("remade", facts.get("weights")) != facts.get("weights"):
        paragraphs.insert(
            2,
            "**These weights were re-pruned from the run's seed and differ from the evaluated "
            "ones.**",
        )
    # agreement with the dense model, used for data without labels, is not a metric of the task
    is_task = metric in METRICS and not METRICS[metric].against_dense
    model_card.write(
        folder,
        base,
        facts.get("kind", "classification"),
        data=data,
        metrics={metric: float(accuracy["score"].iloc[0])} if is_task else {},
        text="\n\n".join(paragraphs) + "\n",
    )


def _origin(job: Job, folder: Path, is_compact: bool) -> str:
    """Describe what was pruned, how, and how to load it."""
    experiment, base = job.experiment, job.experiment["checkpoint"]
    embeds = TASK_TYPES[job.facts.get("kind", DEFAULT)].library == "sentence-transformers"
    plain_loader = "SentenceTransformer" if embeds else "AutoModelFor….from_pretrained"
    if model_card.is_cross_encoder(folder):
        plain_loader = "CrossEncoder"
    loader = "prune_core.load" if is_compact else plain_loader
    compact = "Its dead heads and neurons are physically removed. " if is_compact else ""
    settings = experiment["method"]["options"].items()
    options = ", ".join(f"{name} {value}" for name, value in settings if value not in ("", None))
    return (
        f"**{Path(base).name or base}** pruned by PruneScope, without retraining: {job.label} "
        f"({options}), seed {experiment['seed']}, calibrated on "
        f"{job.facts.get('calibration_n', 'some')} texts. {compact}Load it with "
        f'`{loader}("{folder.name}")`.'
    )


def _alignment(store: Store, job: Job) -> str:
    """Describe what rotated embeddings are for, and how well they work."""
    rows = store.rows("retrieval", [job.id])
    row = views.retrieval.cell_rows(rows, KEPT_ALIGNED).iloc[0]
    value, low, high = (percent(row[f"ndcg_at_10{end}"]) for end in ("", "_low", "_high"))
    return (
        "**For queries only.** Its embeddings are rotated (a Dense module without bias; orthogonal "
        f"Procrustes on documents) into the space of the index of {job.experiment['checkpoint']}: "
        f"search that index with them (nDCG@10 {value}, {low} to {high}, n = {row['n']}). "
        "Documents must not be embedded again with this model; the metrics below are without the "
        "rotation."
    )


def metrics_of(store: Store, job: Job) -> tuple[list[Quantity], dict[str, Any]]:
    """Return the metrics of a job and its row of `quantities.summary`."""
    tables = {name: store.rows(name, [job.id]) for name in views.TABLES}
    quantities = list(views.quantities(tables).values())
    if not quantities:
        return [], {}
    return quantities, summary(tables, models_of([job]), quantities).to_dict("records")[0]


def _table(store: Store, job: Job) -> str:
    quantities, row = metrics_of(store, job)
    if not quantities:
        return f"Nothing was measured; see `python -m prune_core show {job.id}`."
    lines = ["| metric | value | interval | n | description |", "|---|---|---|---|---|"]
    for quantity in quantities:
        value, low, high, n = (row[quantity.key + end] for end in ("", "_low", "_high", "_n"))
        interval = "" if math.isnan(low) else f"{quantity.show(low)} to {quantity.show(high)}"
        count = "" if math.isnan(n) else f"{n:,.0f}"
        cells = (quantity.title, quantity.show(value), interval, count, quantity.gloss)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
