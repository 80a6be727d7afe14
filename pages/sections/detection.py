"""Detection at a threshold: confusion matrices of all models, curves, slices, changed examples."""

import numpy as np
import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import detection, slices
from prune_core.views import threshold

MEASURED = "as measured"
SCALES = {"threshold": "Same threshold", "rate": "Same false-positive rate"}
RATES = (*detection.STEPS, 0.1, 0.2, 0.5)


def show(view: View) -> None:
    """Draw the choice of label and threshold, and the detections of each model."""
    thresholds = view.first_seed("threshold")
    rows = view.first_seed("threshold_example")
    names = dict.fromkeys(thresholds["positive"])
    st.markdown(f":small[{threshold.takeaway({'threshold': thresholds}, view.models)}]")
    view.caption_seed("This section shows")
    positive = ui.segments_if_several("detected-label", {name: name for name in names}, "Label")
    thresholds = thresholds[thresholds["positive"] == positive].set_index("job")
    rows = rows[(rows["positive"] == positive) & ~rows["fitted"].astype(bool)]
    by_job = {job: group.reset_index(drop=True) for job, group in rows.groupby("job", sort=False)}
    limits = _limits(by_job, thresholds)
    weights = thresholds["negative_weight"]
    rates = {
        job: _rates(group, limits[job]["pruned"], weights[job]) for job, group in by_job.items()
    }
    first = thresholds.iloc[0]
    sample = f"{first['positives']} examples of {positive!r}, {first['negatives']} others."
    ui.chart(
        "What does each model detect at this threshold?",
        "One matrix per model: true positives and false negatives, false positives and true "
        f"negatives, with percentages per row. {sample}",
        plots.confusion_matrices(rates, view.models, positive, dark=view.dark),
        key="confusion",
    )
    kind = ui.segments("detection-curve", plots.CURVES, label="Curve")
    ui.chart(
        "What do other thresholds achieve?",
        "One line per model over all thresholds; markers show the selected threshold with exact "
        f"95% intervals. {sample}",
        plots.detection_curves(
            {job: (_truth(group), group["pruned"].to_numpy()) for job, group in by_job.items()},
            rates,
            view.models,
            kind=kind,
            dark=view.dark,
        ),
        key="detection-curve",
    )
    detected = {
        job: group.assign(
            truth=_truth(group),
            dense_detected=group["dense"] >= limits[job]["dense"],
            detected=group["pruned"] >= limits[job]["pruned"],
        )
        for job, group in by_job.items()
    }
    _slices(view, detected)
    _changed(view, detected)
    ui.how_to_read(
        "An example is detected if the probability of the label is at least the threshold. "
        "**As measured** is the threshold of the run: a given one, or one fitted on held-out "
        "examples, which are not counted here. The slider sets one threshold for all models, or "
        "for each model the lowest threshold with at most that false-positive rate on these "
        "examples. A threshold selected on these examples looks slightly better than it is on new "
        "ones. Limits on recall and false positives are tested on the page Deploy, at the "
        "threshold of the run."
    )


def _truth(group: pd.DataFrame) -> np.ndarray:
    return group["truth"].to_numpy(bool)


def _limits(
    by_job: dict[int, pd.DataFrame], thresholds: pd.DataFrame
) -> dict[int, dict[str, float]]:
    """Draw the sliders; return the thresholds of the dense and the pruned model of each job."""
    scale = ui.segments("detection-scale", SCALES, label="For all models")
    options = detection.THRESHOLDS if scale == "threshold" else RATES
    value = ui.choice_widget(
        st.select_slider,
        f"detection-{scale}",
        [MEASURED, *options],
        default=MEASURED,
        label="Threshold" if scale == "threshold" else "Maximum false-positive rate",
        format_func=lambda each: each if each == MEASURED else _number(each, scale),
    )
    columns = {"dense": "dense_threshold", "pruned": "threshold"}

    def limit(job: int, side: str) -> float:
        if value == MEASURED:
            return float(thresholds.loc[job, columns[side]])
        if scale == "threshold":
            return float(value)
        group = by_job[job]
        return detection.threshold_at_rate(group[side].to_numpy()[~_truth(group)], value)

    return {job: {side: limit(job, side) for side in columns} for job in by_job}


def _number(value: float, scale: str) -> str:
    return f"{value:g}" if scale == "threshold" else f"{100 * value:g}%"


def _rates(group: pd.DataFrame, limit: float, weight: float) -> dict[str, float]:
    found = detection.rates(_truth(group), group["pruned"].to_numpy() >= limit, weight)
    return {**found, "threshold": limit, "negative_weight": weight}


def _slices(view: View, detected: dict[int, pd.DataFrame]) -> None:
    """Show recall and false positives by length, keyword or a column of the user's file."""
    st.markdown("#### Which texts does each model miss?")
    requested = st.text_input(
        "Slices",
        "length",
        key="detection-slices",
        help="Separated by commas: length, keyword:WORD for texts that contain a word, or "
        "column:NAME for a column of your file, such as a language or a source.",
        persist_state="session",
    )
    names = [name.strip() for name in requested.split(",") if name.strip()]
    parts = []
    for model in view.models:
        if (group := detected.get(model.job)) is None:
            continue
        masks = ui.run_action(
            slices.slice_masks,
            group,
            names,
            view.task_type,
            view.label_names,
            view.job(model).experiment["source"],
        )
        if masks is None:
            return
        parts.append(detection.slice_table(group, masks).assign(run=model.label))
    table = pd.concat(parts)
    if table.empty:
        return
    order = dict.fromkeys(table["slice"])
    table = pd.concat([table[table["slice"] == name] for name in order])
    shown = table[["slice", "run", "positives", "true_positives", "recall"]].assign(
        recall=100 * table["recall"],
        negatives=table["negatives"],
        false_positives=table["false_positives"],
        rate=100 * table["false_positive_rate"],
    )
    ui.table(
        shown,
        "detection-slices",
        {
            "slice": st.column_config.TextColumn("Slice", pinned=True),
            "run": "Run",
            "positives": "Positives",
            "true_positives": "Detected",
            "recall": ui.percent_bar("Recall"),
            "negatives": "Negatives",
            "false_positives": "False positives",
            "rate": st.column_config.NumberColumn("False-positive rate", format="%.2f%%"),
        },
        plain=table,
    )


def _changed(view: View, detected: dict[int, pd.DataFrame]) -> None:
    """Show the examples on which the decisions of a pruned and the dense model differ."""
    rows = pd.concat(
        [
            detected[model.job].assign(run=model.label)
            for model in view.pruned
            if model.job in detected
        ]
        or [pd.DataFrame(columns=["dense_detected", "detected"])]
    )
    rows = rows[rows["dense_detected"] != rows["detected"]]
    if rows.empty:
        return
    what = np.where(
        rows["truth"],
        np.where(rows["detected"], "newly detected", "newly missed"),
        np.where(rows["detected"], "new false positive", "false positive fixed"),
    )
    with st.expander("Changed decisions", icon=":material/rule:", key="changed-decisions"):
        ui.table(
            rows.assign(what=what)[["run", "what", "text", "dense", "pruned"]],
            "changed-decisions",
            {
                "run": "Run",
                "what": "Change",
                "text": st.column_config.TextColumn("Text", width="large"),
                "dense": st.column_config.NumberColumn("Dense", format="%.3f"),
                "pruned": st.column_config.NumberColumn("Pruned", format="%.3f"),
            },
        )
