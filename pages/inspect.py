"""Inspect: type a sentence, a pair or a question with its text; see what every model on view makes of it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages import _frame, _ui
from prune_core import formatting, plots
from prune_core.inspect import Predictor
from prune_core.palette import Model

view = _frame.view()
# what the fields are called, and what stands in them at first; the second field is for pairs and for questions
SENTENCE = ("A sentence", "Not the masterpiece the posters promise, but I left the cinema smiling.")
PAIR = (
    ("First sentence", "The committee will publish its report in the spring."),
    ("Second sentence", "In spring, the report of the committee will be published."),
)
QUESTION = (
    ("A question", "Who paid for the restoration of the old cinema?"),
    (
        "The text that answers it",
        "The Rex opened in 1931 and closed fifty years later. After a long campaign the town council bought the building, but the "
        "restoration of the old cinema was paid for by a retired projectionist, who had won the lottery twice.",
    ),
)
if not view.models:
    _ui.empty(
        view.store,
        "Inspect",
        "**Do the models agree on your sentence?** Type any sentence and this page shows the prediction of the dense and of every "
        "pruned model side by side, and where they part.",
        "inspect",
        view.waiting,
    )


@st.cache_resource(show_spinner=False, max_entries=1, on_release=Predictor.close)
def predictor(home: str) -> Predictor:
    """The process that keeps the models loaded; started when the page is first opened."""
    from pathlib import Path

    asking = Predictor(Path(home) / "workers" / "inspect.log")
    asking.start()
    return asking


def checkpoint(model: Model) -> str:
    """Where a model's weights are."""
    job = view.job(model)
    return str(view.store.folder(job.id) / "checkpoint") if job.experiment.get("method") else job.experiment["checkpoint"]


def form() -> tuple[str, str | None]:
    """The text, and the second one where the study's examples have two."""
    first, second = QUESTION if view.kind == "span" else PAIR if view.pairs else (SENTENCE, None)
    with st.form("sentence-form", border=False):
        help = "Anything you like; a model knows most about texts like those it was fine-tuned on."
        # the field's name in the keys: another kind of study starts with its own text
        text = st.text_area(first[0], first[1], key=f"text-{first[0]}", height=80, persist_state="session", help=help)
        pair = st.text_area(second[0], second[1], key=f"text-{second[0]}", height=130, persist_state="session") if second else None
        st.form_submit_button("Ask the models", key="predict", type="primary", icon=":material/search:")
    return text.strip(), pair if pair is None else pair.strip()


def verdict(told: dict[Model, dict]) -> str:
    """Who says what, in one sentence."""
    said = {model.label: formatting.answer(answer["said"][0], ()) for model, answer in told.items()}
    kinds = set(said.values())
    if len(kinds) == 1:
        return f"All {len(said)} models say {kinds.pop()}." if len(said) > 1 else f"The model says {kinds.pop()}."
    reference = said.get("Dense", next(iter(said.values())))
    others = [label for label, word in said.items() if word != reference]
    return f"The dense model says {reference}; {', '.join(others)} {'says' if len(others) == 1 else 'say'} otherwise."


def predictions(told: dict[Model, dict]) -> None:
    """Labels: a bar a model, and the probabilities as a table."""
    names = next(iter(told.values()))["labels"]
    table = pd.DataFrame([{"job": model.job, "state": "", "probabilities": answer["probabilities"][0]} for model, answer in told.items()])
    _ui.chart(
        "What does each model make of it?",
        "One bar a model, growing from the undecided middle towards the label it prefers; its figure is the probability of that label."
        if len(names) == 2
        else "Bars are the probabilities each model gives to each label.",
        plots.probability_bars(table, list(told), names, view.dark),
        "inspect",
    )
    _ui.how_to_read(
        "Probabilities are the softmax of the classifier's outputs, $p_i=e^{z_i}/\\sum_j e^{z_j}$; they say how sure a model is of "
        "itself, not how often it is right. A bar that crosses the middle is a changed prediction; a shorter bar on the same side is "
        "lost confidence."
    )
    shown = [
        {"model": model.label, **{name: 100 * p for name, p in zip(names, answer["probabilities"][0], strict=True)}}
        for model, answer in told.items()
    ]
    bars = {name: st.column_config.ProgressColumn(f"{name} (probability)", format="%.1f%%", min_value=0, max_value=100) for name in names}
    _ui.table(pd.DataFrame(shown), "predictions", {"model": "Model", **bars})


def scores(told: dict[Model, dict]) -> None:
    """Scores: one figure a model, and how far it is from the dense model's."""
    dense = next((answer["said"][0] for model, answer in told.items() if model.is_dense), float("nan"))
    rows = [{"model": model.label, "score": answer["said"][0], "difference": answer["said"][0] - dense} for model, answer in told.items()]
    columns = {
        "model": "Model",
        "score": st.column_config.NumberColumn("Score", format="%.2f"),
        "difference": st.column_config.NumberColumn("Difference from dense", format="%+.2f"),
    }
    _ui.table(pd.DataFrame(rows), "predictions", columns)


def answers(told: dict[Model, dict], text: str) -> None:
    """Answers: every model's, and the dense and the last model's in place."""
    for model, answer in told.items():
        st.markdown(
            f':color[●]{{foreground="{model.color(view.dark)}"}} **{model.label}**: {_ui.escape(formatting.answer(answer["said"][0], ()))} '
            f"· probability {formatting.percent(answer['probabilities'][0][0])}"
        )
    model = _ui.one_model(list(told), "inspect-model", "In the text", view.dark)
    marked = dict.fromkeys([next(iter(told)), model])
    st.html(_ui.underlined(text, [(told[each]["said"][0], each.color(view.dark)) for each in marked]))
    st.caption(f"Underlined in each model's colour: {' and '.join(each.label for each in marked)}.")


st.title("Inspect", anchor=False)
asking = predictor(str(view.store.home))
text, pair = form()
if not text or pair == "":
    st.info("Type a sentence first." if pair is None else "Both fields need a text.")
    st.stop()
models = [
    model for model in view.models if not view.job(model).experiment.get("method") or (view.store.folder(model.job) / "checkpoint").is_dir()
]
with st.spinner("Asking the models (the first time loads them, a few seconds) …", show_time=True):
    found = _ui.attempt(asking.predict, [checkpoint(model) for model in models], [text], None if pair is None else [pair])
if found is None:
    st.stop()
told = {model: answer for model, answer in zip(models, found, strict=True) if "error" not in answer}
for model, answer in zip(models, found, strict=True):
    if "error" in answer:
        st.error(f"{model.label}: {answer['error']}")
if not told:
    st.stop()
st.html(f'<div class="takeaway">{_ui.escape(verdict(told))}</div>')
if view.kind == "span":
    answers(told, pair or "")
elif view.kind == "regression":
    scores(told)
else:
    predictions(told)
took = sum(answer["seconds"] for answer in told.values())
st.caption(f"Answered in {formatting.seconds(took)}, {formatting.plural(len(told), 'model')}.")
