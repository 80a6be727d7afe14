"""Size search: the highest sparsity within the policy's limits, run in the background."""

import hashlib
from pathlib import Path

import streamlit as st

from pages.widgets import ui
from prune_core.deployment.policy import Policy
from prune_core.processes import background
from prune_core.store.job import Job

OBJECTIVES = {"smallest": "Smallest model", "fastest": "Fastest model, measured on this machine"}


def page(home: Path, job: Job, policy: Policy) -> None:
    """Start, show and stop a search; a stopped search with the same limits can be resumed."""
    if job.is_candidate:
        st.info(
            f"{ui.escape(job.label)} was not pruned here: choose a pruned model to search "
            "for a smaller one.",
            icon=":material/info:",
        )
        return
    st.markdown(
        f"How much can the method of **{ui.escape(job.label)}** remove from its checkpoint while "
        "all limits on this page are met? The search bisects over sparsity; every trial is a run "
        "in its own study."
    )
    objective = "smallest"
    if job.experiment["method"]["removes"] == "units":
        objective = ui.segments("search-objective", OBJECTIVES, objective, label="Objective")
    command = [
        "shrink-to",
        "--job",
        str(job.id),
        *(["--fastest"] if objective == "fastest" else []),
    ]
    # other limits are another search
    digest = hashlib.sha256(policy.as_yaml().encode()).hexdigest()[:8]
    folder = home / objective / f"job-{job.id}-{digest}"
    state = background.state(folder)
    running = state is not None and state.status == "running"
    if not running and st.button(
        f"Find the {objective} model",
        key=f"find-{objective}",
        type="primary",
        icon=":material/compress:",
    ):
        ui.run_action(_begin, folder, command, policy)
        st.rerun()
    st.fragment(_watch, run_every=1.0 if running else None)(folder)
    st.caption(
        "The same search from the command line; exit code 0 if a sparsity meets the limits, 1 if "
        "none does:"
    )
    st.code(f"python -m prune_core {' '.join(command)} --policy policy.yaml", language="bash")


def _begin(folder: Path, command: list[str], policy: Policy) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy.as_yaml(), encoding="utf-8")
    background.start(folder, [*command, "--policy", str(folder / "policy.yaml")])


def _watch(folder: Path) -> None:
    """Show the results of the trials and the progress of the running one."""
    state = background.state(folder)
    if state is None:
        return
    log = folder / background.LOG
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    output = [line for line in text.splitlines() if line.strip()]
    if state.status == "running":
        st.session_state["search-running"] = True
        st.progress(min(1.0, state.progress), text=state.detail)
        if st.button("Stop", key="stop-search", icon=":material/stop:"):
            ui.run_action(background.stop, folder)
    elif st.session_state.pop("search-running", False):
        st.rerun()  # the whole page, as a study was added
    elif state.status == "stopped":
        st.info(
            "The search was stopped. If you start it again, finished trials are reused.",
            icon=":material/info:",
        )
    elif output:
        show, icon = (st.success, "flag") if state.status == "done" else (st.info, "info")
        show(ui.escape(output[-1].removeprefix("prune_core: ")), icon=f":material/{icon}:")
    # the other lines are progress, warnings and the result at the end
    st.markdown("\n".join(f"- {ui.escape(line[2:])}" for line in output if line.startswith("- ")))
