"""Who may see the pages, and who it is that asks: the login's or the proxy's word, or the one user of this machine."""

from __future__ import annotations

import os

import streamlit as st

from prune_core.paths import USER_HEADER, has_login, is_loopback
from prune_core.runs.store import Store, this_user

REFUSED = (
    "This server can be reached from other machines, but nobody is asked who they are. Start it by `python -m prune_core serve`, which "
    "says what to set up, or let it listen to 127.0.0.1 alone."
)


def asker() -> str:
    """Who asks; "" where that is not known and must be."""
    if header := os.environ.get(USER_HEADER):
        return str(st.context.headers.get(header) or "").strip()
    if has_login():
        return str(st.user.get("email") or st.user.get("sub") or "") if st.user.is_logged_in else ""
    return this_user() if is_loopback(st.get_option("server.address") or "0.0.0.0") else ""  # noqa: S104  Streamlit's default


def may_enter() -> bool:
    """Let in who is known, and show others how to come in; what they do is recorded under their name."""
    Store.asker = staticmethod(asker)
    if asker():
        if has_login() and not os.environ.get(USER_HEADER):
            st.sidebar.button("Log out", on_click=st.logout, key="log-out", icon=":material/logout:")
        return True
    if os.environ.get(USER_HEADER):
        st.error("Please come by the address of the proxy that knows you; this one does not say who asks.", icon=":material/lock:")
    elif has_login():
        st.title("PruneScope")
        st.markdown("The studies of this server are for those who log in.")
        st.button("Log in", on_click=st.login, key="log-in", icon=":material/login:", type="primary")
    else:
        st.error(REFUSED, icon=":material/lock:")
    return False
