"""The pool: adversarial texts that the user saves from any study, to review or export."""

from typing import Any

import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis.compared_models import ComparedModel
from prune_core.formatting import plural
from prune_core.store import adversarial_pool
from prune_core.store.store import Store


def offer(view: View, row: dict[str, Any], model: ComparedModel) -> None:
    """Draw a popover that saves an adversarial text, a row of `attack_example`, with a note."""
    key = f"{row['recipe']}-{model.job}-{row['example']}"
    with st.popover(
        "Save to pool", icon=":material/bookmark_add:", key=f"pool-{key}", type="tertiary"
    ):
        note = st.text_input("Note", key=f"pool-note-{key}", placeholder="Why is it interesting?")
        if st.button("Save", key=f"pool-save-{key}", type="primary"):
            texts: dict[str, Any] = {
                name: row.get(name) for name in ("text", "pair", "perturbed", "recipe")
            }
            adversarial_pool.add(
                view.store,
                **texts,
                label=view.label_names[int(row["label"])],
                model=model.label,
                study=view.study,
                note=note.strip(),
            )
            st.toast("Saved to the pool.", icon=":material/bookmark_added:")


def show(store: Store) -> None:
    """Show the saved texts; selected rows can be removed."""
    saved = adversarial_pool.load(store)
    with st.expander(
        f"Pool: {plural(len(saved), 'saved text')} from all studies",
        icon=":material/bookmarks:",
        key="pool",
    ):
        if saved.empty:
            st.caption(
                "No text is saved yet: use the button “Save to pool” below an adversarial example."
            )
            return
        shown = st.dataframe(
            saved[["text", "perturbed", "label", "recipe", "model", "study", "note"]],
            hide_index=True,
            width="stretch",
            column_config={
                name: st.column_config.TextColumn(width="medium")
                for name in ("text", "perturbed", "note")
            },
            on_select="rerun",
            selection_mode="multi-row",
            # a new table whenever the pool changes, so that no wrong row stays selected
            key=f"pool-{saved['id'].tolist()}",
        )
        ui.downloads(saved.drop(columns="id"), "pool")
        chosen = [int(saved["id"].iloc[row]) for row in shown["selection"]["rows"]]
        if st.button(
            "Remove selected texts",
            key="pool-remove",
            icon=":material/delete:",
            disabled=not chosen,
        ):
            adversarial_pool.remove(store, chosen)
            st.rerun()
