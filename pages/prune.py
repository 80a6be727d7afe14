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
from prune_core.analysis import prediction_evidence
from prune_core.experiments import data_check, experiment
from prune_core.experiments.settings import RunSettings
from prune_core.experiments.stage_keys import experiment_key
from prune_core.experiments.study import Sweep, bundled_studies, load
from prune_core.measures import MEASURES
from prune_core.measures.base import Measure
from prune_core.methods import BASELINES, METHODS
from prune_core.plugins import option_specs
from prune_core.queue import jobs
from prune_core.tasks import DEFAULT, TASK_TYPES
from prune_core.tasks.known_tasks import KNOWN_TASKS

view = frame.view()


def methods_form() -> dict[str, Any]:
    """Draw the choice of methods, sparsities, patterns and seeds; return it as keys of a sweep."""
    chosen = forms.cards(
        METHODS,
        "method",
        ("magnitude", "sparsegpt", "akr"),
        leave_out=("sparsity", "pattern"),
        more=BASELINES,
    )
    columns = st.columns(3, gap="medium")
    sparsities = columns[0].multiselect(
        "Sparsities",
        ["30%", "50%", "60%", "70%", "80%", "87.5%", "90%"],
        ["50%", "70%"],
        accept_new_options=True,
        key="sparsities",
        help="Percentage of the encoder's weights to remove, or of its FLOPs for methods that "
        "remove heads and neurons. Type other values, such as 65%.",
        persist_state="session",
    )
    patterns = columns[1].multiselect(
        "N:M patterns",
        ["2:4", "4:8", "32:64"],
        accept_new_options=True,
        key="patterns",
        help="At most N of every M consecutive weights are nonzero, as sparse kernels require; 2:4 "
        "is 50%. Not for methods that remove heads and neurons.",
        persist_state="session",
    )
    seeds = columns[2].multiselect(
        "Seeds",
        [0, 1, 2, 3, 4],
        [0],
        accept_new_options=True,
        key="seeds",
        help="Each seed draws different samples.",
        persist_state="session",
    )
    return {
        "methods": [{name: options} for name, options in chosen.items()],
        "sparsities": [parse_fraction(text) for text in sparsities],
        "patterns": patterns,
        "seeds": [parse_seed(value) for value in seeds],
    }


