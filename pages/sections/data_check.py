"""Check on the Prune page that checkpoint and data fit together, before runs are queued.

If the mapping of a label value to a label is unknown, a table lets the user choose it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from pages.sections.table_upload import FILE, HUB
from pages.widgets.flag_names import with_field_names
from prune_core import PruneError
from prune_core.data.examples import BINARY, DataSource
from prune_core.data.label_pairs import format_pairs, parse_pairs
from prune_core.data.labels import LEAVE_OUT
from prune_core.experiments.data_check import check_requirements
from prune_core.experiments.experiment import Experiment
from prune_core.measures import MEASURES
from prune_core.models.checkpoints.folders import DATA_OF
from prune_core.processes.data_check_client import DataCheck
from prune_core.tasks import DEFAULT, TASK_TYPES
from prune_core.tasks.known_tasks import KNOWN_TASKS
from prune_core.tasks.task_data import BUNDLED_DATA, is_file

MAX_VALUES = 200  # label values with a widget; a column with more holds texts, not labels


def data_experiment(plan: Mapping[str, Any]) -> Experiment:
    """Return an experiment with the checkpoint and data that all runs of the plan share."""
    return Experiment(
        str(plan["checkpoint"]),
        source=DataSource.from_keys(plan),
        measures=(MEASURES["accuracy"](),),
        calibration_size=plan["calibration_size"],
        evaluation_size=plan["evaluation_size"],
        min_words=plan.get("min_words"),
        max_length=st.session_state.get("max_length", 128),
        pooling=st.session_state.get("pooling", ""),
    )


def _check(experiment: Experiment) -> DataCheck:
    """Return the session's process that checks this experiment; end the one for other data."""
    stamps = [
        Path(path).stat().st_mtime
        for path in (experiment.checkpoint, experiment.source.task, experiment.source.calibration)
        if path and Path(path).exists()
    ]
    request = [experiment.to_dict(), stamps]
    if st.session_state.get("data-checked") != request:
        if previous := st.session_state.get("data-check"):
            previous.process.kill()
        st.session_state.update({"data-checked": request, "data-check": DataCheck(experiment)})
    return st.session_state["data-check"]


