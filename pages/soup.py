"""Robust fine-tuning: model soups, their candidates, and how each average was built."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from prune_core import formatting, plots
from prune_core.analysis import takeaways
from prune_core.paths import resolve_allowed
from prune_core.processes import background, robust_checkpoint

view = frame.view()
ABOUT = (
    "A model soup is the average of the weights of several fine-tunes of one encoder, ordinary "
    "and adversarial ones. It has the size and speed of a single model, and is often a more "
    "robust initial checkpoint for pruning."
)
SCORE = {"greedy-attack": "accuracy under attack", "greedy-accuracy": "accuracy"}


def find_soups(home: Path) -> dict[str, Path]:
    """Return the records of all soups one or two folders below `home` by path, newest first."""
    files = [
        record for pattern in ("*/soup.json", "*/*/soup.json") for record in home.glob(pattern)
    ]
    return {
        str(record.parent.relative_to(home)): record
        for record in sorted(files, key=lambda record: -record.stat().st_mtime)
    }


def candidates(record: dict[str, Any]) -> None:
    """Show the scores of each candidate and the options in which candidates differ."""
    recipes = [row["recipe"] for row in record["candidates"]]
    changed = [
        key
        for key in dict.fromkeys(key for recipe in recipes for key in recipe)
        if len({str(recipe.get(key)) for recipe in recipes}) > 1
    ]
    rows = [
        {
            "name": row["name"],
            "used": row["name"] in record["ingredients"],
            "accuracy": 100 * row["accuracy"],
            "under_attack": 100 * row["under_attack"],
            **{key: option_text(row["recipe"], key) for key in changed},
        }
        for row in record["candidates"]
    ]
    number = st.column_config.NumberColumn
    st.markdown(
        "#### How was each candidate trained?\n:small[:gray[Only the options in which they differ; "
        "“used” candidates are in the average.]]"
    )
    ui.table(
        pd.DataFrame(rows),
        "soup-candidates",
        {
            **{key: key.replace("_", " ").capitalize() for key in ("name", *changed)},
            "used": st.column_config.CheckboxColumn("Used"),
            "accuracy": number("Accuracy", format="%.1f%%"),
            "under_attack": number("Under attack", format="%.1f%%"),
        },
    )


def option_text(recipe: dict[str, Any], key: str) -> str:
    """Return an option as text; a dash if the fine-tune did not use it or its value is unknown."""
    unused = key.startswith("adversarial_") and recipe.get("adversarial") != "freelb"
    return formatting.MISSING if unused else str(recipe.get(key, formatting.MISSING))


def creation_forms(home: Path) -> None:
    """Offer the bundled example and a form for a robust checkpoint from the user's encoder."""
    with st.container(horizontal=True, vertical_alignment="center", key="soup-example"):
        if st.button(
            "Run the example", key="soup-run-example", type="primary", icon=":material/play_arrow:"
        ):
            start(robust_checkpoint.start_example, home)
        st.markdown(
            ":gray[Four short fine-tunes of the demo encoder on 2,000 bundled examples, attacked, "
            "averaged and selected: within 10 minutes on two cores.]"
        )
    _custom_form(home)


def _custom_form(home: Path) -> None:
    """Draw a form that creates a model soup from the user's encoder and data."""
    with (
        st.expander("With my own encoder and data", icon=":material/tune:"),
        st.form("soup-form", border=False),
    ):
        left, right = st.columns(2)
        name = left.text_input("Name", "my robust checkpoint", key="soup-name")
        checkpoint = right.text_input(
            "Encoder",
            "minilm",
            key="soup-checkpoint",
            help="minilm (bundled), a folder or a Hub id.",
        )
        task = left.text_input(
            "Training data",
            "sst2",
            key="soup-task",
            help="A file, a known task, or a Hub data set.",
        )
        validation = right.text_input(
            "Validation data", "sst2", key="soup-validation", help="Selects the candidates."
        )
        plan = robust_checkpoint.RobustPlan(
            checkpoint.strip(), task.strip(), validation.strip(), **_training_sizes()
        )
        st.caption(
            f"About {formatting.approximate_seconds(plan.seconds())} on two cores with a model of "
            "the demo's size; a FreeLB fine-tune takes three times as long as a standard one. A "
            "stopped run can be resumed."
        )
        if st.form_submit_button("Create", icon=":material/play_arrow:"):
            start(robust_checkpoint.start_training, home, name, plan)


