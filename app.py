"""PruneScope's dashboard: every request starts here. Pages are in pages/, everything they show comes from prune_core."""

import streamlit as st

from pages import _frame

st.set_page_config(page_title="PruneScope", page_icon="assets/logo-icon.svg", layout="wide", initial_sidebar_state=290)
page = _frame.navigation()
_frame.draw()
page.run()
