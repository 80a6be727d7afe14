"""One study in detail: its runs, and a comparison with another study."""

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from pages.widgets.frame import ACTIVE
from prune_core import formatting, views
from prune_core.analysis import seeds
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import Quantity, summary
from prune_core.queue import jobs
from prune_core.store.job import Job, Status
from prune_core.store.store import Store


def grid(store: Store, study: str) -> None:
    """Show one row per run with the duration or status of each stage; stop or resume runs."""
    runs = list({job.key: job for job in store.jobs(study)}.values())
    names = {model.job: model.label for model in models_of(runs)}
    rows = [
        {
            "run": names[job.id],
            "status": _status(job),
            **{name: _cell(job, name) for name in _stages(job)},
        }
        for job in runs
    ]
    # the first run may be dense, without the stage prune
    columns = dict.fromkeys(["run", "status", "prune", *(name for row in rows for name in row)])
    st.dataframe(
        pd.DataFrame(rows, columns=list(columns)).fillna(""),
        hide_index=True,
        width="stretch",
        key="study-grid",
    )
    active = [job for job in runs if job.status in ACTIVE]
    stopped = [job for job in runs if job.status in (Status.FAILED, Status.CANCELLED)]
    with st.container(horizontal=True, vertical_alignment="center", key="study-runs"):
        if active:
            st.markdown(
                f":gray[about {formatting.approximate_seconds(jobs.seconds_left(active))} left]"
            )
            frame.action_button(
                active, f"Stop {formatting.plural(len(active), 'run')}", "study-stop"
            )
        if stopped:
            frame.action_button(
                stopped,
                f"Resume {formatting.plural(len(stopped), 'run')}",
                "study-resume",
                resume=True,
            )


def _stages(job: Job) -> list[str]:
    first = ["prune"] if job.experiment.get("method") else []
    measures = (each["name"] for each in job.experiment.get("measures", ()))
    return list(dict.fromkeys([*first, *measures, *job.done]))


def _status(job: Job) -> str:
    return f"{job.status}, {job.progress:.0%}" if job.status == Status.RUNNING else str(job.status)


def _cell(job: Job, stage: str) -> str:
    if stage in job.done:
        return formatting.seconds(job.seconds[stage]) if stage in job.seconds else "done"
    if job.status == Status.RUNNING and job.stage == stage:
        return "running"
    return "queued" if job.status in ACTIVE else "–"


def compare_studies(store: Store, study: str, other: str) -> None:
    """Show one quantity of the models that both studies have, and its difference."""
    tables = [_tables(store, study), _tables(store, other)]
    first, second = (views.quantities(rows) for rows in tables)
    # the title contains the metric, which must be the same
    keys = [
        key
        for key, quantity in first.items()
        if key in second and second[key].title == quantity.title
    ]
    if not keys:
        st.info(f"{study} and {other} have no quantity in common.", icon=":material/info:")
        return
    quantity: Quantity = first[
        ui.pick("comparison-quantity", {key: first[key].title for key in keys}, label="Quantity")
    ]
    summaries = [
        _summary(store, name, rows, quantity=quantity)
        for name, rows in zip((study, other), tables, strict=True)
    ]
    shared = summaries[0].merge(summaries[1], on="label", suffixes=("_1", "_2"))
    if shared.empty:
        st.info(f"{study} and {other} have no model with the same name.", icon=":material/info:")
        return
    key = quantity.key
    before, after = shared[f"{key}_1"], shared[f"{key}_2"]
    difference = formatting.points if quantity.tick == ".0%" else formatting.plain
    columns = {
        "Model": shared["label"],
        study: before.map(quantity.show),
        other: after.map(quantity.show),
        "Difference": (after - before).map(difference),
    }
    ui.table(pd.DataFrame(columns), "study-comparison", plain=shared)
    st.caption(
        "The studies may differ in sample, seed or settings, so a difference here does not compare "
        "methods."
    )


def _tables(store: Store, study: str) -> dict[str, pd.DataFrame]:
    ids = [job.id for job in store.jobs(study)]
    return {name: store.rows(name, ids) for name in views.TABLES}


def _summary(
    store: Store, study: str, tables: dict[str, pd.DataFrame], quantity: Quantity
) -> pd.DataFrame:
    runs = store.jobs(study)
    models = seeds.merge_seeds(models_of([job for job in runs if job.done]), runs)
    predictions = store.rows("prediction", [job for model in models for job in model.runs])
    pooled = {
        name: views.pooled(name, rows, models, predictions=predictions)
        for name, rows in tables.items()
    }
    ends = [quantity.key, *(f"{quantity.key}_{end}" for end in ("low", "high", "n"))]
    return summary(pooled, models, [quantity])[["label", *ends]].dropna(subset=quantity.key)
