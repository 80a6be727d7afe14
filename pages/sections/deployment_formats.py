"""The exported formats of both models, and the cost of int8 by weight matrix."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from prune_core.analysis import evidence
from prune_core.data.metrics import METRICS
from prune_core.store.job import Job
from prune_core.store.store import Store

number = st.column_config.NumberColumn
STATIC = ("ONNX int8 static", "OpenVINO int8")


def page(store: Store, job: Job) -> None:
    """The exported formats of a job and its quantization sensitivity, or how to measure them."""
    _forms(store.rows("formats", [job.id]))
    _doctor(store.rows("quantization", [job.id]), store.rows("repair", [job.id]))


def _forms(found: pd.DataFrame) -> None:
    """Every form's own figures, dense in PyTorch first, beside which all stand."""
    if found.empty:
        told = (
            "run it with the measure **What ships**, which writes ONNX and int8 files of "
            "both models and judges the files themselves."
        )
        st.info(f"Nothing was exported here yet: {told}", icon=":material/info:")
        return
    shares = {"under_attack": 100 * found["under_attack"]} if "under_attack" in found else {}
    scaled = {"latency_p50": 1e3 * found["latency_p50"], **shares}
    _files(
        found.assign(**scaled),
        "forms",
        {
            "model": "Model",
            "form": "Form",
            **_judged(found),
            "under_attack": number("Under DeepWordBug", format="%.1f%%"),
            "latency_p50": number("A batch (ms)", format="%.1f"),
            "speedup": number("Times faster", format="%.2f"),
            "bytes": number("MB", format="%.1f"),
        },
        own=found,
    )
    static = any(form in STATIC for form in found["form"])
    how = (
        "ONNX int8 is dynamic, a scale a column"
        + "; static forms have ranges from the calibration sentences" * static
    )
    st.caption(
        f"n = {found['n'].iloc[0]}. Files run on the CPU, timed in turn with the dense PyTorch "
        f"model; {how}."
    )
    if busy := evidence.disturbance(found):
        command = f"`python -m prune_core remeasure {found['job'].iloc[0]} formats`"
        st.warning(
            f"The times are unreliable: {busy}. On an idle machine, measure again ({command}).",
            icon=":material/warning:",
        )


def _doctor(parts: pd.DataFrame, files: pd.DataFrame) -> None:
    """Which matrices cost int8 its answers, and the file without them."""
    if parts.empty:
        told = (
            "the measure **Quantisation doctor** leaves every matrix in fp32 once, and "
            "proposes which to leave there."
        )
        st.info(f"Does int8 cost too much? {told}", icon=":material/stethoscope:")
        return
    st.markdown("#### What does int8 cost, and where?")
    st.markdown(_told(parts, files))
    _files(
        files,
        "repair",
        {
            "form": "File",
            **_judged(files),
            "own_divergence": number("Divergence (nats)", format="%.4f"),
            "bytes": number("MB", format="%.1f"),
        },
        own=files,
    )
    before = max(files["own_divergence"].iloc[1], 1e-12)
    back = 100 * (1 - parts["divergence"] / before)
    bar = st.column_config.ProgressColumn(
        "Takes back, alone", format="%.0f%%", min_value=0, max_value=100
    )
    shown = parts.assign(back=back.clip(0, 100))[["part", "back", "divergence", "proposed"]]
    columns = {
        "part": "In fp32",
        "back": bar,
        "divergence": number("Divergence then (nats)", format="%.4f"),
        "proposed": "Proposed",
    }
    ui.table(shown, "doctor", columns, plain=parts, height=320)
    st.caption(
        "Divergence is from the model's own answers in fp32 to calibration sentences, without "
        "labels; accuracy is of the evaluation sample."
    )


def _told(parts: pd.DataFrame, files: pd.DataFrame) -> str:
    proposed = parts.loc[parts["proposed"], "part"]
    cost = (
        f"int8 changes {files['own_changed'].iloc[1]:.1%} of the answers to the calibration "
        "sentences"
    )
    if proposed.empty:
        return f"{cost}, and its probabilities hardly differ: **nothing needs to stay in fp32**."
    names = ", ".join(f"`{part}`" for part in proposed[:4]) + f" and {len(proposed) - 4} more" * (
        len(proposed) > 4
    )
    back = 1 - files["own_divergence"].iloc[2] / files["own_divergence"].iloc[1]
    return (
        f"{cost}. **{len(proposed)} of {len(parts)} matrices in fp32 take back {back:.0%} of "
        f"the divergence**: {names}."
    )


def _judged(found: pd.DataFrame) -> dict[str, Any]:
    metric = METRICS[found["metric"].iloc[0]]
    score, apart, same = (
        ("%.1f%%", "%+.1f", "%.1f%%") if metric.share else ("%.3f", "%+.3f", "%.3f")
    )
    return {
        "score": number(metric.title, format=score),
        "difference": number(
            "Points" if metric.share else "Change",
            format=apart,
            help="Against the dense model in PyTorch fp32.",
        ),
        "agreement": number(
            "As dense",
            format=same,
            help="Share of the answers that are those of the dense model in PyTorch fp32.",
        ),
    }


def _files(found: pd.DataFrame, key: str, columns: dict[str, Any], own: pd.DataFrame) -> None:
    shares = ("score", "difference", "agreement") if METRICS[found["metric"].iloc[0]].share else ()
    shown = found.assign(**{name: 100 * found[name] for name in shares}, bytes=found["bytes"] / 1e6)
    ui.table(shown[[name for name in columns if name in shown]], key, columns, plain=own)
