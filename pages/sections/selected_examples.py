"""The examples selected on any page: one in detail, or a group compared with the rest."""

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
    """Draw the selected example in detail, or compare the selected group with the rest."""
    if not view.examples or warn_if_ambiguous(view, view.first_seed("prediction")):
        return
    with st.container(border=True, key="selected-examples"):
        view.caption_seed("This section shows")
        if len(view.examples) == 1:
            _one(view, view.examples[0])
        else:
            _group(view, model, view.examples)


def warn_if_ambiguous(view: View, rows: pd.DataFrame) -> bool:
    """Warn and return True if models number the selected examples differently."""
    if not example_groups.is_ambiguous(rows, view.examples):
        return False
    st.warning(
        "The selected models were evaluated on different samples, in which the selected example "
        "numbers refer to different texts. Select models with the same seed and evaluation size.",
        icon=":material/warning:",
    )
    return True


def _one(view: View, example: int) -> None:
    """Show an example's text, all predictions and the outcomes of attacks."""
    rows, attacks = view.first_seed("prediction"), view.first_seed("attack_example")
    example_rows = rows[rows["example"] == example] if len(rows) else rows
    if example_rows.empty:
        st.info(
            "The predictions for this example were not saved: add the measure Accuracy to the "
            "study.",
            icon=":material/info:",
        )
        return
    first, names = example_rows.iloc[0], view.label_names
    st.markdown(f"#### {ui.escape(str(first['text']))}")
    if isinstance(first["pair"], str):
        st.markdown(ui.escape(first["pair"]))
    st.caption(
        f"Example {example + 1}; label: {formatting.prediction_text(first['label'], names)}."
    )
    table = []
    for model in view.models:
        model_rows = example_rows[example_rows["job"] == model.job]
        if model_rows.empty:
            continue
        row = model_rows.iloc[0]
        entry: dict[str, Any] = {
            "model": model.label,
            "prediction": formatting.prediction_text(row["pruned"], names),
            "confidence": _confidence(row),
        }
        attempts = (
            attacks[(attacks["job"] == model.job) & (attacks["example"] == example)]
            if len(attacks)
            else attacks
        )
        for attempt in attempts.to_dict("records"):
            entry[attempt["recipe"]] = attempt["outcome"]
            if attempt["outcome"] == "success":
                entry[attempt["recipe"]] += f": {attempt['perturbed']}"
        table.append(entry)
    ui.table(pd.DataFrame(table), "selected-example", {"confidence": ui.percent_bar("confidence")})
    if st.button("Inspect this example", key="inspect-example", icon=":material/search:"):
        st.session_state["inspect-texts"] = (first["text"], first["pair"])
        st.switch_page("pages/inspect.py")


def _confidence(row: pd.Series) -> float | None:
    probabilities = row["pruned_probabilities"]
    return 100 * max(probabilities) if isinstance(probabilities, list) and probabilities else None


def _group(view: View, model: ComparedModel, examples: Sequence[int]) -> None:
    """Compare accuracy and attack success of a group with the rest, and list its texts."""
    rows, attacks = view.first_seed("prediction"), view.first_seed("attack_example")
    model_rows = rows[rows["job"] == model.job] if len(rows) else rows
    attempts = attacks[attacks["job"] == model.job] if len(attacks) else attacks
    st.markdown(
        f"#### {formatting.plural(len(examples), 'example')} compared with the rest, {model.label}"
    )
    attacked = {
        f"success of {name}": contrast
        for name, contrast in example_groups.attack_succeeded(attempts, examples).items()
    }
    contrasts = {"accuracy": example_groups.is_correct(model_rows, examples)} | attacked
    for name, contrast in contrasts.items():
        if contrast is not None:
            st.markdown(f"- {_describe(name, contrast)}")
    if not any(contrasts.values()):
        st.caption("There are no labels and no attacks to compare this group with the rest.")
    if len(model_rows):
        inside = model_rows[model_rows["example"].isin(list(examples))]
        ui.table(
            ui.readable_labels(inside[["text", "label", "dense", "pruned"]], view.label_names),
            "selected-group",
            {"text": st.column_config.TextColumn("text", width="large")},
            plain=inside,
            height=240,
        )


def _describe(name: str, contrast: Contrast) -> str:
    """Return a line with both fractions, their difference with interval, and the p-value."""
    return (
        f"**{name[0].upper()}{name[1:]}**: {formatting.percent(contrast.inside)} of {contrast.n} "
        f"inside, {formatting.percent(contrast.outside)} of {contrast.n_outside} outside; "
        f"{formatting.points(contrast.inside - contrast.outside)} (95% interval "
        f"{formatting.signed(100 * contrast.low)} to {formatting.signed(100 * contrast.high)}, "
        f"Fisher {formatting.p_value(contrast.p_value)})"
    )
