"""Transfer of adversarial examples: success on other models than the attacked one."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import child_process, ui
from pages.widgets.frame import View
from prune_core import formatting, plots
from prune_core.analysis import attack_success
from prune_core.analysis.compared_models import ComparedModel, with_rows
from prune_core.experiments import attack_transfer

TIMEOUT = 1800.0  # seconds; thousands of texts on many models
ROWS = {"source": "by model", "recipe": "by attack"}


def show(view: View, recipe: str) -> None:
    """Draw the known transfer rates and a button that measures the missing ones."""
    examples, rows = view.first_seed("attack_example"), view.first_seed(attack_transfer.TABLE)
    models = with_rows(view.models, examples)
    if len(models) < 2 or attack_success.successes(examples).empty:
        st.info(
            "Transfer needs adversarial examples and a second attacked model: select one in the "
            "sidebar.",
            icon=":material/info:",
        )
        return
    view.caption_seed("This section shows", models)
    jobs = [model.job for model in models]
    _measure(jobs, attack_transfer.missing_pairs(examples, rows))
    rows = rows[rows["source"].isin(jobs)] if len(rows) else rows
    if rows.empty:
        return
    by = ui.segments("transfer-rows", ROWS, label="Rows")
    cells = rows[rows["recipe"] == recipe]
    sources = {model.job: model.short for model in models}
    if by == "recipe":
        cells = rows
        sources = {name: name.replace(" (", "<br>(") for name in dict.fromkeys(rows["recipe"])}
    rates = attack_transfer.transfer_matrix(cells, by)
    _chart(view, rates, sources, models=models, by=by, recipe=recipe)
    ui.downloads(
        rates.assign(made=rates[by].map(sources), evaluated_on=rates["job"].map(view.labels)),
        "attack-transfer",
    )
    _texts(view, rows[rows["recipe"] == recipe], models)
    ui.how_to_read(
        "A cell is $\\frac{\\text{adversarial texts classified incorrectly}}{\\text{texts whose "
        "original is classified correctly}}$, without a new search: the success rate of an "
        "attacker who has access only to the model on the left. By attack, an example counts once "
        "for every model on which its attack succeeded, so n is not a number of independent "
        "examples. Models predict in full precision here; where attacks ran in bf16, a text may "
        "fail even on the attacked model."
    )


def _chart(
    view: View,
    rates: pd.DataFrame,
    sources: Mapping[Any, str],
    *,
    models: Sequence[ComparedModel],
    by: str,
    recipe: str,
) -> None:
    made, hint = "by the attack", ""
    if by == "source":
        made = f"by {recipe} against the model"
        hint = " Gray: the attacked model. Click a cell to read its examples."
    ui.chart(
        "Do adversarial examples transfer?",
        f"Adversarial examples made {made} on the left, evaluated on the model above: the "
        f"fraction that succeeds there, of the n whose original it classifies correctly.{hint}",
        plots.transfer(rates, sources, models, by=by, dark=view.dark),
        key="transfer",
        selects=_choose_cell if by == "source" else None,
    )


def _choose_cell(marks: list[str]) -> None:
    """Show the texts of a clicked cell, "source|target"."""
    ui.set_choice("cell", marks[0])


def _texts(view: View, rows: pd.DataFrame, models: list[ComparedModel]) -> None:
    """Show the texts of one cell, successful ones first."""
    names = {model.job: model.label for model in models}
    known = set(zip(rows["source"], rows["job"], strict=True))
    cells = {
        f"{source}|{target}": f"{names[source]} → {names[target]}"
        for source in names
        for target in names
        if (source, target) in known
    }
    if not cells:
        return
    start = next((cell for cell in cells if len(set(cell.split("|"))) == 2), next(iter(cells)))
    cell = ui.pick("cell", cells, start, label="Attacked model → evaluated model")
    source, job = map(int, cell.split("|"))
    attacks = view.first_seed("attack_example").query("job == @source and outcome == 'success'")
    shown = (
        rows.query("source == @source and job == @job and original == truth")
        .merge(attacks[["example", "recipe", "text", "perturbed"]], on=["example", "recipe"])
        .assign(succeeds=lambda results: results["changed"] != results["truth"])
        .sort_values("succeeds", ascending=False, kind="stable")
    )
    wide = st.column_config.TextColumn
    ui.table(
        shown[["succeeds", "text", "perturbed", "truth", "changed"]],
        "transfer-texts",
        {
            "text": wide(width="large"),
            "perturbed": wide("adversarial text", width="large"),
            "truth": "label",
            "changed": "prediction",
        },
        height=min(330, 35 * len(shown) + 38),
    )


def _measure(jobs: list[int], missing: list[int]) -> None:
    """Offer to evaluate models on the texts they have not predicted yet; show the progress."""
    key = f"transfer-{jobs}"
    if missing and not child_process.is_running(key):
        models = formatting.plural(len(missing), "model")
        st.caption(
            f"{models} of {len(jobs)} not evaluated on all adversarial examples yet. This takes a "
            "few seconds per model, without a new search."
        )
        if st.button(
            f"Evaluate {models}",
            key="transfer-run",
            icon=":material/swap_horiz:",
            type="primary",
        ):
            child_process.start(key, "transfer", *map(str, jobs), timeout=TIMEOUT)
    child_process.show(key, "Starting …", lambda _: None)
