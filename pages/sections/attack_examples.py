"""Attacked examples: a filtered list, changed words, probabilities, and saved texts."""

from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import adversarial_pool, selected_examples, text_set
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import formatting, plots
from prune_core.analysis.compared_models import ComparedModel, with_rows
from prune_core.attacks.catalogue import outcome_words


def show(view: View, recipe: str) -> None:
    """Draw a browser of one recipe's attacked examples and the pool of saved texts."""
    examples = view.first_seed("attack_example").query("recipe == @recipe")
    st.markdown("#### Read the attacked examples")
    view.caption_seed("This section shows")
    selected = examples[examples["example"].isin(view.examples)]
    if len(selected) and not selected_examples.warn_if_ambiguous(view, examples):
        examples = selected
        st.caption(
            f"Selected examples that were attacked: {examples['example'].nunique()} of "
            f"{len(view.examples)}."
        )
    models = with_rows(view.models, examples)
    if models:
        _browse(
            view,
            examples,
            ui.dense_of(view.models, examples),
            model=ui.one_model(models, "attack-model", "Model", dark=view.dark),
        )
    adversarial_pool.show(view.store)


def _browse(
    view: View, examples: pd.DataFrame, dense: ComparedModel | None, model: ComparedModel
) -> None:
    """Draw filters and a list on the left, the selected example on the right."""
    pruned_rows = examples[examples["job"] == model.job]
    dense_rows = examples[examples["job"] == dense.job] if dense else pruned_rows
    both = pruned_rows[["example", "text", "outcome"]].merge(
        dense_rows[["example", "text", "outcome"]], on=["example", "text"], suffixes=("", "_dense")
    )
    succeeded, succeeded_dense = both["outcome"] == "success", both["outcome_dense"] == "success"
    masks = {
        "pruned only": succeeded & ~succeeded_dense,
        "dense only": ~succeeded & succeeded_dense,
        "both": succeeded & succeeded_dense,
        "neither": ~succeeded & ~succeeded_dense,
    }
    groups = [group for group in masks if dense and dense != model and masks[group].any()]
    left, right = st.columns([2, 3], gap="medium")
    with left:
        group = "all"
        if groups:
            titles = {name: f"{name} ({masks[name].sum()})" for name in groups}
            titles = {"all": f"all examples ({len(both)})", **titles}
            group = ui.pick("attack-group", titles, groups[0], label="Attack succeeded on")
        listed = (both if group == "all" else both[masks[group]]).reset_index(drop=True)
        shown = pd.DataFrame(
            {
                "text": listed["text"],
                model.label: listed["outcome"].map(outcome_words(examples["recipe"].iloc[0])),
            }
        )
        selection = st.dataframe(
            shown,
            hide_index=True,
            width="stretch",
            height=min(330, 35 * len(shown) + 38),
            key=f"examples-{examples['recipe'].iloc[0]}-{model.job}-{group}",
            on_select="rerun",
            selection_mode="single-row",
            column_config={"text": st.column_config.TextColumn(width=250)},
        )
        st.caption("Select a row to read the example on the right.")
    if listed.empty:
        return
    chosen = selection["selection"]["rows"] if selection else []
    row = listed.iloc[chosen[0] if chosen and chosen[0] < len(listed) else 0]
    with right:
        _read(
            view,
            examples[(examples["example"] == row["example"]) & (examples["text"] == row["text"])],
            [m for m in (dense, model) if m is not None],
        )


def _read(view: View, rows: pd.DataFrame, models: list[ComparedModel]) -> None:
    """Show one example: the changes for each model, and probabilities before and after."""
    for model in dict.fromkeys(models):
        for row in rows[rows["job"] == model.job].to_dict("records"):
            st.markdown(ui.model_label(model, view.dark) + f" · {_describe(row)}")
            # no text if the example was skipped or the search was stopped
            is_edited = isinstance(row["perturbed"], str)
            for text, changed in (("text", "perturbed"), ("pair", "perturbed_pair")):
                if isinstance(row.get(text), str):
                    st.html(ui.marked_words(row[text], row[changed] if is_edited else row[text]))
            if row["outcome"] == "success":
                with st.container(horizontal=True, key=f"keep-{model.job}-{row['example']}"):
                    adversarial_pool.offer(view, row, model)
                    text_set.offer(
                        view.store,
                        row["perturbed"],
                        row["perturbed_pair"] if isinstance(row.get("pair"), str) else None,
                        view.label_names,
                        label=view.label_names[int(row["label"])],
                        source=f"{row['recipe']} on {model.label}",
                        key=f"{row['recipe']}-{model.job}-{row['example']}",
                    )
    states = []
    for model in view.models:
        for row in rows[rows["job"] == model.job].to_dict("records"):
            states.append(
                {
                    "job": model.job,
                    "state": "original",
                    "probabilities": row["original_probabilities"],
                }
            )
            if row["outcome"] in ("success", "failed") and isinstance(row["perturbed"], str):
                states.append(
                    {
                        "job": model.job,
                        "state": "attacked",
                        "probabilities": row["perturbed_probabilities"],
                    }
                )
    states = [state for state in states if state["probabilities"] is not None]
    shown = [state for state in states if state["job"] in {other.job for other in models}]
    if st.toggle("All selected models", key="all-models", persist_state="session") and states:
        shown = states
    if shown:
        ui.chart(
            "What is the confidence of each model, before and after?",
            "Pale: the original text. Full: the adversarial text, which differs between models.",
            plots.probability_bars(
                pd.DataFrame(shown),
                view.models,
                view.label_names,
                dark=view.dark,
                truth=int(rows["label"].iloc[0]),
            ),
            key="before-after",
            small=True,
        )


def _describe(row: dict[str, Any]) -> str:
    """Describe outcome, effort and validity of an attack in a short line."""
    parts = [outcome_words(str(row["recipe"]))[str(row["outcome"])]]
    if not formatting.missing(row["words_changed"]):
        parts.append(
            f"{row['words_changed']:.0f} of {len(str(row['text']).split())} words changed, "
            f"{row['queries']:.0f} queries"
        )
    if row["outcome"] == "success" and not formatting.missing(row.get("similarity")):
        parts.append(f"similarity {row['similarity']:.2f}")
        if row["meaning"]:
            parts.append(f":orange[meaning: {row['meaning']}]")
        if not formatting.missing(row["grammar"]):
            parts.append(f"{row['grammar']:+.0f} grammar errors")
    if row["note"]:
        parts.append(str(row["note"]).rstrip("."))
    return " · ".join(parts)