def _training_sizes() -> dict[str, int]:
    """Draw the numbers of fine-tunes, examples and epochs; return them as fields of the plan."""
    columns = st.columns(4)
    return {
        "plain": columns[0].number_input("Standard fine-tunes", 0, 20, value=2, key="soup-plain"),
        "freelb": columns[1].number_input(
            "FreeLB fine-tunes",
            0,
            20,
            value=2,
            key="soup-freelb",
            help="Adversarial training with small perturbations of the embeddings.",
        ),
        "examples": columns[2].number_input(
            "Training examples per fine-tune",
            0,
            10_000_000,
            value=20_000,
            key="soup-examples",
            help="0 uses all.",
        ),
        "epochs": columns[3].number_input("Epochs", 1, 100, value=1, key="soup-epochs"),
    }


def start(action: Any, *arguments: Any) -> None:
    """Run `action` and rerun the page if it started; show its error otherwise."""
    if ui.run_action(action, *arguments) is not None:
        st.rerun()


def show_processes(home: Path) -> None:
    """Show running and stopped processes with progress and buttons to stop or resume them."""
    processes = robust_checkpoint.running(home)
    if not processes and st.session_state.pop("soup-running", False):
        st.rerun()  # the whole page, which shows the new soup
    for name, state in processes.items():
        with st.container(border=True, key=f"soup-process-{name}"):
            if state.status == "running":
                st.session_state["soup-running"] = True
                st.progress(min(1.0, state.progress), text=f"**{name}** · {state.detail}")
                if st.button("Stop", key=f"stop-{name}", icon=":material/stop:"):
                    ui.run_action(background.stop, home / name)
            else:
                outcome = (
                    f"failed: {ui.escape(state.detail)}"
                    if state.status == "failed"
                    else "was stopped; finished fine-tunes are kept."
                )
                st.markdown(f"**{name}** {outcome}")
                if st.button("Resume", key=f"resume-{name}", icon=":material/refresh:"):
                    ui.run_action(background.resume, home / name)
                    st.rerun()


ui.page_header("Robust fine-tuning", "", ABOUT)
home = view.store.home / "soups"
running = any(state.status == "running" for state in robust_checkpoint.running(home).values())
st.fragment(show_processes, run_every=1.0 if running else None)(home)
with st.expander("Soups in another folder", icon=":material/folder_open:"):
    folder = st.text_input(
        "Folder with soups", str(home), key="soup-folder", persist_state="session"
    )
directory = ui.run_action(resolve_allowed, folder)
soups = find_soups(directory) if directory else {}
if not soups:
    with st.container(border=True, key="empty-soup"):
        st.markdown(
            "**Which initial checkpoint is most robust?** This page shows the accuracy of each "
            "fine-tune with and without attacks, and how their average was built."
        )
        if not running:
            creation_forms(home)
    st.stop()
chosen = ui.choice_widget(
    st.selectbox, "soup", list(soups), default=next(iter(soups)), label="Soup"
)
record = json.loads(soups[chosen].read_text())
plan = record["plan"]
ui.takeaway(takeaways.soup(record))
if st.button("Prune this soup", key="prune-soup", type="primary", icon=":material/content_cut:"):
    st.session_state["checkpoint"] = str(soups[chosen].parent)
    if view.study:
        st.session_state["study-name"] = view.study
    st.switch_page("pages/prune.py")
ui.chart(
    "How does the average change?",
    f"One dot per fine-tune under {plan['attack']} with 95% intervals. The line connects the "
    "averages in the order in which candidates were added; the star is the selected one.",
    plots.soup_path(record, view.dark),
    key="soup",
)
procedure = (
    "All candidates are averaged, $\\bar\\theta=\\frac1k\\sum_i\\theta_i$, whatever their scores. "
)
if plan["way"] in SCORE:
    procedure = (
        f"Candidates are added by {SCORE[plan['way']]}, highest first; one stays in the average "
        f"$\\bar\\theta=\\frac1k\\sum_i\\theta_i$ if the average's {SCORE[plan['way']]} does not "
        f"decrease and its accuracy is at most {100 * plan['allowed_loss']:g} points below that of "
        "the most accurate candidate (a constant prediction would withstand every attack). "
    )
ui.how_to_read(
    f"Up and to the right is better. {procedure}The average was selected on these examples, so its "
    "scores are slightly optimistic; evaluate it on other data."
)
candidates(record)
st.caption(
    f"Checkpoint: `{soups[chosen].parent}`. To average existing fine-tunes, use "
    "`prune_core soup --checkpoint FOLDER`."
)
if not running:
    st.markdown("#### Create another soup")
    creation_forms(home)
