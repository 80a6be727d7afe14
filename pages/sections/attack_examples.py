"""Attacked examples: a filtered list, changed words, probabilities, and saved texts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import adversarial_pool, selected_examples
from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import formatting, plots
from prune_core.analysis.compared_models import ComparedModel, with_rows
from prune_core.attacks.catalogue import outcome_words


def show(view: View, recipe: str) -> None:
    """A browser of one recipe's attacked examples, and below it the pool of saved texts."""
    own = view.first_seed("attack_example").query("recipe == @recipe")
    st.markdown("#### Read the attacked examples")
    view.caption_seed("This section shows")
    here = own[own["example"].isin(view.examples)]
    if len(here) and not selected_examples.warn_if_ambiguous(view, own):
        own = here
        st.caption(
            f"Only the chosen examples that were attacked: {own['example'].nunique()} of "
            f"{len(view.examples)}."
        )
    choices = with_rows(view.models, own)
    if choices:
        dense = ui.dense_of(view.models, own)
        _browse(
            view,
            own,
            dense,
            model=ui.one_model(choices, "attack-model", "Model to read", dark=view.dark),
        )
    adversarial_pool.show(view.store)


def _browse(
    view: View, own: pd.DataFrame, dense: ComparedModel | None, model: ComparedModel
) -> None:
    """Filters and a list on the left, the chosen sentence on the right."""
    mine = own[own["job"] == model.job]
    base = own[own["job"] == dense.job] if dense else mine
    both = mine[["example", "text", "outcome"]].merge(
        base[["example", "text", "outcome"]], on=["example", "text"], suffixes=("", "_dense")
    )
    won, won_dense = both["outcome"] == "success", both["outcome_dense"] == "success"
    masks = {
        "pruned only": won & ~won_dense,
        "dense only": ~won & won_dense,
        "both": won & won_dense,
        "neither": ~won & ~won_dense,
    }
    kinds = [kind for kind in masks if masks[kind].any()] if dense and dense != model else []
    left, right = st.columns([2, 3], gap="medium")
    with left:
        kind = "all"
        if kinds:
            count = {**{kind: int(masks[kind].sum()) for kind in kinds}, "all": len(both)}
            kind = ui.choice_widget(
                st.selectbox,
                "turned",
                ["all", *kinds],
                default=kinds[0],
                label="Attack succeeded on",
                format_func=lambda k: f"{'all sentences' if k == 'all' else k} ({count[k]})",
            )
        listed = (both if kind == "all" else both[masks[kind]]).reset_index(drop=True)
        shown = pd.DataFrame(
            {
                "sentence": listed["text"],
                model.label: listed["outcome"].map(outcome_words(own["recipe"].iloc[0])),
            }
        )
        picked = st.dataframe(
            shown,
            hide_index=True,
            width="stretch",
            height=min(330, 35 * len(shown) + 38),
            key=f"examples-{own['recipe'].iloc[0]}-{model.job}-{kind}",
            on_select="rerun",
            selection_mode="single-row",
            column_config={"sentence": st.column_config.TextColumn(width=250)},
        )
        st.caption("Click a row's box to read it on the right.")
    if listed.empty:
        return
    chosen = picked["selection"]["rows"] if picked else []
    row = listed.iloc[chosen[0] if chosen and chosen[0] < len(listed) else 0]
    with right:
        _read(
            view,
            own[(own["example"] == row["example"]) & (own["text"] == row["text"])],
            [m for m in (dense, model) if m is not None],
        )


def _read(view: View, here: pd.DataFrame, closely: list[ComparedModel]) -> None:
    """One example: the changes made for each model, and probabilities before and after."""
    for model in dict.fromkeys(closely):
        for row in here[here["job"] == model.job].to_dict("records"):
            st.markdown(ui.named(model, view.dark) + f" · {_told(row)}")
            edited = isinstance(
                row["perturbed"], str
            )  # not where it was skipped, or stopped before its search ended
            for text, changed in (("text", "perturbed"), ("pair", "perturbed_pair")):
                if isinstance(row.get(text), str):
                    st.html(ui.marked_words(row[text], row[changed] if edited else row[text]))
            if row["outcome"] == "success":
                adversarial_pool.offer(view, row, model)
    states = []
    for model in view.models:
        for row in here[here["job"] == model.job].to_dict("records"):
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
    wanted = [state for state in states if state["job"] in {m.job for m in closely}]
    if st.toggle("All models on view", key="all-bars", persist_state="session") and states:
        wanted = states
    if wanted:
        truth = int(here["label"].iloc[0])
        ui.chart(
            "How sure was each model, before and after?",
            "Pale: the original sentence. Full: the attacked one, which differs from model to "
            "model.",
            plots.probability_bars(
                pd.DataFrame(wanted), view.models, view.label_names, dark=view.dark, truth=truth
            ),
            key="before-after",
            small=True,
        )


def _told(row: dict[str, Any]) -> str:
    """Outcome, effort, and how valid the text is where it was judged."""
    told = [outcome_words(str(row["recipe"]))[str(row["outcome"])]]
    if not formatting.missing(row["words_changed"]):
        told.append(
            f"{row['words_changed']:.0f} of {len(str(row['text']).split())} words changed, "
            f"{row['queries']:.0f} queries"
        )
    if row["outcome"] == "success" and not formatting.missing(row.get("similarity")):
        told.append(f"similarity {row['similarity']:.2f}")
        if row["meaning"]:
            told.append(f":orange[meaning: {row['meaning']}]")
        if not formatting.missing(row["grammar"]):
            told.append(f"{row['grammar']:+.0f} grammar errors")
    return " · ".join(told) + (f" · {str(row['note']).rstrip('.')}" if row["note"] else "")
