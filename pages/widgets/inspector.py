"""The process that holds loaded models, shared by Inspect and the lesson."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from prune_core.processes import inspector_client


@st.cache_resource(
    show_spinner=False, max_entries=1, on_release=lambda inspector: inspector.close()
)
def inspector(home: str) -> inspector_client.Inspector:
    """The process that keeps the models loaded; started when the page is first opened."""
    # looked up here and not imported, as this file stays loaded while tests put another in its
    # place
    found = inspector_client.Inspector(Path(home) / "workers" / "inspect.log")
    found.start()
    return found
