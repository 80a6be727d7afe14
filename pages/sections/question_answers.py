"""Answers of question answering models in their context, one question at a time."""

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis.compared_models import ComparedModel
from prune_core.formatting import percent, plural, prediction_text
from prune_core.plots import palette

FILTERS = {"broken": "broken by pruning", "fixed": "fixed by pruning", "all": "all questions"}


def browser(view: View) -> None:
    """Draw the choice of model and question, and the answers in their context."""
    rows = view.first_seed("prediction")
    st.markdown("#### Read the answers")
    view.caption_seed("This section shows")
    model = ui.one_model(view.pruned, "answer-model", "Pruned model", dark=view.dark)
    model_rows = rows[rows["job"] == model.job]
    change = model_rows["pruned_f1"] - model_rows["dense_f1"]
    groups = {"broken": model_rows[change < 0], "fixed": model_rows[change > 0], "all": model_rows}
    group = ui.segments("answer-group", FILTERS, "broken", label="Questions")
    shown = groups[group]
    if shown.empty:
        st.info(f"No question is {FILTERS[group]}: choose another group.")
        return
    st.caption(
        f"{plural(len(shown), 'question')} of {len(model_rows)}; an answer is broken or fixed when "
        "its F1 falls or rises."
    )
    index = st.selectbox(
        "Question",
        range(len(shown)),
        format_func=lambda i: shown["text"].iloc[i],
        key="answer-question",
    )
    row = shown.iloc[index if index < len(shown) else 0]
    # with different evaluation samples, one example number means different questions
    question_rows = rows[(rows["example"] == row["example"]) & (rows["text"] == row["text"])]
    _read(view, question_rows, row, model=model)


def _read(view: View, question_rows: pd.DataFrame, row: pd.Series, model: ComparedModel) -> None:
    dense = next((m for m in view.models if m.is_dense), None)
    color = palette.color(dense, view.dark) if dense else "#888888"
    answers = [("Dense", row["dense"], row["dense_f1"], color)]
    for other in dict.fromkeys((model, *view.pruned)):
        for other_row in question_rows[question_rows["job"] == other.job].to_dict("records"):
            color = palette.color(other, view.dark)
            answers.append((other.label, other_row["pruned"], other_row["pruned_f1"], color))
    st.markdown(
        f"**{ui.escape(row['text'])}**  \nAccepted: {ui.escape(prediction_text(row['label'], ()))}"
    )
    for label, text, f1, color in answers:
        st.markdown(
            f':color[●]{{foreground="{color}"}} **{label}**: '
            f"{ui.escape(prediction_text(text, ()))} · F1 {percent(f1)}"
        )
    st.html(ui.underlined(row["pair"], [(text, color) for _, text, _, color in answers[:2]]))
    st.caption(
        "Underlined in the text: the answers of the dense and the chosen model, in their colors."
    )
