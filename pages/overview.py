"""Overview: what PruneScope is, the study on view in three charts, and its stopped runs."""

import streamlit as st

from pages.sections import label_order
from pages.widgets import frame, ui
from prune_core import plots
from prune_core.analysis import takeaways
from prune_core.analysis.quantities import available, recipes

view = frame.view()
found = view.store.jobs()

ABOUT = (
    "Prune a fine-tuned BERT and see what it cost: accuracy, where in the network the error "
    "arises, how far the sentence embeddings drift, and how much easier the model is to attack. "
    "Dense and pruned models stand side by side, every figure with its interval."
)


def introduction() -> None:
    """An empty store: the promise and the one button."""
    st.title("What does pruning cost?", anchor=False)
    st.markdown(ABOUT)
    with st.container(border=True, key="hero"):
        st.markdown(
            "#### Start with the demo study\nA six-block BERT that judges film reviews, pruned "
            "by **magnitude**, **SparseGPT** and **AKR** at 50% and 70% sparsity: nine models, "
            "each measured for accuracy, reconstruction error, drift, cost and robustness "
            "against two attacks."
        )
        ui.offer_demo(view.store, "demo-hero")
    with st.grid(3, min_column_width=200, border=True, key="promises") as grid:
        for title, text in (
            (
                ":material/layers: Layers",
                "Which block and which matrix loses most, and how much of it was inherited from "
                "the blocks before.",
            ),
            (
                ":material/moving: Drift",
                "A map on which every sentence can be followed from its dense to its pruned "
                "embedding.",
            ),
            (
                ":material/shield: Attack",
                "TextAttack on every model over the same sentences, with the changed words marked.",
            ),
        ):
            with grid.cell():
                st.markdown(f"**{title}**\n\n{text}")


def multiples() -> None:
    """Accuracy, accuracy under attack and reconstruction error against sparsity."""
    tables = {name: view.rows(name) for name in ("accuracy", "attack", "reconstruction")}
    quantities = available(tables)
    attacked = recipes(tables["attack"])
    wanted = ["accuracy", f"under_attack:{attacked[0]}" if attacked else "", "error"]
    shown = [quantities[key] for key in wanted if key in quantities]
    table = view.summary()
    with st.grid(3, min_column_width=290, key="multiples") as grid:
        for quantity in shown:
            with grid.cell():
                ui.chart(
                    quantity.title,
                    quantity.gloss,
                    plots.against_sparsity(
                        table, view.models, quantity, dark=view.dark, height=320, compact=True
                    ),
                    key=f"overview-{quantity.key.split(':')[0]}",
                    small=True,
                )
        missing = 3 - len(shown) if view.waiting else 0
        for _ in range(missing):
            with grid.cell():
                st.skeleton(height=320)


def closer() -> None:
    """What the other pages found, one sentence each."""
    said = {
        "layers": (":material/layers:", takeaways.layers(view.rows("reconstruction"), view.models)),
        "drift": (":material/moving:", takeaways.drift(view.rows("drift"), view.models)),
        "attack": (
            ":material/shield:",
            takeaways.attack(view.rows("attack"), view.outcomes(), view.models),
        ),
        "compare": (":material/scatter_plot:", takeaways.cost(view.rows("cost"), view.models)),
    }
    found = {page: told for page, told in said.items() if told[1]}
    if not found:
        return
    st.markdown("#### Look closer")
    with st.grid(2, min_column_width=300, border=True, key="closer") as grid:
        for page, (icon, sentence) in found.items():
            with grid.cell():
                st.page_link(f"pages/{page}.py", label=f"**{page.capitalize()}**", icon=icon)
                st.caption(sentence)


if not found:
    introduction()
    st.stop()
ui.page_header("Overview", takeaways.accuracy(view.rows("accuracy"), view.models), ABOUT)
label_order.of_study(view.store, view.jobs)
if view.models:
    multiples()
    starts = dict.fromkeys(model.start for model in view.models if model.start)
    ui.how_to_read(
        "Each line is one method, from the dense model at 0% through the sparsities asked for; "
        "the dotted line is the dense model and the pale band its 95% Wilson interval. Bars are "
        "95% intervals: where two bars overlap widely, the sample is too small to tell the "
        "models apart. Reconstruction error is $\\lVert h - \\hat h\\rVert / \\lVert h\\rVert$ "
        "of a block's output, mean over blocks."
        + (f" A mark with a dot in it starts from {' or '.join(starts)} instead." if starts else "")
    )
elif view.waiting:
    st.info(
        "The first figures come in a few seconds; this page fills in by itself.",
        icon=":material/hourglass_top:",
    )
    with st.grid(3, min_column_width=290, key="skeletons") as grid:
        for _ in range(3):
            with grid.cell():
                st.skeleton(height=320)
frame.stopped(view.store.jobs(view.study))
if view.models:
    closer()
with st.container(horizontal=True, vertical_alignment="center", key="again-row"):
    ui.demo_button(view.store, "demo-again", "secondary")
    st.caption(
        "Nine models on the bundled film reviews, about 4 min on two cores; finished runs are "
        "reused."
    )
    st.page_link("pages/studies.py", label="All studies", icon=":material/folder_open:")
