"""The pages of the dashboard, their addresses and icons."""

from typing import Literal

import streamlit as st
from streamlit.navigation.page import StreamlitPage


def navigation(position: Literal["sidebar", "hidden"] = "sidebar") -> StreamlitPage:
    """Declare the pages and return the one that was requested."""
    # set the icon first: for a page icon, the browser would request an image from a font host
    st.set_page_config(
        page_title="PruneScope",
        page_icon="assets/logo-icon.svg",
        layout="wide",
        initial_sidebar_state=290,
    )
    first = st.Page(
        "pages/overview.py",
        title="Overview",
        icon=":material/dashboard:",
        url_path="",
        default=True,
    )
    # Streamlit serves the default page only at "/": a hidden page redirects from "/overview"
    named = st.Page(lambda: None, title="Overview", url_path="overview", visibility="hidden")
    page = st.navigation(
        [
            first,
            named,
            st.Page("pages/lesson.py", title="Lesson", icon=":material/school:"),
            st.Page("pages/prune.py", title="Prune", icon=":material/content_cut:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/scatter_plot:"),
            st.Page("pages/layers.py", title="Layers", icon=":material/layers:"),
            st.Page("pages/drift.py", title="Drift", icon=":material/moving:"),
            st.Page("pages/attack.py", title="Attack", icon=":material/shield:"),
            st.Page("pages/deploy.py", title="Deploy", icon=":material/rocket_launch:"),
            st.Page("pages/inspect.py", title="Inspect", icon=":material/search:"),
            st.Page("pages/studies.py", title="Studies", icon=":material/folder_open:"),
            st.Page("pages/soup.py", title="Robust fine-tuning", icon=":material/soup_kitchen:"),
            st.Page("pages/vocabulary.py", title="Vocabulary", icon=":material/abc:"),
        ],
        position=position,
    )
    if page is named and position == "sidebar":
        st.switch_page(first, query_params=st.query_params.to_dict())
    return page
