"""Paired comparison of attack success: every pruned model with the dense one."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis import attack_success


def show(view: View, own: pd.DataFrame) -> None:
    """One row per pruned model: the difference from dense, its interval, test and verdict."""
    dense = ui.dense_of(view.models, own)
    jobs = [model.job for model in view.pruned if (own["job"] == model.job).any()]
    if not jobs or dense is None:
        return
    st.markdown("#### Is it more than chance?")
    found = attack_success.table(own, dense.job, jobs)
    shown = found.assign(run=found["job"].map(view.labels))
    for name in ("dense", "pruned", "difference", "low", "high"):
        shown[name] = 100 * shown[name]
    test = "Bootstrap over seeds and examples" if view.means() else "McNemar's exact test"
    test = f"{test}: could the examples that differ be this uneven by chance?"

    def number(title: str, style: str, help: str) -> Any:
        return st.column_config.NumberColumn(title, format=style, help=help)

    ui.table(
        shown[["run", "verdict", "n", "dense", "pruned", "difference", "low", "high", "p_value"]],
        "paired",
        {
            "run": st.column_config.TextColumn("Run", pinned=True),
            "verdict": st.column_config.TextColumn("In words", width="large"),
            "n": number("n", "%d", "Sentences that both models got right before the attack."),
            "dense": number("dense (%)", "%.1f", "Attack success on dense over those sentences."),
            "pruned": number(
                "pruned (%)", "%.1f", "Attack success on the pruned model over the same sentences."
            ),
            "difference": number("difference (points)", "%+.1f", "Pruned minus dense."),
            "low": number("from", "%+.1f", "95% bootstrap interval of the difference, lower end."),
            "high": number("to", "%+.1f", "95% bootstrap interval of the difference, upper end."),
            "p_value": number("p", "%.3f", test),
        },
        plain=found.assign(run=found["job"].map(view.labels), recipe=own["recipe"].iloc[0]),
    )
    ui.how_to_read(
        "Pruning changes which sentences a model gets right, and so which are attacked. Here "
        "success is compared over the sentences that both models got right. McNemar's test looks "
        "at those on which the attack succeeded on one model only; what would be missed is "
        "$2.8\\sqrt{\\psi/n}$, $\\psi$ the share of such sentences: a smaller difference is "
        "found in fewer than 80 of 100 samples. Several seeds of a model are paired by seed and "
        "example; interval and p-value are then a bootstrap over both."
    )
