"""Inspect: predictions, attacks, saliency and attention for a text of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import inspect_attack, missing_weights, word_importance
from pages.widgets import frame, ui
from pages.widgets.inspector import inspector
from prune_core import formatting, plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.plots import palette
from prune_core.store.store import Store

view = frame.view()
# what the fields are called, and what stands in them at first; the second field is for pairs and
# for questions
SENTENCE = ("A sentence", "Not the masterpiece the posters promise, but I left the cinema smiling.")
PAIR = (
    ("First sentence", "The committee will publish its report in the spring."),
    ("Second sentence", "In spring, the report of the committee will be published."),
)
QUESTION = (
    ("A question", "Who paid for the restoration of the old cinema?"),
    (
        "The text that answers it",
        "The Rex opened in 1931 and closed fifty years later. After a long campaign the town "
        "council bought the building, but the restoration of the old cinema was paid for by a "
        "retired projectionist, who had won the lottery twice.",
    ),
)
FIELDS = PAIR if view.pairs else (SENTENCE,)
FIELDS = QUESTION if view.kind == "span" else FIELDS
VIEWS = ("Predictions", "Attack", "Saliency", "Attention")
ORIGINAL = "original"
CHANGED = FIELDS[view.kind == "span"][0]  # the field whose original may be given
if not view.models:
    ui.empty(
        view.store,
        "Inspect",
        "**Do the models agree on your sentence?** Type any sentence and this page shows the "
        "prediction of the dense and of every pruned model side by side, and where they part; "
        "attacks the sentence on all of them, and shows which words they look at.",
        key="inspect",
        waiting=view.waiting,
    )


def form() -> tuple[str, str | None, str]:
    """The text, the second text or None, and the original of the changed one or ""."""
    typed = {}
    helps = {
        FIELDS[0][
            0
        ]: "Anything you like; a model knows most about texts like those it was fine-tuned on."
    }
    with st.form("sentence-form", border=False):
        for (title, _), start in zip(FIELDS, starts(), strict=True):
            height = 105 if title == FIELDS[0][0] else 130
            beside = st.columns(2) if title == CHANGED else [st.container()]
            typed[title] = beside[0].text_area(
                title,
                start,
                key=_key(title),
                height=height,
                persist_state="session",
                help=helps.get(title),
            )
            if title == CHANGED:
                typed[ORIGINAL] = beside[1].text_area(
                    "Its original, to compare with (optional)",
                    key=_key(ORIGINAL),
                    height=height,
                    persist_state="session",
                    help="Paste an adversarial text on the left and the text it was made from "
                    "here: the predictions for both are shown.",
                )
        st.form_submit_button(
            "Ask the models", key="predict", type="primary", icon=":material/search:"
        )
    text, *pair = (typed[title].strip() for title, _ in FIELDS)
    return text, pair[0] if pair else None, typed[ORIGINAL].strip()


def starts() -> list[str]:
    """Initial texts: the study's first example, or bundled ones for the demo."""
    if task() == "demo":
        return [start for _, start in FIELDS]
    found = (
        _first_example(str(view.store.home), model.job, view.job(model).done)
        for model in view.models
    )
    return next(filter(None, found), [start for _, start in FIELDS])[: len(FIELDS)]


@st.cache_data(max_entries=64, show_spinner=False)
def _first_example(home: str, job: int, done: tuple[str, ...]) -> list[str]:
    """Text and second text of the first evaluation example; empty without predictions.

    `done`, the finished stages, changes with the rows.
    """
    rows = Store(Path(home)).rows("prediction", [job]) if "accuracy" in done else pd.DataFrame()
    return [] if rows.empty else [str(rows.iloc[0][column]) for column in ("text", "pair")]


def task() -> str:
    """The study's data."""
    return view.job(view.models[0]).experiment["source"]["task"]


def _key(field: str) -> str:
    """Of a field, with the data: a study of other texts starts with its own."""
    return f"text-{field}-{task()}"


