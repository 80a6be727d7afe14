"""Certified robustness: certified accuracy by number of changed words, and each certificate."""

import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis.certified import ABSTAINS
from prune_core.data.masked_words import DELETE
from prune_core.views import Tables, certified


def show(view: View, tables: Tables) -> None:
    """Draw certified accuracy and list the certificates of the examples."""
    st.markdown(f":small[{ui.escape(certified.takeaway(tables, view.models))}]")
    for place, chart in enumerate(certified.charts(tables, view.models, view.dark)):
        ui.chart(chart.title, chart.gloss, chart.figure, key=f"certified-{place}")
    rows = tables["certified"]
    bound = "the bound of RanMASK (Zeng et al. 2023) with β = 1"
    if (rows["removal"] == DELETE).any():
        bound = "the bound of randomized deletion (Huang et al. 2023, 2024)"
    ui.how_to_read(
        "A **certificate** is a proof about the smoothed model, which predicts the label that most "
        "copies of a text without most of its words get: no attack, whatever it knows, changes the "
        f"prediction by changing so many words. It uses {bound} and an exact 95% bound "
        "of the label's frequency in random copies, which are the same for all models. The model "
        "**abstains** if no label certainly has the majority. A change inside a word, such as a "
        "typo, counts as one changed word."
    )
    _certificates(view)


def _certificates(view: View) -> None:
    """List the examples with the certificates of the dense model and of one pruned model."""
    rows = view.first_seed("certified_example")
    models = [model for model in view.models if (rows["job"] == model.job).any()]
    if not models:
        return
    st.markdown("#### Read the certificates")
    view.caption_seed("This section shows")
    model = ui.one_model(models, "certified-model", "Model", dark=view.dark)
    shown = rows[rows["job"] == model.job]
    shown = shown.assign(
        **{
            name: shown[name].astype(object).where(shown[name] != ABSTAINS, "abstains").astype(str)
            for name in ("dense_radius", "radius")
        }
    )
    columns = {"text": "text", "words": "words", "label": "label"}
    for prefix, side in (("dense_", "dense"), ("", model.short)):
        if prefix or not model.is_dense:
            columns[f"{prefix}predicted"] = side
            columns[f"{prefix}radius"] = f"{side}, certified words"
    ui.table(
        shown[list(columns)],
        "certified-examples",
        {name: st.column_config.Column(title) for name, title in columns.items()},
        plain=shown,
    )
