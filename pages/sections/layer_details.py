"""One block of one model closely: its parts, where it put the sentences, and which examples it hurts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import drift_map, selected_examples
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import Model


def choose(marks: Sequence[Any]) -> None:
    """Turn to the block of a mark that was clicked, "job|block"."""
    job, block = str(marks[0]).split("|")
    ui.put("layer-model", int(job))
    ui.put("block", int(block))
    ui.put("layers-part", "block")


def show(view: View, rows: pd.DataFrame, models: Sequence[Model]) -> None:
    """The block that was clicked, or the last one."""
    with st.container(horizontal=True, key="block-choices"):
        model = ui.one_model(models, "layer-model", "One model closely", dark=view.dark)
        blocks = int(rows["block"].max()) + 1
        block = (
            ui.chosen(
                st.select_slider, "block", list(range(1, blocks + 1)), default=blocks, label="Block"
            )
            - 1
        )
    left, right = st.columns(2, gap="medium")
    with left:
        ui.chart(
            f"Where in block {block + 1} does the error of {model.label} arise?",
            "One line a matrix: what its own pruning does, what came in with its input, and what goes out.",
            plots.parts_of_block(rows, model, block, dark=view.dark),
            key="block-parts",
            small=True,
        )
    if model not in drift_map.mapped(view):
        st.caption(
            "Measure Drift too, and this part shows where the block put each sentence, and which examples it hurts."
        )
        return
    projection = drift_map.projections(view, block)[-1]
    with right:
        drift_map.draw(view, model, block, projection=projection, small=True)
    selected_examples.panel(view, model)
    found = drift_map.movers(view, model, block, projection=projection)
    hurt = found[found["changed"]] if found["changed"].any() else found
    st.markdown(f"#### Which examples does block {block + 1} hurt?")
    some = f"The {len(hurt)} of {len(found)} examples whose prediction changed"
    some = some if found["changed"].any() else "No prediction changed: all examples"
    shown = view.which_seed("This table shows", [model])
    st.caption(f"{some}, largest move first. {shown}".rstrip())
    drift_map.table(view, hurt.reset_index(drop=True), "hurt")
