"""Attack: success rates on each model, the attacker's cost, and every attacked example."""

import pandas as pd
import streamlit as st

from pages.sections import (
    attack_catalogue,
    attack_examples,
    attack_paired_test,
    attack_slices,
    attack_transfer,
    attack_validity,
)
from pages.widgets import frame, ui
from prune_core import plots
from prune_core.analysis import takeaways
from prune_core.attacks.catalogue import EVASION, GROUPS, changes_of
from prune_core.views.attack import recipes

view = frame.view()
rows = view.rows("attack") if view.models else pd.DataFrame()
if view.models and not view.task_type.attackable:
    st.title("Attack", anchor=False)
    st.info(
        "These attacks try to change the predicted label, but the models of this study predict "
        f"{view.task_type.output}. See Compare, Layers and Drift for what pruning costs on clean "
        "data.",
        icon=":material/info:",
    )
    st.stop()
if rows.empty:
    ui.empty(
        view.store,
        "Attack",
        "**Is the pruned model easier to attack?** This page shows the success rate of each attack "
        "with its interval, how it grows with the attacker's budget, and every attacked example "
        "with its changed words marked.",
        key="attack",
        is_active=view.is_active,
    )
examples = view.outcomes()


def budgets() -> None:
    """Draw accuracy against the attacker's budget of queries and of changed words."""
    runs = max(len(model.runs) for model in view.models)
    sample = f"n = {attacked.groupby('seed')['example'].nunique().max()} examples"
    if runs > 1:
        sample += f" in each of {runs} seeds"
    with st.grid(2, min_column_width=330, key="budgets") as grid:
        with grid.cell():
            ui.chart(
                "What does an attacker with few queries achieve?",
                "Accuracy left when the attack may spend at most this many model queries per "
                f"example. {recipe}, {sample}.",
                plots.against_budget(
                    attacked, view.models, recipe, spending="queries", dark=view.dark
                ),
                key="queries",
                small=True,
            )
        with grid.cell():
            ui.chart(
                "What does an attacker who changes few words achieve?",
                "Accuracy left when the attack may change at most this fraction of an example's "
                f"words. {sample}.",
                plots.against_budget(
                    attacked, view.models, recipe, spending="share_changed", dark=view.dark
                ),
                key="words",
                small=True,
            )


def all_values() -> None:
    """Show the attack table and offer all attacked examples for download."""
    rates = {
        "accuracy": "accuracy",
        "under_attack": "under attack",
        "success_rate": "success rate",
        "words_changed": "words changed",
    }
    shown = rows.assign(
        run=rows["job"].map(view.labels), **{name: 100 * rows[name] for name in rates}
    )
    outcomes = ("attacked", "succeeded", "failed", "skipped", "errored")
    number = st.column_config.NumberColumn
    ui.table(
        shown[["run", "recipe", *list(rates)[:3], *outcomes, "words_changed", "queries"]],
        "attack",
        {
            **{key: ui.percent_bar(title) for key, title in rates.items()},
            # means over seeds are no whole numbers
            **{key: number(key, format="%.1f" if mean else "%d") for key in outcomes},
            "queries": number("queries (mean)", format="%.0f"),
        },
        plain=rows,
    )
    st.caption("Every attacked example with its outcome, all seeds:")
    ui.downloads(examples.assign(run=examples["job"].map(view.labels)), "attack-examples")


def show_examples(marks: list[str]) -> None:
    """Show the examples of a clicked dot, "job|recipe"."""
    job, name = marks[0].split("|")
    for choice, value in (
        ("attack-model", int(job)),
        ("attack-changes", changes_of(name)),
        ("recipe", name),
        ("attack-section", "examples"),
        ("attack-group", "all"),
    ):
        ui.set_choice(choice, value)


ui.page_header("Attack", takeaways.attack(rows, examples, view.models))
unable = takeaways.unable_to_attack(examples)
mean = view.means()
interval = "interval over seeds and examples" if mean else "Wilson interval"
shown_rows, measured = rows, {changes_of(name) for name in rows["recipe"]}
if EVASION in measured and len(measured) > 1:
    titles = {changes: title for changes, title in GROUPS.items() if changes in measured}
    chosen = ui.segments("attack-changes", titles, label="Attacks by what they change")
    shown_rows = rows[rows["recipe"].map(changes_of) == chosen]
if len(attacks := shown_rows[~shown_rows["recipe"].isin(unable)]):
    ui.chart(
        "On which model do attacks succeed?",
        f"One dot per model with its 95% {interval}: the fraction of correctly classified examples "
        f"on which the attack succeeded within its budget{f', {mean}' if mean else ''}. "
        "Click a dot to read its examples.",
        plots.success(attacks, view.models, view.dark),
        key="success",
        selects=show_examples,
    )
for sentence in unable.values():
    st.info(sentence, icon=":material/info:")
recipe = ui.segments_if_several(
    "recipe", {name: name for name in recipes(shown_rows)}, label="Attack shown below"
)
attacked = examples[examples["recipe"] == recipe]


def paired_tests() -> None:
    """Show the paired tests, how success is counted, and the catalogue of attacks."""
    attack_paired_test.show(view, attacked)
    ui.how_to_read(
        "Attack success rate $=\\frac{\\text{succeeded}}{\\text{succeeded}+\\text{failed}}$. An "
        "attack succeeds when the prediction becomes incorrect, unless the list of attacks below "
        "defines success differently (Input reduction, Kuleshov). Examples that the model already "
        "misclassifies are **skipped** and not counted, so the denominator differs between models. "
        "**Accuracy under attack** counts all examples. Recipes have different rules on what may "
        "be changed: compare models within a recipe, not recipes with each other."
    )
    options = {
        model.label: measure["options"]
        for model in view.models
        for measure in view.job(model).experiment["measures"]
        if measure["name"] == "attack"
    }
    st.caption(takeaways.attack_settings(options))
    attack_catalogue.panel()


VIEWS = {
    "significance": ("Significance", paired_tests),
    "examples": ("Examples", lambda: attack_examples.show(view, recipe)),
    "budget": ("Attacker's budget", budgets),
    "slices": ("Slices", lambda: attack_slices.show(view, recipe)),
    "transfer": ("Transfer", lambda: attack_transfer.show(view, recipe)),
    "validity": ("Validity", lambda: attack_validity.show(view, recipe)),
    "values": ("All values", all_values),
}
ui.sections(VIEWS, "attack-section")
