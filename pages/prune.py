"""Prune: what to prune, how, and what to measure; then the plan as a table and one button."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import data_check as _data_check
from pages.sections import data_source
from pages.widgets import forms, frame, ui
from prune_core import PruneError, formatting
from prune_core.data.examples import TASK_TYPES
from prune_core.data.known_tasks import KNOWN_TASKS
from prune_core.experiments import data_check, experiment
from prune_core.experiments.study import Sweep, bundled_studies, load
from prune_core.measures import MEASURES
from prune_core.measures.base import Measure
from prune_core.methods import BASELINES, METHODS
from prune_core.queue import jobs
from prune_core.store.job import Status

view = frame.view()


def how() -> dict[str, Any]:
    """Methods, and the sparsities, patterns and seeds each of them is run at."""
    chosen = forms.cards(
        METHODS,
        "method",
        ("magnitude", "sparsegpt", "akr"),
        leave_out=("sparsity", "pattern"),
        more=BASELINES,
    )
    places = st.columns(3, gap="medium")
    usual = ["30%", "50%", "60%", "70%", "80%", "87.5%", "90%"]
    sparsities = places[0].multiselect(
        "Sparsities",
        usual,
        ["50%", "70%"],
        accept_new_options=True,
        key="sparsities",
        help="Share of the encoder's weights to remove, of its FLOPs for methods that remove "
        "heads and neurons; type another, such as 65%.",
        persist_state="session",
    )
    patterns = places[1].multiselect(
        "N:M patterns",
        ["2:4", "4:8", "32:64"],
        accept_new_options=True,
        key="patterns",
        help="At most N of every M neighbouring weights stay, as sparse hardware wants it; 2:4 is "
        "50%. Not for methods that remove heads and neurons.",
        persist_state="session",
    )
    seeds = places[2].multiselect(
        "Seeds",
        [0, 1, 2, 3, 4],
        [0],
        accept_new_options=True,
        key="seeds",
        help="Each seed draws other samples.",
        persist_state="session",
    )
    return {
        "methods": [{name: options} for name, options in chosen.items()],
        "sparsities": [share(text) for text in sparsities],
        "patterns": patterns,
        "seeds": [whole(value) for value in seeds],
    }


def share(text: str) -> float:
    """ "70%" or "70" or "0.7" as a share."""
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*(%?)\s*", text)
    if not found:
        raise PruneError(f"Sparsity {text!r} is not understood; write it like 65% or 0.65.")
    number = float(found[1].replace(",", "."))
    return number / 100 if found[2] or number > 1 else number


def whole(value: object) -> int:
    """A seed as a number."""
    if not str(value).strip().isdigit():
        raise PruneError(f"Seed {value!r} is not a whole number.")
    return int(str(value))


def expert() -> dict[str, Any]:
    """Where and how it runs."""
    with st.expander("Expert options", icon=":material/tune:", key="expert-run"):
        places = st.columns(3)
        return {
            "device": places[0].selectbox(
                "Device",
                ["auto", "cpu", "cuda", "mps"],
                key="device",
                help="auto takes CUDA, then MPS, then the CPU.",
                persist_state="session",
            ),
            "batch_size": places[1].number_input(
                "Batch size",
                1,
                4096,
                value=32,
                key="batch_size",
                help="Halved by itself when memory runs out.",
                persist_state="session",
            ),
            "max_length": places[2].number_input(
                "Longest sentence (tokens)",
                4,
                512,
                value=128,
                key="max_length",
                persist_state="session",
            ),
            "keep": places[0].selectbox(
                "Keep pruned weights",
                list(experiment.KEEP),
                key="keep",
                format_func=lambda name: str(experiment.KEEP[name]),
                help="Whatever you choose, they can be made again from the seed when you want "
                "them.",
                persist_state="session",
            ),
            "tf32": st.checkbox(
                "TF32 on CUDA",
                key="tf32",
                help="Matrix products round to 10 bits: faster, and figures move a little.",
                persist_state="session",
            ),
        }


def fitting_measures(kind: str) -> dict[str, type[Measure]]:
    """The measures that can look at models of this kind; what is left out is said."""
    left_out = [measure.title for measure in MEASURES.values() if kind not in measure.kinds]
    if left_out:
        st.caption(
            f"{', '.join(left_out)} is made for models that choose one label and is not offered: "
            f"this one gives {TASK_TYPES[kind]}."
        )
    return {name: measure for name, measure in MEASURES.items() if kind in measure.kinds}


def plan_table(plan: list[experiment.Experiment], again: bool) -> tuple[int, float, float]:
    """The runs with their stages and estimates. Return how many are new, seconds and bytes."""
    rows, new, total, space = [], 0, 0.0, 0.0
    for each in plan:
        seconds = sum(experiment.estimate_seconds(each).values())
        old = None if again else view.store.find(each.key())
        if old and old.study != each.study and old.status != Status.DONE:
            old = None  # only what is finished can be taken over from another study
        bytes = experiment.estimate_disk(each)
        if not old:
            new, total, space = new + 1, total + seconds, space + bytes
        rows.append(
            {
                "run": each.label,
                "stages": " → ".join(experiment.stages(each)),
                "estimate": formatting.approximate_seconds(seconds),
                "weights on disk": formatting.size(bytes) if bytes else "none",
                "status": f"{old.status} as job {old.id}" if old else "new",
            }
        )
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        width="stretch",
        key="plan",
        column_config={"stages": st.column_config.TextColumn(width="large")},
    )
    return new, total, space


def submit(plan: list[experiment.Experiment], again: bool) -> None:
    """Queue them all and turn to the study."""
    reused = sum(jobs.submit(view.store, each, again)[1] for each in plan)
    if reused:
        ui.show_message(
            f"{reused} of {formatting.plural(len(plan), 'run')} were there already; their results "
            "are taken as they are."
        )
    ui.set_choice("study", plan[0].study)
    st.switch_page("pages/overview.py")


def published() -> None:
    """The bundled studies, which repeat a paper's experiments."""
    with st.expander("Repeat a paper's experiments", icon=":material/menu_book:", key="published"):
        known = bundled_studies()
        name = st.selectbox(
            "Study",
            list(known),
            format_func=lambda name: known[name],
            key="bundled",
            persist_state="session",
        )
        plan = load(Path(name))
        tasks = ", ".join(dict.fromkeys(each.source.task for each in plan))
        st.caption(
            f"{formatting.plural(len(plan), 'run')} on {tasks}. Compare shows them beside the "
            "paper's figures."
        )
        if st.button(f"Queue {name}", key="queue-bundled", icon=":material/play_arrow:"):
            submit(plan, again=False)


