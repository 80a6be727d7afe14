"""Comparison of jobs as one self-contained HTML file: metrics, charts, provenance.

Browsers can print it.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from .. import formatting as f
from .. import views
from ..analysis import seeds, takeaways
from ..analysis.compared_models import ComparedModel, models_of
from ..analysis.quantities import summary
from ..errors import PruneError
from ..store.job import Job
from ..store.store import Store

STYLE = """
body {
  font: 16px/1.5 "Source Sans 3", "Source Sans Pro", "DejaVu Sans", sans-serif; color: #1c2127;
  max-width: 1080px; margin: 3rem auto; padding: 0 1.5rem
}
h1 { font-size: 1.9rem; margin: 0 } h2 { font-size: 1.25rem; margin: 2.4rem 0 0 }
p.gloss { color: #66707c; margin: .2rem 0 .6rem }
table {
  border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums;
  display: block; overflow-x: auto
}
th, td {
  padding: .35rem .8rem; border-bottom: 1px solid #dfe3e7; text-align: right; white-space: nowrap
}
th:first-child, td:first-child { text-align: left } th { font-weight: 600; color: #66707c }
td small { color: #66707c; display: block }
@page { size: A4 landscape; margin: 12mm }
@media print {
  body { margin: 0; max-width: none } section { break-inside: avoid }
  table { display: table; font-size: .7rem }
}
"""


def write_report(store: Store, ids: Sequence[int], path: Path) -> None:
    """Write the report of these jobs to an HTML file."""
    jobs = [store.job(id) for id in dict.fromkeys(ids)]
    models = seeds.merge_seeds(models_of(jobs), jobs)
    # needed only for means over seeds
    predictions = store.rows("prediction", [job for model in models for job in model.runs])
    pooled = {
        name: views.pooled(
            name, store.rows(name, [job.id for job in jobs]), models, predictions=predictions
        )
        for name in views.READ
    }
    outcomes = store.rows("attack_example", [job.id for job in jobs])
    pooled["attack_example"] = seeds.seeds_together(outcomes, models)
    if not views.quantities(pooled):
        raise PruneError(
            f"Nothing to report: job {jobs[0].id} has no rows yet; wait until it is done, or "
            "resume it."
        )
    if not path.absolute().parent.is_dir():
        raise PruneError(f"{path}: there is no folder {path.absolute().parent}; make it first.")
    if path.suffix.lower() == ".pdf":
        raise PruneError(
            f"{path}: a report is HTML; write {path.stem}.html and print it from a browser."
        )
    path.write_text(_page(jobs, models, pooled), encoding="utf-8")


def _page(
    jobs: Sequence[Job], models: Sequence[ComparedModel], tables: dict[str, pd.DataFrame]
) -> str:
    sample = jobs[0].experiment
    heading = f"{_name(sample['checkpoint'])} on {_name(sample['source']['task'])}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>PruneScope report</title><style>{STYLE}</style></head>",
        f"<body><h1>{escape(heading)}</h1>",
    ]
    sentences = [takeaways.busy_machine_note(tables["cost"], models)]
    if len(models) > 1:
        sentences = [*views.takeaways(tables, models), *sentences]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in sentences if sentence]
    gloss = "Intervals below the values are 95%."
    if mean := seeds.means(models):
        gloss = f"Values are the {mean}. {gloss}"
    parts += [f"<h2>All metrics</h2><p class='gloss'>{gloss}</p>", _metrics(models, tables)]
    charts = (
        chart
        for name, view in views.VIEWS.items()
        if view.charts and len(tables.get(name, ()))
        for chart in view.charts(tables, models, False)
    )
    for count, chart in enumerate(charts):
        # the first chart includes the library: 5 MB, and no server is needed
        html = chart.figure.to_html(
            full_html=False,
            include_plotlyjs=count == 0,
            config={"displaylogo": False},
            default_width="1000px",
        )
        parts.append(
            f"<section><h2>{escape(chart.title)}</h2><p class='gloss'>{escape(chart.gloss)}</p>"
            f"{html}</section>"
        )
    parts += ["<h2>Provenance</h2>", _provenance(jobs), "</body></html>"]
    return "\n".join(parts)


def _name(place: str) -> str:
    return Path(place).name or place


def _metrics(models: Sequence[ComparedModel], tables: dict[str, pd.DataFrame]) -> str:
    quantities = list(views.quantities(tables).values())
    rows = summary(tables, models, quantities).to_dict("records")
    head = "".join(
        f"<th title='{escape(q.gloss, quote=True)}'>{escape(q.title)}</th>" for q in quantities
    )
    body = ""
    for row in rows:
        cells = ""
        for q in quantities:
            value, low, high = (row[key] for key in (q.key, f"{q.key}_low", f"{q.key}_high"))
            interval = f"<small>{escape(q.show(low))} to {escape(q.show(high))}</small>"
            cells += f"<td>{escape(q.show(value))}{'' if math.isnan(low) else interval}</td>"
        body += f"<tr><td>{escape(row['label'])}</td>{cells}</tr>"
    return f"<table><tr><th>Model</th>{head}</tr>{body}</table>"


def _provenance(jobs: Sequence[Job]) -> str:
    rows = [
        {
            "Model": f"{job.label} (job {job.id}, {job.status})",
            "Checkpoint": _name(job.experiment["checkpoint"]),
            "Task": _name(job.experiment["source"]["task"]),
            "Seed": job.experiment["seed"],
            "Calibration n": job.facts.get("calibration_n", ""),
            "Evaluation n": job.facts.get("evaluation_n", ""),
            "Device": job.facts.get("device_title", ""),
            "Data type": job.facts.get("dtype", ""),
            "Time": f.seconds(sum(job.seconds.values())),
            "Versions": ", ".join(
                f"{name} {version}" for name, version in job.versions.items() if version
            ),
        }
        for job in jobs
    ]
    head = "".join(f"<th>{title}</th>" for title in rows[0])
    body = ["".join(f"<td>{escape(str(cell))}</td>" for cell in row.values()) for row in rows]
    return f"<table><tr>{'</tr><tr>'.join([head, *body])}</tr></table>"
