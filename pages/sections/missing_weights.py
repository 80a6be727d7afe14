"""Pruned weights that were not saved: which models lack them, and a button that prunes again."""

from collections.abc import Sequence

import streamlit as st

from pages.widgets import child_process, ui
from pages.widgets.frame import View
from prune_core import formatting
from prune_core.analysis.compared_models import ComparedModel

TIMEOUT = 3600.0  # seconds


def saved_models(view: View, models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """Return the models with saved weights; offer to prune the others again.

    Candidates are left out: only their results are stored.
    """
    if candidates := [model for model in models if view.job(model).is_candidate]:
        names = ", ".join(ui.escape(model.label) for model in candidates)
        st.markdown(f":gray[Not available for models from elsewhere: {names}.]")
        models = [model for model in models if model not in candidates]
    saved = [model for model in models if model.is_dense or view.store.has_weights(model.job)]
    without_weights = [
        model for model in models if model not in saved and "prune" in view.job(model).done
    ]
    if without_weights and not child_process.is_running("reprune"):
        _offer(view, without_weights)
    child_process.show(
        "reprune",
        "Pruning again from the seed …",
        lambda output: st.success(output, icon=":material/check:"),
        once=True,
    )
    return saved


def _offer(view: View, without_weights: Sequence[ComparedModel]) -> None:
    seconds = 5 + sum(view.job(model).seconds.get("prune", 0.0) for model in without_weights)
    with st.container(horizontal=True, vertical_alignment="center", key="reprune-offer"):
        names = ", ".join(ui.escape(model.label) for model in without_weights)
        st.markdown(f":gray[Weights not saved: {names}.]")
        if st.button(
            f"Prune again, about {formatting.approximate_seconds(seconds)}",
            key="reprune-button",
            icon=":material/refresh:",
        ):
            jobs = [str(model.job) for model in without_weights]
            child_process.start("reprune", "reprune", *jobs, timeout=TIMEOUT)
