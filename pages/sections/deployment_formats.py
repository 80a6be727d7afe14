"""The exported formats of both models, and the cost of int8 by weight matrix."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from prune_core import formatting
from prune_core.analysis import cost_evidence, exported_files
from prune_core.measures import MEASURES
from prune_core.store.job import Job
from prune_core.store.store import Store
from prune_core.tasks import METRICS

number = st.column_config.NumberColumn
POINTS = " points"  # unit of a column, not of its cells
STATIC = ("ONNX int8 static", "OpenVINO int8")


def page(store: Store, job: Job) -> None:
    """The exported formats of a job and its quantization sensitivity, or how to measure them."""
    _formats(store.rows("formats", [job.id]))
    _sensitivity(store.rows("quantization", [job.id]), store.rows("repair", [job.id]))


def _formats(files: pd.DataFrame) -> None:
    """Show the metrics of every format, with dense PyTorch as the reference in the first row."""
    if files.empty:
        st.info(
            f"No exported formats have been measured: add the measure **{MEASURES['formats'].title}"
            "**, which exports both models to ONNX and int8 and evaluates the files.",
            icon=":material/info:",
        )
        return
    formats_table(files)
    if busy := cost_evidence.disturbance(files):
        st.warning(
            f"The times are unreliable: {busy}. On an idle machine, measure again "
            f"(`python -m prune_core remeasure {files['job'].iloc[0]} formats`).",
            icon=":material/warning:",
        )


def formats_table(files: pd.DataFrame) -> None:
    """Show one row per exported file, and what was measured."""
    scaled = {"latency_p50": 1e3 * files["latency_p50"]}
    if "under_attack" in files:
        scaled["under_attack"] = 100 * files["under_attack"]
    _file_table(
        files.assign(**scaled),
        "formats",
        {
            "model": st.column_config.TextColumn("Model", pinned=True),
            "format": "Format",
            **_score_columns(files),
            "speedup": number("Speed-up", format="%.2f"),
            "bytes": number("MB", format="%.1f"),
            "latency_p50": number("Latency per batch (ms)", format="%.1f"),
            "under_attack": number("Under DeepWordBug", format="%.1f%%"),
        },
        plain=files,
    )
    quantization = "ONNX int8 is dynamic, with one scale per column"
    if files["format"].isin(STATIC).any():
        quantization += "; static formats use ranges from the calibration examples"
    st.caption(
        f"{exported_files.description(files)} Timing alternates with the dense model. "
        f"{quantization}."
    )


def _sensitivity(matrices: pd.DataFrame, files: pd.DataFrame) -> None:
    """Show which matrices are sensitive to int8, and the file that leaves them in fp32."""
    if matrices.empty:
        st.info(
            f"Is int8 too inaccurate? The measure **{MEASURES['quantization'].title}** leaves "
            "each matrix in fp32 in turn and proposes which ones to leave there.",
            icon=":material/stethoscope:",
        )
        return
    st.markdown("#### What does int8 cost, and where?")
    st.markdown(_summary(matrices, files))
    _file_table(
        files,
        "repair",
        {
            "format": "File",
            **_score_columns(files),
            "own_divergence": number("Divergence (nats)", format="%.4f"),
            "bytes": number("MB", format="%.1f"),
        },
        plain=files,
    )
    recovered = 100 * (1 - matrices["divergence"] / max(files["own_divergence"].iloc[1], 1e-12))
    ui.table(
        matrices.assign(back=recovered.clip(0, 100))[["module", "back", "divergence", "proposed"]],
        "quantization",
        {
            "module": "In fp32",
            "back": st.column_config.ProgressColumn(
                "Recovered by it alone", format="%.0f%%", min_value=0, max_value=100
            ),
            "divergence": number("Remaining divergence (nats)", format="%.4f"),
            "proposed": "Proposed",
        },
        plain=matrices,
        height=320,
    )
    st.caption(
        "Divergence from the model's fp32 predictions on the calibration examples; labels are not "
        "used. Accuracy is measured on the evaluation examples."
    )


def _summary(matrices: pd.DataFrame, files: pd.DataFrame) -> str:
    proposed = matrices.loc[matrices["proposed"], "module"]
    effect = (
        f"int8 changes {files['own_changed'].iloc[1]:.1%} of the predictions on the calibration "
        "examples"
    )
    if proposed.empty:
        return f"{effect}, and probabilities hardly differ: **no matrix needs to stay in fp32**."
    names = ", ".join(f"`{name}`" for name in proposed[:4])
    if len(proposed) > 4:
        names += f" and {len(proposed) - 4} more"
    recovered = 1 - files["own_divergence"].iloc[2] / files["own_divergence"].iloc[1]
    return (
        f"{effect}. **{len(proposed)} of {len(matrices)} matrices in fp32 recover {recovered:.0%} "
        f"of the divergence**: {names}."
    )


def _score_columns(files: pd.DataFrame) -> dict[str, Any]:
    metric = METRICS[files["metric"].iloc[0]]
    change, score, difference, agreement = "Change", "%.3f", "%+.3f", "%.3f"
    if metric.share:
        change, score, difference, agreement = "Points", "%.1f%%", "%+.1f", "%.1f%%"
    meaning = "Percentage of predictions equal to those of the dense model in PyTorch fp32."
    if exported_files.is_retrieval(files):
        meaning = "Percentage of the first 10 documents that dense PyTorch fp32 finds, too."
    return {
        "score": number(metric.title, format=score),
        "difference": number(
            change,
            format=difference,
            help="Difference from the dense model in PyTorch fp32.",
        ),
        "interval": "95% interval",
        "agreement": number("Agreement", format=agreement, help=meaning),
    }


def _file_table(
    files: pd.DataFrame, key: str, columns: dict[str, Any], plain: pd.DataFrame
) -> None:
    scaled = {"bytes": files["bytes"] / 1e6}
    is_fraction = METRICS[files["metric"].iloc[0]].share
    if is_fraction:
        scaled |= {name: 100 * files[name] for name in ("score", "difference", "agreement")}
    if "difference_low" in files:
        show = formatting.points if is_fraction else formatting.plain
        ends = ([show(value) for value in files[f"difference_{end}"]] for end in ("low", "high"))
        scaled["interval"] = [
            f"{low.removesuffix(POINTS)} to {high.removesuffix(POINTS)}"
            for low, high in zip(*ends, strict=True)
        ]
    shown = files.assign(**scaled)
    ui.table(shown[[name for name in columns if name in shown]], key, columns, plain=plain)
