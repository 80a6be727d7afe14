"""Tables of all attacks and of the resources that they require."""

import streamlit as st

from prune_core.attacks.catalogue import CATALOGUE, GROUPS, CatalogueEntry, missing
from prune_core.attacks.requirements import FETCH, RESOURCES, STOPWORDS


def panel() -> None:
    """Draw an expander with all attacks and the resources that they require."""
    with st.expander("Attacks and their requirements", icon=":material/info:", key="about-attacks"):
        available = sum(not missing(entry) for entry in CATALOGUE.values())
        others = "; ".join(
            f"{entry.name} when {entry.goal}"
            for entry in CATALOGUE.values()
            if entry.goal != CatalogueEntry.goal
        )
        note = ""
        if not STOPWORDS.present:
            note = (
                " Without NLTK's stop words, attacks use a replacement list that contains them and "
                "some more words."
            )
        st.markdown(
            f"**{available} of {len(CATALOGUE)} attacks can run on this machine.** Choose them on "
            "the Prune page, in the options of the measure Attack success. An attack under its "
            "published name is TextAttack's recipe; brackets name what is replaced. "
            "Recipes under Evasion are PruneScope's own. An attack "
            f"succeeds when {CatalogueEntry.goal}; {others}.{note}"
        )
        for changes, title in GROUPS.items():
            st.markdown(f"**{title}**")
            _catalogue(changes)
        st.markdown("**Required resources** and how to download them:")
        resources = [
            {
                "resource": resource.name,
                "status": "present" if resource.present else "missing",
                "how to get it": resource.instructions,
                "for": ", ".join(
                    entry.name for entry in CATALOGUE.values() if resource in entry.needs
                ),
            }
            for resource in RESOURCES
        ]
        st.dataframe(resources, hide_index=True, width="stretch", height="content", key="resources")
        st.caption(f"`{FETCH} NAME` downloads all missing resources of the attack NAME.")


def _catalogue(changes: str) -> None:
    attacks = [
        {
            "attack": entry.name,
            "can run": _state(entry),
            "needs": f"It {entry.cannot}." if entry.cannot else _needs(entry),
            "replaced": None if entry.cannot else entry.replaces or "nothing",
            "paper": entry.paper,
            "caution": entry.caution or None,
        }
        for entry in CATALOGUE.values()
        if entry.changes == changes
    ]
    st.dataframe(
        attacks,
        hide_index=True,
        width="stretch",
        height="content",
        key=f"catalogue-{changes}",
        placeholder="–",
        column_config={
            "attack": st.column_config.TextColumn(pinned=True),
            **dict.fromkeys(
                ("needs", "replaced", "paper", "caution"),
                st.column_config.TextColumn(width="large"),
            ),
        },
    )


def _state(entry: CatalogueEntry) -> str:
    if entry.cannot:
        return "no"
    return "not yet" if missing(entry) else "yes"


def _needs(entry: CatalogueEntry) -> str:
    return ", ".join(resource.name for resource in entry.needs) or "nothing"
