"""Widgets for a policy: its limits, confidence and slices."""

from __future__ import annotations

import streamlit as st

from prune_core import PruneError
from prune_core.analysis import policy
from prune_core.analysis.policy import CRITERIA, Policy


def form(kind: str, metric: str) -> Policy:
    """One row per limit for a task type and metric; limits that are off are left out.

    Raises PruneError if a value is invalid.
    """
    st.markdown("#### Limits")
    rows = st.container()
    with st.expander(
        "Slices, confidence, a policy file", icon=":material/tune:", key="policy-more"
    ):
        _read_file()
        slices = st.text_input(
            "Slices",
            ", ".join(policy.SLICES),
            key="policy-slices",
            help=(
                "length, label, keyword:WORD for texts with a word, column:NAME for a column of "
                "your file; separated by commas"
            ),
            persist_state="session",
        )
        confidence = st.number_input(
            "Confidence (%)",
            51.0,
            99.9,
            value=policy.CONFIDENCE,
            step=1.0,
            format="%g",
            key="policy-confidence",
            persist_state="session",
        )
    with rows:
        limits = _limits(kind, metric)
    return Policy(
        limits, tuple(filter(None, (each.strip() for each in slices.split(",")))), confidence
    )


def _limits(kind: str, metric: str) -> dict[str, float]:
    limits = {}
    asked = {name: each for name, each in CRITERIA.items() if each.applies(kind, metric)}
    for name, each in asked.items():
        switch, number = st.columns([5, 2], vertical_alignment="center")
        title, unit = policy.titled(name, metric), f"{each.unit}, {policy.side(name)}"
        on = switch.toggle(
            f"{title} :small[:gray[{unit}]]",
            each.asked,
            key=f"asked-{name}",
            help=each.help,
            persist_state="session",
        )
        # its limits are the policy's business: it answers with a sentence
        limit = number.number_input(
            f"{title} ({unit})",
            value=each.usual,
            step=5.0 if each.usual >= 50 else 0.5,
            format="%g",
            key=f"limit-{name}",
            label_visibility="collapsed",
            disabled=not on,
            persist_state="session",
        )
        if on:
            limits[name] = float(limit)
    return limits


def _read_file() -> None:
    """A policy file's values into the widgets, which are drawn later."""
    file = st.file_uploader("Read a policy file", ["yaml", "yml"], key="policy-file")
    if file is None:
        return
    try:
        found = policy.parse(file.getvalue().decode("utf-8", errors="replace"), file.name)
    except PruneError as error:
        st.error(str(error))
        return
    if file.file_id == st.session_state.get("policy-seen"):
        return
    told = {f"asked-{name}": name in found.limits for name in CRITERIA} | {
        f"limit-{name}": float(x) for name, x in found.limits.items()
    }
    more = {
        "policy-slices": ", ".join(found.slices),
        "policy-confidence": float(found.confidence),
        "policy-seen": file.file_id,
    }
    st.session_state.update(told | more)
