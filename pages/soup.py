"""Robust fine-tuning: model soups, their candidates, and how the average was built."""

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
    "A soup is the average of the weights of several fine-tunes of one encoder, ordinary ones "
    "and ones trained against an attacker. It is one model, as large and as fast as each of "
    "them, and often a start for pruning that attacks flip less often."
)
SCORE = {"greedy-attack": "accuracy under attack", "greedy-accuracy": "accuracy"}


def found(home: Path) -> dict[str, Path]:
    """The soups one or two folders below this one by their paths, the newest first."""
    files = [file for pattern in ("*/soup.json", "*/*/soup.json") for file in home.glob(pattern)]
    return {
        str(file.parent.relative_to(home)): file
        for file in sorted(files, key=lambda file: -file.stat().st_mtime)
    }


def candidates(record: dict[str, Any]) -> None:
    """How each was made and what it scored; of the hyper-parameters only those that differ."""
    recipes = [row["recipe"] for row in record["candidates"]]
    names = dict.fromkeys(key for recipe in recipes for key in recipe)
    differ = [key for key in names if len({str(recipe.get(key)) for recipe in recipes}) > 1]
    rows = [
        {
            "name": row["name"],
            "used": row["name"] in record["ingredients"],
            "accuracy": 100 * row["accuracy"],
            "under_attack": 100 * row["under_attack"],
            **{key: value(row["recipe"], key) for key in differ},
        }
        for row in record["candidates"]
    ]
    shares = {
        key: st.column_config.NumberColumn(title, format="%.1f%%")
        for key, title in (("accuracy", "Accuracy"), ("under_attack", "Under attack"))
    }
    words = {key: key.replace("_", " ").capitalize() for key in ("name", *differ)}
    st.markdown(
        "#### How was each candidate made?\n:small[:gray[Only the options in which they differ; "
        "“used” ones are in the average.]]"
    )
    ui.table(
        pd.DataFrame(rows),
        "soup-candidates",
        {**words, **shares, "used": st.column_config.CheckboxColumn("Used")},
    )


def value(recipe: dict[str, Any], key: str) -> str:
    """An option as text; a dash where the fine-tune did not use it, or was made elsewhere."""
    unused = key.startswith("adversarial_") and recipe.get("adversarial") != "freelb"
    return formatting.MISSING if unused else str(recipe.get(key, formatting.MISSING))


def make(home: Path) -> None:
    """The bundled example by one button, or a robust start of one's own by a form."""
    with st.container(horizontal=True, vertical_alignment="center", key="soup-example"):
        if st.button(
            "Make the example", key="make-example", type="primary", icon=":material/play_arrow:"
        ) and begun(robust_checkpoint.start_example, home):
            st.rerun()
        st.markdown(
            ":gray[Four short fine-tunes of the demo encoder on 2,000 bundled sentences, their "
            "attack, their averages, the choice: within 10 minutes on two cores.]"
        )
    _own(home)


def _own(home: Path) -> None:
    """A form that creates a model soup from the user's encoder and data."""
    with (
        st.expander("With my own encoder and data", icon=":material/tune:"),
        st.form("make-own", border=False),
    ):
        left, right = st.columns(2)
        name = left.text_input("Name", "my robust start", key="own-name")
        checkpoint = right.text_input(
            "Encoder to start from",
            "minilm",
            key="own-checkpoint",
            help="minilm (bundled), a folder or a Hub id",
        )
        task = left.text_input(
            "Training data",
            "sst2",
            key="own-task",
            help="A file, a known task, or a data set of the Hub",
        )
        validation = right.text_input(
            "Data to choose by", "sst2", key="own-validation", help="Apart from the training data"
        )
        places = st.columns(4)
        plain = places[0].number_input("Plain fine-tunes", 0, 20, value=2, key="own-plain")
        freelb = places[1].number_input(
            "FreeLB fine-tunes",
            0,
            20,
            value=2,
            key="own-freelb",
            help="Against small changes of the embeddings",
        )
        examples = places[2].number_input(
            "Training examples each",
            0,
            10_000_000,
            value=20_000,
            key="own-examples",
            help="0 takes all",
        )
        epochs = places[3].number_input("Epochs", 1, 100, value=1, key="own-epochs")
        wish = robust_checkpoint.RobustPlan(
            checkpoint.strip(),
            task.strip(),
            validation.strip(),
            plain=plain,
            freelb=freelb,
            examples=examples,
            epochs=epochs,
        )
        st.caption(
            f"About {formatting.approximate_seconds(wish.seconds())} for these numbers on two cores with a model "
            "of the demo's size; a FreeLB fine-tune takes three times as long as a plain one. A "
            "stopped run can be resumed."
        )
        if st.form_submit_button("Make it", icon=":material/play_arrow:") and begun(
            robust_checkpoint.start_training, home, name, wish
        ):
            st.rerun()


