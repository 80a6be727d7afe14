"""Inspect: predictions, attacks, saliency and attention for a text of your own."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import (
    document_search,
    inspect_attack,
    missing_weights,
    text_set,
    word_importance,
)
from pages.widgets import frame, ui
from pages.widgets.inspector import inspector
from prune_core import formatting, plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.plots import palette
from prune_core.store.store import Store

view = frame.view()
# (title, initial text) of each field; the second one is for sentence pairs and question answering
SENTENCE = ("Text", "Not the masterpiece the posters promise, but I left the cinema smiling.")
PAIR = (
    ("First sentence", "The committee will publish its report in the spring."),
    ("Second sentence", "In spring, the report of the committee will be published."),
)
QUESTION = (
    ("Question", "Who paid for the restoration of the old cinema?"),
    (
        "Context",
        "The Rex opened in 1931 and closed fifty years later. After a long campaign the town "
        "council bought the building, but the restoration of the old cinema was paid for by a "
        "retired projectionist, who had won the lottery twice.",
    ),
)
FIELDS = PAIR if view.pairs else (SENTENCE,)
FIELDS = QUESTION if view.task_type.asks_question else FIELDS
VIEWS = ("Predictions", "Attack", "Saliency", "Attention")
ORIGINAL = "original"
# title of the field that may have an original to compare with: the context of a question
CHANGED = FIELDS[1 if view.task_type.asks_question else 0][0]
if not view.models:
    ui.empty(
        view.store,
        "Inspect",
        "**Do the models agree on your text?** Type any text to compare the predictions of the "
        "dense and all pruned models, to attack the text on each of them, and to see the saliency "
        "and attention of its words.",
        key="inspect",
        is_active=view.is_active,
    )


def form() -> tuple[str, str | None, str]:
    """Draw the form. Return the text, the second text or None, and the original or ""."""
    inputs = {}
    first = FIELDS[0][0]
    help = "Any text. Models predict best on texts like those they were fine-tuned on."
    with st.form("sentence-form", border=False):
        for (title, _), initial in zip(FIELDS, initial_texts(), strict=True):
            height = 105 if title == first else 130
            columns = st.columns(2) if title == CHANGED else [st.container()]
            inputs[title] = columns[0].text_area(
                title,
                initial,
                key=_key(title),
                height=height,
                persist_state="session",
                help=help if title == first else None,
            )
            if title == CHANGED:
                inputs[ORIGINAL] = columns[1].text_area(
                    "Original text, for comparison (optional)",
                    key=_key(ORIGINAL),
                    height=height,
                    persist_state="session",
                    help="Paste an adversarial text on the left and its original here to see the "
                    "predictions for both.",
                )
        st.form_submit_button("Predict", key="predict", type="primary", icon=":material/search:")
    text, *pair = (inputs[title].strip() for title, _ in FIELDS)
    return text, pair[0] if pair else None, inputs[ORIGINAL].strip()


def initial_texts() -> list[str]:
    """Return the initial texts: the study's first example, or bundled ones for the demo."""
    if task() == "demo":
        return [initial for _, initial in FIELDS]
    examples = (
        _first_example(str(view.store.home), model.job, view.job(model).done)
        for model in view.models
    )
    return next(filter(None, examples), [initial for _, initial in FIELDS])[: len(FIELDS)]


@st.cache_data(max_entries=64, show_spinner=False)
def _first_example(home: str, job: int, done: tuple[str, ...]) -> list[str]:
    """Text and second text of the first evaluation example; empty without predictions.

    `done`, the finished stages, changes with the rows.
    """
    rows = Store(Path(home)).rows("prediction", [job]) if "accuracy" in done else pd.DataFrame()
    return [] if rows.empty else [str(rows.iloc[0][column]) for column in ("text", "pair")]


def task() -> str:
    """Return the data that the study was run on."""
    return view.job(view.models[0]).experiment["source"]["task"]


def _key(field: str) -> str:
    """Return a field's widget key, which contains the data: other data has other initial texts."""
    return f"text-{field}-{task()}"


def paste(text: str, original: str) -> None:
    """Fill in an adversarial text and its original; call this before the form is drawn."""
    st.session_state[_key(CHANGED)] = text
    st.session_state[_key(ORIGINAL)] = original
    ui.set_choice("inspect-view", VIEWS[0])