def paste(text: str, original: str) -> None:
    """Fill in an adversarial text and its original; to be called before the form is drawn."""
    st.session_state[_key(CHANGED)] = text
    st.session_state[_key(ORIGINAL)] = original
    ui.set_choice("inspect-view", VIEWS[0])


def verdict(told: dict[ComparedModel, dict]) -> str:
    """Who says what, in one sentence."""
    said = {
        model: formatting.prediction_text(answer["said"][0], ()) for model, answer in told.items()
    }
    kinds = set(said.values())
    if len(kinds) == 1:
        everyone = {1: "The model says", 2: "Both models say"}.get(
            len(said), f"All {len(said)} models say"
        )
        return f"{everyone} {kinds.pop()}."
    first = next(iter(said))  # the dense one where it is on view
    others = [model.label for model in said if said[model] != said[first]]
    named = "The dense model" if first.is_dense else first.label
    return (
        f"{named} says {said[first]}; {', '.join(others)} "
        f"{'says' if len(others) == 1 else 'say'} otherwise."
    )


def compared(told: dict[ComparedModel, dict], original: str, text: str) -> str:
    """What the change did, in one sentence."""
    now, before = (
        {
            model: formatting.prediction_text(answer["said"][place], ())
            for model, answer in told.items()
        }
        for place in (0, 1)
    )
    turned = [model.label for model in told if now[model] != before[model]]
    if original == text:
        return "The two texts are the same."
    if not turned:
        return f"The change turns none of the {formatting.plural(len(told), 'model')}."
    return (
        f"The change turns {len(turned)} of {formatting.plural(len(told), 'model')}: "
        f"{', '.join(turned)}."
    )


def predictions(told: dict[ComparedModel, dict]) -> None:
    """Labels: a bar a model and text, and the probabilities as a table."""
    names = next(iter(told.values()))["labels"]
    states = ("changed", "original") if len(next(iter(told.values()))["said"]) == 2 else ("",)
    rows = [
        (model, state, answer["probabilities"][states.index(state)])
        for model, answer in told.items()
        for state in reversed(states)
    ]
    table = pd.DataFrame(
        [
            {"job": model.job, "state": state, "probabilities": values}
            for model, state, values in rows
        ]
    )
    looking_at = (
        "One bar a model, growing from the undecided middle towards the label it prefers; its "
        "figure is the probability of that label."
        if len(names) == 2 and view.kind == "classification"
        else "Bars are the probabilities each model gives to each label."
    )
    ui.chart(
        "What does each model make of it?",
        looking_at + " Pale: the original." * (len(states) == 2),
        plots.probability_bars(
            table, list(told), names, dark=view.dark, exclusive=view.kind == "classification"
        ),
        key="inspect",
    )
    outputs = (
        "sigmoid of each output, as labels hold independently"
        if view.kind == "multilabel"
        else ("softmax of the classifier's outputs, $p_i=e^{z_i}/\\sum_j e^{z_j}$")
    )
    ui.how_to_read(
        f"Probabilities are the {outputs}; they say how sure a model is of itself, not how often "
        "it is right. A bar that crosses the middle is a changed prediction; a shorter bar on "
        "the same side is lost confidence."
    )


def scores(told: dict[ComparedModel, dict]) -> None:
    """Scores of a regression model, and their differences from the dense one."""
    dense = next(
        (answer["said"][0] for model, answer in told.items() if model.is_dense), float("nan")
    )
    rows = [
        {
            "model": model.label,
            "score": said[0],
            "difference": said[0] - dense,
            "original": said[-1] if said[1:] else None,
        }
        for model, said in ((model, answer["said"]) for model, answer in told.items())
    ]
    columns = {
        "model": "Model",
        "score": st.column_config.NumberColumn("Score", format="%.2f"),
        "difference": st.column_config.NumberColumn("Difference from dense", format="%+.2f")
        if dense == dense
        else None,
        "original": st.column_config.NumberColumn("Score of the original", format="%.2f")
        if rows[0]["original"] is not None
        else None,
    }
    ui.table(pd.DataFrame(rows), "predictions", columns)


