"""Answers of a question answering model, one question at a time, in their context."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis.compared_models import ComparedModel
from prune_core.formatting import percent, plural, prediction_text
from prune_core.plots import palette

FILTERS = {"broken": "broken by pruning", "fixed": "fixed by pruning", "all": "all questions"}


def browser(view: View) -> None:
    """Choose a pruned model and a type of question, then read one answer in its context."""
    rows = view.first_seed("prediction")
    st.markdown("#### Read the answers")
    view.caption_seed("This section shows")
    model = ui.one_model(view.pruned, "answer-model", "Pruned model", dark=view.dark)
    own = rows[rows["job"] == model.job]
    gap = own["pruned_f1"] - own["dense_f1"]
    picks = {"broken": own[gap < 0], "fixed": own[gap > 0], "all": own}
    which = ui.segments("answers", FILTERS, "broken", label="Questions")
    some = picks[which]
    if some.empty:
        st.info(f"No question is {FILTERS[which]}: choose others.")
        return
    st.caption(
        f"{plural(len(some), 'question')} of {len(own)}; an answer is broken or fixed when its F1 "
        "falls or rises."
    )
    place = st.selectbox(
        "Question",
        range(len(some)),
        format_func=lambda i: some["text"].iloc[i],
        key="answer-question",
    )
    row = some.iloc[place if place < len(some) else 0]
    # models evaluated on different samples give one number to different questions
    same = rows[(rows["example"] == row["example"]) & (rows["text"] == row["text"])]
    _read(view, same, row, model=model)


def _read(view: View, same: pd.DataFrame, row: pd.Series, model: ComparedModel) -> None:
    dense = next((m for m in view.models if m.is_dense), None)
    said = [
        (
            "Dense",
            row["dense"],
            row["dense_f1"],
            palette.color(dense, view.dark) if dense else "#888888",
        )
    ]
    for other in dict.fromkeys((model, *view.pruned)):
        for own in same[same["job"] == other.job].to_dict("records"):
            said.append(
                (other.label, own["pruned"], own["pruned_f1"], palette.color(other, view.dark))
            )
    st.markdown(
        f"**{ui.escape(row['text'])}**  \nAccepted: {ui.escape(prediction_text(row['label'], ()))}"
    )
    for label, text, f1, color in said:
        st.markdown(
            f':color[●]{{foreground="{color}"}} **{label}**: '
            f"{ui.escape(prediction_text(text, ()))} · F1 {percent(f1)}"
        )
    st.html(ui.underlined(row["pair"], [(text, color) for _, text, _, color in said[:2]]))
    st.caption(
        "In the text: underlined in each model's colour where it found its answer (dense, and "
        "the chosen model)."
    )
