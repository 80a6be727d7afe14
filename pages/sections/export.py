"""Export a pruned model, the report and the rows of the selected models."""

import re
import tempfile
from pathlib import Path

import streamlit as st

from pages.widgets import child_process, ui
from pages.widgets.frame import View
from prune_core.experiments.export import ROTATION
from prune_core.measures import MEASURES
from prune_core.paths import resolve_allowed
from prune_core.store import parquet

TIMEOUT = 900.0  # seconds; the ONNX export of a large model takes minutes
IMAGE_FORMATS = {"svg": "SVG (vector)", "png": "PNG (pixels)"}


def page(view: View) -> None:
    """Draw both sections: the model, then the results."""
    _model(view)
    st.markdown("#### Export the results")
    with st.container(horizontal=True, vertical_alignment="bottom", key="export-results"):
        _report(view)
        st.download_button(
            "All rows as Parquet",
            lambda: parquet.zipped(view.store, view.runs),
            "prunescope-rows.zip",
            key="export-rows",
            icon=":material/table_rows:",
            on_click="ignore",
            help="All tables of the selected models, one file per table; read them with pandas.",
        )
        st.selectbox(
            "Image format of charts",
            list(IMAGE_FORMATS),
            format_func=IMAGE_FORMATS.__getitem__,
            key="image-format",
            persist_state="session",
        )


def _model(view: View) -> None:
    """Draw the choice of model and format, write the export and show its deviation in logits."""
    jobs = {model: view.job(model) for model in view.pruned}
    models = [model for model, job in jobs.items() if "prune" in job.done and not job.is_candidate]
    if not models:
        return
    st.markdown("#### Export a model")
    model = ui.one_model(models, "export-model", "Pruned model", dark=view.dark)
    view.caption_seed("The exported model is that of", [model])
    with st.container(horizontal=True, key="export-formats"):
        compact = model.structured and st.toggle(
            "Remove pruned heads and neurons",
            value=True,
            key="export-compact",
            help="A smaller and faster model, loaded by `prune_core.load(folder)`.",
        )
        onnx = st.toggle(
            "Export to ONNX",
            key="export-onnx",
            help="One file for ONNX Runtime, for any batch size and length; verified against the "
            "PyTorch logits.",
        )
        int8 = onnx and st.toggle(
            "Quantize to int8",
            key="export-int8",
            help="A quarter of the size; matrices proposed by the measure "
            f"{MEASURES['quantization'].title} stay in fp32.",
        )
        align = ROTATION in view.store.tables(model.job) and st.toggle(
            "Rotate queries to the old index",
            key="export-align",
            help="Embeddings in the space of the dense model's index, for queries only: documents "
            "must not be embedded with this model.",
        )
    name = f"{view.study} {model.label}{' compact' if compact else ''}"
    name += " rotated" if align else ""
    name = re.sub(r"[^\w.]+", "-", name).strip("-").lower()
    folder = st.text_input(
        "Folder",
        str(view.store.home / "exports" / name),
        key=f"export-folder-{name}",
        help="A new folder on the machine that serves this page.",
    ).strip()
    if not view.store.has_weights(model.job):
        st.caption(
            f"The weights of {model.label} were not saved: the model is first pruned again from "
            "its seed, which gives identical weights."
        )
    is_allowed = ui.run_action(resolve_allowed, folder) is not None
    if st.button(
        "Export",
        key="export-write",
        icon=":material/save:",
        disabled=child_process.is_running("export") or not is_allowed,
    ):
        flags = {
            "--shrink": compact,
            "--onnx": onnx,
            "--int8": int8,
            "--align": align,
        }
        child_process.start(
            "export",
            "export",
            str(model.job),
            folder,
            *(flag for flag, is_set in flags.items() if is_set),
            timeout=TIMEOUT,
        )
    child_process.show(
        "export",
        "Exporting and verifying; ONNX takes about a minute.",
        lambda output: st.success(output, icon=":material/check:"),
    )


def _report(view: View) -> None:
    """Draw a button that writes the HTML report, or the download of the written one."""
    ids = [str(job) for job in view.runs]
    key = f"report-{'-'.join(ids)}"
    if "report-folder" not in st.session_state:
        st.session_state["report-folder"] = Path(tempfile.mkdtemp(prefix="prunescope-"))
    path = st.session_state["report-folder"] / f"prunescope-{key}.html"
    if path.exists() and not child_process.is_running(key):
        st.download_button(
            "Save the report",
            path.read_bytes(),
            path.name,
            key="save-html",
            icon=":material/download:",
            type="primary",
            on_click="ignore",
        )
    elif not child_process.is_running(key) and st.button(
        "Report as HTML",
        key="make-html",
        icon=":material/article:",
        help="A single file that works offline and can be printed.",
    ):
        child_process.start(key, "report", *ids, "--out", str(path), timeout=TIMEOUT)
    child_process.show(key, "Writing the report …", lambda _: None)
