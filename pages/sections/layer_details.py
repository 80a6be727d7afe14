"""One model in detail: own and inherited error by layer, and by matrix within one layer."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import drift_map
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import ComparedModel


def choose(marks: Sequence[Any]) -> None:
    """Show the layer of a clicked mark, "job|block"."""
    job, block = str(marks[0]).split("|")
    for name, value in (
        ("layer-model", int(job)),
        ("block", int(block)),
        ("layers-section", "model"),
    ):
        ui.set_choice(name, value)


def show(view: View, rows: pd.DataFrame, models: Sequence[ComparedModel]) -> None:
    """Draw own and inherited error of all layers, and of each matrix in one of them."""
    with st.container(horizontal=True, key="layer-choices"):
        model = ui.one_model(models, "layer-model", "Model", dark=view.dark)
        block = ui.block_slider(int(rows["block"].max()) + 1)
    left, right = st.columns(2, gap="medium")
    with left:
        ui.chart(
            "Own or inherited?",
            f"{model.label}, mean over the matrices of a layer, stacked; the dashed line is "
            "the total error.",
            plots.local_and_inherited_error(rows, model, view.dark),
            key="own-and-inherited",
            small=True,
        )
    with right:
        ui.chart(
            f"Where in layer {block + 1} does the error of {model.label} arise?",
            "For each matrix: the error of its own pruning, the error inherited with its input, "
            "and the total.",
            plots.errors_of_layer(rows, model, block, dark=view.dark),
            key="matrix-errors",
            small=True,
        )
    if model not in drift_map.models_with_map(view):
        st.caption("Add the measure Embedding drift to see which examples this layer moves.")
    elif st.button(
        f"Show the examples that layer {block + 1} moves most",
        key="show-drift",
        icon=":material/moving:",
    ):
        ui.set_choice("drift-model", model.job)
        ui.set_choice("drift-section", "map")
        st.switch_page("pages/drift.py")