def verdict(outputs: dict[ComparedModel, dict]) -> str:
    """State whether the models agree, in one sentence."""
    predictions = {
        model: formatting.prediction_text(output["predictions"][0], ())
        for model, output in outputs.items()
    }
    distinct = set(predictions.values())
    if len(distinct) == 1:
        subject = {1: "The model predicts", 2: "Both models predict"}.get(
            len(predictions), f"All {len(predictions)} models predict"
        )
        return f"{subject} {distinct.pop()}."
    first = next(iter(predictions))  # dense if it is among them
    others = [model.label for model in predictions if predictions[model] != predictions[first]]
    named = "The dense model" if first.is_dense else first.label
    verb = "does" if len(others) == 1 else "do"
    return f"{named} predicts {predictions[first]}; {', '.join(others)} {verb} not."


def change_sentence(outputs: dict[ComparedModel, dict], original: str, text: str) -> str:
    """State which predictions differ between the original and the text, in one sentence."""
    after, before = (
        {
            model: formatting.prediction_text(output["predictions"][index], ())
            for model, output in outputs.items()
        }
        for index in (0, 1)
    )
    changed = [model.label for model in outputs if after[model] != before[model]]
    if original == text:
        return "The two texts are the same."
    if not changed:
        return "The change does not affect any prediction."
    return (
        f"The change affects the prediction of {len(changed)} of "
        f"{formatting.plural(len(outputs), 'model')}: {', '.join(changed)}."
    )


def predictions(outputs: dict[ComparedModel, dict]) -> None:
    """Draw the label probabilities, one bar per model and text."""
    names = next(iter(outputs.values()))["labels"]
    states = (
        ("changed", "original") if len(next(iter(outputs.values()))["predictions"]) == 2 else ("",)
    )
    table = pd.DataFrame(
        [
            {
                "job": model.job,
                "state": state,
                "probabilities": output["probabilities"][states.index(state)],
            }
            for model, output in outputs.items()
            for state in reversed(states)
        ]
    )
    description = "Bars are the probabilities that each model assigns to each label."
    if len(names) == 2 and view.task_type.is_single_label:
        description = (
            "One bar per model, from 50% towards the predicted label; the number is the "
            "probability of that label."
        )
    if len(states) == 2:
        description += " Pale: the original."
    ui.chart(
        "What does each model predict?",
        description,
        plots.probability_bars(
            table, list(outputs), names, dark=view.dark, exclusive=view.task_type.is_single_label
        ),
        key="inspect",
    )
    formula = (
        "softmax of the logits, $p_i=e^{z_i}/\\sum_j e^{z_j}$"
        if view.task_type.is_single_label
        else "sigmoid of each logit, as labels are independent"
    )
    ui.how_to_read(
        f"Probabilities are the {formula}. They are a model's confidence, not its accuracy. A bar "
        "that crosses the middle is a changed prediction; a shorter bar on the same side is lower "
        "confidence."
    )


def scores(outputs: dict[ComparedModel, dict]) -> None:
    """Show the scores of regression models and their differences from the dense one."""
    dense = next(
        (output["predictions"][0] for model, output in outputs.items() if model.is_dense),
        float("nan"),
    )
    rows = [
        {
            "model": model.label,
            "score": output["predictions"][0],
            "difference": output["predictions"][0] - dense,
            "original": output["predictions"][1] if output["predictions"][1:] else None,
        }
        for model, output in outputs.items()
    ]
    number = st.column_config.NumberColumn
    columns: dict[str, Any] = {
        "model": "Model",
        "score": number("Score", format="%.2f"),
        "difference": number("Difference from dense", format="%+.2f"),
        "original": number("Score of the original", format="%.2f"),
    }
    hidden = {"difference": formatting.missing(dense), "original": rows[0]["original"] is None}
    columns |= {name: None for name, is_hidden in hidden.items() if is_hidden}
    ui.table(pd.DataFrame(rows), "predictions", columns)


