"""Do texts made to fool one model fool another? The saved texts are tried on the other models by a process of its own."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import attack_success
from prune_core.analysis.compared_models import Model
from prune_core.experiments import attack_transfer
from prune_core.formatting import plural
from prune_core.processes.child_process import ChildProcess

PATIENCE = 1800.0  # seconds; thousands of texts on many models


def show(view: View, recipe: str) -> None:
    """Known transfer rates, and a button that measures the missing ones."""
    examples, rows = view.first_seed("attack_example"), view.first_seed(attack_transfer.TABLE)
    models = [model for model in view.models if (examples["job"] == model.job).any()]
    if len(models) < 2 or attack_success.successes(examples).empty:
        st.info(
            "Texts need another model to be tried on: put a second attacked model on view in the sidebar.",
            icon=":material/info:",
        )
        return
    view.caption_seed("This section shows", models)
    _ask(view, [model.job for model in models], attack_transfer.lacking(examples, rows))
    rows = rows[rows["source"].isin([model.job for model in models])] if len(rows) else rows
    if rows.empty:
        return
    made_on = attack_transfer.matrix(rows[rows["recipe"] == recipe])
    ui.chart(
        "Does a text made on one model fool another?",
        f"Adversarial examples by {recipe} against the model on the left, evaluated on the model "
        "above: the fraction that succeeds there, of the n whose original it classifies correctly. "
        "Grey: the model that was attacked. Click a cell to read its examples.",
        plots.transfer(
            made_on, {model.job: model.short for model in models}, models, "source", view.dark
        ),
        key="transfer",
        selects=lambda marks: ui.put("cell", marks[0]),
    )
    _texts(view, rows[rows["recipe"] == recipe], models)
    made_by = attack_transfer.matrix(rows, "recipe")
    recipes = list(dict.fromkeys(made_by["recipe"]))
    if len(recipes) > 1:
        ui.chart(
            "Whose texts transfer?",
            "Adversarial examples by the attack on the left against any other model on view, "
            "evaluated on the model above.",
            plots.transfer(
                made_by,
                {name: name.replace(" (", "<br>(") for name in recipes},
                models,
                "recipe",
                view.dark,
            ),
            key="transfer-recipes",
        )
    label = {model.job: model.label for model in models}
    names = {
        "made_on": made_on["source"].map(label),
        "tried_on": made_on["job"].map(label),
        "recipe": recipe,
    }
    ui.downloads(made_on.assign(**names), "attack-transfer")
    ui.how_to_read(
        "A cell is $\\frac{\\text{texts that the model gets wrong}}{\\text{texts whose original it gets right}}$, without a new search: "
        "it is what an attacker reaches who has only the model on the left. A text fools a model when the answer is not the true label. In "
        "the second chart a sentence counts once for every model on which its attack succeeded: n is no number of independent sentences. "
        "Models predict in full precision here; where the attacks ran in bf16, even the model that a text was made on may hold."
    )


def _texts(view: View, rows: pd.DataFrame, models: list[Model]) -> None:
    """The texts of one cell, those that fool the model first."""
    names = {model.job: model.label for model in models}
    cells = [
        f"{made}|{tried}"
        for made in names
        for tried in names
        if ((rows["source"] == made) & (rows["job"] == tried)).any()
    ]
    if not cells:
        return
    told = lambda cell: " → ".join(names[int(job)] for job in cell.split("|"))  # noqa: E731
    across = [cell for cell in cells if len(set(cell.split("|"))) == 2] or cells
    cell = ui.chosen(
        st.selectbox,
        "cell",
        cells,
        default=across[0],
        label="Texts made on → tried on",
        format_func=told,
    )
    made, tried = map(int, cell.split("|"))
    own = rows[
        (rows["source"] == made) & (rows["job"] == tried) & (rows["original"] == rows["truth"])
    ]
    won = view.first_seed("attack_example").query("job == @made and outcome == 'success'")
    texts = won[["example", "recipe", "text", "perturbed"]]
    shown = own.merge(texts, on=["example", "recipe"]).assign(
        fooled=lambda each: each["changed"] != each["truth"]
    )
    shown = shown.sort_values("fooled", ascending=False, kind="stable")[
        ["fooled", "text", "perturbed", "truth", "changed"]
    ]
    wide = st.column_config.TextColumn(width="large")
    columns = {
        "text": wide,
        "perturbed": st.column_config.TextColumn("changed to", width="large"),
        "truth": "right",
        "changed": "it says",
    }
    ui.table(shown, "transfer-texts", columns, height=min(330, 35 * len(shown) + 38))


def _ask(view: View, jobs: list[int], lacking: list[int]) -> None:
    key = f"transfer-{jobs}"
    asked = st.session_state.get(key)
    if lacking and (asked is None or asked.is_over):
        told = (
            "on the other models"
            if len(lacking) == len(jobs)
            else f"on {plural(len(lacking), 'model')} more"
        )
        st.caption(
            f"The saved texts have not been tried {told} yet. Predicting takes seconds a model; nothing is searched anew."
        )
        if st.button(
            "Try the texts on the other models",
            key="transfer-run",
            icon=":material/swap_horiz:",
            type="primary",
        ):
            st.session_state[key] = ChildProcess(
                "prune_core", "transfer", *map(str, jobs), patience=PATIENCE
            )
            st.rerun()
    if asked:
        st.fragment(_progress, run_every=None if asked.is_over else 1.0)(asked, not asked.is_over)


def _progress(asked: ChildProcess, waiting: bool) -> None:
    if not asked.is_over:
        share, _, told = asked.latest.partition("%")
        st.progress(int(share) / 100 if share.isdigit() else 0.0, text=told.strip() or "Starting …")
    elif waiting:
        st.rerun()
    else:
        ui.attempt(asked.output)
