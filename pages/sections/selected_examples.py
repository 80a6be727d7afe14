"""The examples selected on any page: one in detail, or a group compared with the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import formatting
from prune_core.analysis import example_groups
from prune_core.analysis.compared_models import ComparedModel
from prune_core.analysis.example_groups import Contrast


def panel(view: View, model: ComparedModel) -> None:
    """One example read closely, or a group against the rest."""
    if not view.examples:
        return
    if warn_if_ambiguous(view, view.first_seed("prediction")):
        return
    with st.container(border=True, key="chosen-examples"):
        view.caption_seed("This section shows")
        if len(view.examples) == 1:
            _one(view, view.examples[0])
        else:
            _group(view, model, view.examples)


def warn_if_ambiguous(view: View, rows: pd.DataFrame) -> bool:
    """Whether the models on view number the selected examples differently; if so, say so."""
    if not example_groups.is_ambiguous(rows, view.examples):
        return False
    st.warning(
        "The models on view were evaluated on different samples, in which the selected example "
        "numbers are different texts. Choose models with the same seed and evaluation size.",
        icon=":material/warning:",
    )
    return True


def _one(view: View, example: int) -> None:
    """Its text, what every model says, and what the attacks made of it."""
    rows, attacks = view.first_seed("prediction"), view.first_seed("attack_example")
    own = rows[rows["example"] == example] if len(rows) else rows
    if own.empty:
        st.info(
            "This example's predictions were not kept: add the measure Accuracy to the study.",
            icon=":material/info:",
        )
        return
    first, names = own.iloc[0], view.label_names
    st.markdown(f"#### {ui.escape(str(first['text']))}")
    if isinstance(first["pair"], str):
        st.markdown(ui.escape(first["pair"]))
    st.caption(
        f"Example {example + 1}; right is {formatting.prediction_text(first['label'], names)}."
    )
    table = []
    for model in view.models:
        mine = own[own["job"] == model.job]
        if mine.empty:
            continue
        row = mine.iloc[0]
        line: dict[str, Any] = {
            "model": model.label,
            "says": formatting.prediction_text(row["pruned"], names),
            "sure": _sure(row),
        }
        tried = (
            attacks[(attacks["job"] == model.job) & (attacks["example"] == example)]
            if len(attacks)
            else attacks
        )
        for each in tried.to_dict("records"):
            line[each["recipe"]] = (
                f"{each['outcome']}: {each['perturbed']}"
                if each["outcome"] == "success"
                else each["outcome"]
            )
        table.append(line)
    sure = ui.percent_bar("sure")
    ui.table(pd.DataFrame(table), "chosen-example", {"sure": sure})
    if st.button("Inspect this example", key="inspect-example", icon=":material/search:"):
        st.session_state["inspect-texts"] = (first["text"], first["pair"])
        st.switch_page("pages/inspect.py")


def _sure(row: pd.Series) -> float | None:
    probabilities = row["pruned_probabilities"]
    return 100 * max(probabilities) if isinstance(probabilities, list) and probabilities else None


def _group(view: View, model: ComparedModel, examples: Sequence[int]) -> None:
    """Accuracy and attack success inside and outside, and the texts."""
    rows, attacks = view.first_seed("prediction"), view.first_seed("attack_example")
    mine = rows[rows["job"] == model.job] if len(rows) else rows
    tried = attacks[attacks["job"] == model.job] if len(attacks) else attacks
    st.markdown(
        f"#### {formatting.plural(len(examples), 'example')} against the rest, on {model.label}"
    )
    attacked = {
        f"success of {name}": each
        for name, each in example_groups.attack_succeeded(tried, examples).items()
    }
    found = {"accuracy": example_groups.is_correct(mine, examples)} | attacked
    for name, each in found.items():
        if each is not None:
            st.markdown(f"- {_told(name, each)}")
    if not any(found.values()):
        st.caption("Neither labels nor attacks tell this group from the rest.")
    if len(mine):
        inside = mine[mine["example"].isin(list(examples))]
        shown = ui.readable_labels(inside[["text", "label", "dense", "pruned"]], view.label_names)
        ui.table(
            shown,
            "chosen-group",
            {"text": st.column_config.TextColumn("text", width="large")},
            plain=inside,
            height=240,
        )


def _told(name: str, each: Contrast) -> str:
    """A contrast in words: both fractions, their difference with interval, and the p-value."""
    return (
        f"**{name[0].upper()}{name[1:]}**: {formatting.percent(each.inside)} of {each.n} inside, "
        f"{formatting.percent(each.outside)} of {each.n_outside} outside; "
        f"{formatting.points(each.inside - each.outside)} (95% interval "
        f"{formatting.signed(100 * each.low)} to {formatting.signed(100 * each.high)}, Fisher "
        f"{formatting.p_value(each.p_value)})"
    )
