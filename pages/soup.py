"""Robust fine-tuning: model soups, that is averages of fine-tunes; their candidates, and how the average moved. Reads soup.json files."""

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages import _frame, _ui
from prune_core import formatting, plots
from prune_core.analysis import takeaways

view = _frame.view()
ABOUT = (
    "A soup is the average of the weights of several fine-tunes of one encoder, ordinary ones and ones trained against an attacker. "
    "It is one model, as large and as fast as each of them, and often a start for pruning that attacks flip less often."
)
SCORE = {"greedy-attack": "accuracy under attack", "greedy-accuracy": "accuracy"}


def found(home: Path) -> dict[str, Path]:
    """The soups one or two folders below this one by their paths, the newest first."""
    files = [file for pattern in ("*/soup.json", "*/*/soup.json") for file in home.glob(pattern)]
    return {str(file.parent.relative_to(home)): file for file in sorted(files, key=lambda file: -file.stat().st_mtime)}


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
    st.markdown("#### How was each candidate made?\n:small[:gray[Only the options in which they differ; “used” ones are in the average.]]")
    _ui.table(pd.DataFrame(rows), "soup-candidates", {**words, **shares, "used": st.column_config.CheckboxColumn("Used")})


def value(recipe: dict[str, Any], key: str) -> str:
    """An option as text; a dash where the fine-tune did not use it, or was made elsewhere."""
    unused = key.startswith("adversarial_") and recipe.get("adversarial") != "freelb"
    return formatting.MISSING if unused else str(recipe.get(key, formatting.MISSING))


_ui.opening("Robust fine-tuning", "", ABOUT)
folder = st.text_input("Folder with soups", str(view.store.home / "soups"), key="soup-folder", persist_state="session")
soups = found(Path(folder).expanduser())
if not soups:
    with st.container(border=True, key="empty-soup"):
        st.markdown(
            "**Which start do attacks hurt least?** This page shows what each fine-tune keeps under attack, and how their average moved. "
            "There is no soup in this folder yet. This command makes one, ten fine-tunes first, which takes hours; a stopped one goes on:"
        )
        out = shlex.quote(str(Path(folder) / "sst2"))
        st.code(
            "python -m prune_core soup --recipes assets/soups/akr-table-8.yaml --epochs-share 0.1 --each examples=20000 --each dropout=0 "
            f"--task sst2 --validation sst2 --out {out}",
            language="bash",
            wrap_lines=True,
        )
        st.caption("Fine-tunes that are there already go in with --checkpoint FOLDER, once for each.")
    st.stop()
chosen = _ui.chosen(st.selectbox, "soup", list(soups), next(iter(soups)), label="Soup on view")
record = json.loads(soups[chosen].read_text())
plan = record["plan"]
st.html(f'<div class="takeaway">{_ui.escape(takeaways.soup(record))}</div>')
_ui.chart(
    "How did the average move?",
    f"Each dot is a fine-tune under {plan['attack']}, bars are 95% intervals; the line joins the averages in the order in which they grew, "
    "the star is the one that was kept.",
    plots.soup_path(record, view.dark),
    "soup",
)
_ui.how_to_read(
    "Up and to the right is better. "
    + (
        f"Candidates are taken by {SCORE[plan['way']]}, highest first; one stays in the average $\\bar\\theta=\\frac1k\\sum_i\\theta_i$ if "
        f"the average's {SCORE[plan['way']]} does not fall by it and its accuracy is at most {100 * plan['allowed_loss']:g} points below "
        "the most accurate candidate's (a model that always says the same would stand up to every attack). "
        if plan["way"] in SCORE
        else "All candidates are averaged, $\\bar\\theta=\\frac1k\\sum_i\\theta_i$, whatever they score. "
    )
    + "These are the sentences by which the average was chosen, so its figures flatter it a little; measure the kept one on others."
)
candidates(record)
st.caption(f"To prune it, give this checkpoint on the Prune page: `{soups[chosen].parent}`")
