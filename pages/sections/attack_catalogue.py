"""Table of all attacks: requirements, changes, success criterion and replaced parts."""

import streamlit as st

from prune_core.attacks.catalogue import CATALOGUE, CatalogueEntry, missing
from prune_core.attacks.requirements import FETCH, RESOURCES, STOPWORDS


def panel() -> None:
    """Two tables, folded away."""
    with st.expander(
        "The attacks, and what they need", icon=":material/info:", key="about-attacks"
    ):
        able = sum(not missing(entry) for entry in CATALOGUE.values())
        others = "; ".join(
            f"{entry.name} when {entry.goal}"
            for entry in CATALOGUE.values()
            if entry.goal != CatalogueEntry.goal
        )
        st.markdown(
            f"**{able} of {len(CATALOGUE)} attacks can run on this machine.** They are chosen on "
            "the Prune page, among the options of the measure Attack success. An attack under "
            "its published name is TextAttack's own recipe; brackets say what is replaced. An "
            f"attack succeeds when {CatalogueEntry.goal}; {others}."
            + (
                ""
                if STOPWORDS.present
                else " Attacks that run without NLTK's stop words leave a list alone that holds "
                "them and some more."
            )
        )
        _catalogue()
        st.markdown("**What some of them need**, and how to get it with a network:")
        _resources()
        st.caption(
            f"`{FETCH} NAME` gets all that the attack of that name lacks and that can be "
            "downloaded."
        )


def _catalogue() -> None:
    attacks = [
        {
            "attack": entry.name,
            "can run": _state(entry),
            "changes": entry.changes,
            "needs": f"It {entry.cannot}." if entry.cannot else _needs(entry),
            "replaced": None if entry.cannot else entry.replaces or "nothing",
            "paper": entry.paper,
        }
        for entry in CATALOGUE.values()
    ]
    wide = dict.fromkeys(("needs", "replaced", "paper"), st.column_config.TextColumn(width="large"))
    st.dataframe(
        attacks,
        hide_index=True,
        width="stretch",
        height="content",
        key="catalogue",
        placeholder="–",
        column_config={"attack": st.column_config.TextColumn(pinned=True), **wide},
    )


def _resources() -> None:
    resources = [
        {
            "resource": resource.name,
            "here": "present" if resource.present else "missing",
            "how to get it": resource.how,
            "for": ", ".join(entry.name for entry in CATALOGUE.values() if resource in entry.needs),
        }
        for resource in RESOURCES
    ]
    st.dataframe(resources, hide_index=True, width="stretch", height="content", key="resources")


def _state(entry: CatalogueEntry) -> str:
    if entry.cannot:
        return "no"
    return "not yet" if missing(entry) else "yes"


def _needs(entry: CatalogueEntry) -> str:
    return ", ".join(resource.name for resource in entry.needs) or "nothing"
