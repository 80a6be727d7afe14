"""The first step of the Prune page: checkpoint and data, with five rows to look at and what the dense model reaches."""

import streamlit as st

from pages import _ui
from prune_core import data, formatting
from prune_core.store import Store

KEEP = {"persist_state": "session"}
FILE = "a file of your own"


def what(store: Store) -> dict[str, object]:
    """Checkpoint, data and sample sizes, with five rows to look at."""
    left, right = st.columns(2, gap="medium")
    with left:
        checkpoint = st.text_input(
            "Checkpoint",
            "demo",
            key="checkpoint",
            help="`demo`, a local Hugging Face folder, or a Hub id of a BERT, DistilBERT, RoBERTa or ELECTRA classifier.",
            **KEEP,
        )
        titles = {
            "demo": "Demo film reviews",
            FILE: "A file of your own (.csv, .jsonl, .parquet)",
            **{k: v.title for k, v in data.KNOWN.items()},
        }
        task = st.selectbox("Data", ["demo", FILE, *data.KNOWN], format_func=titles.get, key="task", **KEEP)
        plan: dict[str, object] = {"checkpoint": checkpoint.strip(), "task": task}
        if task == FILE:
            plan["task"] = st.text_input("Path of the file", key="path", placeholder="/data/reviews.csv", **KEEP).strip()
        sizes = st.columns(2)
        plan["calibration_size"] = sizes[0].number_input(
            "Calibration sentences",
            1,
            100_000,
            256,
            64,
            key="calibration",
            help="Shown to the methods that look at activations; labels are not used.",
            **KEEP,
        )
        plan["evaluation_size"] = sizes[1].number_input("Evaluation sentences (0 = all)", 0, 1_000_000, 0, 100, key="evaluation", **KEEP)
    with right:
        plan |= preview(str(plan["task"]), task == FILE)
    dense_accuracy(store, checkpoint.strip(), str(plan["task"]))
    return plan


def preview(task: str, local: bool) -> dict[str, str]:
    """The first five rows; for a file also its columns to choose from."""
    if task not in ("demo", "") and not local:
        st.info("The worker fetches this data set from the Hub, or takes it from the Hub's cache.", icon=":material/cloud_download:")
        return {}
    if not task:
        st.info("Give the file's path to see its first rows.", icon=":material/table_rows:")
        return {}
    table = _ui.attempt(data.read_table, str(data.DEMO) if task == "demo" else task)
    if table is None:
        return {}
    columns = [str(column) for column in table.columns]
    chosen: dict[str, str] = {}
    if local:
        places = st.columns(3)
        text = next((i for i, c in enumerate(columns) if c in ("text", "sentence", "review", "content", "sentence1")), 0)
        label = columns.index("label") if "label" in columns else len(columns) - 1
        chosen["text"] = places[0].selectbox("Text column", columns, text, key=f"text-{task}")
        pair = places[1].selectbox("Second text", ["none", *columns], key=f"pair-{task}")
        chosen["text_pair"] = "" if pair == "none" else pair
        chosen["label"] = places[2].selectbox("Label column", columns, label, key=f"label-{task}")
    shown = table[["text", "label"]] if task == "demo" else table
    st.dataframe(shown.head(5), hide_index=True, width="stretch", key="preview")
    st.caption(f"The first five of {len(table)} rows.")
    return chosen


def dense_accuracy(store: Store, checkpoint: str, task: str) -> None:
    """What the dense model reaches on this data, where a study has measured it."""
    same = [
        job
        for job in store.jobs()
        if not job.experiment.get("method")
        and job.experiment["checkpoint"] == checkpoint
        and job.experiment["source"]["task"] == task
        and "accuracy" in job.done
    ]
    if same:
        row = store.rows("accuracy", [same[-1].id]).iloc[0]
        st.caption(
            f"The dense model gets {formatting.percent(row['accuracy'])} of {row['n']} evaluation sentences right "
            f"(95% interval {formatting.percent(row['low'])} to {formatting.percent(row['high'])})."
        )