def panel(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Show the result; return `labels` for the plan, `check` (None until finished) and `kind`."""
    chosen = st.session_state.get("label-pairs", {}).get(_data_key(plan), "")
    if DATA_OF.get(plan["checkpoint"]) == plan["task"] and not chosen:
        return {"check": None, "kind": DEFAULT, "labels": ""}
    check = _check(data_experiment({**plan, "labels": chosen}))
    with st.container(border=True, key="data-check"):
        if not check.is_over:
            st.fragment(_wait, run_every=0.5)(check)
            return {"check": None, "kind": "", "labels": chosen}
        try:
            result = check.result()
        except PruneError as error:
            st.error(str(error))
            return {"check": {"error": str(error)}, "kind": "", "labels": chosen}
        _describe(result, str(plan["task"]))
        _label_table(plan, result, chosen)
        if chosen and st.button(
            "Reset the label mapping",
            key="reset-labels",
            icon=":material/undo:",
        ):
            _store_labels(plan, "")
            st.rerun()
    return {"check": result, "kind": result["kind"], "labels": chosen}


def is_ready(plan: Sequence[Experiment]) -> None:
    """Wait for the check; raise PruneError if the plan's data cannot be used."""
    check = st.session_state.get("data-check")
    if check is None or DATA_OF.get(plan[0].checkpoint) == plan[0].source.task:
        return
    result = check.result()
    if "error" in result:
        raise PruneError(result["error"])
    for run in plan:
        check_requirements(run, result)


def _wait(check: DataCheck) -> None:
    st.caption(":material/hourglass: Checking checkpoint and data …")
    if check.is_over:
        st.rerun()


def _describe(result: Mapping[str, Any], task: str) -> None:
    """Describe model and data, without the folder of an upload in messages."""
    task_type = TASK_TYPES[result["kind"]]
    sentence = f"The model predicts {task_type.output}"
    names = result["labels"] if task_type.has_label_names else []
    listed = ", ".join(names[:8])
    if len(names) > 8:
        listed += f" and {len(names) - 8} more"
    if listed:
        sentence += f" of {listed}"
    st.markdown(f"**{sentence}.**")
    if "error" in result:
        message = with_field_names(
            result["error"].split(" Set it with --labels")[0].replace(f"{Path(task).parent}/", "")
        )
        if result.get("counts"):
            st.warning(f"{message} Choose the label below.", icon=":material/help:")
        elif result.get("rows"):
            st.warning(message, icon=":material/help:")
            st.button(
                "Skip these rows",
                key="skip-rows",
                icon=":material/filter_alt:",
                on_click=lambda: st.session_state.update({f"bad_rows-{task}": "skip"}),
            )
        else:
            st.error(message)
    else:
        note = " No labels: models are compared with the dense model's predictions."
        units = "queries" if result["is_collection"] else "examples"
        st.markdown(
            f"{result['calibration']:,} calibration and {result['evaluation']:,} evaluation "
            f"{units}.{'' if result['labelled'] or result['is_collection'] else note}"
        )
    for note in result["notes"]:
        st.caption(f"· {with_field_names(note)}")


def fill_form(experiment: Mapping[str, Any], labels: str) -> None:
    """Fill the form with an experiment's checkpoint, data and label mapping."""
    source = experiment["source"]
    filled = {"checkpoint": experiment["checkpoint"], "task": source["task"]}
    if is_file(source["task"]) and source["task"] not in BUNDLED_DATA:
        columns = (("text", "text"), ("pair", "text_pair"), ("label", "label"))
        filled |= {
            "task": FILE,
            "path": source["task"],
            "uploaded": "",
            **{f"{key}-{source['task']}": source[name] for key, name in columns if source[name]},
        }
    elif source["task"] not in (*BUNDLED_DATA, *KNOWN_TASKS):
        filled |= {
            "task": HUB,
            "hub-id": source["task"],
            **{
                f"hub-{name}": source.get(name, "")
                for name in ("config", "split", "text", "text_pair", "label")
            },
        }
    st.session_state.update(filled)
    _store_labels({**experiment, **source}, labels)


def _store_labels(plan: Mapping[str, Any], labels: str) -> None:
    st.session_state["label-pairs"] = {
        **st.session_state.get("label-pairs", {}),
        _data_key(plan): labels,
    }


def _data_key(plan: Mapping[str, Any]) -> str:
    return json.dumps([plan["checkpoint"], plan["task"]])


def _label_table(plan: Mapping[str, Any], result: Mapping[str, Any], chosen: str) -> None:
    """Draw one choice per label value: the label that it maps to."""
    counts = result.get("counts") or {}
    # of one output, 0 and 1 are the labels
    names = result["labels"] if TASK_TYPES[result["kind"]].is_discrete else BINARY
    values = [value for value in counts if value]
    if not values:
        return
    if len(values) > MAX_VALUES:
        st.caption(f"{len(values)} label values; map them with --labels on the command line.")
        return
    detected, selected = result.get("label_map") or {}, parse_pairs(chosen)
    with st.expander(
        "Mapping of label values",
        expanded="error" in result,
        icon=":material/label:",
        key="label-values",
    ):
        labels = {}
        defaults = {
            value: LEAVE_OUT if index is None else names[index] for value, index in detected.items()
        }
        with st.grid(4, min_column_width=180, gap="small") as grid:
            for value in values:
                options = [*names, LEAVE_OUT]
                initial = selected.get(value) or defaults.get(value)
                with grid.cell():
                    labels[value] = st.selectbox(
                        f"{value} · {counts[value]:,} rows",
                        options,
                        options.index(initial) if initial in options else None,
                        key=f"label-of-{_data_key(plan)}-{chosen}-{value}",
                        placeholder="which label?",
                    )
        if st.button("Use this mapping", key="use-labels", icon=":material/check:"):
            _store_labels(
                plan, format_pairs({value: name for value, name in labels.items() if name})
            )
            st.rerun()
