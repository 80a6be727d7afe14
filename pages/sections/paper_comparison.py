"""Published results and the study in the same axes, with all differences in setup."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from prune_core import plots, views
from prune_core.analysis import published, published_comparison, setup_differences
from prune_core.analysis.compared_models import models_of
from prune_core.analysis.published import TASKS, Exhibit
from prune_core.analysis.published_comparison import ComparedStudy

TABLES = ("accuracy", "attack", "cost", "drift", "drift_adversarial")
HEIGHTS = {1: 420, 2: 340}
LABELS = {"model": "Model", "task": "Task", "attack": "Attack"}


def section(view: frame.View) -> None:
    """Draw a published table or plot together with the study, and list differences in setup."""
    st.markdown("#### Comparison with the paper")
    study = _compared_study(view)
    known = published.exhibits()
    default = "kprune-curves" if any(model.structured for model in study.models) else "akr-table-1"
    titles = {key: f"{exhibit.source}: {exhibit.title}" for key, exhibit in known.items()}
    exhibit = known[ui.pick("exhibit", titles, default, label="Published results")]
    values = _select_values(exhibit, study)
    points_by_metric = {
        metric: published_comparison.points(exhibit, values, metric, study=study)
        for metric in dict.fromkeys(values["metric"])
    }
    st.caption(_legend(exhibit, points_by_metric))
    columns = min(2, len(points_by_metric))
    with st.grid(columns, min_column_width=380, gap="small", key="paper-charts") as grid:
        for metric, points in points_by_metric.items():
            with grid.cell():
                _chart(exhibit, metric, points, dark=view.dark, height=HEIGHTS[columns])
        with grid.cell():
            _differences(setup_differences.differences(exhibit, values, study))
    st.caption(exhibit.citation)


def _compared_study(view: frame.View) -> ComparedStudy:
    """Return all finished runs of the study, whatever is selected: a mean needs every seed."""
    jobs = [job for job in view.jobs if job.done]
    finished = replace(view, models=tuple(models_of(jobs)))
    tables = {name: finished.rows(name) for name in TABLES}
    return ComparedStudy(jobs, finished.models, tables, quantities=views.quantities(tables))


def _select_values(exhibit: Exhibit, study: ComparedStudy) -> pd.DataFrame:
    """Return the exhibit's values for one model, task and attack, by default the study's task."""
    values = exhibit.figures
    for column, label in LABELS.items():
        options = list(dict.fromkeys(values[column]))
        if len(options) > 1 and column != exhibit.across:
            default = next(
                (task for task in (published_comparison.task_of(study), "sst2") if task in options),
                options[0],
            )
            chosen = ui.choice_widget(
                st.segmented_control,
                f"{exhibit.key}-{column}",
                options,
                default=default,
                label=label,
                format_func=lambda key: TASKS.get(key, key),
            )
            values = values[values[column] == chosen]
    return values


def _legend(exhibit: Exhibit, points_by_metric: dict[str, pd.DataFrame]) -> str:
    parts = [f"Hollow marks and names in italics: {exhibit.source}."]
    if exhibit.digitised:
        parts.append(
            "Values were digitized from a plot, with an error of about half a point, shown as bars."
        )
    if any(points["is_study"].any() for points in points_by_metric.values()):
        parts.append(
            "Filled marks: this study, means over seeds with bars from the lowest to the highest "
            "seed (the 95% interval if there is only one seed). For methods with more than "
            f"{published_comparison.MAX_VARIANTS} variants, only the full method is shown."
        )
    else:
        parts.append("This study has no results to show here.")
    if exhibit.across == "layer":
        parts.append(
            "Dashed: adversarial examples; for this study, those that succeeded on the respective "
            "pruned model."
        )
    return " ".join([*parts, exhibit.note])


def _chart(exhibit: Exhibit, metric: str, points: pd.DataFrame, dark: bool, height: int) -> None:
    axis = published.AXES[metric]
    sample = published_comparison.sample(points)
    ui.chart(
        axis.title,
        f"This study: {sample}." if sample else "Published results only.",
        plots.published_comparison(points, axis, exhibit.against, dark=dark, height=height),
        key=f"paper-{metric}",
        small=True,
    )


def _differences(sentences: list[str]) -> None:
    st.markdown("##### Differences in setup" if sentences else "No recorded difference in setup.")
    st.markdown("\n".join(f"- {sentence}" for sentence in sentences))
