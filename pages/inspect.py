"""Inspect: type a sentence, see what every model on view makes of it."""

import pandas as pd
import streamlit as st

from pages import _frame, _ui
from prune_core import formatting, plots
from prune_core.inspect import Predictor
from prune_core.palette import Model

view = _frame.view()
EXAMPLES = (
    "Not the masterpiece the posters promise, but I left the cinema smiling.",
    "Two hours of beautiful pictures in search of a reason to exist.",
    "The jokes are old, the plot is older, and I laughed all the same.",
)
if not view.models:
    _ui.empty(
        view.store,
        "Inspect",
        "**Do the models agree on your sentence?** Type any sentence and this page shows the prediction of the dense and of every "
        "pruned model "
        "side by side, and where they part.",
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


def verdict(answers: dict[str, dict], names: list[str]) -> str:
    """Who says what, in one sentence."""
    said = {label: names[max(range(len(names)), key=answer["probabilities"][0].__getitem__)] for label, answer in answers.items()}
    kinds = set(said.values())
    if len(kinds) == 1:
        return f"All {len(said)} models say {kinds.pop()}." if len(said) > 1 else f"The model says {kinds.pop()}."
    reference = said.get("Dense", next(iter(said.values())))
    others = [label for label, word in said.items() if word != reference]
    return f"The dense model says {reference}; {', '.join(others)} {'says' if len(others) == 1 else 'say'} otherwise."


st.title("Inspect", anchor=False)
asking = predictor(str(view.store.home))
with st.form("sentence-form", border=False):
    text = st.text_area(
        "A sentence",
        value=EXAMPLES[0],
        key="sentence",
        height=80,
        persist_state="session",
        help="Anything you like; the demo checkpoint was fine-tuned on film-review sentences.",
    )
    asked = st.form_submit_button("Predict", key="predict", type="primary", icon=":material/search:")
if view.kind == "span":
    st.info("These models find answers in a text; their answers to the study's questions are on the Compare page.")
    st.stop()
if not text.strip():
    st.info("Type a sentence first.")
    st.stop()
models = [
    model for model in view.models if not view.job(model).experiment.get("method") or (view.store.folder(model.job) / "checkpoint").is_dir()
]
with st.spinner("Asking the models (the first time loads them, a few seconds) …", show_time=True):
    answers = _ui.attempt(asking.predict, [checkpoint(model) for model in models], [text.strip()])
if answers is None:
    st.stop()
told = {model.label: answer for model, answer in zip(models, answers, strict=True) if "error" not in answer}
for model, answer in zip(models, answers, strict=True):
    if "error" in answer:
        st.error(f"{model.label}: {answer['error']}")
if not told:
    st.stop()
names = next(iter(told.values()))["labels"]
st.html(f'<div class="takeaway">{_ui.escape(verdict(told, names))}</div>')
by_label = {model.label: model for model in models}
table = pd.DataFrame(
    [{"job": by_label[label].job, "state": "", "probabilities": answer["probabilities"][0]} for label, answer in told.items()]
)
_ui.chart(
    "What does each model make of it?",
    "One bar a model, growing from the undecided middle towards the label it prefers; its figure is the probability of that label."
    if len(names) == 2
    else "Bars are the probabilities each model gives to each label.",
    plots.probability_bars(table, models, names, view.dark),
    "inspect",
)
_ui.how_to_read(
    "Probabilities are the softmax of the classifier's outputs, $p_i=e^{z_i}/\\sum_j e^{z_j}$; they say how sure a model is of "
    "itself, not how often it is "
    "right. A bar that crosses the middle is a changed prediction; a shorter bar on the same side is lost confidence."
)
shown = pd.DataFrame(
    [
        {"model": label, **{name: 100 * p for name, p in zip(names, answer["probabilities"][0], strict=True)}}
        for label, answer in told.items()
    ]
)
bars = {name: st.column_config.ProgressColumn(f"{name} (probability)", format="%.1f%%", min_value=0, max_value=100) for name in names}
_ui.table(shown, "predictions", {"model": "Model", **bars})
st.caption(
    f"Answered in {formatting.seconds(sum(answer['seconds'] for answer in told.values()))}, {formatting.plural(len(told), 'model')}."
)