def answers(outputs: dict[ComparedModel, dict], text: str) -> None:
    """Show every model's answer, and two of them underlined in the text."""
    for model, output in outputs.items():
        st.markdown(
            ui.model_label(model, view.dark) + f": "
            f"{ui.escape(formatting.prediction_text(output['predictions'][0], ()))} "
            f"· probability {formatting.percent(output['probabilities'][0][0])}"
            + "".join(
                f" · in the original: {ui.escape(formatting.prediction_text(span, ()))}"
                for span in output["predictions"][1:]
            )
        )
    model = ui.one_model(list(outputs), "inspect-model", "In the text", dark=view.dark)
    marked = dict.fromkeys([next(iter(outputs)), model])
    st.html(
        ui.underlined(
            text,
            [
                (outputs[other]["predictions"][0], palette.color(other, view.dark))
                for other in marked
            ],
        )
    )
    st.caption(
        f"Underlined in each model's color: {' and '.join(other.label for other in marked)}."
    )


def entities(outputs: dict[ComparedModel, dict], text: str) -> None:
    """Mark the entities that the first and one other model predict in the text."""
    models = list(outputs)
    other = None
    if models[1:]:
        other = ui.one_model(
            models[1:], "inspect-model", f"Compare {models[0].label} with", dark=view.dark
        )
    for model in filter(None, (models[0], other)):
        st.markdown(
            ui.model_label(model, view.dark) + f": {ui.escape(outputs[model]['predictions'][0])}"
        )
        st.html(ui.tagged(text.split(), outputs[model]["tags"][0], palette.color(model, view.dark)))
    shown = pd.DataFrame(
        {"word": text.split(), **{model.label: outputs[model]["tags"][0] for model in models}}
    )
    with st.expander("Labels by word", icon=":material/table:"):
        ui.table(shown, "tags", {})


if document_search.is_available(view):
    st.title("Inspect", anchor=False)
    view.caption_seed("This page uses the weights of")
    document_search.section(view, inspector(str(view.store.home)))
    st.stop()
for (title, _), example in zip(FIELDS, st.session_state.pop("inspect-texts", ()), strict=False):
    st.session_state[_key(title)] = example or ""
st.title("Inspect", anchor=False)
view.caption_seed("This page uses the weights of")
client = inspector(str(view.store.home))
text, pair, original = form()
if not text or pair == "":
    st.info("Enter a text first." if pair is None else "Fill in both fields.")
    st.stop()
models = missing_weights.saved_models(view, view.models)
pooling = view.job(view.models[0]).experiment.get("pooling", "")
checkpoints = {model: view.store.checkpoint(view.job(model)) for model in models}
texts: list[str] = [text]
pairs: list[Any] | None = None if pair is None else [pair]
if original:
    if view.task_type.asks_question:
        texts, pairs = [text] * 2, [pair, original]
    else:
        texts, pairs = [text, original], pairs and pairs * 2
with st.spinner("Predicting (models are loaded once, a few seconds) …", show_time=True):
    paths = [checkpoints[model] for model in models]
    results = ui.run_action(client.predict, paths, texts, pairs, pooling)
if results is None:
    st.stop()
outputs = {}
for model, output in zip(models, results, strict=True):
    if "error" in output:
        st.error(f"{model.label}: {output['error']}")
    else:
        outputs[model] = output
if not outputs:
    st.stop()
changed = pair if pair is not None and view.task_type.asks_question else text
sentences = [verdict(outputs)]
if original:
    sentences.append(change_sentence(outputs, original, changed))
ui.takeaway(" ".join(sentences))
if original:
    st.html(ui.marked_words(original, changed))
if view.task_type.is_single_label:
    text_set.offer(
        view.store, text, pair, view.label_names, source="entered on Inspect", key="typed"
    )
subject = word_importance.Subject(
    client, {model: checkpoints[model] for model in outputs}, text, pair=pair, pooling=pooling
)
shown = ui.choice_widget(
    st.segmented_control, "inspect-view", VIEWS, default=VIEWS[0], label="Show"
)
if shown == VIEWS[1]:
    inspect_attack.section(view, subject, outputs, paste=paste)
elif shown == VIEWS[2]:
    word_importance.gradients(view, subject)
elif shown == VIEWS[3]:
    word_importance.attention(view, subject)
else:
    displays = {
        "probabilities": lambda: predictions(outputs),
        "scores": lambda: scores(outputs),
        "answers": lambda: answers(outputs, pair or ""),
        "entities": lambda: entities(outputs, text),
    }
    displays[view.task_type.display]()
st.caption(
    f"Inference took {formatting.seconds(sum(output['seconds'] for output in outputs.values()))} "
    f"for {formatting.plural(len(outputs), 'model')}."
)
