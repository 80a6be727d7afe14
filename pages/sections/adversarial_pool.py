"""The pool: adversarial texts that a person keeps, from any study, to read again or export."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core.analysis.compared_models import ComparedModel
from prune_core.formatting import plural
from prune_core.store import adversarial_pool
from prune_core.store.store import Store


def offer(view: View, row: dict[str, Any], model: ComparedModel) -> None:
    """A field for a note and a button that keep one adversarial text."""
    key = f"{row['recipe']}-{model.job}-{row['example']}"
    with st.popover(
        "Keep in the pool", icon=":material/bookmark_add:", key=f"pool-{key}", type="tertiary"
    ):
        note = st.text_input("Note", key=f"pool-note-{key}", placeholder="Why is it worth keeping?")
        if st.button("Keep", key=f"pool-keep-{key}", type="primary"):
            same: dict[str, Any] = {
                name: row.get(name) for name in ("text", "pair", "perturbed", "recipe")
            }
            adversarial_pool.add(
                view.store,
                **same,
                label=view.label_names[int(row["label"])],
                model=model.label,
                study=view.study,
                note=note.strip(),
            )
            st.toast("Kept in the pool.", icon=":material/bookmark_added:")


def show(store: Store) -> None:
    """What is kept; chosen rows can be removed."""
    kept = adversarial_pool.load(store)
    with st.expander(
        f"The pool: {plural(len(kept), 'text')} kept, from all studies",
        icon=":material/bookmarks:",
        key="pool",
    ):
        if kept.empty:
            st.caption(
                "Nothing yet. Below a sentence that an attack succeeded on there is a button "
                "that keeps it here."
            )
            return
        columns = ["text", "perturbed", "label", "recipe", "model", "study", "note"]
        wide = {
            name: st.column_config.TextColumn(width="medium")
            for name in ("text", "perturbed", "note")
        }
        shown = st.dataframe(
            kept[columns],
            hide_index=True,
            width="stretch",
            column_config=wide,
            on_select="rerun",
            selection_mode="multi-row",
            # another pool, another table: no row stays chosen when those above it are gone
            key=f"pool-{kept['id'].tolist()}",
        )
        ui.downloads(kept.drop(columns="id"), "pool")
        chosen = [int(kept["id"].iloc[place]) for place in shown["selection"]["rows"]]
        if st.button(
            "Remove the chosen texts",
            key="pool-remove",
            icon=":material/delete:",
            disabled=not chosen,
        ):
            adversarial_pool.remove(store, chosen)
            st.rerun()
