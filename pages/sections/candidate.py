"""A model from elsewhere: the form that measures it, and the facts about its file."""

import shlex
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import data_source
from pages.sections.data_check import data_experiment
from pages.widgets import frame, ui
from pages.widgets.frame import View
from prune_core import PruneError
from prune_core.deployment.policy import Policy, default_policy
from prune_core.experiments import data_check
from prune_core.experiments.candidate import supported_measures
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.settings import RunSettings
from prune_core.measures import MEASURES
from prune_core.plugins import CANDIDATE, option_specs
from prune_core.processes.data_check_client import DataCheck
from prune_core.queue import jobs
from prune_core.store.job import Job
from prune_core.tasks import DEFAULT

TITLE = "Check a model from elsewhere"
STUDY = "Candidates"  # if no study is selected
# settings that decide which examples are evaluated, and how
SETTINGS = ("evaluation_size", "seed", "max_length", "pooling")


def form(view: View, policy: Policy | None = None) -> None:
    """Draw the form: file, tokenizer, dense model, data, measures and the button.

    The dense model and the data are those of the selected study, if there is one.
    """
    if view.jobs:
        place: Any = st.expander(
            TITLE, not view.pruned, icon=":material/upload_file:", key="candidate-form"
        )
    else:  # the form of the data has expanders, which cannot be nested
        place = st.container(border=True, key="candidate-form")
        place.markdown(f"#### {TITLE}")
    with place:
        _form(view, policy)


def _form(view: View, policy: Policy | None) -> None:
    st.markdown(
        "Compare a model that was not pruned here with the dense model: a checkpoint folder, "
        "an ONNX, OpenVINO, TorchScript or torch.export file, or a table of predictions. "
        "TorchScript and torch.export files can run code: check only files that you trust."
    )
    left, right = st.columns(2)
    path = left.text_input(
        "File or folder",
        key="candidate-path",
        placeholder="/models/model.onnx",
        help="A path on the server, or the Hub id of a checkpoint.",
        persist_state="session",
    ).strip()
    tokenizer = right.text_input(
        "Tokenizer folder",
        key="candidate-tokenizer",
        placeholder="next to the file",
        help="Only for model files whose tokenizer is in another folder.",
        persist_state="session",
    ).strip()
    plan, kind = _plan_of_study(view) if view.jobs else _new_plan(view)
    frame.show_stopped([job for job in view.jobs if job.is_candidate])
    if not path or not plan:
        return
    options = _measures(plan, policy or default_policy(kind))
    supported = ui.run_action(supported_measures, path) or ()
    names = st.multiselect(
        "Measures",
        [name for name in supported if kind in MEASURES[name].kinds],
        [name for name in supported if name in options],
        format_func=lambda name: MEASURES[name].title,
        key=f"candidate-measures-{'-'.join(supported)}-{'-'.join(options)}",
        help="By default the measures that the limits need, if the file supports them.",
    )
    if names and st.button(
        "Measure and check", key="candidate-queue", type="primary", icon=":material/play_arrow:"
    ):
        plan |= {
            "method": {"name": CANDIDATE, "options": {"path": path, "tokenizer": tokenizer}},
            "measures": [{"name": name, "options": options.get(name, {})} for name in names],
        }
        with st.spinner("Reading the file, the checkpoint and the data …"):
            ui.run_action(_submit, view, plan)


def _plan_of_study(view: View) -> tuple[dict[str, Any], str]:
    """Return the experiment of the study's dense model and its task type; show a caption."""
    dense = next((job for job in view.jobs if not job.experiment["method"]), view.jobs[0])
    plan = dict(dense.experiment)
    st.caption(
        f"Compared with the dense model {ui.escape(plan['checkpoint'])} on "
        f"{ui.escape(plan['source']['task'])}, in the study {ui.escape(dense.study)}."
    )
    return plan, view.kind


def _new_plan(view: View) -> tuple[dict[str, Any], str]:
    """Draw the form of dense model and data; return (experiment or {}, task type)."""
    st.markdown("##### Dense model and data")
    source = data_source.data_source_form(view.store)
    checked, kind = source.pop("check"), source.pop("kind") or DEFAULT
    if not source["task"] or (checked and "error" in checked):
        return {}, kind
    return {**data_experiment(source).to_dict(), "study": STUDY, "measures": []}, kind


def _measures(plan: Mapping[str, Any], limits: Policy) -> dict[str, dict[str, Any]]:
    """Return the measures that the limits need, with the options of the study's dense model."""
    known = {each["name"]: each["options"] for each in plan["measures"]}
    return {
        name: {**known.get(name, {}), **options}
        for name, options in {"accuracy": {}, **limits.needed_measures}.items()
    }


def _submit(view: View, plan: Mapping[str, Any]) -> None:
    """Check the plan in a child process, queue both models and open the study."""
    experiment = Experiment.from_dict(dict(plan))
    result = DataCheck(experiment).result()
    if "error" in result:
        raise PruneError(result["error"])
    data_check.check_requirements(experiment, result)
    # the candidate first: unsupported measures fail before the dense model runs
    id, new = jobs.submit(view.store, experiment)
    jobs.submit(view.store, Experiment.from_dict({**plan, "method": None}))
    if not new:
        ui.show_message(f"This file was already measured as job {id}; its results are reused.")
    ui.set_choice("study", experiment.study)
    st.rerun()


def show_warnings(facts: pd.DataFrame) -> None:
    """Show the warnings about a candidate."""
    for warning in filter(None, facts["warning"]):
        st.warning(ui.escape(warning), icon=":material/warning:")


def facts_table(facts: pd.DataFrame) -> None:
    """Show the facts about a candidate, one row per fact."""
    shown = facts[["fact", "value"]].assign(fact=facts["fact"].str.capitalize())
    columns = {"fact": st.column_config.TextColumn("Fact", width=170), "value": "Value"}
    ui.table(shown, "candidate-facts", columns, plain=facts)
    st.caption(
        "Read from the file and its tokenizer, and from its predictions on the evaluation "
        "examples. *Batching* compares the outputs for texts alone and in a padded batch."
    )


def command(job: Job) -> str:
    """Return the command that checks the same file with the same data and settings."""
    plan, options = job.experiment, job.experiment["method"]["options"]
    flags = {"dense": plan["checkpoint"], "candidate": options["path"], **plan["source"]}
    flags["tokenizer"] = options["tokenizer"]
    flags |= {
        spec["name"]: plan[spec["name"]]
        for spec in option_specs(RunSettings)
        if spec["name"] in SETTINGS and plan[spec["name"]] != spec["default"]
    }
    words = (
        f"--{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in flags.items()
        if value
    )
    return f"python -m prune_core check {' '.join(words)} --policy policy.yaml"
