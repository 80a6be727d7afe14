"""Published results and the study in the same axes, with all differences in setup."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from prune_core import plots
from prune_core.analysis import published, published_comparison, setup_differences
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.published import TASKS, Exhibit
from prune_core.analysis.published_comparison import ComparedStudy

TABLES = ("accuracy", "attack", "cost", "drift", "drift_adversarial")
HEIGHTS = {1: 420, 2: 340}
LABELS = {"model": "Model", "task": "Task", "attack": "Attack"}


def section(view: frame.View) -> None:
    """A published table or plot, its charts with the study, and the differences in setup."""
    st.markdown("#### Beside the paper")
    study = _whole(view)
    known = published.exhibits()
    structured = any(model.structured for model in study.models)
    start = "kprune-curves" if structured else "akr-table-1"
    name = lambda key: f"{known[key].source}: {known[key].title}"  # noqa: E731
    exhibit = known[
        ui.choice_widget(
            st.selectbox,
            "exhibit",
            list(known),
            default=start,
            label="Published figures",
            format_func=name,
        )
    ]
    figures = _narrowed(exhibit, study)
    metrics = list(dict.fromkeys(figures["metric"]))
    drawn = {
        metric: published_comparison.points(exhibit, figures, metric, study=study)
        for metric in metrics
    }
    st.caption(_legend(exhibit, drawn))
    columns = min(2, len(metrics))
    with st.grid(columns, min_column_width=380, gap="small", key="beside") as grid:
        for metric, points in drawn.items():
            with grid.cell():
                _chart(exhibit, metric, points, dark=view.dark, height=HEIGHTS[columns])
        with grid.cell():
            _differences(setup_differences.differences(exhibit, figures, study))
    st.caption(exhibit.citation)


def _whole(view: frame.View) -> ComparedStudy:
    """All finished runs of the study, whatever the sidebar shows: a mean needs every seed."""
    jobs = [job for job in view.jobs if job.done]
    whole = replace(view, models=tuple(models_of(jobs)))
    return ComparedStudy(jobs, whole.models, {name: whole.rows(name) for name in TABLES})


def _narrowed(exhibit: Exhibit, study: ComparedStudy) -> pd.DataFrame:
    """The exhibit's values for one model, task and attack; the study's own task first."""
    figures = exhibit.figures
    for column, label in LABELS.items():
        options = list(dict.fromkeys(figures[column]))
        if len(options) > 1 and column != exhibit.across:
            start = next(
                (name for name in (published_comparison.task_of(study), "sst2") if name in options),
                options[0],
            )
            pick = ui.choice_widget(
                st.segmented_control,
                f"{exhibit.key}-{column}",
                options,
                default=start,
                label=label,
                format_func=lambda key: TASKS.get(key, key),
            )
            figures = figures[figures[column] == pick]
    return figures


def _legend(exhibit: Exhibit, drawn: dict[str, pd.DataFrame]) -> str:
    parts = [f"Hollow marks and names in italics: {exhibit.source}."]
    if exhibit.digitised:
        parts.append(
            "They were read off a plot, with an error of about half a point, which their bars show."
        )
    if any(points["own"].any() for points in drawn.values()):
        parts.append(
            "Full marks: this study, means over seeds with bars from the lowest to the highest "
            "(of one seed its 95% interval)."
        )
        parts.append(
            f"Of a method that ran in more than {published_comparison.MOST_FORMS} forms, the full "
            "one."
        )
    else:
        parts.append("This study has no figures to draw here.")
    if exhibit.across == "layer":
        parts.append(
            "Dashed: on adversarial sentences, the study's on those that turned each pruned "
            "model's own answer."
        )
    return " ".join([*parts, exhibit.note])


def _chart(exhibit: Exhibit, metric: str, points: pd.DataFrame, dark: bool, height: int) -> None:
    axis = published.AXES[metric]
    figure = plots.published_comparison(points, axis, exhibit.against, dark=dark, height=height)
    sample = published_comparison.sample(points)
    ui.chart(
        axis.title,
        f"This study: {sample}." if sample else "The paper's figures alone.",
        figure,
        key=f"beside-{metric}",
        small=True,
    )


def _differences(found: list[str]) -> None:
    st.markdown(
        "##### What differs in set-up" if found else "Nothing that is on record differs in set-up."
    )
    st.markdown("\n".join(f"- {sentence}" for sentence in found))
