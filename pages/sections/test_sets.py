"""Test sets of a policy, such as one per language, domain or customer, and one decision."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from prune_core.data.examples import DataSource
from prune_core.deployment.policy import ALL, MEAN, EvaluationSet, Policy
from prune_core.processes import background
from prune_core.store.job import Job

FAILURES = "at most K fail"
COMBINATIONS = {
    ALL: "All must pass",
    MEAN: "Weighted mean must pass",
    FAILURES: "Some may fail",
}
EMPTY = pd.DataFrame({"name": [""], "data": [""], "label": [""], "weight": [1.0]})
RESULT = "result.json"


def page(home: Path, job: Job, policy: Policy) -> None:
    """Let the user choose test sets, measure the model on them and show the decision."""
    st.markdown(
        f"Does **{ui.escape(job.label)}** meet the limits of this page on several test sets, such "
        "as one per language, domain or customer? Each row is one test set."
    )
    chosen = _loaded(policy) or ui.run_action(_form, policy)
    if chosen is None:
        return
    digest = hashlib.sha256(chosen.as_yaml().encode()).hexdigest()[:8]
    folder = home / "test-sets" / f"job-{job.id}-{digest}"
    state = background.state(folder)
    running = state is not None and state.status == "running"
    if not running and st.button(
        "Measure and decide", key="check-sets", type="primary", icon=":material/play_arrow:"
    ):
        ui.run_action(_begin, folder, job, chosen)
        st.rerun()
    st.fragment(_watch, run_every=1.0 if running else None)(folder)
    with st.expander("Policy file", icon=":material/description:", key="sets-policy"):
        st.code(chosen.as_yaml(), language="yaml")
        st.code(f"python -m prune_core check {job.id} --policy policy.yaml", language="bash")


def _loaded(policy: Policy) -> Policy | None:
    """Return the policy with the test sets of the loaded policy file, if it has any."""
    test_sets, combine = st.session_state.get("policy-test-sets", ((), ALL))
    if not test_sets:
        return None
    names = ", ".join(f"{each.name} ({each.source.task})" for each in test_sets)
    st.markdown(f"Test sets of the loaded policy file (combine: {combine}): {ui.escape(names)}.")
    if st.button("Choose other test sets", key="other-sets", type="tertiary"):
        del st.session_state["policy-test-sets"]
        st.rerun()
    return replace(policy, test_sets=test_sets, combine=combine)


def _form(policy: Policy) -> Policy | None:
    """Return the policy with the test sets of the table; None if there are fewer than two."""
    rows = st.data_editor(
        EMPTY,
        num_rows="dynamic",
        key="test-sets",
        hide_index=True,
        column_config={
            "name": st.column_config.TextColumn("Name", help="For example german"),
            "data": st.column_config.TextColumn(
                "Data", help="A file on the server, a known task or a Hub id", width="large"
            ),
            "label": st.column_config.TextColumn("Label column", help="Detected if empty"),
            "weight": st.column_config.NumberColumn("Weight", default=1.0, min_value=0.01),
        },
    ).fillna({"name": "", "data": "", "label": "", "weight": 1.0})
    rows = rows[rows["data"].str.strip() != ""]
    if len(rows) < 2:
        st.caption("Enter at least two test sets.")
        return None
    columns = st.columns([2, 1], vertical_alignment="bottom")
    with columns[0]:
        combine = ui.segments("combine-sets", COMBINATIONS, ALL, label="Decision")
    if combine == FAILURES:
        allowed = columns[1].number_input(
            "Maximum failures", 1, len(rows) - 1, key="allowed-failures"
        )
        combine = f"at most {allowed} fail"
    test_sets = tuple(
        EvaluationSet(
            row.name or Path(row.data).stem,
            DataSource(task=row.data.strip(), label=row.label.strip()),
            weight=float(row.weight),
        )
        for row in rows.itertuples(index=False)
    )
    return replace(policy, test_sets=test_sets, combine=combine)


def _begin(folder: Path, job: Job, policy: Policy) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy.as_yaml(), encoding="utf-8")
    (folder / RESULT).unlink(missing_ok=True)
    command = ["check", str(job.id), "--policy", str(folder / "policy.yaml")]
    background.start(folder, [*command, "--json", str(folder / RESULT)])


def _watch(folder: Path) -> None:
    """Show the progress of the measurements, then the decision and all tests."""
    state = background.state(folder)
    if state is None:
        return
    if state.status == "running":
        st.session_state["sets-running"] = True
        st.progress(min(1.0, state.progress), text=state.detail)
        if st.button("Stop", key="stop-sets", icon=":material/stop:"):
            ui.run_action(background.stop, folder)
        return
    if st.session_state.pop("sets-running", False):
        st.rerun()  # the whole page, as studies were added
    if not (folder / RESULT).is_file():
        log = folder / background.LOG
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        st.error(lines[-1] if lines else "The check did not finish; run it again.")
        return
    _show(json.loads((folder / RESULT).read_text(encoding="utf-8")))


def _show(result: dict[str, Any]) -> None:
    ui.takeaway(result["summary"])
    rows = pd.DataFrame(result["verdicts"])
    names = {
        "test_set": "Test set",
        "criterion": "Criterion",
        "limit": "Limit",
        "value": st.column_config.NumberColumn("Measured", format="%.2f"),
        "result": "Result",
        "rules_out": "Ruled out",
        "n": "n",
        "detail": "Detail",
    }
    ui.table(rows[list(names)], "combined-verdicts", names, plain=rows)
