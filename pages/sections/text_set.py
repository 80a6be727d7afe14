"""Save a text as a test example in a named set, which runs accept as data."""

from collections.abc import Sequence

import streamlit as st

from pages.widgets import ui
from prune_core.formatting import plural
from prune_core.store import text_sets
from prune_core.store.store import Store


def offer(
    store: Store,
    text: str,
    pair: str | None,
    labels: Sequence[str],
    *,
    label: str = "",
    source: str,
    key: str,
) -> None:
    """Draw a popover that saves a text with its correct label; `label` is "" if unknown."""
    with st.popover(
        "Save as test example", icon=":material/playlist_add:", key=f"keep-{key}", type="tertiary"
    ):
        known = text_sets.names(store)
        name = st.selectbox(
            "Set",
            known or ["regression"],
            key=f"keep-set-{key}",
            accept_new_options=True,
            help="A CSV file that runs and policies can use like any other data.",
        )
        correct = label or st.selectbox("Correct label", list(labels), key=f"keep-label-{key}")
        if st.button("Save", key=f"keep-save-{key}", type="primary") and name:
            count = ui.run_action(
                lambda: text_sets.add(
                    store, name, text=text, pair=pair, label=str(correct), source=source
                )
            )
            if count:
                st.toast(
                    f"{name}: {plural(count, 'example')}.", icon=":material/playlist_add_check:"
                )
