"""Lesson: pruning in eleven steps, with a view for presentations."""

import streamlit as st

from pages.sections import lesson_steps
from pages.widgets import frame, ui
from pages.widgets.inspector import inspector

view = frame.view()
STEPS = lesson_steps.STEPS
PRESENTING = """<style>
[data-testid="stSidebar"], [data-testid="stHeader"] { display: none; }
[data-testid="stMainBlockContainer"] { max-width: none; padding: 1.5rem 4rem; }
[data-testid="stMain"] :is([data-testid="stMarkdownContainer"], label) p {
  font-size: 1.35rem; line-height: 1.5;
}
[data-testid="stMain"] h2 { font-size: 2.6rem; }
[data-testid="stMain"] .katex { font-size: 1.5em; }
</style>"""


def go_to(step: int) -> None:
    """Go to a step; numbers out of range go to the first or last."""
    ui.set_choice("step", min(max(step, 1), len(STEPS)))


presenting = st.query_params.get("present") == "1"
if presenting:
    st.html(PRESENTING)
else:
    st.title("Lesson", anchor=False)
number = int(
    ui.choice_widget(
        st.segmented_control,
        "step",
        list(range(1, len(STEPS) + 1)),
        default=1,
        label="Step",
        label_visibility="collapsed",
    )
)
step = STEPS[number - 1]
st.header(f"{number} · {step.title}", anchor=False)
text_column, equation_column = st.columns([3, 2], gap="large", vertical_alignment="center")
text_column.markdown(step.text)
equation_column.latex(step.equation)
if not lesson_steps.ready(view, step):
    with st.container(border=True, key="lesson-requirements"):
        st.markdown(
            "This step needs a study with pruned models and their measurements, such as the "
            f"{'embedding ' if step.demo == 'embedding' else ''}demo; the selected study has none."
        )
        if view.is_active:
            st.info(
                "The study is running; this step updates automatically.",
                icon=":material/hourglass_top:",
            )
        else:
            offer = {"demo": ui.demo_button, "embedding": ui.embedding_demo_button}[step.demo]
            offer(view.store, "demo-lesson")
else:
    with st.spinner("Loading the solvers; this takes a few seconds, once …"):
        ui.run_action(lambda: step.draw(view, inspector(str(view.store.home))))
with st.expander(step.question, icon=":material/help:", key=f"answer-{number}"):
    st.markdown(step.answer)
with st.container(horizontal=True, vertical_alignment="center", key="lesson-navigation"):
    st.button(
        "Back",
        key="lesson-back",
        icon=":material/arrow_back:",
        disabled=number == 1,
        on_click=go_to,
        args=(number - 1,),
        shortcut="Left",
    )
    st.button(
        "Next",
        key="lesson-next",
        icon=":material/arrow_forward:",
        type="primary",
        disabled=number == len(STEPS),
        on_click=go_to,
        args=(number + 1,),
        shortcut="Right",
    )
    if st.button(
        "Exit presentation" if presenting else "Present",
        key="lesson-present",
        icon=":material/present_to_all:",
        type="tertiary",
        shortcut="P",
        help="Large type, one step per screen; use the arrow keys to change the step and P to "
        "exit.",
    ):
        if presenting:
            del st.query_params["present"]
        else:
            st.query_params["present"] = "1"
        st.rerun()
