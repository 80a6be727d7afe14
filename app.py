"""PruneScope's dashboard: the router. Pages are in pages/, everything they show comes from prune_core."""

import streamlit as st

from pages import _frame

st.set_page_config(page_title="PruneScope", page_icon="assets/logo-icon.svg", layout="wide", initial_sidebar_state=290)
page = st.navigation(
    [
        st.Page("pages/overview.py", title="Overview", icon=":material/dashboard:", default=True),
        st.Page("pages/prune.py", title="Prune", icon=":material/content_cut:"),
        st.Page("pages/compare.py", title="Compare", icon=":material/scatter_plot:"),
        st.Page("pages/layers.py", title="Layers", icon=":material/layers:"),
        st.Page("pages/drift.py", title="Drift", icon=":material/moving:"),
        st.Page("pages/attack.py", title="Attack", icon=":material/shield:"),
        st.Page("pages/inspect.py", title="Inspect", icon=":material/search:"),
    ]
)
_frame.draw()
page.run()
