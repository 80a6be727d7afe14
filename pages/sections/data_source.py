"""Step 1 of the Prune page: checkpoint and data, with a preview and the dense accuracy."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import data_check, label_order, table_upload
from pages.sections.table_upload import FILE, HUB
from pages.widgets import forms, ui
from prune_core import PruneError, formatting
from prune_core.analysis.quantities import headline
from prune_core.data import examples, tables
from prune_core.experiments import adversarial_calibration
from prune_core.experiments.settings import RunSettings
from prune_core.models.checkpoints import folders
from prune_core.plugins import option_specs
from prune_core.processes.dataset_preview import DatasetPreview
from prune_core.store.store import Store
from prune_core.tasks import task_data
from prune_core.tasks.known_tasks import KNOWN_TASKS
from prune_core.tasks.task_data import BUNDLED_DATA, GUARD_DEMO, RETRIEVAL_DEMO

TITLES = {
    "demo": "Demo film reviews",
    GUARD_DEMO: "Demo requests with prompt injections, for demo-guard",
    RETRIEVAL_DEMO: "Demo retrieval collection, for embedding models",
    FILE: "Your own file (csv, json, parquet, Excel, …)",
    HUB: "Hub data set, by id",
}
TITLES |= {name: known.title for name, known in KNOWN_TASKS.items()}
# keys of a sweep with a text field for a Hub data set -> placeholder
HUB_FIELDS = {
    "task": "owner/name",
    "config": "default",
    "split": "validation or test",
    **dict.fromkeys(("text", "text_pair", "label"), "by name"),
}
CALIBRATIONS = {
    "data": "Examples of the data",
    "attacked": "Adversarial examples of a job's attacks",
    "attacked+clean": "Half adversarial examples, half their originals",
    "file": "Your own file",
}
KNOWN_CHECKPOINTS = (
    "Checkpoints of earlier runs, of the page Vocabulary, in the Hub cache, and in the folders "
    "named by PRUNESCOPE_MODELS."
)


def data_source_form(store: Store) -> dict[str, Any]:
    """Draw step 1; return checkpoint, data and sample sizes as keys of a sweep.

    `task` is "" until data can be read. The result also has `check`, the result of the data check
    (None until it is finished), and the task type `kind` ("" if unknown).
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
        elif task in BUNDLED_DATA:
            rows = task_data.table_of(examples.DataSource(task)).rows
            table_upload.show_first_rows(rows[[name for name in ("label", "text") if name in rows]])
        elif plan["task"]:
            _hub_rows(str(plan["task"]), str(plan.get("config", "")), str(plan.get("split", "")))
        if plan["task"] and plan["calibration"]:
            plan |= _with_attacked(store, plan)
    checked: dict[str, Any] = {"check": None, "kind": ""}
    if plan["task"] and plan["calibration"] is not None:
        checked = data_check.panel(plan)
        plan["labels"] = checked.pop("labels")
        with right:
            _dense_accuracy(store, plan)
    if plan["calibration"] is None:
        plan["task"] = ""
    return plan | checked


