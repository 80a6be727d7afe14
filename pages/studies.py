"""Studies: search, tag, rename, copy, clean up, delete and compare studies."""

from __future__ import annotations

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


def told(study: StudySummary) -> str:
    """Statuses in words: 7 done, 1 failed."""
    return ", ".join(f"{count} {status}" for status, count in study.statuses.items())


def last_names(places: tuple[str, ...]) -> str:
    """What paths and Hub ids end in."""
    return ", ".join(place.rsplit("/", 1)[-1] for place in places)


def listed(found: list[StudySummary]) -> StudySummary | None:
    """The table; the study whose row is chosen."""
    rows = [
        {
            "study": each.name,
            "tags": list(each.tags),
            "runs": told(each),
            "data": last_names(each.tasks),
            "checkpoint": last_names(each.checkpoints),
            "changed": pd.Timestamp(each.changed, unit="s"),
            "size": each.bytes / 1e6,
        }
        for each in found
    ]
    columns: dict[str, Any] = {
        "study": st.column_config.TextColumn("Study", pinned=True),
        "tags": st.column_config.ListColumn("Tags"),
        "runs": "Runs",
        "data": "Data",
        "checkpoint": "Checkpoint",
        "changed": st.column_config.DatetimeColumn("Last change", format="D MMM YYYY, HH:mm"),
        "size": st.column_config.NumberColumn(
            "On disk", format="%.1f MB", help="What deleting it would free"
        ),
    }
    picked = st.dataframe(
        pd.DataFrame(rows),
        width="stretch",
        hide_index=True,
        column_config=columns,
        on_select="rerun",
        selection_mode="single-row",
        key=f"studies-{len(found)}",
    )
    chosen = picked["selection"]["rows"]
    if chosen and chosen[0] < len(found):
        return found[chosen[0]]
    return (
        found[0]
        if len(found) == 1
        else next((each for each in found if each.name == view.study), None)
    )


def attempt_and_say(sentence: str, action: Any, *arguments: Any) -> None:
    """Do it, and say so on the next run; what cannot be done is an error here."""
    if ui.run_action(lambda: action(view.store, *arguments) or True):
        ui.show_message(sentence)
        st.rerun()


def rename(store: Store, study: StudySummary, name: str) -> None:
    """Under the new name it stays on view; where that cannot be, what is on view stays."""
    studies.rename(store, study.name, name)
    if view.study == study.name:
        ui.set_choice("study", name.strip())


def manage(study: StudySummary) -> None:
    """What can be done with one."""
    st.markdown(f"#### {study.name}")
    st.caption(
        f"{formatting.plural(study.runs, 'run')}: "
        f"{', '.join(study.labels[:12])}{' …' if len(study.labels) > 12 else ''}"
    )
    left, middle, right = st.columns(3, gap="medium")
    with left:
        name = st.text_input("Name", study.name, key=f"rename-{study.name}")
        if st.button(
            "Rename",
            key="study-rename",
            icon=":material/edit:",
            disabled=name.strip() == study.name,
        ):
            attempt_and_say(f"{study.name} is now called {name.strip()}.", rename, study, name)
        if st.button(
            "Copy under this name",
            key="study-clone",
            icon=":material/content_copy:",
            disabled=name.strip() == study.name,
        ):
            attempt_and_say(
                f"{name.strip()} has the finished runs of {study.name}.",
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
            placeholder="add one",
        )
        if st.button(
            "Keep these tags",
            key="study-tag",
            icon=":material/sell:",
            disabled=set(tags) == set(study.tags),
        ):
            attempt_and_say("Tags are kept.", studies.tag, study.name, tags)
    with right:
        st.markdown(f"**On disk** {formatting.size(study.bytes)}")
        if st.button(
            "Put it on view",
            key="study-show",
            icon=":material/visibility:",
            disabled=study.name == view.study,
        ):
            ui.set_choice("study", study.name)
            st.rerun()
        if st.button("Free its weights …", key="study-free", icon=":material/delete_sweep:"):
            confirm(study, "free")
        if st.button("Delete …", key="study-delete", icon=":material/delete:"):
            confirm(study, "delete")


@st.dialog("Are you sure?")
def confirm(study: StudySummary, what: str) -> None:
    """Says what goes and what stays before anything does."""
    if what == "free":
        st.markdown(
            f"The pruned checkpoints of **{study.name}** go ({formatting.size(study.bytes)} at "
            "most). Every figure, table and chart stays. Inspect and export make them again from "
            "the seed when they are asked for."
        )
    else:
        st.markdown(
            f"All {formatting.plural(study.runs, 'run')} of **{study.name}** go, with their "
            f"figures and checkpoints ({formatting.size(study.bytes)}). Texts kept in the pool, "
            "and copies of its runs in other studies, stay."
        )
    action = studies.delete_weights if what == "free" else studies.delete
    sentence = (
        f"The weights of {study.name} are gone." if what == "free" else f"{study.name} is deleted."
    )

    def act() -> None:
        try:
            action(view.store, study.name)
            ui.show_message(sentence)
        except PruneError as error:
            ui.show_message(str(error))

    yes, no = st.columns(2)
    title = "Free them" if what == "free" else "Delete it"
    if yes.button(
        title, key="confirm-yes", type="primary", width="stretch", on_click=act
    ) or no.button("Keep everything", key="confirm-no", width="stretch"):
        st.rerun()


def closely(study: StudySummary) -> None:
    """Its runs, and what it has in common with another."""
    parts = {"runs": ("Its runs", lambda: study_details.grid(view.store, study.name))}
    others = [each.name for each in found if each.name != study.name]

    def beside() -> None:
        other = ui.choice_widget(
            st.selectbox, "beside", others, default=others[0], label="The other study"
        )
        study_details.compare_studies(view.store, study.name, other)

    if others:
        parts["beside"] = ("Beside another study", beside)
    ui.parts(parts, "study-part")


found = studies.overview(view.store)
if not found:
    ui.empty(
        view.store,
        "Studies",
        "**Every study you have made**, to search, tag, rename and delete, with its space.",
        key="studies",
    )
whole, runs = sum(each.bytes for each in found), sum(each.runs for each in found)
last = time.strftime("%d %B %Y", time.localtime(max(each.changed for each in found)))
ui.page_header(
    "Studies",
    f"{len(found)} {'study' if len(found) == 1 else 'studies'} with "
    f"{formatting.plural(runs, 'run')} on this disk: {formatting.size(whole)}; last changed on "
    f"{last}.",
)
words = st.text_input(
    "Search",
    key="study-search",
    placeholder="a name, tag, method, checkpoint or data set",
    persist_state="session",
)
shown = [each for each in found if each.matches(words)]
if not shown:
    st.info("No study has all of these words.", icon=":material/search_off:")
    st.stop()
chosen = listed(shown)
if chosen is None:
    st.caption("Choose a row to rename, tag, free or delete it.")
else:
    manage(chosen)
    closely(chosen)
