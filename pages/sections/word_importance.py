"""Saliency and attention of the words of a text, for two models on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.plots.palette import DIVERGING, DIVERGING_DARK, mix, readable_on
from prune_core.processes.inspector_client import Inspector

METHODS = {"product": "gradient × input", "norm": "gradient norm"}
MEAN = "mean"


@dataclass(frozen=True)
class Subject:
    """A text and the models that predicted it."""

    client: Inspector
    checkpoints: dict[ComparedModel, str]  # dense first
    text: str
    pair: str | None
    pooling: str = ""  # of an encoder without a head


def gradients(view: View, subject: Subject) -> None:
    """Draw the words of the text colored by their saliency for the prediction."""
    if reason := view.task_type.not_explained:
        st.info(
            f"{reason}, so there is no single output to explain. Use Attention for these models.",
            icon=":material/info:",
        )
        return
    models = _choose_two(view, subject)
    method = ui.segments("saliency", METHODS, "product", label="Saliency by")
    results = _call(
        models,
        subject.client.saliency,
        [subject.checkpoints[model] for model in models],
        subject.text,
        subject.pair,
    )
    if not results:
        return
    st.markdown("#### Which words does the prediction depend on?")
    words = next(iter(results.values()))["words"]
    _word_lines(
        [
            (
                model,
                result[method],
                f"prediction: {result['label']}, logit {result['logit']:.2f}",
            )
            for model, result in results.items()
        ],
        words,
        method == "product",
        style=".3f",
        dark=view.dark,
    )
    if len(results) == 2:
        first, second = (pd.Series(result[method]) for result in results.values())
        st.caption(
            "Spearman rank correlation between the two models' saliencies: "
            f"{first.corr(second, method='spearman'):.2f} over {len(first)} words (1: same order, "
            "0: unrelated)."
        )
    ui.how_to_read(
        "The gradient $g$ of the predicted label's logit (or of the score) is taken at the "
        "embedding $x$ of each token of a word and summed over tokens. **Gradient × input**, "
        "$g\\cdot x$: orange words increase the logit as their embedding is scaled up, blue ones "
        "decrease it. **Gradient norm**, $\\lVert g\\rVert_2$: how sensitive the logit is to a "
        "word, without a direction. Both describe the effect of an *infinitesimal* change of an "
        "embedding, not of removing or replacing a word, and not why a prediction is correct or "
        "incorrect. Logits of two models are scaled differently, so compare patterns rather than "
        "magnitudes. [CLS] and [SEP] are special tokens that the tokenizer adds."
    )
    table = pd.DataFrame({"word": words})
    for name, title in METHODS.items():
        for model, result in results.items():
            table[f"{title}, {model.label}"] = result[name]
    with st.expander("Saliency by word", icon=":material/table:"):
        number = st.column_config.NumberColumn(format="%.3f")
        ui.table(table, "saliency", dict.fromkeys(table.columns[1:], number))


def attention(view: View, subject: Subject) -> None:
    """Draw the attention of [CLS] as colored words, and the map of a head or of the mean."""
    models = _choose_two(view, subject)
    checkpoints = [subject.checkpoints[model] for model in models]
    request = partial(subject.client.attention, pooling=subject.pooling)
    overview = _call(models, request, checkpoints, subject.text, subject.pair, None, None)
    if not overview:
        return
    layer = next(iter(overview.values()))
    with st.container(horizontal=True, vertical_alignment="bottom", key="attention-choices"):
        blocks = {number: str(number) for number in range(1, layer["block_count"] + 1)}
        block = (
            ui.pick("attention-block", blocks, layer["block_count"], label="Layer", width=110) - 1
        )
        titles: dict[Any, str] = {MEAN: "mean over remaining heads"}
        titles |= {number: f"head {number}" for number in range(1, layer["head_count"] + 1)}
        head = ui.pick("attention-head", titles, label="Head", width=230)
    head = None if head == MEAN else head - 1
    results = _call(models, request, checkpoints, subject.text, subject.pair, block, head)
    shown = {model: result for model, result in results.items() if result["weights"]}
    _show_removed(results, block, head)
    if not shown:
        return
    words = next(iter(shown.values()))["words"]
    st.markdown(f"#### What does {words[0]} attend to?")
    _word_lines(
        [(model, result["weights"][0], "") for model, result in shown.items()],
        words,
        False,
        style=".1%",
        dark=view.dark,
    )
    ui.chart(
        "What do the other words attend to?",
        "Each row is a word, its cells are the percentages of its attention to each word; rows add "
        "up to 100%.",
        plots.attention_maps(
            [(model, result["weights"]) for model, result in shown.items()], words, view.dark
        ),
        key="attention",
    )
    ui.how_to_read(
        "The attention weights $\\operatorname{softmax}(qk^\\top/\\sqrt d)$ are those with which "
        "a head combines the values of all words; the weights of a word's tokens are summed. The "
        f"classifier uses the state of {words[0]} after the last layer. High attention does *not* "
        "imply that a word determines the prediction: its value may be small, later layers combine "
        "states again, and many heads attend mainly to [SEP]."
    )


def _show_removed(results: dict[ComparedModel, dict], block: int, head: int | None) -> None:
    """Show which heads of the layer are removed in each model."""
    for model, result in results.items():
        head_count = result["head_count"]
        removed = sorted(set(range(head_count)) - set(result["heads"]))
        if not result["heads"]:
            st.info(f"{model.label}: all {head_count} heads of layer {block + 1} are removed.")
        elif not result["weights"] and head is not None:
            st.info(
                f"{model.label}: head {head + 1} of layer {block + 1} is removed. "
                f"Remaining: {_format_heads(result['heads'])}."
            )
        elif removed:
            st.caption(
                f"{model.label}: {len(removed)} of {head_count} heads of layer {block + 1} are "
                f"removed ({_format_heads(removed)})."
            )


def _choose_two(view: View, subject: Subject) -> list[ComparedModel]:
    """Return the first model (dense, if selected) and a second one chosen by the user."""
    models = list(subject.checkpoints)
    if len(models) < 2:
        return models
    return [
        models[0],
        ui.one_model(
            models[1:], "inspect-second-model", f"Compare {models[0].label} with", dark=view.dark
        ),
    ]


def _call(
    models: list[ComparedModel], function: object, *arguments: object
) -> dict[ComparedModel, dict]:
    """Call a function of the inspector; return its results by model and show errors."""
    results = ui.run_action(function, *arguments) or []  # type: ignore[arg-type]
    for model, result in zip(models, results, strict=bool(results)):
        if "error" in result:
            st.error(f"{model.label}: {result['error']}")
    return {
        model: result
        for model, result in zip(models, results, strict=bool(results))
        if "error" not in result
    }


def _format_heads(heads: Sequence[int]) -> str:
    return ", ".join(str(head + 1) for head in heads)


def _word_lines(
    lines: Sequence[tuple[ComparedModel, Sequence[float], str]],
    words: Sequence[str],
    signed: bool,
    style: str,
    dark: bool,
) -> None:
    """Draw one line of colored words per model, all on one scale, and the scale."""
    top = max((abs(value) for _, values, _ in lines for value in values), default=0.0) or 1.0
    for model, values, note in lines:
        st.markdown(ui.model_label(model, dark, f" · {ui.escape(note)}" if note else ""))
        spans = [
            f'<span title="{ui.escape(word)}: {value:{style}}" '
            f'style="background:{(color := _color(value / top, dark))};'
            f'color:{readable_on(color)}">{ui.escape(word)}</span>'
            for word, value in zip(words, values, strict=True)
        ]
        st.html(f'<p class="sentence colored">{" ".join(spans)}</p>')
    stops = [-1.0, -0.5, 0.0, 0.5, 1.0] if signed else [0.0, 0.5, 1.0]
    bar = ",".join(_color(stop, dark) for stop in stops)
    ends = (f"−{top:{style}}" if signed else format(0.0, style), format(top, style))
    st.html(
        f'<div class="scale">{ends[0]}<i style="background:linear-gradient(90deg,{bar})"></i>'
        f"{ends[1]} · hover over a word to read its value</div>"
    )


def _color(value: float, dark: bool) -> str:
    """Return the color of a value from -1 to 1."""
    scale = DIVERGING_DARK if dark else DIVERGING
    return mix(scale[2], scale[-1] if value > 0 else scale[0], abs(value))