st.title("Prune", anchor=False)
st.markdown(
    "Choose what to prune, how, and what to measure. The dense model is measured along with the "
    "rest, so that every figure has its baseline."
)
published()
try:
    st.markdown("#### 1 · What")
    source = data_source.data_source_form(view.store)
    st.markdown("#### 2 · How")
    methods = how()
    st.markdown("#### 3 · What to measure")
    checked, task = source.pop("found"), str(source["task"])
    kind = source.pop("kind") or (
        KNOWN_TASKS[task].kind if task in KNOWN_TASKS else "classification"
    )
    measures = forms.cards(
        fitting_measures(kind),
        "measure",
        tuple(name for name, measure in MEASURES.items() if measure.usual),
    )
    running = expert()
    st.markdown("#### The plan")
    places = st.columns([2, 1], vertical_alignment="bottom")
    study = places[0].text_input(
        "Study",
        "My study",
        key="study-name",
        help="Runs of one study are compared with each other; an existing name adds to it.",
        persist_state="session",
    )
    again = places[1].toggle(
        "Compute again what is there",
        key="again",
        help="Otherwise finished runs are taken as they are.",
    )
    sweep = Sweep(
        study=study.strip() or "My study",
        measures=[{name: options} for name, options in measures.items()],
        **source,
        **methods,
        **running,
    )
    if not source["task"]:
        raise PruneError("Step 1 has no data to read yet: give a file there, or choose other data.")
    plan = sweep.experiments()
    new, total, space = plan_table(plan, again)
    if checked and "error" in checked:
        raise PruneError("Step 1 has a question to answer before anything can be queued.")
    memory = max(
        (data_check.check_requirements(each, checked) for each in plan if checked), default=0.0
    )
    kept = "" if formatting.missing(space) else f", and up to {formatting.size(space)} on disk"
    kept += f"; about {formatting.size(memory)} of memory" if memory else ""
    st.caption(
        f"{formatting.plural(new, 'new run')}, about {formatting.approximate_seconds(total)} on two cores for a "
        f"model of the demo's size{kept}."
        if new
        else "Every run of this plan is there already; nothing would be computed again."
    )
    told = f"Queue {formatting.plural(new, 'run')}" if new else "Show the results"
    if st.button(told, key="queue-plan", type="primary", icon=":material/play_arrow:"):
        with st.spinner("Reading checkpoint and data …"):
            _data_check.is_ready(plan)
        submit(plan, again)
except PruneError as error:
    st.error(str(error))
