"""Attack: how often adversarial edits succeed on each model, what they cost the attacker, and every example to read."""

import pandas as pd
import streamlit as st

from pages import _frame, _ui
from prune_core import catalogue, plots, robustness, takeaways
from prune_core.palette import Model
from prune_core.quantities import recipes

view = _frame.view()
rows = view.rows("attack") if view.models else pd.DataFrame()
if view.models and view.kind != "classification":
    st.title("Attack", anchor=False)
    gives = {"span": "find answers in a text", "regression": "give scores"}[view.kind]
    st.info(
        f"The attacks here try to flip a label, and the models of this study {gives}: there is no label to flip. What pruning costs "
        "them on clean data is on Compare, Layers and Drift.",
        icon=":material/info:",
    )
    st.stop()
if rows.empty:
    _ui.empty(
        view.store,
        "Attack",
        "**Is the pruned model easier to fool?** This page shows how often each attack turns a right answer wrong, with intervals, "
        "how that grows "
        "with the attacker's budget, and every attacked sentence with its changed words marked.",
        "attack",
        view.waiting,
    )
OUTCOMES = {"success": "turned wrong", "failed": "held", "skipped": "already wrong", "error": "error"}
examples = view.rows("attack_example")
names = view.label_names


def browser(recipe: str, dense: Model | None, model: Model) -> None:
    """Filters and a list on the left, the chosen sentence on the right."""
    mine = examples[(examples["recipe"] == recipe) & (examples["job"] == model.job)]
    base = examples[(examples["recipe"] == recipe) & (examples["job"] == dense.job)] if dense else mine
    both = mine[["example", "text", "outcome"]].merge(base[["example", "outcome"]], on="example", suffixes=("", "_dense"))
    won, won_dense = both["outcome"] == "success", both["outcome_dense"] == "success"
    masks = {"pruned only": won & ~won_dense, "dense only": ~won & won_dense, "both": won & won_dense, "neither": ~won & ~won_dense}
    kinds = [kind for kind in masks if masks[kind].any()] if dense and dense != model else []
    left, right = st.columns([2, 3], gap="medium")
    with left:
        kind = "all"
        if kinds:
            count = {**{kind: int(masks[kind].sum()) for kind in kinds}, "all": len(both)}
            kind = _ui.chosen(
                st.selectbox,
                "turned",
                ["all", *kinds],
                kinds[0],
                label="Attack succeeded on",
                format_func=lambda k: f"{'all sentences' if k == 'all' else k} ({count[k]})",
            )
        listed = (both if kind == "all" else both[masks[kind]]).reset_index(drop=True)
        shown = pd.DataFrame({"sentence": listed["text"], model.label: listed["outcome"].map(OUTCOMES)})
        picked = st.dataframe(
            shown,
            hide_index=True,
            width="stretch",
            height=min(330, 35 * len(shown) + 38),
            key=f"examples-{recipe}-{model.job}-{kind}",
            on_select="rerun",
            selection_mode="single-row",
            column_config={"sentence": st.column_config.TextColumn(width=250)},
        )
        st.caption("Click a row's box to read it on the right.")
    chosen = picked["selection"]["rows"] if picked else []
    example = int(listed.iloc[chosen[0] if chosen and chosen[0] < len(listed) else 0]["example"])
    with right:
        read(recipe, example, [m for m in (dense, model) if m is not None])


def read(recipe: str, example: int, closely: list[Model]) -> None:
    """One sentence: what was changed for each model, and the probabilities of all models before and after."""
    here = examples[(examples["recipe"] == recipe) & (examples["example"] == example)]
    truth = int(here["label"].iloc[0])
    for model in dict.fromkeys(closely):
        own = here[here["job"] == model.job]
        if own.empty:
            continue
        row = own.iloc[0]
        note = f" {row['note']}." if row["note"] else ""
        st.markdown(
            f':color[●]{{foreground="{model.color(view.dark)}"}} **{model.label}** · {OUTCOMES[row["outcome"]]} · '
            f"{int(row['words_changed'])} of {len(row['text'].split())} words changed, {int(row['queries'])} queries.{note}"
        )
        st.html(_ui.marked_words(row["text"], row["perturbed"] if row["outcome"] != "skipped" else row["text"]))
    states = []
    for model in view.models:
        for row in here[here["job"] == model.job].to_dict("records"):
            states.append({"job": model.job, "state": "original", "probabilities": row["original_probabilities"]})
            if row["outcome"] in ("success", "failed"):
                states.append({"job": model.job, "state": "attacked", "probabilities": row["perturbed_probabilities"]})
    wanted = [state for state in states if state["job"] in {m.job for m in closely}]
    if st.toggle("All models on view", key="all-bars", persist_state="session") and states:
        wanted = states
    if wanted:
        _ui.chart(
            "How sure was each model, before and after?",
            "Pale: the original sentence. Full: the attacked one, which differs from model to model.",
            plots.probability_bars(pd.DataFrame(wanted), view.models, names, view.dark, truth),
            "before-after",
            small=True,
        )


