"""Entry point of the dashboard.

`streamlit run app.py` imports this file for the server and runs it as a script in every session.
"""

import streamlit as st

if __name__ == "__main__":
    from pages.server import admission
    from pages.widgets import frame, navigation

    admitted = admission.may_enter()
    page = navigation.navigation("sidebar" if admitted else "hidden")
    if admitted:
        frame.draw_sidebar()
        page.run()
else:
    from pages.server import middleware as _server

    app = st.App(__file__, middleware=_server.middleware(), lifespan=_server.announce)
