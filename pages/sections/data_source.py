"""Step 1 of the Prune page: checkpoint and data, with a preview and the dense accuracy."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import data_check, label_order, table_upload
from pages.sections.table_upload import FILE, HUB
from pages.widgets import ui
from prune_core import PruneError, formatting
from prune_core.analysis.quantities import headline
from prune_core.data import examples, tables, tasks
from prune_core.data.known_tasks import KNOWN_TASKS
from prune_core.experiments import adversarial_calibration
from prune_core.models.checkpoints import folders
from prune_core.processes.dataset_preview import DatasetPreview
from prune_core.store.store import Store

TITLES = {
    "demo": "Demo film reviews",
    FILE: "A file of your own (csv, json, parquet, Excel, …)",
    HUB: "A data set of the Hub, by its id",
}
TITLES |= {name: known.title for name, known in KNOWN_TASKS.items()}
CALIBRATIONS = {
    "data": "Sentences of the data",
    "attacked": "Attacked sentences: those with which a job's attacks flipped the model",
    "attacked+clean": "Half of each: the attacked sentences, and the same ones as they were",
    "file": "A file of your own",
}


FOUND = (
    "What was used before, what the Hub's cache holds, and what lies under the folders that "
    "PRUNESCOPE_MODELS names."
)


def data_source_form(store: Store) -> dict[str, Any]:
    """Checkpoint, data and sample sizes as keys of a sweep; `task` is "" until data can be read.

    Also `found`, the result of the data check (None if there is none yet), and the task type
    `kind` ("" if unknown).
    """
    left, right = st.columns(2, gap="medium")
    with left:
        plan: dict[str, Any] = {"checkpoint": _checkpoint(store)}
        task = st.selectbox(
            "Data",
            list(TITLES),
            format_func=TITLES.__getitem__,
            key="task",
            persist_state="session",
        )
        plan["task"] = table_upload.file(store, "") if task == FILE else task
        plan |= _hub_id() if task == HUB else {}
        plan["bad_rows"] = st.session_state.get(f"bad_rows-{plan['task']}", "")
        plan |= _sizes()
        plan["calibration"] = _calibration(store)
    with right:
        if task == FILE:
            plan |= table_upload.rows(str(plan["task"]))
        elif task == "demo":
            table_upload.select_first_table(
                tasks.table_of(examples.DataSource()).rows[["label", "text"]]
            )
        elif plan["task"]:
            _hub_rows(str(plan["task"]), str(plan.get("config", "")), str(plan.get("split", "")))
        if plan["task"] and plan["calibration"]:
            plan |= _with_attacked(store, plan)
    told: dict[str, Any] = {"found": None, "kind": ""}
    if plan["task"] and plan["calibration"] is not None:
        told = data_check.panel(plan)
        plan["labels"] = told.pop("labels")
        with right:
            _dense_accuracy(store, plan)
    return (plan if plan["calibration"] is not None else plan | {"task": ""}) | told


def _checkpoint(store: Store) -> str:
    """A name to type, or one of those found here."""
    help = (
        "`demo`, a local Hugging Face folder (a Trainer's output too), or a Hub id of a "
        "fine-tuned BERT, DistilBERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, MPNet, ALBERT, DeBERTa "
        "v2/v3 or ModernBERT."
    )
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    named = left.text_input(
        "Checkpoint (the fine-tuned model to prune)",
        "demo",
        key="checkpoint",
        help=help,
        persist_state="session",
    ).strip()
    used = [str(job.experiment["checkpoint"]) for job in reversed(store.jobs())]
    offered = list(dict.fromkeys([*folders.BUNDLED, *used, *_known()]))

    def take() -> None:
        if found := st.session_state["checkpoint-found"]:
            st.session_state["checkpoint"] = found

    right.selectbox(
        "or one found here",
        offered,
        None,
        key="checkpoint-found",
        on_change=take,
        placeholder="choose",
        help=FOUND,
    )
    return named or "demo"


@st.cache_data(show_spinner=False, ttl=60)
def _known() -> list[str]:
    return folders.known_checkpoints()


def _hub_id() -> dict[str, Any]:
    """Id, configuration, split and columns of any data set; no task as long as it has no id."""
    places = st.columns(3)
    found = {
        "task": places[0]
        .text_input("Id", key="hub-id", placeholder="owner/name", persist_state="session")
        .strip(),
        "config": places[1]
        .text_input(
            "Configuration", key="hub-config", placeholder="the only one", persist_state="session"
        )
        .strip(),
        "split": places[2]
        .text_input(
            "Split to evaluate on",
            key="hub-split",
            placeholder="validation or test",
            persist_state="session",
        )
        .strip(),
    }
    places = st.columns(3)
    for place, name, title in zip(
        places,
        ("text", "text_pair", "label"),
        ("Text column", "Second text", "Label column"),
        strict=True,
    ):
        found[name] = place.text_input(
            title, key=f"hub-{name}", placeholder="by its name", persist_state="session"
        ).strip()
    return found


def _sizes() -> dict[str, Any]:
    places = st.columns(3)
    calibration = places[0].number_input(
        "Calibration sentences",
        1,
        100_000,
        value=256,
        step=64,
        key="calibration",
        help="Shown to the methods that look at activations; labels are not used.",
        persist_state="session",
    )
    evaluation = places[1].number_input(
        "Evaluation (0 = all)",
        0,
        1_000_000,
        value=0,
        step=100,
        key="evaluation",
        help="Sentences that every model is measured on.",
        persist_state="session",
    )
    least = places[2].number_input(
        "Least tokens",
        0,
        512,
        value=None,
        step=1,
        key="min_words",
        help=(
            "Least length of a calibration text, in tokens of the model. Empty: nine where "
            "enough of them have as many, else any."
        ),
        placeholder="auto",
        persist_state="session",
    )
    return {"calibration_size": calibration, "evaluation_size": evaluation, "min_words": least}


def _calibration(store: Store) -> str | None:
    """The calibration data: "" for the task's own, a path, or job:ID; None if unreadable."""
    with st.expander("Calibrate on other sentences", icon=":material/tune:", key="own-calibration"):
        kind = st.radio(
            "Calibrate on",
            list(CALIBRATIONS),
            format_func=CALIBRATIONS.__getitem__,
            key="calibrate-on",
            persist_state="session",
        )
        if kind.startswith("attacked"):
            return _attacked(store, "+clean" if kind == "attacked+clean" else "")
        if kind == "data":
            return ""
        st.caption("With the same columns as the data. Only Kwon et al. read its labels.")
        path = table_upload.file(store, "calibration-")
        found = ui.run_action(tables.read, path) if path else None
        if found is not None:
            st.caption(f"{len(found.rows):,} rows: {', '.join(found.rows.columns)}.")
    return path if found is not None or not path else None


