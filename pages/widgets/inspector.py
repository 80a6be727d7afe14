"""The inspector process, which keeps models loaded for Inspect and the lesson."""

from pathlib import Path

import streamlit as st

from prune_core.processes import inspector_client


@st.cache_resource(
    show_spinner=False, max_entries=1, on_release=lambda inspector: inspector.close()
)
def inspector(home: str) -> inspector_client.Inspector:
    """Return the client of the inspector process, which is started on first use."""
    # an attribute of the module and not imported by name, as tests replace it
    client = inspector_client.Inspector(Path(home) / "workers" / "inspect.log")
    client.start()
    return client
