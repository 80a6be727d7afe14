"""Widgets for a policy: its limits, confidence and slices."""

from collections.abc import Mapping

import streamlit as st

from pages.widgets import ui
from prune_core.analysis.evidence import CONFIDENCE, SLICES
from prune_core.deployment import policy
from prune_core.deployment.policy import Policy
from prune_core.views import CRITERIA


def form(kind: str, metric: str, defaults: Mapping[str, float]) -> Policy:
    """Draw one row per limit for a task type and metric; return the limits that are on.

    `defaults` are the initial limits. Raise PruneError if a value is
    invalid.
    """
    st.markdown("#### Limits")
    rows = st.container()
    with st.expander(
        "Slices, confidence and policy file", icon=":material/tune:", key="policy-options"
    ):
        _read_file()
        slices = st.text_input(
            "Slices",
            ", ".join(SLICES),
            key="policy-slices",
            help=(
                "length, label, keyword:WORD for texts that contain a word, column:NAME for a "
                "column of your file; separated by commas."
            ),
            persist_state="session",
        )
        confidence = st.number_input(
            "Confidence (%)",
            51.0,
            99.9,
            value=CONFIDENCE,
            step=1.0,
            format="%g",
            key="policy-confidence",
            persist_state="session",
        )
    with rows:
        limits = _limits(kind, metric, defaults)
    return Policy(limits, tuple(filter(None, map(str.strip, slices.split(",")))), confidence)


def _limits(kind: str, metric: str, defaults: Mapping[str, float]) -> dict[str, float]:
    limits = {}
    criteria = {
        name: criterion for name, criterion in CRITERIA.items() if criterion.applies(kind, metric)
    }
    for name, criterion in criteria.items():
        switch, number = st.columns([5, 2], vertical_alignment="center")
        title = criterion.title_of(metric)
        unit = f"{criterion.unit}, {criterion.direction}"
        is_on = switch.toggle(
            f"{title} :small[:gray[{unit}]]",
            criterion.is_default(kind, metric),
            key=f"use-limit-{name}",
            help=criterion.help,
            persist_state="session",
        )
        # no limits here: Policy reports invalid values with a message
        limit = number.number_input(
            f"{title} ({unit})",
            value=defaults.get(name, criterion.default),
            step=5.0 if criterion.default >= 50 else 0.5,
            format="%g",
            key=f"limit-{name}",
            label_visibility="collapsed",
            disabled=not is_on,
            persist_state="session",
        )
        if is_on:
            limits[name] = float(limit)
    return limits


def _read_file() -> None:
    """Copy the values of a policy file into the widgets, which are drawn later."""
    file = st.file_uploader("Load a policy file", ["yaml", "yml"], key="policy-file")
    if file is None:
        return
    text = file.getvalue().decode("utf-8", errors="replace")
    loaded = ui.run_action(policy.parse, text, file.name)
    if loaded is None or file.file_id == st.session_state.get("policy-seen"):
        return
    limits = {f"use-limit-{name}": name in loaded.limits for name in CRITERIA} | {
        f"limit-{name}": float(value) for name, value in loaded.limits.items()
    }
    st.session_state.update(
        {
            **limits,
            "policy-slices": ", ".join(loaded.slices),
            "policy-confidence": float(loaded.confidence),
            "policy-seen": file.file_id,
            "policy-test-sets": (loaded.test_sets, loaded.combine),
        }
    )
