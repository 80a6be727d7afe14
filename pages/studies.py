"""Studies: search, tag, rename, copy, clean up, delete and compare studies."""

import time
from typing import Any

import pandas as pd
import streamlit as st

from pages.sections import study_details
from pages.widgets import frame, ui
from prune_core import PruneError, formatting
from prune_core.store import studies
from prune_core.store.store import Store
from prune_core.store.studies import StudySummary

view = frame.view()


def last_names(paths: tuple[str, ...]) -> str:
    """Return the last component of each path or Hub id."""
    return ", ".join(path.rsplit("/", 1)[-1] for path in paths)


def choose_study(summaries: list[StudySummary]) -> StudySummary | None:
    """Show the table of studies; return the selected one."""
    rows = [
        {
            "study": study.name,
            "tags": list(study.tags),
            "runs": ", ".join(f"{count} {status}" for status, count in study.statuses.items()),
            "data": last_names(study.tasks),
            "checkpoint": last_names(study.checkpoints),
            "changed": pd.Timestamp(study.changed, unit="s"),
            "size": study.bytes / 1e6,
        }
        for study in summaries
    ]
    selection = st.dataframe(
        pd.DataFrame(rows),
        width="stretch",
        hide_index=True,
        column_config={
            "study": st.column_config.TextColumn("Study", pinned=True),
            "tags": st.column_config.ListColumn("Tags"),
            "runs": "Runs",
            "data": "Data",
            "checkpoint": "Checkpoint",
            "changed": st.column_config.DatetimeColumn("Last change", format="D MMM YYYY, HH:mm"),
            "size": st.column_config.NumberColumn(
                "On disk", format="%.1f MB", help="Space freed by deleting the study."
            ),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"studies-{len(summaries)}",
    )
    chosen = selection["selection"]["rows"]
    if chosen and chosen[0] < len(summaries):
        return summaries[chosen[0]]
    if len(summaries) == 1:
        return summaries[0]
    return next((study for study in summaries if study.name == view.study), None)


def run_and_notify(sentence: str, action: Any, *arguments: Any) -> None:
    """Run an action on the store; show `sentence` after the rerun, or the error now."""
    if ui.run_action(lambda: action(view.store, *arguments) or True):
        ui.show_message(sentence)
        st.rerun()


def rename(store: Store, study: StudySummary, name: str) -> None:
    """Rename a study; if it is selected, it stays selected under its new name."""
    studies.rename(store, study.name, name)
    if view.study == study.name:
        ui.set_choice("study", name.strip())


def manage(study: StudySummary) -> None:
    """Draw the actions on one study: rename, copy, tag, select and delete it or its weights."""
    st.markdown(f"#### {study.name}")
    more = " …" if len(study.labels) > 12 else ""
    st.caption(f"{formatting.plural(study.runs, 'run')}: {', '.join(study.labels[:12])}{more}")
    left, middle, right = st.columns(3, gap="medium")
    with left:
        name = st.text_input("Name", study.name, key=f"rename-{study.name}")
        if st.button(
            "Rename",
            key="study-rename",
            icon=":material/edit:",
            disabled=name.strip() == study.name,
        ):
            run_and_notify(f"{study.name} was renamed to {name.strip()}.", rename, study, name)
        if st.button(
            "Copy under this name",
            key="study-clone",
            icon=":material/content_copy:",
            disabled=name.strip() == study.name,
        ):
            run_and_notify(
                f"The finished runs of {study.name} were copied to {name.strip()}.",
                studies.clone,
                study.name,
                name,
            )
    with middle:
        tags = st.multiselect(
            "Tags",
            study.tags,
            study.tags,
            accept_new_options=True,
            key=f"tags-{study.name}",
            placeholder="add a tag",
        )
        if st.button(
            "Save tags",
            key="study-tag",
            icon=":material/sell:",
            disabled=set(tags) == set(study.tags),
        ):
            run_and_notify("Tags saved.", studies.tag, study.name, tags)
    with right:
        st.markdown(f"**On disk** {formatting.size(study.bytes)}")
        if st.button(
            "Show this study",
            key="study-show",
            icon=":material/visibility:",
            disabled=study.name == view.study,
        ):
            ui.set_choice("study", study.name)
            st.rerun()
        if st.button(
            "Delete weights …", key="study-delete-weights", icon=":material/delete_sweep:"
        ):
            confirm(study, "weights")
        if st.button("Delete study …", key="study-delete", icon=":material/delete:"):
            confirm(study, "delete")


@st.dialog("Are you sure?")
def confirm(study: StudySummary, what: str) -> None:
    """Ask for confirmation, listing what is deleted and what is kept."""
    if what == "weights":
        action, title = studies.delete_weights, "Delete weights"
        sentence = f"The weights of {study.name} were deleted."
        st.markdown(
            f"The pruned checkpoints of **{study.name}** are deleted (at most "
            f"{formatting.size(study.bytes)}). All results, tables and charts are kept. Inspect "
            "and export can re-prune the models from their seeds."
        )
    else:
        action, title = studies.delete, "Delete study"
        sentence = f"{study.name} was deleted."
        st.markdown(
            f"**{study.name}** is deleted: {formatting.plural(study.runs, 'run')} with results and "
            f"checkpoints ({formatting.size(study.bytes)}). Texts saved in the pool and copies of "
            "its runs in other studies are kept."
        )

    def run() -> None:
        try:
            action(view.store, study.name)
            ui.show_message(sentence)
        except PruneError as error:
            ui.show_message(str(error))

    yes, no = st.columns(2)
    confirmed = yes.button(title, key="confirm-yes", type="primary", width="stretch", on_click=run)
    if no.button("Cancel", key="confirm-no", width="stretch") or confirmed:
        st.rerun()


def details(study: StudySummary) -> None:
    """Show the runs of a study and its comparison with another one."""
    sections = {"runs": ("Runs", lambda: study_details.grid(view.store, study.name))}
    others = [summary.name for summary in summaries if summary.name != study.name]

    def comparison() -> None:
        other = ui.pick("other-study", {name: name for name in others}, label="Other study")
        study_details.compare_studies(view.store, study.name, other)

    if others:
        sections["comparison"] = ("Compare with another study", comparison)
    ui.sections(sections, "study-section")


summaries = studies.overview(view.store)
if not summaries:
    ui.empty(
        view.store,
        "Studies",
        "**All your studies**: search, tag, rename, copy and delete them, and see their size on "
        "disk.",
        key="studies",
    )
size = sum(summary.bytes for summary in summaries)
runs = sum(summary.runs for summary in summaries)
date = time.strftime("%d %B %Y", time.localtime(max(summary.changed for summary in summaries)))
ui.page_header(
    "Studies",
    f"{len(summaries)} {'study' if len(summaries) == 1 else 'studies'} with "
    f"{formatting.plural(runs, 'run')}, {formatting.size(size)} on disk; last changed on {date}.",
)
query = st.text_input(
    "Search",
    key="study-search",
    placeholder="a name, tag, method, checkpoint or data set",
    persist_state="session",
)
shown = [summary for summary in summaries if summary.matches(query)]
if not shown:
    st.info("No study matches all of these words.", icon=":material/search_off:")
    st.stop()
chosen = choose_study(shown)
if chosen is None:
    st.caption("Select a row to rename, copy, tag or delete a study.")
else:
    manage(chosen)
    details(chosen)
