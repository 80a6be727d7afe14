"""PruneScope's dashboard.

`streamlit run app.py` imports this file for the server and runs it as a script in every session.
"""

import streamlit as st

if __name__ == "__main__":
    from pages import _admission, _frame, _navigation

    admitted = _admission.may_enter()
    page = _navigation.navigation("sidebar" if admitted else "hidden")
    if admitted:
        _frame.draw()
        page.run()
else:
    from pages import _server

    app = st.App(__file__, middleware=_server.middleware(), lifespan=_server.announce)
