"""Warning about a wrong mapping of a study's labels, with a button that corrects it."""

import streamlit as st

from pages.sections import data_check
from prune_core.analysis.label_order import LabelOrder, better_order
from prune_core.formatting import plural
from prune_core.store.job import Job
from prune_core.store.store import Store


@st.cache_data(show_spinner=False, max_entries=64)
def _order(home: str, job: int, finished: float | None) -> LabelOrder | None:
    from pathlib import Path

    store = Store(Path(home))
    return better_order(store.rows("prediction", [job]), store.job(job).facts)


def show_for_study(store: Store, jobs: tuple[Job, ...]) -> None:
    """Show how a study's data was read, and warn if the dense model fits other labels better."""
    notes = list(dict.fromkeys(note for job in jobs for note in job.facts.get("notes") or ()))
    if notes:
        with st.expander(
            f"How the data was read ({plural(len(notes), 'note')})",
            icon=":material/notes:",
            key="data-notes",
        ):
            st.markdown("\n".join(f"- {note}" for note in notes))
    dense = next(
        (job for job in jobs if not job.experiment.get("method") and "accuracy" in job.done), None
    )
    if dense is not None:
        offer(store, dense, "study")


def offer(store: Store, job: Job, key: str) -> None:
    """Warn if the dense model fits another mapping; the button fills in the Prune page with it."""
    order = _order(str(store.home), job.id, job.finished)
    if order is None:
        return
    with st.container(
        border=True, horizontal=True, vertical_alignment="center", key=f"label-order-{key}"
    ):
        st.warning(order.sentence, icon=":material/swap_horiz:")
        if st.button("Use this mapping", key=f"use-order-{key}", icon=":material/check:"):
            data_check.fill_form(job.experiment, order.labels)
            st.switch_page("pages/prune.py")
