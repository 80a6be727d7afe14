"""Saliency and attention of the words of a text, for two models on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.plots import palette
from prune_core.plots.palette import DIVERGING, DIVERGING_DARK, mix, readable_on
from prune_core.processes.inspector_client import Inspector

ACCOUNTS = {"product": "gradient × input", "norm": "gradient norm"}
MEAN = "mean"


@dataclass(frozen=True)
class Subject:
    """The text on view, and who is asked about it."""

    asking: Inspector
    checkpoints: dict[ComparedModel, str]  # of the models that answered, dense first
    text: str
    pair: str | None


def gradients(view: View, subject: Subject) -> None:
    """The words of the text, coloured by what the prediction owes to each."""
    if view.kind in ("span", "token"):
        why = (
            "an answer has two ends" if view.kind == "span" else "every word has a label of its own"
        )
        st.info(
            f"Saliency explains one figure, and {why}; for these models look at Attention.",
            icon=":material/info:",
        )
        return
    models = _two(view, subject)
    account = ui.segments("saliency", ACCOUNTS, "product", label="Saliency by")
    found = _asked(
        models,
        subject.asking.saliency,
        [subject.checkpoints[model] for model in models],
        subject.text,
        subject.pair,
    )
    if not found:
        return
    st.markdown("#### Which words does the prediction hang on?")

    def said(told: dict[str, Any]) -> str:
        return (
            f"{'gives a' if told['label'] == 'score' else 'says'} {told['label']}, logit "
            f"{told['logit']:.2f}"
        )

    words = next(iter(found.values()))["words"]
    _lines(
        [(model, told[account], said(told)) for model, told in found.items()],
        words,
        account == "product",
        style=".3f",
        dark=view.dark,
    )
    if len(found) == 2:
        first, second = (pd.Series(told[account]) for told in found.values())
        st.caption(
            "Order of the words by this figure, dense against pruned: rank correlation "
            f"{first.corr(second, method='spearman'):.2f} over {len(first)} words (1: the same "
            "order, 0: none in common)."
        )
    ui.how_to_read(
        "The gradient $g$ of the predicted label's logit (or of the score) is taken at the "
        "embedding $x$ of each piece of a word, and the pieces are summed. **Gradient × input**, "
        "$g\\cdot x$: orange words pull the logit up as their embedding grows, blue ones pull it "
        "down. **Gradient norm**, $\\lVert g\\rVert_2$: how much the logit moves with a word at "
        "all, without a direction. Both say how the model would answer to a *tiny* change of an "
        "embedding. They do not say what happens when a word is taken away or replaced, nor why "
        "the model is right or wrong; logits of two models are scaled differently, so compare "
        "patterns first and sizes second. [CLS] and [SEP] are marks that the model itself puts "
        "around a text."
    )
    table = pd.DataFrame({"word": words})
    for name, title in ACCOUNTS.items():
        for model, told in found.items():
            table[f"{title}, {model.label}"] = told[name]
    with st.expander("Saliency by word", icon=":material/table:"):
        number = st.column_config.NumberColumn(format="%.3f")
        ui.table(table, "saliency", dict.fromkeys(table.columns[1:], number))


def attention(view: View, subject: Subject) -> None:
    """What [CLS] attends to, as coloured words, and the whole map of a head or of the mean."""
    models = _two(view, subject)
    checkpoints = [subject.checkpoints[model] for model in models]
    shape = _asked(
        models, subject.asking.attention, checkpoints, subject.text, subject.pair, None, None
    )
    if not shape:
        return
    known = next(iter(shape.values()))
    with st.container(horizontal=True, vertical_alignment="bottom", key="attention-choices"):
        blocks = {number: str(number) for number in range(1, known["blocks"] + 1)}
        block = ui.pick("attention-block", blocks, known["blocks"], label="Block", width=110) - 1
        titles: dict[Any, str] = {MEAN: "mean over the heads left"}
        titles |= {number: f"head {number}" for number in range(1, known["of"] + 1)}
        head = ui.pick("attention-head", titles, label="Head", width=230)
    head = None if head == MEAN else head - 1
    found = _asked(
        models, subject.asking.attention, checkpoints, subject.text, subject.pair, block, head
    )
    there = {model: told for model, told in found.items() if told["weights"]}
    _tell_removed(found, block, head)
    if not there:
        return
    words = next(iter(there.values()))["words"]
    st.markdown(f"#### What does {words[0]} attend to?")
    _lines(
        [(model, told["weights"][0], "") for model, told in there.items()],
        words,
        False,
        style=".1%",
        dark=view.dark,
    )
    ui.chart(
        "And every other word?",
        "A row is a word, its cells are the shares of its attention that go to each word; every "
        "row adds up to 100%.",
        plots.attention_maps(
            [(model, told["weights"]) for model, told in there.items()], words, view.dark
        ),
        key="attention",
    )
    ui.how_to_read(
        "Attention $\\operatorname{softmax}(qk^\\top/\\sqrt d)$ is how a head mixes what the "
        "words say into each word's next state; a word of several pieces gets their sum. The "
        f"prediction is read off {words[0]} after the last block. High attention does *not* say "
        "that a word decided the prediction: what is mixed may be small, and later blocks mix "
        "again; many heads park their attention on [SEP]."
    )


def _tell_removed(found: dict[ComparedModel, dict], block: int, head: int | None) -> None:
    """Say which heads of the layer are removed in each model."""
    for model, told in found.items():
        removed = sorted(set(range(told["of"])) - set(told["heads"]))
        if not told["heads"]:
            st.info(f"{model.label}: all {told['of']} heads of block {block + 1} are removed.")
        elif not told["weights"] and head is not None:
            st.info(
                f"{model.label}: head {head + 1} of block {block + 1} is removed. "
                f"Left: {_listed(told['heads'])}."
            )
        elif removed:
            st.caption(
                f"{model.label}: {len(removed)} of {told['of']} heads of block {block + 1} are "
                f"removed ({_listed(removed)})."
            )


def _two(view: View, subject: Subject) -> list[ComparedModel]:
    """The first model, which is dense where it is on view, and one to set beside it."""
    models = list(subject.checkpoints)
    if len(models) < 2:
        return models
    return [
        models[0],
        ui.one_model(models[1:], "inspect-beside", f"Beside {models[0].label}", dark=view.dark),
    ]


def _asked(
    models: list[ComparedModel], ask: object, *question: object
) -> dict[ComparedModel, dict]:
    """The answers by model; what went wrong is shown."""
    found = ui.run_action(ask, *question) or []  # type: ignore[arg-type]
    for model, told in zip(models, found, strict=bool(found)):
        if "error" in told:
            st.error(f"{model.label}: {told['error']}")
    return {
        model: told for model, told in zip(models, found, strict=bool(found)) if "error" not in told
    }


def _listed(heads: Sequence[int]) -> str:
    return ", ".join(str(head + 1) for head in heads)


def _lines(
    told: Sequence[tuple[ComparedModel, Sequence[float], str]],
    words: Sequence[str],
    signed: bool,
    style: str,
    dark: bool,
) -> None:
    """A line of coloured words a model, all on one scale, and the scale."""
    top = max((abs(value) for _, values, _ in told for value in values), default=0.0) or 1.0
    for model, values, note in told:
        st.markdown(
            f':color[●]{{foreground="{palette.color(model, dark)}"}} '
            f"**{model.label}**{' · ' * bool(note)}{ui.escape(note)}"
        )
        spans = [
            f'<span title="{ui.escape(word)}: {value:{style}}" '
            f'style="background:{(color := _color(value / top, dark))};'
            f'color:{readable_on(color)}">{ui.escape(word)}</span>'
            for word, value in zip(words, values, strict=True)
        ]
        st.html(f'<p class="sentence coloured">{" ".join(spans)}</p>')
    stops = [-1.0, -0.5, 0.0, 0.5, 1.0] if signed else [0.0, 0.5, 1.0]
    bar = ",".join(_color(stop, dark) for stop in stops)
    ends = (f"−{top:{style}}" if signed else format(0.0, style), format(top, style))
    ramp = f'<i style="background:linear-gradient(90deg,{bar})"></i>'
    st.html(
        f'<div class="scale">{ends[0]}{ramp}{ends[1]} · point at a word to read its figure</div>'
    )


def _color(share: float, dark: bool) -> str:
    """Of a value from -1 to 1."""
    scale = DIVERGING_DARK if dark else DIVERGING
    return mix(scale[2], scale[-1] if share > 0 else scale[0], abs(share))