def _attacked(store: Store, clean: str) -> str | None:
    """job:ID of a job whose attacks flipped sentences."""
    known = {
        job.id: f"job {job.id}: {job.label}, study {job.study}"
        for job in store.jobs()
        if "attack" in job.done
    }
    if not known:
        st.info(
            "No study has attacked a model yet: run one with the measure Attack success first.",
            icon=":material/info:",
        )
        return None
    job = st.selectbox(
        "Attacks of",
        list(known),
        format_func=known.__getitem__,
        key="attacked-job",
        persist_state="session",
    )
    return f"job:{job}{clean}"


def _with_attacked(store: Store, plan: dict[str, Any]) -> dict[str, Any]:
    """Resolve adversarial calibration to a file; warn if the plan evaluates on its examples."""
    source = examples.DataSource(
        **{name: str(plan.get(name, "")) for name in examples.DataSource.__dataclass_fields__}
    )
    if adversarial_calibration.check_leakage(store, source):
        st.warning(adversarial_calibration.LEAK, icon=":material/warning:")
    found = ui.run_action(adversarial_calibration.resolve, store, source)
    return {"calibration": found.calibration} if found else {"task": ""}


@st.cache_resource(show_spinner=False, max_entries=32)
def _peek(*what: str) -> DatasetPreview:
    return DatasetPreview(*what)


def _hub_rows(task: str, config: str, split: str) -> None:
    """The first rows of a Hub data set, fetched by another process."""
    peek = _peek(task, config, split)
    waiting = not peek.is_over
    title = KNOWN_TASKS[task].title if task in KNOWN_TASKS else task

    def show() -> None:
        if not peek.is_over:
            st.caption(f"Asking the Hub for five rows of {title} …")
            st.skeleton(height=210)
        elif waiting:
            st.rerun()
        else:
            try:
                rows = pd.DataFrame(peek.rows())
                table_upload.select_first_table(
                    rows[sorted(rows, key=lambda name: name != "label")], title
                )
            except PruneError as error:
                st.warning(str(error), icon=":material/cloud_off:")
                if st.button("Ask again", key="peek-again", icon=":material/refresh:"):
                    _peek.clear()
                    st.rerun()

    st.fragment(show, run_every=1.0 if waiting else None)()


def _dense_accuracy(store: Store, plan: dict[str, Any]) -> None:
    """What the dense model reaches on this data, where a study has measured it."""
    wanted = data_check.of_plan(
        plan
    )  # an experiment of the same data, which writes paths as stored ones do
    known = [
        job
        for job in store.jobs()
        if "accuracy" in job.done
        and not job.experiment.get("method")
        and job.experiment["checkpoint"] == wanted.checkpoint
        and examples.DataSource(**job.experiment["source"]) == wanted.source
    ]
    if not known:
        st.caption(
            "The dense model has not been measured on this data yet; the study does that first."
        )
        return
    row = store.rows("accuracy", [known[-1].id]).iloc[0]
    figure, _ = headline(row["metric"])
    st.markdown(
        f"**The dense model reaches {figure.show(row['score'])} "
        f"{formatting.inline(figure.title)}** on {row['n']} evaluation examples (95% interval "
        f"{figure.show(row['low'])} to {figure.show(row['high'])}; job {known[-1].id})."
    )
    label_order.offer(store, known[-1], "take")
