"""Take things with you: a pruned model as a folder, cut or as ONNX; the report; all rows; how charts are saved."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import streamlit as st

from pages import _ui
from pages._frame import View
from prune_core.paths import allowed
from prune_core.runs import tables
from prune_core.runs.child_process import ChildProcess

PATIENCE = 900.0  # seconds; a large model's ONNX takes minutes


def offer(view: View) -> None:
    """Choose a model and a form, write it, and read how far its logits are from the checkpoint's."""
    models = [model for model in view.pruned if "prune" in view.job(model).done]
    if not models:
        return
    st.markdown("#### Take a model with you")
    model = _ui.one_model(models, "export-model", "Pruned model", view.dark)
    view.caption_seed("The exported model is that of", [model])
    with st.container(horizontal=True, key="export-forms"):
        help = "Without its dead heads and neurons it is smaller and faster, and loads by prune_core.load(folder)."
        cut = (
            st.toggle("Cut out what is dead", value=True, key="export-cut", help=help)
            if model.structured
            else False
        )
        help = "One file for ONNX Runtime, any batch size and length; checked against the PyTorch logits."
        onnx = st.toggle("Write ONNX too", key="export-onnx", help=help)
        help = "Its weights in int8, a quarter of the size; what the quantisation doctor proposed stays in fp32."
        int8 = onnx and st.toggle("and in int8", key="export-int8", help=help)
    name = (
        re.sub(r"[^\w.]+", "-", f"{view.study} {model.label}{' cut' if cut else ''}")
        .strip("-")
        .lower()
    )
    help = "A new folder on the machine that serves this page."
    folder = st.text_input(
        "Folder", str(view.store.home / "exports" / name), key=f"export-folder-{name}", help=help
    ).strip()
    if not view.store.has_weights(model.job):
        st.caption(
            f"The weights of {model.label} are not kept; they are made again from the seed first, bit for bit."
        )
    asked = st.session_state.get("export")
    not_now = bool(asked and not asked.is_over) or _ui.attempt(allowed, folder) is None
    if st.button("Write the folder", key="export-write", icon=":material/save:", disabled=not_now):
        wanted = [
            word for word, on in (("--shrink", cut), ("--onnx", onnx), ("--int8", int8)) if on
        ]
        st.session_state["export"] = ChildProcess(
            "prune_core", "export", str(model.job), folder, *wanted, patience=PATIENCE
        )
        st.rerun()
    if asked:
        st.fragment(_progress, run_every=None if asked.is_over else 1.0)(asked, not asked.is_over)


def _progress(asked: ChildProcess, waiting: bool) -> None:
    if not asked.is_over:
        st.info(
            "Writing and checking; cutting takes seconds, ONNX about a minute.",
            icon=":material/hourglass_top:",
        )
    elif waiting:
        st.rerun()
    elif said := _ui.attempt(asked.output):
        st.success(said, icon=":material/check:")


def page(view: View) -> None:
    """All that can be taken with you."""
    offer(view)
    st.markdown("#### Take the figures with you")
    with st.container(horizontal=True, vertical_alignment="bottom", key="take-figures"):
        _report(view)
        ids = [job for model in view.models for job in model.jobs]
        st.download_button(
            "All rows as Parquet",
            lambda: tables.zipped(view.store, ids),
            "prunescope-rows.zip",
            key="take-rows",
            icon=":material/table_rows:",
            on_click="ignore",
            help="Every table of the models on view, a file each: read them with pandas.",
        )
        told = {"svg": "SVG, to print", "png": "PNG, to paste"}.__getitem__
        st.selectbox(
            "Charts are saved as",
            ["svg", "png"],
            format_func=told,
            key="image-format",
            persist_state="session",
        )


def _report(view: View) -> None:
    """Show a button that writes the report, then one that downloads it."""
    ids = [str(job) for model in view.models for job in model.jobs]
    key = f"report-{','.join(ids)}"
    if key in st.session_state:
        asked, path = st.session_state[key]
        if asked.is_over and _ui.attempt(asked.output) is not None:
            st.download_button(
                "Save the HTML",
                path.read_bytes(),
                path.name,
                key="save-html",
                icon=":material/download:",
                type="primary",
                on_click="ignore",
            )
            return
        if not asked.is_over:
            st.fragment(_wait, run_every=1.0)(asked)
            return
    help = "One file that opens offline; print it from the browser for a PDF."
    if st.button("Report as HTML", key="make-html", icon=":material/article:", help=help):
        path = Path(tempfile.mkdtemp()) / "prunescope-report.html"
        st.session_state[key] = (
            ChildProcess("prune_core", "report", *ids, "--out", str(path), patience=PATIENCE),
            path,
        )
        st.rerun()


def _wait(asked: ChildProcess) -> None:
    if asked.is_over:
        st.rerun()
    st.markdown(":gray[Report as HTML …]")
