"""Export a pruned model: as an ordinary folder, cut to what is left of it, or as ONNX; written by a process of its own."""

from __future__ import annotations

import re

import streamlit as st

from pages import _ui
from pages._frame import View
from prune_core.runs.child_process import ChildProcess

PATIENCE = 900.0  # seconds; a large model's ONNX takes minutes


def offer(view: View) -> None:
    """Choose a model and a form, write it, and read how far its logits are from the checkpoint's."""
    models = [model for model in view.pruned if "prune" in view.job(model).done]
    if not models:
        return
    st.markdown("#### Take a model with you")
    model = _ui.one_model(models, "export-model", "Pruned model", view.dark)
    with st.container(horizontal=True, key="export-forms"):
        help = "Without its dead heads and neurons it is smaller and faster, and loads by prune_core.load(folder)."
        cut = st.toggle("Cut out what is dead", value=True, key="export-cut", help=help) if model.structured else False
        help = "One file for ONNX Runtime, any batch size and length; checked against the PyTorch logits."
        onnx = st.toggle("Write ONNX too", key="export-onnx", help=help)
    name = re.sub(r"[^\w.]+", "-", f"{view.study} {model.label}{' cut' if cut else ''}").strip("-").lower()
    help = "A new folder on the machine that serves this page."
    folder = st.text_input("Folder", str(view.store.home / "exports" / name), key=f"export-folder-{name}", help=help).strip()
    if not view.store.has_weights(model.job):
        st.caption(f"The weights of {model.label} are not kept; they are made again from the seed first, bit for bit.")
    asked = st.session_state.get("export")
    if st.button("Write the folder", key="export-write", icon=":material/save:", disabled=bool(asked and not asked.is_over)):
        wanted = [word for word, on in (("--shrink", cut), ("--onnx", onnx)) if on]
        st.session_state["export"] = ChildProcess("prune_core", "export", str(model.job), folder, *wanted, patience=PATIENCE)
        st.rerun()
    if asked:
        st.fragment(_progress, run_every=None if asked.is_over else 1.0)(asked, not asked.is_over)


def _progress(asked: ChildProcess, waiting: bool) -> None:
    if not asked.is_over:
        st.info("Writing and checking; cutting takes seconds, ONNX about a minute.", icon=":material/hourglass_top:")
    elif waiting:
        st.rerun()
    elif said := _ui.attempt(asked.output):
        st.success(said, icon=":material/check:")
