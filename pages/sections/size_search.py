"""Size search: the smallest or fastest model or file within limits, run in the background."""

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import pandas as pd
import streamlit as st

from pages.widgets import ui
from prune_core import plots
from prune_core.deployment.policy import Policy
from prune_core.measures import MEASURES
from prune_core.plugins import option_specs
from prune_core.processes import background
from prune_core.store.job import Job

RECORD, BEST = "search.json", "best"  # of a search for files, in its folder
PYTORCH = "PyTorch fp32"
OBJECTIVES = {"smallest": "Smallest model", "fastest": "Fastest model, measured on this machine"}


def page(home: Path, job: Job, policy: Policy, dark: bool = False) -> None:
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
    objective, files = "smallest", list[str]()
    if job.experiment["method"]["removes"] == "units":
        objective = ui.segments("search-objective", OBJECTIVES, objective, label="Objective")
        files = _file_options()
    command = [
        "shrink-to",
        "--job",
        str(job.id),
        *(["--fastest"] if objective == "fastest" else []),
        *files,
    ]
    # other limits are another search
    content = policy.as_yaml() + " ".join(files)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
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
    if not running and (folder / RECORD).is_file():
        _show_files(folder, objective, dark)
    st.caption(
        "The same search from the command line; exit code 0 if a sparsity meets the limits, 1 if "
        "none does:"
    )
    st.code(f"python -m prune_core {shlex.join(command)} --policy policy.yaml", language="bash")


def _file_options() -> list[str]:
    """Draw the choice of formats and of trimming; return the arguments, [] without a format."""
    measure = MEASURES["formats"]
    spec = next(each for each in option_specs(measure) if each["name"] == "formats")
    unavailable = measure.unavailable_choices()  # type: ignore[attr-defined]
    available = [name for name in (PYTORCH, *spec["choices"]) if name not in unavailable]
    formats = ui.choice_widget(
        st.multiselect,
        "search-formats",
        available,
        default=[],
        multi=True,
        label="Search exported files in these formats",
        placeholder="the PyTorch model only",
        help="Sparsity is bisected in the format that is best without pruning; the others are "
        "tried at the highest sparsity that meets the limits. The files themselves are measured, "
        "each also in a fresh process.",
    )
    if not formats:
        return []
    is_trimmed = st.toggle(
        "Trim the vocabulary first",
        key="search-trim",
        help="Keeps only the tokens that the calibration pool needs. The loss is measured from the "
        "full model, so it includes that of trimming.",
    )
    return ["--formats", ",".join(formats), *(["--trim"] if is_trimmed else [])]


def _begin(folder: Path, command: list[str], policy: Policy) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text(policy.as_yaml(), encoding="utf-8")
    arguments = [*command, "--policy", str(folder / "policy.yaml")]
    if "--formats" in command:
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder / BEST, ignore_errors=True)
        arguments += ["--json", str(folder / RECORD), "--out", str(folder / BEST)]
    background.start(folder, arguments)


def _show_files(folder: Path, objective: str, dark: bool) -> None:
    """Show the tried files as a chart and a table, and where the best one is."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    rows = pd.DataFrame(record["table"])
    if record["warning"]:
        st.warning(ui.escape(record["warning"]), icon=":material/warning:")
    if (folder / BEST).is_dir():
        st.markdown(f"The chosen file, with its tokenizer: `{folder / BEST}`")
    ui.chart(
        f"What does the {objective} file cost?",
        "One point per file with its 95% interval; the dotted line is the Pareto front, the ring "
        "the chosen file.",
        plots.search_front(rows, objective, dark),
        key="search-front",
    )
    number = st.column_config.NumberColumn
    columns = {
        "label": "File",
        "score": number("Score", format="%.3f"),
        "score_low": number("95% low", format="%.3f"),
        "score_high": number("95% high", format="%.3f"),
        "bytes": number("MB", format="%.1f"),
        "latency": number("ms per batch", format="%.1f"),
        "speedup": number("Speed-up", format="%.2f"),
        "memory": number("Resident memory, MB", format="%.0f"),
        "is_within_limits": "Within limits",
        "front": "Pareto front",
    }
    scale = {"bytes": 1e-6, "memory": 1e-6, "latency": 1e3}
    shown = rows.assign(**{name: rows[name].astype(float) * by for name, by in scale.items()})
    ui.table(shown[list(columns)], "search-files", columns, plain=rows)


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
