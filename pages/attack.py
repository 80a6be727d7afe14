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
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import takeaways
from prune_core.analysis.quantities import recipes
from prune_core.data.examples import TASK_TYPES

view = frame.view()
rows = view.rows("attack") if view.models else pd.DataFrame()
if view.models and view.kind != "classification":
    st.title("Attack", anchor=False)
    gives = f"give {TASK_TYPES[view.kind]}"
    st.info(
        f"The attacks here try to flip a label, and the models of this study {gives}: there is no "
        "label to flip. What pruning costs them on clean data is on Compare, Layers and Drift.",
        icon=":material/info:",
    )
    st.stop()
if rows.empty:
    ui.empty(
        view.store,
        "Attack",
        "**Is the pruned model easier to fool?** This page shows how often each attack turns a "
        "right answer wrong, with intervals, how that grows with the attacker's budget, and "
        "every attacked sentence with its changed words marked.",
        key="attack",
        waiting=view.waiting,
    )
examples = view.outcomes()


def budgets(view: View, own: pd.DataFrame) -> None:
    """What is left of accuracy as the attacker may ask, and change, more."""
    recipe, runs = own["recipe"].iloc[0], max(len(model.runs) for model in view.models)
    n = f"n = {own.groupby('seed')['example'].nunique().max()} examples"
    n += f" in each of {runs} seeds" * (runs > 1)
    with st.grid(2, min_column_width=330, key="budgets") as grid:
        with grid.cell():
            ui.chart(
                "What does an attacker with few queries achieve?",
                "Accuracy left when the attack may spend at most this many model queries per "
                f"example. {recipe}, {n}.",
                plots.against_budget(own, view.models, recipe, spending="queries", dark=view.dark),
                key="queries",
                small=True,
            )
        with grid.cell():
            ui.chart(
                "And one who may change few words?",
                "Accuracy left when the attack may change at most this fraction of an example's "
                f"words. {n}.",
                plots.against_budget(
                    own, view.models, recipe, spending="share_changed", dark=view.dark
                ),
                key="words",
                small=True,
            )


def figures() -> None:
    """The rows behind the page."""
    shares = {
        "accuracy": "accuracy",
        "under_attack": "under attack",
        "success_rate": "success rate",
        "words_changed": "words changed",
    }
    shown = rows.assign(
        run=rows["job"].map(view.labels), **{name: 100 * rows[name] for name in shares}
    )
    bars = {key: ui.percent_bar(title) for key, title in shares.items()}
    outcomes = ("attacked", "succeeded", "failed", "skipped", "errored")
    number = st.column_config.NumberColumn
    counts = {key: number(key, format="%.1f" if mean else "%d") for key in outcomes}
    ui.table(
        shown[["run", "recipe", *list(shares)[:3], *outcomes, "words_changed", "queries"]],
        "attack",
        {**bars, **counts, "queries": number("queries (mean)", format="%.0f")},
        plain=rows,
    )
    st.caption("Every attacked example with its outcome, all seeds:")
    ui.downloads(examples.assign(run=examples["job"].map(view.labels)), "attack-examples")


def read(marks: list[str]) -> None:
    """Turn to the sentences behind a dot that was clicked, "job|recipe"."""
    job, name = marks[0].split("|")
    for choice, value in (
        ("attack-model", int(job)),
        ("recipe", name),
        ("ask", "read"),
        ("turned", "all"),
    ):
        ui.set_choice(choice, value)


ui.page_header("Attack", takeaways.attack(rows, examples, view.models))
unable = takeaways.unable_to_attack(examples)
mean = view.means()
interval = "interval over seeds and examples" if mean else "Wilson interval"
if len(able := rows[~rows["recipe"].isin(unable)]):
    ui.chart(
        "On which model do attacks succeed?",
        f"One dot per model with its 95% {interval}: the fraction of correctly classified examples "
        f"on which the attack succeeded within its budget{f', {mean}' if mean else ''}. "
        "Click a dot to read its examples.",
        plots.success(able, view.models, view.dark),
        key="success",
        selects=read,
    )
for sentence in unable.values():
    st.info(sentence, icon=":material/info:")
recipe = recipes(rows)[0]
if len(recipes(rows)) > 1:
    recipe = ui.choice_widget(
        st.segmented_control,
        "recipe",
        recipes(rows),
        default=recipe,
        label="Attack for everything below",
    )
own = examples[examples["recipe"] == recipe]


def chance() -> None:
    """Paired tests, and how success is counted."""
    attack_paired_test.show(view, own)
    ui.how_to_read(
        "Attack success rate $=\\frac{\\text{succeeded}}{\\text{succeeded}+\\text{failed}}$; an "
        "attack succeeds where it turns the answer wrong, unless the list of attacks below says "
        "otherwise (Input reduction, Kuleshov); sentences the model got wrong to begin with are "
        "**skipped** and not counted, so the denominator differs from model to model. **Accuracy "
        "under attack** counts all sentences. Recipes follow different rules on what may be "
        "changed: compare models within a recipe, not recipes with each other."
    )
    options = {
        m.label: each["options"]
        for m in view.models
        for each in view.job(m).experiment["measures"]
        if each["name"] == "attack"
    }
    st.caption(takeaways.attack_settings(options))
    attack_catalogue.panel()


VIEWS = {
    "chance": ("More than chance?", chance),
    "read": ("The sentences", lambda: attack_examples.show(view, recipe)),
    "cost": ("The attacker's cost", lambda: budgets(view, own)),
    "weak": ("Where it is weak", lambda: attack_slices.show(view, recipe)),
    "transfer": ("Do texts transfer?", lambda: attack_transfer.show(view, recipe)),
    "valid": ("Are they valid?", lambda: attack_validity.show(view, recipe)),
    "figures": ("All figures", figures),
}
ui.parts(VIEWS, "ask")
