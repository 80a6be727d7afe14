"""The first step of the Prune page: checkpoint and data, with five rows to look at and what the dense model reaches."""


from typing import Any

import pandas as pd
import streamlit as st

from pages import _ui
from prune_core import PruneError
from prune_core.analysis import takeaways
from prune_core.analysis.quantities import headline
from prune_core.data import examples, tasks, uploads
from prune_core.measures import MEASURES
from prune_core.runs import adversarial_calibration
from prune_core.runs.experiment import Experiment
from prune_core.runs.preview import Peek
from prune_core.runs.store import Store

KEEP: dict[str, Any] = {"persist_state": "session"}
FILE = "a file of your own"
TITLES = {"demo": "Demo film reviews", FILE: "A file of your own (.csv, .jsonl, .parquet)"}
TITLES |= {name: known.title for name, known in tasks.KNOWN.items()}
CALIBRATIONS = {
    "data": "Sentences of the data",
    "attacked": "Attacked sentences: those with which a job's attacks flipped the model",
    "attacked+clean": "Half of each: the attacked sentences, and the same ones as they were",
    "file": "A file of your own",
}
TEXT_COLUMNS = ("text", "sentence", "review", "content", "sentence1", "question1", "premise", "question")


def what(store: Store) -> dict[str, Any]:
    """Checkpoint, data and sample sizes as keys of a sweep; `task` is "" as long as there is no data that can be read."""
    left, right = st.columns(2, gap="medium")
    with left:
        plan: dict[str, Any] = {"checkpoint": _checkpoint()}
        task = st.selectbox("Data", list(TITLES), format_func=TITLES.__getitem__, key="task", **KEEP)
        plan["task"] = _file(store, "") if task == FILE else task
        plan |= _sizes()
        plan["calibration"] = _calibration(store)
    with right:
        if task == FILE:
            plan |= _file_rows(str(plan["task"]))
        elif task == "demo":
            _rows(examples.read_table(str(tasks.DEMO))[["label", "text"]])
        else:
            _hub_rows(task)
        if plan["task"] and plan["calibration"]:
            plan |= _with_attacked(store, plan)
        if plan["task"]:
            _dense_accuracy(store, plan)
    return plan if plan["calibration"] is not None else plan | {"task": ""}


def _checkpoint() -> str:
    help = "`demo`, a local Hugging Face folder, or a Hub id of a BERT, DistilBERT, RoBERTa or ELECTRA classifier."
    return st.text_input("Checkpoint (the fine-tuned model to prune)", "demo", key="checkpoint", help=help, **KEEP).strip()


def _sizes() -> dict[str, Any]:
    places = st.columns(2)
    help = "Shown to the methods that look at activations; labels are not used."
    calibration = places[0].number_input("Calibration sentences", 1, 100_000, 256, 64, key="calibration", help=help, **KEEP)
    help = "Sentences that every model is measured on."
    evaluation = places[1].number_input("Evaluation (0 = all)", 0, 1_000_000, 0, 100, key="evaluation", help=help, **KEEP)
    return {"calibration_size": calibration, "evaluation_size": evaluation}


def _calibration(store: Store) -> str | None:
    """"" where the data calibrates, the path of a file of the reader's own, or job:ID as `attacked` reads it; None: not to be read."""
    with st.expander("Calibrate on other sentences", icon=":material/tune:", key="own-calibration"):
        kind = st.radio("Calibrate on", list(CALIBRATIONS), format_func=CALIBRATIONS.__getitem__, key="calibrate-on", **KEEP)
        if kind.startswith("attacked"):
            return _attacked(store, "+clean" if kind == "attacked+clean" else "")
        if kind == "data":
            return ""
        st.caption("With the same columns as the data. Only Kwon et al. read its labels.")
        path = _file(store, "calibration-")
        table = _ui.attempt(examples.read_table, path) if path else None
        if table is not None:
            st.caption(f"{len(table):,} rows: {', '.join(map(str, table.columns))}.")
    return path if table is not None or not path else None


def _attacked(store: Store, clean: str) -> str | None:
    """job:ID of a job whose attacks flipped sentences."""
    known = {job.id: f"job {job.id}: {job.label}, study {job.study}" for job in store.jobs() if "attack" in job.done}
    if not known:
        st.info("No study has attacked a model yet: run one with the measure Attack success first.", icon=":material/info:")
        return None
    return f"job:{st.selectbox('Attacks of', list(known), format_func=known.__getitem__, key='attacked-job', **KEEP)}{clean}"


def _with_attacked(store: Store, plan: dict[str, Any]) -> dict[str, Any]:
    """What changes in the plan: a job's attacked sentences become a file; a warning where the plan evaluates on the same sentences."""
    source = examples.Source(*(str(plan.get(key, "")) for key in ("task", "text", "text_pair", "label", "calibration")))
    if adversarial_calibration.leaks(store, source):
        st.warning(adversarial_calibration.LEAK, icon=":material/warning:")
    found = _ui.attempt(adversarial_calibration.resolved, store, source)
    return {"calibration": found.calibration} if found else {"task": ""}