def parse_fraction(text: str) -> float:
    """Parse "70%", "70" or "0.7" as a fraction; raise PruneError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*(%?)\s*", text)
    if not match:
        raise PruneError(f"Sparsity {text!r} is not a number; write it like 65% or 0.65.")
    number = float(match[1].replace(",", "."))
    return number / 100 if match[2] or number > 1 else number


def parse_seed(value: object) -> int:
    """Parse a seed; raise PruneError if it is not a whole number of zero or more."""
    if not str(value).strip().isdigit():
        raise PruneError(f"Seed {value!r} is not a whole number; write it like 3.")
    return int(str(value))


def expert_form() -> dict[str, Any]:
    """Draw device, batch size and other settings; return them as keys of a sweep."""
    specs = [spec for spec in option_specs(RunSettings) if spec["expert"]]
    with (
        st.expander("Expert options", icon=":material/tune:", key="expert-run"),
        st.grid(3, min_column_width=200, gap="small", key="expert-settings"),
    ):
        return {spec["name"]: forms.option_widget(spec, spec["name"]) for spec in specs}


def fitting_measures(kind: str) -> dict[str, type[Measure]]:
    """Return the measures that support a task type; state which ones do not."""
    left_out = [measure.title for measure in MEASURES.values() if kind not in measure.kinds]
    if left_out:
        st.caption(
            f"Not available for models that predict {TASK_TYPES[kind].output}: "
            f"{', '.join(left_out)}."
        )
    return {name: measure for name, measure in MEASURES.items() if kind in measure.kinds}


def preselect_retrieval(collection: str) -> None:
    """Select the measure `retrieval` once for a collection; deselect it for other data ("")."""
    if st.session_state.get("preselected-collection", "") != collection:
        st.session_state["preselected-collection"] = collection
        st.session_state["use-measure-retrieval"] = bool(collection)


def show_power(checked: dict[str, Any] | None, evaluation_size: int) -> None:
    """State the smallest loss that the evaluation sample can rule out."""
    if not checked or "error" in checked or not checked["labelled"]:
        return
    n = min(evaluation_size or checked["evaluation"], checked["evaluation"])
    if sentence := prediction_evidence.power_sentence(n, checked["metric"]):
        st.caption(sentence)


def plan_table(plan: list[experiment.Experiment], recompute: bool) -> tuple[int, float, float]:
    """Show the runs with stages and estimates; return the new runs' number, seconds and bytes."""
    rows, new, total, space = [], 0, 0.0, 0.0
    earlier = [job for job in view.store.jobs() if job.seconds]
    for run in plan:
        stages = experiment.stages(run)
        queued = None if recompute else view.store.find(experiment_key(run), run.study)
        missing = stages if recompute else jobs.missing_stages(view.store, run)
        if queued:
            missing = []
        expected = jobs.expected_seconds(run, earlier)
        seconds = sum(expected[stage] for stage in missing)
        disk = experiment.estimate_disk(run) if "prune" in missing else 0.0
        if missing:
            new, total, space = new + 1, total + seconds, space + disk
        status = "new" if missing else "done"
        rows.append(
            {
                "run": run.label,
                "new": " → ".join(missing),
                "done": ", ".join(stage for stage in stages if stage not in missing),
                "estimate": formatting.approximate_seconds(seconds) if missing else "",
                "weights on disk": formatting.size(disk) if disk else "none",
                "status": f"{queued.status} as job {queued.id}" if queued else status,
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


def submit(plan: list[experiment.Experiment], recompute: bool) -> None:
    """Queue all runs and open the study."""
    reused = sum(not jobs.submit(view.store, run, recompute)[1] for run in plan)
    if reused:
        ui.show_message(
            f"{reused} of {formatting.plural(len(plan), 'run')} already existed; their results are "
            "reused."
        )
    ui.set_choice("study", plan[0].study)
    st.switch_page("pages/overview.py")


def paper_studies() -> None:
    """Offer the bundled studies, which reproduce a paper's experiments."""
    with st.expander(
        "Reproduce a paper's experiments", icon=":material/menu_book:", key="published"
    ):
        known = bundled_studies()
        name = st.selectbox(
            "Study",
            list(known),
            format_func=lambda name: known[name],
            key="bundled",
            persist_state="session",
        )
        plan = load(Path(name))
        st.caption(
            f"{formatting.plural(len(plan), 'run')} on "
            f"{', '.join(dict.fromkeys(run.source.task for run in plan))}. The page Compare shows "
            "them next to the published results."
        )
        if st.button(f"Queue {name}", key="queue-bundled", icon=":material/play_arrow:"):
            submit(plan, recompute=False)


st.title("Prune", anchor=False)
st.markdown(
    "Choose a model and data, pruning methods, and what to measure. The dense model is always "
    "measured too, as the baseline."
)
paper_studies()
try:
    st.markdown("#### 1 · Model and data")
    source = data_source.data_source_form(view.store)
    st.markdown("#### 2 · Methods")
    methods = methods_form()
    st.markdown("#### 3 · Measures")
    checked, task = source.pop("check"), str(source["task"])
    kind = source.pop("kind") or (KNOWN_TASKS[task].kind if task in KNOWN_TASKS else DEFAULT)
    if checked and "error" not in checked:
        preselect_retrieval(task if checked["is_collection"] else "")
    measures = forms.cards(
        fitting_measures(kind),
        "measure",
        tuple(name for name, measure in MEASURES.items() if measure.is_default),
    )
    show_power(checked, int(source.get("evaluation_size") or 0))
    settings = expert_form()
    st.markdown("#### Plan")
    columns = st.columns([2, 1], vertical_alignment="bottom")
    study = columns[0].text_input(
        "Study",
        "My study",
        key="study-name",
        help="Runs of one study are compared with each other; an existing name adds runs to it.",
        persist_state="session",
    )
    recompute = columns[1].toggle(
        "Recompute finished runs",
        key="recompute",
        help="Otherwise the results of finished runs are reused.",
    )
    sweep = Sweep.from_dict(
        {
            "study": study.strip() or "My study",
            "measures": [{name: options} for name, options in measures.items()],
            **source,
            **methods,
            **settings,
        }
    )
    if not source["task"]:
        raise PruneError("No data is chosen in step 1: choose a file or other data there.")
    plan = sweep.experiments()
    new, total, space = plan_table(plan, recompute)
    if checked and "error" in checked:
        raise PruneError("The data check in step 1 failed: resolve it before runs can be queued.")
    memory = max(
        (data_check.check_requirements(run, checked) for run in plan if checked), default=0.0
    )
    summary = "All runs of this plan are finished or queued already; nothing is recomputed."
    title = "Show the results"
    if new:
        title = f"Queue {formatting.plural(new, 'run')}"
        summary = (
            f"{formatting.plural(new, 'new run')}, about {formatting.approximate_seconds(total)} "
            "(stages that ran here before as long as then, others as for the demo on two cores)"
        )
        if not formatting.missing(space):
            summary += f", and up to {formatting.size(space)} on disk"
        if memory:
            summary += f"; about {formatting.size(memory)} of memory"
        summary += "."
    st.caption(summary)
    if st.button(title, key="queue-plan", type="primary", icon=":material/play_arrow:"):
        with st.spinner("Reading checkpoint and data …"):
            _data_check.is_ready(plan)
        submit(plan, recompute)
except PruneError as error:
    st.error(str(error))
