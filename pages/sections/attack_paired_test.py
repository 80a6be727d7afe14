"""Paired comparison of attack success: every pruned model with the dense one."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis import attack_success


def show(view: View, examples: pd.DataFrame) -> None:
    """Show one row per pruned model: difference from dense, interval, p-value and conclusion."""
    dense = ui.dense_of(view.models, examples)
    jobs = [model.job for model in view.pruned if (examples["job"] == model.job).any()]
    if not jobs or dense is None:
        return
    st.markdown("#### Is the difference significant?")
    tests = attack_success.table(examples, dense.job, jobs)
    tests = tests.assign(run=tests["job"].map(view.labels))
    shown = tests.assign(
        **{name: 100 * tests[name] for name in ("dense", "pruned", "difference", "low", "high")}
    )
    test = "Bootstrap over seeds and examples" if view.means() else "McNemar's exact test"

    def number(title: str, style: str, help: str) -> Any:
        return st.column_config.NumberColumn(title, format=style, help=help)

    ui.table(
        shown[["run", "verdict", "n", "dense", "pruned", "difference", "low", "high", "p_value"]],
        "paired",
        {
            "run": st.column_config.TextColumn("Run", pinned=True),
            "verdict": st.column_config.TextColumn("Conclusion", width="large"),
            "n": number(
                "n", "%d", "Examples that both models classify correctly before the attack."
            ),
            "dense": number(
                "dense (%)", "%.1f", "Attack success on the dense model over these examples."
            ),
            "pruned": number(
                "pruned (%)", "%.1f", "Attack success on the pruned model over these examples."
            ),
            "difference": number("difference (points)", "%+.1f", "Pruned minus dense."),
            "low": number("from", "%+.1f", "95% bootstrap interval of the difference, lower end."),
            "high": number("to", "%+.1f", "95% bootstrap interval of the difference, upper end."),
            "p_value": number(
                "p", "%.3f", f"{test}: could a difference this large arise by chance?"
            ),
        },
        plain=tests.assign(recipe=examples["recipe"].iloc[0]),
    )
    ui.how_to_read(
        "Pruning changes which examples a model classifies correctly, and so which are attacked. "
        "Here success is compared over the examples that both models classify correctly. "
        "McNemar's test uses those on which the attack succeeded on one model only. The smallest "
        "detectable difference is $2.8\\sqrt{\\psi/n}$, where $\\psi$ is the fraction of such "
        "examples: a smaller one is detected in fewer than 80 of 100 samples. Several seeds of a "
        "model are paired by seed and example; interval and p-value are then a bootstrap over "
        "both."
    )
