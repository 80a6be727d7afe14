"""The one answering process that pages share: Inspect asks it about texts, the lesson about its small layer."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from prune_core.runs.asking import Inspector


@st.cache_resource(show_spinner=False, max_entries=1, on_release=Inspector.close)
def inspector(home: str) -> Inspector:
    """The process that keeps the models loaded; started when the page is first opened."""

    asking = Inspector(Path(home) / "workers" / "inspect.log")
    asking.start()
    return asking
