"""Check on the Prune page that checkpoint and data fit together, before runs are queued.

If the meaning of a label value is unknown, a table asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from pages.sections.table_upload import FILE, HUB
from pages.widgets.flag_names import with_field_names
from prune_core import PruneError
from prune_core.data.examples import BINARY, TASK_TYPES, DataSource
from prune_core.data.known_tasks import KNOWN_TASKS
from prune_core.data.label_pairs import format_pairs, parse_pairs
from prune_core.data.labels import LEAVE_OUT
from prune_core.data.tasks import is_file
from prune_core.experiments.data_check import check_requirements
from prune_core.experiments.experiment import Experiment
from prune_core.measures import MEASURES
from prune_core.models.checkpoints.folders import BUNDLED
from prune_core.processes.data_check_client import DataCheck

MOST = 200  # label values that get a widget each; more are no labels but texts


def of_plan(plan: Mapping[str, Any]) -> Experiment:
    """The experiment whose data is that of every model of the plan."""
    source = DataSource(
        **{name: str(plan.get(name, "")) for name in DataSource.__dataclass_fields__}
    )
    return Experiment(
        str(plan["checkpoint"]),
        source,
        measures=(MEASURES["accuracy"](),),
        calibration=plan["calibration_size"],
        evaluation=plan["evaluation_size"],
        min_words=plan.get("min_words"),
        max_length=st.session_state.get("max_length", 128),
    )


def _check(experiment: Experiment) -> DataCheck:
    """The session's process that checks this experiment; one for other data is ended."""
    stamps = [
        Path(path).stat().st_mtime
        for path in (experiment.checkpoint, experiment.source.task, experiment.source.calibration)
        if path and Path(path).exists()
    ]
    asked = [experiment.to_dict(), stamps]
    if st.session_state.get("data-asked") != asked:
        if before := st.session_state.get("data-check"):
            before.process.kill()
        st.session_state.update({"data-asked": asked, "data-check": DataCheck(experiment)})
    return st.session_state["data-check"]


