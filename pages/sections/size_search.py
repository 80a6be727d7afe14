"""Size search: the highest sparsity within the policy's limits, run in the background."""

from __future__ import annotations

import hashlib
from pathlib import Path

import streamlit as st

from pages.widgets import ui
from prune_core.analysis.policy import Policy
from prune_core.processes import background
from prune_core.store.job import Job

WAYS = {"smallest": "The smallest", "fastest": "The fastest, by time measured here"}


def page(home: Path, job: Job, policy: Policy) -> None:
    """Start, watch, stop; a search of the same limits that was stopped goes on where it was."""
    st.markdown(
        f"How much can the method of **{ui.escape(job.label)}** remove from its checkpoint "
        "before a limit on this page no longer surely holds? The search halves the range of "
        "shares again and again; its tries are runs of a study of their own."
    )
    asked = "smallest"
    if "speedup" in job.experiment["method"]["options"]:  # it removes heads and neurons
        asked = ui.segments("smallest-way", WAYS, asked, label="Wanted")
    command = ["shrink-to", "--job", str(job.id), *(["--fastest"] if asked == "fastest" else [])]
    limits = hashlib.sha256(policy.as_yaml().encode()).hexdigest()[
        :8
    ]  # an answer is to the limits that were asked about
    folder = home / asked / f"job-{job.id}-{limits}"
    state = background.state(folder)
    running = state is not None and state.status == "running"
    if not running and st.button(
        f"Find the {asked}", key=f"find-{asked}", type="primary", icon=":material/compress:"
    ):
        ui.run_action(_begin, folder, command, policy)
        st.rerun()
    st.fragment(_watch, run_every=1.0 if running else None)(folder)
    st.caption(
        "The same from the command line, which ends with 0 where a share holds the limits and "
        "with 1 where none does:"
    )
    st.code(f"python -m prune_core {' '.join(command)} --policy policy.yaml", language="bash")


def _begin(folder: Path, command: list[str], policy: Policy) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy.as_yaml(), encoding="utf-8")
    background.start(folder, [*command, "--policy", str(folder / "policy.yaml")])


def _watch(folder: Path) -> None:
    """What the tries said so far, and how far the one at work is."""
    state = background.state(folder)
    if state is None:
        return
    log = folder / background.LOG
    lines = (
        [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        if log.is_file()
        else []
    )
    tries = [
        line for line in lines if line.startswith("- ")
    ]  # the others are progress, warnings, and the answer at the end
    if state.status == "running":
        st.session_state["smallest-working"] = True
        st.progress(min(1.0, state.progress), text=state.detail)
        if st.button("Stop", key="stop-smallest", icon=":material/stop:"):
            ui.run_action(background.stop, folder)
    elif st.session_state.pop("smallest-working", False):
        st.rerun()  # the whole page: there is a study more
    elif state.status == "stopped":
        st.info(
            "The search was stopped. Begun again, it reads what it has measured.",
            icon=":material/info:",
        )
    elif lines:
        answer = lines[-1].removeprefix("prune_core: ")
        show, icon = (st.success, "flag") if state.status == "done" else (st.info, "info")
        show(ui.escape(answer), icon=f":material/{icon}:")
    st.markdown("\n".join(f"- {ui.escape(line[2:])}" for line in tries))