def _checkpoint(store: Store) -> str:
    """Draw a text field for the checkpoint and a choice of known ones."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    name = left.text_input(
        "Checkpoint (the fine-tuned model to prune)",
        "demo",
        key="checkpoint",
        help="`demo`, `demo-guard`, `minilm` (bundled, for embeddings), a local Hugging Face "
        "folder (or the output of a Trainer), or the Hub id of a fine-tuned BERT, DistilBERT, "
        "RoBERTa, XLM-R, CamemBERT, ELECTRA, MPNet, ALBERT, DeBERTa v2/v3 or ModernBERT.",
        persist_state="session",
    ).strip()
    used = [str(job.experiment["checkpoint"]) for job in reversed(store.jobs())]
    trimmed = [str(file.parent) for file in sorted(store.home.glob("trimmed/*/trim.json"))]
    known = list(dict.fromkeys([*folders.BUNDLED, "minilm", *used, *trimmed, *_known()]))

    def use() -> None:
        if selected := st.session_state["known-checkpoint"]:
            st.session_state["checkpoint"] = selected

    right.selectbox(
        "or a known checkpoint",
        known,
        None,
        key="known-checkpoint",
        on_change=use,
        placeholder="choose",
        help=KNOWN_CHECKPOINTS,
    )
    return name or "demo"


@st.cache_data(show_spinner=False, ttl=60)
def _known() -> list[str]:
    return folders.known_checkpoints()


def _hub_id() -> dict[str, Any]:
    """Draw id, configuration, split and columns of a Hub data set; `task` is "" without an id."""
    titles = {spec["name"]: spec["title"] for spec in option_specs(examples.DataSource)}
    titles["task"] = "Id"
    return {
        name: place.text_input(
            titles[name], key=f"hub-{name}", placeholder=placeholder, persist_state="session"
        ).strip()
        for place, (name, placeholder) in zip(
            (*st.columns(3), *st.columns(3)), HUB_FIELDS.items(), strict=True
        )
    }


def _sizes() -> dict[str, Any]:
    specs = {spec["name"]: spec for spec in option_specs(RunSettings)}
    values = {}
    for column, name in zip(
        st.columns(3), ("calibration_size", "evaluation_size", "min_words"), strict=True
    ):
        with column:
            values[name] = forms.option_widget(specs[name], name)
    return values


def _calibration(store: Store) -> str | None:
    """Draw the choice of calibration data.

    Return "" for the task's own, a path, or job:ID; None if it cannot be read.
    """
    with st.expander("Calibrate on other examples", icon=":material/tune:", key="calibration-data"):
        kind = st.radio(
            "Calibrate on",
            list(CALIBRATIONS),
            format_func=CALIBRATIONS.__getitem__,
            key="calibration-kind",
            persist_state="session",
        )
        if kind.startswith("attacked"):
            return _attacked(store, "+clean" if kind == "attacked+clean" else "")
        if kind == "data":
            return ""
        st.caption("The file needs the same columns as the data. Only Kwon et al. use its labels.")
        path = table_upload.file(store, "calibration-")
        table = ui.run_action(tables.read, path) if path else None
        if table is not None:
            st.caption(f"{len(table.rows):,} rows: {', '.join(table.rows.columns)}.")
    return path if table is not None or not path else None


def _attacked(store: Store, clean: str) -> str | None:
    """Draw the choice of a job with attacks; return "job:ID", or None if there is no such job."""
    known = {
        job.id: f"job {job.id}: {job.label}, study {job.study}"
        for job in store.jobs()
        if "attack" in job.done
    }
    if not known:
        st.info(
            "No model has been attacked yet: run a study with the measure Attack success first.",
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
    source = examples.DataSource.from_keys(plan)
    if adversarial_calibration.check_leakage(store, source):
        st.warning(adversarial_calibration.LEAKAGE_WARNING, icon=":material/warning:")
    resolved = ui.run_action(adversarial_calibration.resolve, store, source)
    return {"calibration": resolved.calibration} if resolved else {"task": ""}


@st.cache_resource(show_spinner=False, max_entries=32)
def _preview(*source: str) -> DatasetPreview:
    return DatasetPreview(*source)


def _hub_rows(task: str, config: str, split: str) -> None:
    """Show the first rows of a Hub data set, which another process downloads."""
    preview = _preview(task, config, split)
    is_loading = not preview.is_over
    title = KNOWN_TASKS[task].title if task in KNOWN_TASKS else task

    def show() -> None:
        if not preview.is_over:
            st.caption(f"Loading five rows of {title} from the Hub …")
            st.skeleton(height=210)
        elif is_loading:
            st.rerun()
        else:
            try:
                rows = pd.DataFrame(preview.rows())
                table_upload.show_first_rows(
                    rows[sorted(rows, key=lambda name: name != "label")], title
                )
            except PruneError as error:
                st.warning(str(error), icon=":material/cloud_off:")
                if st.button("Retry", key="retry-preview", icon=":material/refresh:"):
                    _preview.clear()
                    st.rerun()

    st.fragment(show, run_every=1.0 if is_loading else None)()


def _dense_accuracy(store: Store, plan: dict[str, Any]) -> None:
    """Show the accuracy of the dense model on this data, if a study has measured it."""
    # as an experiment, which normalizes paths as stored ones do
    same_data = data_check.data_experiment(plan)
    known = [
        job
        for job in store.jobs()
        if "accuracy" in job.done
        and not job.experiment.get("method")
        and job.experiment["checkpoint"] == same_data.checkpoint
        and examples.DataSource(**job.experiment["source"]) == same_data.source
    ]
    if not known:
        st.caption(
            "The dense model has not been measured on this data yet; the study measures it first."
        )
        return
    row = store.rows("accuracy", [known[-1].id]).iloc[0]
    metric, _ = headline(row["metric"])
    st.markdown(
        f"**The dense model reaches {metric.show(row['score'])} "
        f"{formatting.inline(metric.title)}** on {row['n']} evaluation examples (95% interval "
        f"{metric.show(row['low'])} to {metric.show(row['high'])}; job {known[-1].id})."
    )
    label_order.offer(store, known[-1], "prune")
