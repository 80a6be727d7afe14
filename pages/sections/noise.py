"""Everyday noise: charts, values by perturbation, and the noisy texts with both predictions."""

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis.noise import ALL
from prune_core.views import Tables, noise

GROUPS = {
    "pruned": "pruned model only",
    "dense": "dense model only",
    "both": "both",
    "neither": "neither",
    "all": "all stored texts",
}


WIDTHS = dict.fromkeys(("text", "noisy", "pair", "noisy_pair"), 260) | {"perturbation": 130}


def show(view: View, tables: Tables) -> None:
    """Draw accuracy on clean, noisy and attacked text, failure rates and examples."""
    st.markdown(f":small[{ui.escape(noise.takeaway(tables, view.models))}]")
    for place, chart in enumerate(noise.charts(tables, view.models, view.dark)):
        ui.chart(chart.title, chart.gloss, chart.figure, key=f"noise-{place}")
    ui.how_to_read(
        "All models get the same noisy texts. A **failure** is a prediction that differs from the "
        "same model's prediction for the original text, whether or not that was correct; a "
        "directional test has another expectation (CheckList, Ribeiro et al. 2020). A text that a "
        "perturbation cannot change, such as one without digits, is not counted for it. Several "
        "noisy copies of one example are dependent, so intervals are a bootstrap over examples; "
        "for one perturbation at one strength, they are Wilson intervals."
    )
    _values(view, tables["noise"])
    _texts(view)


def _values(view: View, rows: pd.DataFrame) -> None:
    rates = {
        "failure_rate": "failure rate",
        "dense_failure_rate": "failure rate, dense",
        "accuracy": "accuracy",
        "dense_accuracy": "accuracy, dense",
    }
    known = {name: title for name, title in rates.items() if rows[name].notna().any()}
    shown = rows.assign(
        run=rows["job"].map(view.labels), **{name: 100 * rows[name] for name in known}
    )
    first = shown["perturbation"] != ALL  # all perturbations together come first
    ui.table(
        shown.loc[first.sort_values(kind="stable").index][
            ["run", "perturbation", "strength", "n", "copies", *known]
        ],
        "noise",
        {name: ui.percent_bar(title) for name, title in known.items()},
        plain=rows,
    )


def _texts(view: View) -> None:
    """Show noisy texts with the predictions of the dense model and of one pruned model."""
    examples = view.first_seed("noise_example")
    models = [model for model in view.pruned if (examples["job"] == model.job).any()]
    if not models:
        return
    st.markdown("#### Read the noisy texts")
    view.caption_seed("This section shows")
    model = ui.one_model(models, "noise-model", "Model", dark=view.dark)
    rows = examples[examples["job"] == model.job]
    dense, pruned = rows["dense_failed"], rows["failed"]
    masks = {
        "pruned": pruned & ~dense,
        "dense": dense & ~pruned,
        "both": dense & pruned,
        "neither": ~dense & ~pruned,
        "all": pd.Series(True, rows.index),
    }
    titles = {name: f"{GROUPS[name]} ({mask.sum()})" for name, mask in masks.items() if mask.any()}
    group = ui.pick("noise-group", titles, next(iter(titles)), label="Failure of")
    shown = rows[masks[group]]
    changed = ["pair", "noisy_pair"] if shown["pair"].notna().any() else []
    columns = {
        "perturbation": "perturbation",
        "strength": "strength",
        "text": "original",
        "noisy": "noisy",
        "pair": "original, second text",
        "noisy_pair": "noisy, second text",
        "dense_before": "dense, original",
        "dense_after": "dense, noisy",
        "before": "pruned, original",
        "after": "pruned, noisy",
    }
    columns = {name: title for name, title in columns.items() if changed or "pair" not in name}
    selection = ui.table(
        shown[list(columns)],
        "noise-examples",
        {
            name: st.column_config.TextColumn(title, width=WIDTHS.get(name, 115))
            for name, title in columns.items()
        },
        plain=shown,
        on_select="rerun",
        selection_mode="single-row",
    )
    st.caption("Select a row to see its changed words and predictions.")
    chosen = selection["selection"]["rows"] if selection else []
    row = shown.iloc[chosen[0] if chosen and chosen[0] < len(shown) else 0]
    for text, noisy in (("text", "noisy"), ("pair", "noisy_pair")):
        if isinstance(row[text], str):
            st.html(ui.marked_words(row[text], row[noisy]))
    st.caption(
        ui.escape(
            f"Dense: {row['dense_before']}, with noise {row['dense_after']}. "
            f"{model.label}: {row['before']}, with noise {row['after']}."
        )
    )
