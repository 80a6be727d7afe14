"""Vocabulary: how many tokens your texts need, and a checkpoint with only these."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import table_upload
from pages.widgets import child_process, frame, ui
from pages.widgets.frame import View
from prune_core import formatting, plots
from prune_core.paths import resolve_allowed

ABOUT = (
    "In multilingual encoders most parameters are token embeddings. A trimmed checkpoint keeps "
    "only the tokens that your texts need: same outputs for these texts, a fraction of the size. "
    "Trim before or after pruning."
)
MEASURING, WRITING = "vocabulary-measuring", "vocabulary-writing"  # keys of child processes
TIMEOUT = 3600.0  # seconds


def form(view: View) -> list[str]:
    """Draw checkpoint, texts and options; return the arguments of `trim`, [] without texts."""
    left, right = st.columns(2, gap="medium")
    with right:
        texts = table_upload.file(view.store, "vocabulary-")
    checkpoint = left.text_input(
        "Checkpoint",
        "minilm",
        key="vocabulary-checkpoint",
        help="`demo`, `minilm`, a local folder or a Hub id; also one exported after pruning.",
        persist_state="session",
    ).strip()
    column = left.text_input(
        "Text column",
        key="vocabulary-text",
        placeholder="by name",
        help="Of a table; pairs of texts are both read if their columns have usual names.",
        persist_state="session",
    ).strip()
    with left:
        limit, names = choice_options()
    if not texts or not checkpoint:
        st.info(
            "Upload texts like those that the model will read, or enter the path of a file: "
            "thousands, if possible.",
            icon=":material/table_rows:",
        )
        return []
    options = {"--text": column, "--scripts": names, "--max-ratio": f"{limit:g}"}
    flags = [part for flag, value in options.items() if value for part in (flag, value)]
    return [checkpoint, "--texts", texts, *flags]


def choice_options() -> tuple[float, str]:
    """Draw and return the largest ratio of tokens and the scripts."""
    left, right = st.columns(2)
    limit = left.number_input(
        "Largest ratio of tokens",
        1.0,
        3.0,
        1.01,
        step=0.01,
        key="vocabulary-ratio",
        help="Tokens per held-out text, relative to the full vocabulary. The smallest vocabulary "
        "whose 95% interval is below is chosen.",
        persist_state="session",
    )
    names = right.text_input(
        "Scripts",
        key="vocabulary-scripts",
        placeholder="those of the texts",
        help="Scripts whose single characters are kept, such as Latin,Greek.",
        persist_state="session",
    ).strip()
    return limit, names


def results(view: View, arguments: list[str], result: dict[str, Any]) -> None:
    """Show the measured vocabularies and offer to write a checkpoint with one of them."""
    rows = pd.DataFrame(result["table"])
    full, limit = rows.iloc[-1], float(arguments[arguments.index("--max-ratio") + 1])
    if result["warning"]:
        st.warning(result["warning"], icon=":material/warning:")
    else:
        chosen = rows[rows["chosen"]].iloc[0]
        size = formatting.percent(chosen["parameters"] / full["parameters"])
        ui.takeaway(
            f"{result['vocabulary']:,} of {full['vocabulary']:,} tokens suffice: {size} of the "
            f"parameters, and {chosen['ratio']:.3f} times as many tokens per held-out text (95% "
            f"interval {chosen['ratio_low']:.3f} to {chosen['ratio_high']:.3f})."
        )
    ui.chart(
        "How many tokens are needed?",
        f"{result['held_out']:,} held-out texts of {result['texts']:,}. The dotted line is the "
        "largest accepted ratio, the vertical line the chosen vocabulary; bars are 95% intervals "
        "over texts.",
        plots.vocabulary_sizes(rows, result["vocabulary"], limit, dark=view.dark),
        key="vocabulary",
    )
    table(rows)
    write_form(view, arguments, result)


def table(rows: pd.DataFrame) -> None:
    """Show the vocabularies as a table."""
    number = st.column_config.NumberColumn
    columns = {
        "vocabulary": number("Vocabulary", format="localized"),
        "tokens": number("Tokens per text", format="%.1f"),
        "ratio": number("Ratio", format="%.3f"),
        "unchanged": number("Texts unchanged", format="percent"),
        "parameters": number("Parameters, M", format="%.1f"),
        "weight_bytes": number("Weights, MB", format="%.1f"),
        "tokenizer_bytes": number("Tokenizer, MB", format="%.1f"),
    }
    shown = rows[list(columns)].copy()
    shown[["parameters", "weight_bytes", "tokenizer_bytes"]] /= 1e6
    ui.table(shown, "vocabulary-sizes", columns, plain=rows)


def write_form(view: View, arguments: list[str], result: dict[str, Any]) -> None:
    """Draw the form that writes a trimmed checkpoint, and offer the written one for pruning."""
    st.markdown("#### Write the checkpoint")
    left, right = st.columns([1, 2])
    size = left.number_input(
        "Tokens",
        result["always_kept"],
        int(result["table"][-1]["vocabulary"]),
        result["vocabulary"],
        key="vocabulary-size",
    )
    name = re.sub(r"[^\w.]+", "-", f"{Path(arguments[0]).name} {size}").strip("-").lower()
    folder = right.text_input(
        "Folder",
        str(view.store.home / "trimmed" / name),
        key=f"vocabulary-folder-{name}",
        help="A new folder on the machine that serves this page.",
    ).strip()
    is_allowed = ui.run_action(resolve_allowed, folder) is not None
    if st.button(
        "Write the checkpoint",
        key="vocabulary-write",
        icon=":material/save:",
        disabled=child_process.is_running(WRITING) or not is_allowed,
    ):
        st.session_state["vocabulary-written"] = folder
        more = ["--vocabulary", str(size), "--out", folder]
        child_process.start(WRITING, "trim", *arguments, *more, timeout=TIMEOUT)
    child_process.show(WRITING, "Writing and comparing outputs …", written)


def written(output: str) -> None:
    """Report the written checkpoint and offer to prune it."""
    st.success(output.splitlines()[-1], icon=":material/check:")
    if st.button(
        "Prune this checkpoint",
        key="vocabulary-prune",
        type="primary",
        icon=":material/content_cut:",
    ):
        st.session_state["checkpoint"] = st.session_state["vocabulary-written"]
        st.switch_page("pages/prune.py")


view = frame.view()
ui.page_header("Vocabulary", "", ABOUT)
arguments = form(view)
if st.button(
    "Measure vocabularies",
    key="vocabulary-measure",
    type="primary",
    icon=":material/play_arrow:",
    disabled=not arguments or child_process.is_running(MEASURING),
):
    file = Path(tempfile.mkdtemp(prefix="prunescope-")) / "vocabulary.json"
    st.session_state["vocabulary-measured"] = (arguments, file)
    st.session_state.pop(WRITING, None)
    child_process.start(MEASURING, "trim", *arguments, "--json", str(file), timeout=TIMEOUT)
child_process.show(MEASURING, "Reading checkpoint and texts …", lambda _: None)
measured, file = st.session_state.get("vocabulary-measured", ([], Path()))
if file.is_file() and not child_process.is_running(MEASURING):
    results(view, measured, json.loads(file.read_text(encoding="utf-8")))
