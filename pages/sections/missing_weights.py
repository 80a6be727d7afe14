"""Pruned weights that are not on disk: which models lack them, and a button that makes them again."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import formatting
from prune_core.analysis.compared_models import Model
from prune_core.processes.child_process import ChildProcess

PATIENCE = 3600.0  # seconds


def kept(view: View, models: Sequence[Model]) -> list[Model]:
    """Those whose weights are there; for the others, a button."""
    lacking = [
        model for model in models if not model.is_dense and not view.store.has_weights(model.job)
    ]
    there = [model for model in models if model not in lacking]
    lacking = [model for model in lacking if "prune" in view.job(model).done]
    asked = st.session_state.get("remake")
    if lacking and (asked is None or asked.is_over):
        _offer(view, lacking)
    if asked := st.session_state.get("remake"):
        st.fragment(_progress, run_every=None if asked.is_over else 1.0)(asked, not asked.is_over)
    return there


def _offer(view: View, lacking: Sequence[Model]) -> None:
    seconds = sum(view.job(model).seconds.get("prune", 0.0) for model in lacking)
    with st.container(horizontal=True, vertical_alignment="center", key="remake-offer"):
        st.markdown(
            f":gray[Without kept weights: {', '.join(ui.escape(model.label) for model in lacking)}.]"
        )
        if st.button(
            f"Make them again, about {formatting.about(seconds + 5)}",
            key="remake",
            icon=":material/refresh:",
        ):
            st.session_state["remake"] = ChildProcess(
                "prune_core", "remake", *(str(model.job) for model in lacking), patience=PATIENCE
            )
            st.rerun()


def _progress(asked: ChildProcess, waiting: bool) -> None:
    if not asked.is_over:
        st.info("Pruning again from the seed …", icon=":material/hourglass_top:")
    elif waiting:
        st.rerun()
    else:
        del st.session_state["remake"]  # said once
        if said := ui.attempt(asked.output):
            st.success(said, icon=":material/check:")