def against_dense(recipe: str, dense: Model) -> None:
    """Each pruned model and dense on the same sentences: the difference, its interval and test, and a verdict in words."""
    own = examples[examples["recipe"] == recipe]
    jobs = [model.job for model in view.pruned if (own["job"] == model.job).any()]
    if not jobs or not (own["job"] == dense.job).any():
        return
    st.markdown("#### Is it more than chance?")
    found = robustness.table(own, dense.job, jobs)
    labels = {model.job: model.label for model in view.pruned}
    shown = found.assign(run=found["job"].map(labels))
    for name in ("dense", "pruned", "difference", "low", "high"):
        shown[name] = 100 * shown[name]
    number = lambda title, style, help: st.column_config.NumberColumn(title, format=style, help=help)  # noqa: E731
    _ui.table(
        shown[["run", "verdict", "n", "dense", "pruned", "difference", "low", "high", "p_value"]],
        "paired",
        {
            "run": st.column_config.TextColumn("Run", pinned=True),
            "verdict": st.column_config.TextColumn("In words", width="large"),
            "n": number("n", "%d", "Sentences that both models got right before the attack."),
            "dense": number("dense (%)", "%.1f", "Attack success on dense over those sentences."),
            "pruned": number("pruned (%)", "%.1f", "Attack success on the pruned model over the same sentences."),
            "difference": number("difference (points)", "%+.1f", "Pruned minus dense."),
            "low": number("from", "%+.1f", "95% bootstrap interval of the difference, lower end."),
            "high": number("to", "%+.1f", "95% bootstrap interval of the difference, upper end."),
            "p_value": number("p", "%.3f", "McNemar's exact test: could the sentences that differ be this uneven by chance?"),
        },
        found.assign(run=found["job"].map(labels), recipe=recipe),
    )
    _ui.how_to_read(
        "Pruning changes which sentences a model gets right, and so which are attacked. Here success is compared over the sentences that "
        "both models got right. McNemar's test looks at those on which the attack succeeded on one model only; what would be missed is "
        "$2.8\\sqrt{\\psi/n}$, $\\psi$ the share of such sentences: a smaller difference is found in fewer than 80 of 100 samples."
    )


def about_attacks() -> None:
    """Every attack: what it changes, what is replaced of the published one, and whether this machine can run it."""
    with st.expander("The attacks, and what they need", icon=":material/info:", key="about-attacks"):
        told = [
            {
                "attack": entry.name,
                "changes": entry.changes,
                "on this machine": catalogue.missing(entry) or "can run",
                "replaced": entry.replaces or "nothing",
                "paper": entry.paper,
            }
            for entry in catalogue.CATALOGUE.values()
        ]
        wide = st.column_config.TextColumn(width="large")
        st.dataframe(told, hide_index=True, width="stretch", key="catalogue", column_config={"replaced": wide, "paper": wide})
        st.caption("Attacks are chosen on the Prune page, among the options of the measure Attack success.")


_ui.opening("Attack", takeaways.attack(rows, view.models))
_ui.chart(
    "On which model do attacks succeed?",
    "One dot a model with its 95% Wilson interval: of the sentences the model got right, the share the attacker turned wrong within "
    "its budget.",
    plots.success(rows, view.models, view.dark),
    "success",
)
_ui.how_to_read(
    "Attack success rate $=\\frac{\\text{turned wrong}}{\\text{turned wrong}+\\text{held}}$; sentences the model got wrong to begin "
    "with are **skipped** and not "
    "counted, so the denominator differs from model to model. **Accuracy under attack** counts all sentences. Recipes follow "
    "different rules on what may be "
    "changed: compare models within a recipe, not recipes with each other."
)
options = {m.label: each["options"] for m in view.models for each in view.job(m).experiment["measures"] if each["name"] == "attack"}
st.caption(takeaways.attack_settings(options))
about_attacks()
names_of = recipes(rows)
recipe = names_of[0]
if len(names_of) > 1:
    recipe = _ui.chosen(st.segmented_control, "recipe", names_of, names_of[0], label="Recipe")
with st.grid(2, min_column_width=330, key="budgets") as grid:
    with grid.cell():
        _ui.chart(
            "What does an attacker with few queries achieve?",
            "Accuracy that is left when each sentence may cost at most so many model queries.",
            plots.against_budget(examples, view.models, recipe, "queries", view.dark),
            "queries",
            small=True,
        )
    with grid.cell():
        _ui.chart(
            "And one who may change few words?",
            "Accuracy that is left when at most this share of a sentence's words may be changed.",
            plots.against_budget(examples, view.models, recipe, "share_changed", view.dark),
            "words",
            small=True,
        )

dense = next((model for model in view.models if model.is_dense), None)
if dense:
    against_dense(recipe, dense)

st.markdown("#### Read the attacked sentences")
choices = [model for model in view.models if (examples["job"] == model.job).any()]
browser(recipe, dense, _ui.one_model(choices, "attack-model", "Model to read", view.dark))

st.markdown("#### All figures")
label = {model.job: model.label for model in view.models}
shares = {"accuracy": "accuracy", "under_attack": "under attack", "success_rate": "success rate", "words_changed": "words changed"}
shown = rows.assign(run=rows["job"].map(label), **{name: 100 * rows[name] for name in shares})
bars = {key: st.column_config.ProgressColumn(title, format="%.1f%%", min_value=0, max_value=100) for key, title in shares.items()}
_ui.table(
    shown[["run", "recipe", *list(shares)[:3], "attacked", "succeeded", "failed", "skipped", "errored", "words_changed", "queries"]],
    "attack",
    {**bars, "queries": st.column_config.NumberColumn("queries (mean)", format="%.0f")},
    rows,
)
st.caption("Every attacked sentence with its outcome:")
_ui.downloads(examples.assign(run=examples["job"].map(label)), "attack-examples")
