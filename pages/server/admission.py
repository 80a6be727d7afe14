"""Authentication and admission of a session: by login, proxy header or system user."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from prune_core.access import Access, is_loopback, is_verified
from prune_core.store.store import Store, system_user

UNPROTECTED = (
    "This server can be reached from other machines and does not identify its users: start it with "
    "`python -m prune_core serve`, which explains the setup, or let it listen on 127.0.0.1 only."
)
LONGEST_NAME = 200  # characters


def current_user() -> str:
    """Return the user's name for the store's event log; "" if the user is not identified."""
    access = Access.from_environment()
    if access.identifies_users:
        claims = _claims(access)
        name = str(claims.get("email") or claims.get("sub") or "").strip()
        return "".join(filter(str.isprintable, name))[:LONGEST_NAME]
    address = st.get_option("server.address") or "0.0.0.0"  # noqa: S104  Streamlit's default
    return system_user() if is_loopback(address) else ""


def may_enter() -> bool:
    """Whether this session may see the pages; if not, show how to get access."""
    access, user = Access.from_environment(), current_user()
    # st.logout clears st.user at once, also for a script that is still queueing jobs
    st.session_state["user"] = user
    Store.current_user = staticmethod(lambda: st.session_state.get("user", ""))
    if not user:
        _request_login(access)
        return False
    admitted = not access.needs_listing or access.allow.admits(_claims(access))
    if not admitted:
        _refuse(access, user)
    elif access.login is not None and not access.user_header:
        _log_out_button(st.sidebar)
    return admitted


def _claims(access: Access) -> Mapping[str, Any]:
    """Return the claims of the proxy or identity provider about the user; empty without a login."""
    if access.user_header:
        return {"email": st.context.headers.get(access.user_header) or ""}
    return st.user.to_dict() if st.user.get("is_logged_in") else {}


def _request_login(access: Access) -> None:
    if access.login is not None and not access.user_header:
        st.title("PruneScope")
        st.markdown("Log in to see the studies of this server.")
        st.button(
            "Log in", on_click=st.login, key="log-in", icon=":material/login:", type="primary"
        )
    else:
        st.error(UNPROTECTED, icon=":material/lock:")


def _refuse(access: Access, user: str) -> None:
    """Show why access is refused and whom to ask; record it once per session."""
    shown = user.replace("`", "'")
    if is_verified(_claims(access)):
        reason = f"is not on the allow-list of this server; ask {access.contact} for access"
    else:
        reason = "your identity provider has not verified; verify it there, then log in again"
    st.title("PruneScope")
    st.error(f"You are logged in as `{shown}`, which {reason}.", icon=":material/lock:")
    if not access.user_header:
        _log_out_button(st)
    if not st.session_state.get("refusal-recorded"):
        st.session_state["refusal-recorded"] = True
        store = Store()
        with store.write() as db:
            store.record_event(db, "refused", "")


def _log_out_button(place: Any) -> None:
    place.button("Log out", on_click=st.logout, key="log-out", icon=":material/logout:")