def _file(store: Store, of: str) -> str:
    """The path of the reader's file; an upload is kept in the home folder and becomes the path."""

    def keep() -> None:
        if uploaded := st.session_state[f"{of}upload"]:
            st.session_state[f"{of}path"] = str(uploads.keep(store.home, uploaded.name, uploaded.getvalue()))

    st.file_uploader("Upload it", ["csv", "jsonl", "parquet"], key=f"{of}upload", on_change=keep)
    help = "Where the file lies on the machine that serves this page. An upload is kept in PruneScope's own folder and named here."
    return st.text_input("or give its path", key=f"{of}path", placeholder="/data/reviews.csv", help=help, **KEEP).strip()


def _file_rows(path: str) -> dict[str, Any]:
    """The chosen columns and the first rows of a file; no task where it cannot be read."""
    if not path:
        st.info("Upload a file, or give its path, to see its first rows and choose its columns.", icon=":material/table_rows:")
        return {}
    table = _ui.attempt(examples.read_table, path)
    if table is None:
        return {"task": ""}
    columns = [str(column) for column in table.columns]
    text = next((i for i, name in enumerate(columns) if name in TEXT_COLUMNS), 0)
    label = columns.index("label") if "label" in columns else len(columns) - 1
    places = st.columns(3)
    # the file's path in the keys: another file starts with its own columns
    chosen = {
        "text": places[0].selectbox("Text column", columns, text, key=f"text-{path}", **KEEP),
        "text_pair": places[1].selectbox(
            "Second text", ["", *columns], format_func=lambda name: name or "none", key=f"pair-{path}", help="For sentence pairs.", **KEEP
        ),
        "label": places[2].selectbox("Label column", columns, label, key=f"label-{path}", **KEEP),
    }
    if len({*chosen.values()} - {""}) < len([name for name in chosen.values() if name]):
        st.error("Text, second text and label must be different columns.")
        return {"task": ""}
    _rows(table[[chosen["label"], chosen["text"], *filter(None, [chosen["text_pair"]])]])
    return chosen


def _rows(table: pd.DataFrame, of: str = "") -> None:
    """The label first: texts are longer than the table is wide."""
    st.dataframe(table.head(5), hide_index=True, width="stretch", key="preview")
    st.caption(f"The first five of {of or f'{len(table):,} rows'}.")


@st.cache_resource(show_spinner=False, max_entries=len(tasks.KNOWN))
def _peek(task: str) -> Peek:
    return Peek(task)


def _hub_rows(task: str) -> None:
    """A known task's first rows; another process asks the Hub for them, and the page does not wait."""
    peek = _peek(task)
    waiting = not peek.is_over

    def show() -> None:
        if not peek.is_over:
            st.caption(f"Asking the Hub for five rows of {tasks.KNOWN[task].title} …")
            st.skeleton(height=210)
        elif waiting:
            st.rerun()
        else:
            try:
                rows = pd.DataFrame(peek.rows())
                _rows(rows[sorted(rows, key=lambda name: name != "label")], f"{tasks.KNOWN[task].title} ({tasks.KNOWN[task].evaluation})")
            except PruneError as error:
                st.warning(str(error), icon=":material/cloud_off:")
                if st.button("Ask again", key="peek-again", icon=":material/refresh:"):
                    _peek.clear()
                    st.rerun()

    st.fragment(show, run_every=1.0 if waiting else None)()


def _dense_accuracy(store: Store, plan: dict[str, Any]) -> None:
    """What the dense model reaches on this data, where a study has measured it."""
    source = examples.Source(*(str(plan.get(key, "")) for key in ("task", "text", "text_pair", "label", "calibration")))
    # an experiment of the same data writes paths as stored ones do
    wanted = Experiment(str(plan["checkpoint"]), source, measures=(MEASURES["accuracy"](),))
    known = [
        job
        for job in store.jobs()
        if "accuracy" in job.done
        and not job.experiment.get("method")
        and job.experiment["checkpoint"] == wanted.checkpoint
        and examples.Source(**job.experiment["source"]) == wanted.source
    ]
    if not known:
        st.caption("The dense model has not been measured on this data yet; the study does that first.")
        return
    row = store.rows("accuracy", [known[-1].id]).iloc[0]
    figure, _ = headline(row["metric"])
    st.markdown(
        f"**The dense model reaches {figure.show(row['score'])} {takeaways.in_words(figure)}** on {row['n']} evaluation examples "
        f"(95% interval {figure.show(row['low'])} to {figure.show(row['high'])}; job {known[-1].id})."
    )