def begun(action: Any, *arguments: Any) -> bool:
    """Whether it was begun; a mistake is said."""
    return ui.run_action(action, *arguments) is not None


def at_work(home: Path) -> None:
    """What is being made, with progress, stop and resume."""
    found = robust_checkpoint.running(home)
    if not found and st.session_state.pop("soup-working", False):
        st.rerun()  # whole, for what has become of it
    for name, state in found.items():
        with st.container(border=True, key=f"work-{name}"):
            if state.status == "running":
                st.session_state["soup-working"] = True
                st.progress(min(1.0, state.progress), text=f"**{name}** · {state.detail}")
                if st.button("Stop", key=f"stop-{name}", icon=":material/stop:"):
                    ui.run_action(background.stop, home / name)
            else:
                failed = state.status == "failed"
                st.markdown(
                    f"**{name}** "
                    + (
                        f"failed: {ui.escape(state.detail)}"
                        if failed
                        else "was stopped; what is finished is kept."
                    )
                )
                if st.button("Go on", key=f"resume-{name}", icon=":material/refresh:"):
                    ui.run_action(background.resume, home / name)
                    st.rerun()


def prune(checkpoint: Path) -> None:
    """Turn to the Prune page with the average filled in, its runs in the study on view."""
    st.session_state["checkpoint"] = str(checkpoint)
    if view.study:
        st.session_state["study-name"] = view.study
    st.switch_page("pages/prune.py")


ui.page_header("Robust fine-tuning", "", ABOUT)
home = view.store.home / "soups"
running = any(state.status == "running" for state in robust_checkpoint.running(home).values())
st.fragment(at_work, run_every=1.0 if running else None)(home)
with st.expander("Soups elsewhere", icon=":material/folder_open:"):
    folder = st.text_input(
        "Folder with soups", str(home), key="soup-folder", persist_state="session"
    )
place = ui.run_action(resolve_allowed, folder)
soups = found(place) if place else {}
if not soups:
    with st.container(border=True, key="empty-soup"):
        st.markdown(
            "**Which start do attacks hurt least?** This page shows what each fine-tune keeps "
            "under attack, and how their average moved."
        )
        if not running:
            make(home)
    st.stop()
chosen = ui.choice_widget(
    st.selectbox, "soup", list(soups), default=next(iter(soups)), label="Soup on view"
)
record = json.loads(soups[chosen].read_text())
plan = record["plan"]
st.html(f'<div class="takeaway">{ui.escape(takeaways.soup(record))}</div>')
if st.button("Prune it", key="prune-soup", type="primary", icon=":material/content_cut:"):
    prune(soups[chosen].parent)
ui.chart(
    "How did the average move?",
    f"Each dot is a fine-tune under {plan['attack']}, bars are 95% intervals; the line joins the "
    "averages in the order in which they grew, the star is the one that was kept.",
    plots.soup_path(record, view.dark),
    key="soup",
)
ui.how_to_read(
    "Up and to the right is better. "
    + (
        f"Candidates are taken by {SCORE[plan['way']]}, highest first; one stays in the average "
        f"$\\bar\\theta=\\frac1k\\sum_i\\theta_i$ if the average's {SCORE[plan['way']]} does not "
        f"fall by it and its accuracy is at most {100 * plan['allowed_loss']:g} points below the "
        "most accurate candidate's (a model that always says the same would stand up to every "
        "attack). "
        if plan["way"] in SCORE
        else "All candidates are averaged, $\\bar\\theta=\\frac1k\\sum_i\\theta_i$, whatever they "
        "score. "
    )
    + "These are the sentences by which the average was chosen, so its figures flatter it a "
    "little; measure the kept one on others."
)
candidates(record)
st.caption(
    f"Its checkpoint: `{soups[chosen].parent}`. Fine-tunes that are there already go in by "
    "`prune_core soup --checkpoint FOLDER`."
)
if not running:
    st.markdown("#### Make another")
    make(home)