def panel(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Show the result. Return `labels` for the plan, `found` once checked, and the task type."""
    chosen = st.session_state.get("labels-told", {}).get(_whose(plan), "")
    if plan["task"] == "demo" and plan["checkpoint"] in BUNDLED and not chosen:
        return {"found": None, "kind": "classification", "labels": ""}
    experiment = of_plan({**plan, "labels": chosen})
    check = _check(experiment)
    with st.container(border=True, key="data-check"):
        if not check.is_over:
            st.fragment(_wait, run_every=0.5)(check)
            return {"found": None, "kind": "", "labels": chosen}
        try:
            found = check.result()
        except PruneError as error:
            st.error(str(error))
            return {"found": {"error": str(error)}, "kind": "", "labels": chosen}
        _tell(found, str(plan["task"]))
        _label_table(plan, found, chosen)
        if chosen and st.button(
            "Forget what label values were told to mean",
            key="forget-labels",
            icon=":material/undo:",
        ):
            _remember(plan, "")
            st.rerun()
    return {"found": found, "kind": found["kind"], "labels": chosen}


def is_ready(plan: Sequence[Experiment]) -> None:
    """Wait for the check; raise PruneError if the plan's data cannot be used."""
    check = st.session_state.get("data-check")
    if check is None or (plan[0].checkpoint in BUNDLED and plan[0].source.task == "demo"):
        return
    found = check.result()
    if "error" in found:
        raise PruneError(found["error"])
    for each in plan:
        check_requirements(each, found)


def _wait(check: DataCheck) -> None:
    st.caption(":material/hourglass: Reading checkpoint and data as a run would …")
    if check.is_over:
        st.rerun()


def _skip_rows(task: str) -> None:
    st.session_state[f"bad_rows-{task}"] = "skip"


def _tell(found: Mapping[str, Any], task: str) -> None:
    """Describe model and data. The folder of an upload is not shown."""
    folder = f"{Path(task).parent}/"
    gives = f"The model gives {TASK_TYPES[found['kind']]}"
    names = found["labels"] if found["kind"] in ("classification", "multilabel", "token") else []
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    st.markdown(f"**{gives}{f' of {some}' if some else ''}.**")
    if "error" in found:
        asked = with_field_names(
            found["error"].split(" Set it with --labels")[0].replace(folder, "")
        )
        if found.get("counts"):
            st.warning(f"{asked} Choose below.", icon=":material/help:")
        elif found.get("rows"):
            st.warning(asked, icon=":material/help:")
            st.button(
                "Leave these rows out",
                key="skip-rows",
                icon=":material/filter_alt:",
                on_click=_skip_rows,
                args=(task,),
            )
        else:
            st.error(asked)
    else:
        against = (
            ""
            if found["labelled"]
            else " There are no labels: models are compared with the dense one."
        )
        st.markdown(
            f"{found['calibration']:,} examples calibrate, {found['evaluation']:,} "
            f"evaluate.{against}"
        )
    for note in found["notes"]:
        st.caption(f"· {with_field_names(note)}")


def show_data_check(experiment: Mapping[str, Any], labels: str) -> None:
    """Fill the form with an experiment's checkpoint and data, and what its label values mean."""
    source = experiment["source"]
    filled = {"checkpoint": experiment["checkpoint"], "task": source["task"]}
    if is_file(source["task"]):
        filled |= {"task": FILE, "path": source["task"], "uploaded": ""}
        columns = (("text", "text"), ("pair", "text_pair"), ("label", "label"))
        filled |= {f"{key}-{source['task']}": source[name] for key, name in columns if source[name]}
    elif source["task"] != "demo" and source["task"] not in KNOWN_TASKS:
        filled |= {"task": HUB, "hub-id": source["task"]}
        filled |= {
            f"hub-{name}": source.get(name, "")
            for name in ("config", "split", "text", "text_pair", "label")
        }
    st.session_state.update(filled)
    _remember({**experiment, **source}, labels)


def _remember(plan: Mapping[str, Any], labels: str) -> None:
    st.session_state["labels-told"] = {
        **st.session_state.get("labels-told", {}),
        _whose(plan): labels,
    }


def _whose(plan: Mapping[str, Any]) -> str:
    return json.dumps([plan["checkpoint"], plan["task"]])


def _label_table(plan: Mapping[str, Any], found: Mapping[str, Any], chosen: str) -> None:
    """One row per label value: its count and a choice of the label that it stands for."""
    counts, names = found.get("counts") or {}, list(found["labels"])
    if found["kind"] == "regression":  # one output, but its labels are two
        names = list(BINARY)
    values = [value for value in counts if value]
    if not values:
        return
    if len(values) > MOST:
        st.caption(f"{len(values)} label values; correct them with --labels on the command line.")
        return
    meant, told = found.get("meant") or {}, parse_pairs(chosen)
    with st.expander(
        "What the label values mean",
        expanded="error" in found,
        icon=":material/label:",
        key="label-values",
    ):
        picked = {}
        usual = {
            value: LEAVE_OUT if index is None else names[index] for value, index in meant.items()
        }
        with st.grid(4, min_column_width=180, gap="small") as grid:
            for value in values:
                options = [*names, LEAVE_OUT]
                start = told.get(value) or usual.get(value)
                with grid.cell():
                    picked[value] = st.selectbox(
                        f"{value} · {counts[value]:,} rows",
                        options,
                        options.index(start) if start in options else None,
                        key=f"means-{_whose(plan)}-{chosen}-{value}",
                        placeholder="which label?",
                    )
        if st.button("Use these", key="use-labels", icon=":material/check:"):
            pairs = {value: label for value, label in picked.items() if label}
            _remember(plan, format_pairs(pairs))
            st.rerun()