def answers(told: dict[ComparedModel, dict], text: str) -> None:
    """Answers: every model's, and the dense and the last model's in place."""
    for model, answer in told.items():
        st.markdown(
            ui.named(model, view.dark) + f": "
            f"{ui.escape(formatting.prediction_text(answer['said'][0], ()))} "
            f"· probability {formatting.percent(answer['probabilities'][0][0])}"
            + "".join(
                f" · in the original: {ui.escape(formatting.prediction_text(said, ()))}"
                for said in answer["said"][1:]
            )
        )
    model = ui.one_model(list(told), "inspect-model", "In the text", dark=view.dark)
    marked = dict.fromkeys([next(iter(told)), model])
    st.html(
        ui.underlined(
            text, [(told[each]["said"][0], palette.color(each, view.dark)) for each in marked]
        )
    )
    st.caption(f"Underlined in each model's colour: {' and '.join(each.label for each in marked)}.")


def entities(told: dict[ComparedModel, dict], text: str) -> None:
    """Entities in the text: the dense model's, and below them one other model's."""
    models = list(told)
    beside = (
        ui.one_model(models[1:], "inspect-model", f"Beside {models[0].label}", dark=view.dark)
        if models[1:]
        else None
    )
    for model in filter(None, (models[0], beside)):
        st.markdown(ui.named(model, view.dark) + f": {ui.escape(told[model]['said'][0])}")
        st.html(ui.tagged(text.split(), told[model]["tags"][0], palette.color(model, view.dark)))
    shown = pd.DataFrame(
        {"word": text.split(), **{model.label: told[model]["tags"][0] for model in models}}
    )
    with st.expander("Labels, word by word", icon=":material/table:"):
        ui.table(shown, "tags", {})


for (title, _), given in zip(FIELDS, st.session_state.pop("inspect-texts", ()), strict=False):
    st.session_state[_key(title)] = given or ""
st.title("Inspect", anchor=False)
view.caption_seed("This page uses the weights of")
asking = inspector(str(view.store.home))
text, pair, original = form()
if not text or pair == "":
    st.info("Type a sentence first." if pair is None else "Both fields need a text.")
    st.stop()
models = missing_weights.kept(view, view.models)
checkpoints = {model: view.store.checkpoint(view.job(model)) for model in models}
texts: list[str] = [text]
pairs: list[Any] | None = None if pair is None else [pair]
if original:
    texts, pairs = (
        ([text] * 2, [pair, original])
        if view.kind == "span"
        else ([text, original], pairs and pairs * 2)
    )
with st.spinner("Asking the models (the first time loads them, a few seconds) …", show_time=True):
    found = ui.run_action(asking.predict, [checkpoints[model] for model in models], texts, pairs)
if found is None:
    st.stop()
told = {model: answer for model, answer in zip(models, found, strict=True) if "error" not in answer}
for model, answer in zip(models, found, strict=True):
    if "error" in answer:
        st.error(f"{model.label}: {answer['error']}")
if not told:
    st.stop()
changed = pair if pair is not None and view.kind == "span" else text
sentences = [verdict(told), *([compared(told, original, changed)] if original else [])]
st.html(f'<div class="takeaway">{ui.escape(" ".join(sentences))}</div>')
if original:
    st.html(ui.marked_words(original, changed))
subject = word_importance.Subject(
    asking, {model: checkpoints[model] for model in told}, text, pair=pair
)
shown = ui.choice_widget(
    st.segmented_control, "inspect-view", VIEWS, default=VIEWS[0], label="Look at"
)
if shown == VIEWS[1]:
    inspect_attack.section(view, subject, told, paste=paste)
elif shown == VIEWS[2]:
    word_importance.gradients(view, subject)
elif shown == VIEWS[3]:
    word_importance.attention(view, subject)
elif view.kind == "span":
    answers(told, pair or "")
elif view.kind == "regression":
    scores(told)
elif view.kind == "token":
    entities(told, text)
else:
    predictions(told)
took = sum(answer["seconds"] for answer in told.values())
st.caption(f"Answered in {formatting.seconds(took)}, {formatting.plural(len(told), 'model')}.")
