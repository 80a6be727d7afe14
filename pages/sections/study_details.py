"""One study in detail: its runs, and a comparison with another study."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from pages.widgets.frame import ACTIVE
from prune_core import formatting
from prune_core.analysis import seeds
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.quantities import TABLES, Quantity, available, summary
from prune_core.queue import jobs
from prune_core.store.job import Job, Status
from prune_core.store.store import Store


def grid(store: Store, study: str) -> None:
    """One row per run, one column per stage: its duration or status; stop or resume runs."""
    found = list({job.key: job for job in store.jobs(study)}.values())
    names = {model.job: model.label for model in models_of(found)}
    rows = [
        {
            "run": names[job.id],
            "status": _status(job),
            **{name: _cell(job, name) for name in _stages(job)},
        }
        for job in found
    ]
    # the first run may be dense, without the stage prune
    columns = dict.fromkeys(["run", "status", "prune", *(name for row in rows for name in row)])
    table = pd.DataFrame(rows, columns=list(columns)).fillna("")
    st.dataframe(table, hide_index=True, width="stretch", key="study-grid")
    ahead = [job for job in found if job.status in ACTIVE]
    again = [job for job in found if job.status in (Status.FAILED, Status.CANCELLED)]
    with st.container(horizontal=True, vertical_alignment="center", key="study-runs"):
        if ahead:
            st.markdown(
                f":gray[about {formatting.approximate_seconds(jobs.seconds_left(ahead))} left]"
            )
            frame.act(ahead, f"Stop {formatting.plural(len(ahead), 'run')}", "study-stop")
        if again:
            title = f"Resume {formatting.plural(len(again), 'run')}"
            frame.act(again, title, "study-resume", resume=True)


def _stages(job: Job) -> list[str]:
    measures = [each["name"] for each in job.experiment.get("measures", ())]
    return list(
        dict.fromkeys([*(["prune"] if job.experiment.get("method") else []), *measures, *job.done])
    )


def _status(job: Job) -> str:
    return f"{job.status}, {job.progress:.0%}" if job.status == Status.RUNNING else str(job.status)


def _cell(job: Job, stage: str) -> str:
    if stage in job.done:
        return formatting.seconds(job.seconds[stage]) if stage in job.seconds else "done"
    if job.status == Status.RUNNING and job.stage == stage:
        return "running"
    return "queued" if job.status in ACTIVE else "–"


def compare_studies(store: Store, study: str, other: str) -> None:
    """Models of both studies, one quantity in each and the difference."""
    tables = [
        {name: store.rows(name, [job.id for job in store.jobs(each)]) for name in TABLES}
        for each in (study, other)
    ]
    both = [available(each) for each in tables]
    keys = [
        key
        for key, quantity in both[0].items()
        if key in both[1] and both[1][key].title == quantity.title
    ]  # of one metric
    if not keys:
        st.info(f"{study} and {other} have no figure in common.", icon=":material/info:")
        return
    quantity: Quantity = both[0][
        ui.choice_widget(
            st.selectbox,
            "beside-figure",
            keys,
            default=keys[0],
            label="Figure",
            format_func=lambda key: both[0][key].title,
        )
    ]
    figures = [
        _figures(store, each, own, quantity=quantity)
        for each, own in zip((study, other), tables, strict=True)
    ]
    shared = figures[0].merge(figures[1], on="label", suffixes=("_1", "_2"))
    if shared.empty:
        st.info(f"{study} and {other} have no model of the same name.", icon=":material/info:")
        return
    key = quantity.key
    told = {
        name: shared[f"{key}_{place}"].map(quantity.show)
        for place, name in ((1, study), (2, other))
    }
    shown = pd.DataFrame({"Model": shared["label"], **told})
    change = shared[f"{key}_2"] - shared[f"{key}_1"]
    shown["Difference"] = change.map(
        formatting.points if quantity.tick == ".0%" else formatting.plain
    )
    ui.table(shown, "beside", plain=shared)
    st.caption(
        "The studies may differ in sample, seed or settings: a difference here is no test of a "
        "method."
    )


def _figures(
    store: Store, study: str, tables: dict[str, pd.DataFrame], quantity: Quantity
) -> pd.DataFrame:
    found = store.jobs(study)
    models = seeds.merge_seeds(models_of([job for job in found if job.done]), found)
    predictions = store.rows("prediction", [job for model in models for job in model.runs])
    pooled = {
        name: seeds.pooled(name, rows, models, predictions=predictions)
        for name, rows in tables.items()
    }
    ends = [quantity.key, *(f"{quantity.key}_{end}" for end in ("low", "high", "n"))]
    return summary(pooled, models, [quantity])[["label", *ends]].dropna(subset=quantity.key)
