"""Overview: what PruneScope is, the selected study in three charts, and its stopped runs."""

import streamlit as st

from pages.sections import label_order
from pages.widgets import frame, ui
from prune_core import plots, views
from prune_core.analysis import takeaways
from prune_core.analysis.quantities import quality
from prune_core.views.attack import recipes

view = frame.view()
ABOUT = (
    "Prune a fine-tuned BERT and measure what it costs: accuracy, where in the network the error "
    "arises, how far the sentence embeddings drift, and how much easier the model is to attack. "
    "Dense and pruned models are compared side by side, every value with its interval."
)


def introduction() -> None:
    """Introduce the product when the store is empty, with a button that runs the demo."""
    st.title("What does pruning cost?", anchor=False)
    st.markdown(ABOUT)
    with st.container(border=True, key="introduction"):
        st.markdown(
            "#### Start with the demo study\nA six-layer BERT for sentiment of film reviews, "
            "pruned by **magnitude**, **SparseGPT** and **AKR** at 50% and 70% sparsity: nine "
            "models, each measured for accuracy, reconstruction error, drift, cost and robustness "
            "against two attacks."
        )
        ui.offer_demo(view.store, "demo-introduction")
    with st.grid(3, min_column_width=200, border=True, key="page-descriptions") as grid:
        for title, text in (
            (
                ":material/layers: Layers",
                "Which layer and which matrix has the largest error, and how much of it is "
                "inherited from previous layers.",
            ),
            (
                ":material/moving: Drift",
                "A map that connects the dense and the pruned embedding of every example.",
            ),
            (
                ":material/shield: Attack",
                "TextAttack on every model with the same examples, with the changed words marked.",
            ),
        ):
            with grid.cell():
                st.markdown(f"**{title}**\n\n{text}")


def small_charts() -> None:
    """Draw retrieval, accuracy, accuracy under attack or error against sparsity, three of them."""
    names = ("retrieval", "accuracy", "attack", "reconstruction")
    tables = {name: view.rows(name) for name in names}
    quantities = views.quantities(tables)
    attacked = [f"under_attack:{name}" for name in recipes(tables["attack"])[:1]]
    others = [quantities[key] for key in (*attacked, "error") if key in quantities]
    shown = [*quality(quantities), *others][:3]
    table = view.summary()
    with st.grid(3, min_column_width=290, key="small-charts") as grid:
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
        for _ in range(3 - len(shown) if view.is_active else 0):
            with grid.cell():
                st.skeleton(height=320)


def page_takeaways() -> None:
    """Show the takeaway of each other page with a link to it."""
    drift = takeaways.drift(view.rows("drift"), view.models, units=view.units)
    takeaway_of = {
        "layers": (":material/layers:", takeaways.layers(view.rows("reconstruction"), view.models)),
        "drift": (":material/moving:", drift),
        "attack": (
            ":material/shield:",
            takeaways.attack(view.rows("attack"), view.outcomes(), view.models),
        ),
        "compare": (":material/scatter_plot:", takeaways.cost(view.rows("cost"), view.models)),
    }
    entries = {page: entry for page, entry in takeaway_of.items() if entry[1]}
    if not entries:
        return
    st.markdown("#### Details")
    with st.grid(2, min_column_width=300, border=True, key="page-takeaways") as grid:
        for page, (icon, sentence) in entries.items():
            with grid.cell():
                st.page_link(f"pages/{page}.py", label=f"**{page.capitalize()}**", icon=icon)
                st.caption(sentence)


if not view.store.jobs():
    introduction()
    st.stop()
ui.page_header("Overview", view.headline(), ABOUT)
label_order.show_for_study(view.store, view.jobs)
if view.models:
    small_charts()
    checkpoints = dict.fromkeys(model.start for model in view.models if model.start)
    note = f" A dot inside a mark: pruned from {' or '.join(checkpoints)}."
    ui.how_to_read(
        "Each line is one method, from the dense model at 0% through the requested sparsities; "
        "the dotted line is the dense model and the pale band its 95% Wilson interval. Bars are "
        "95% intervals: if two bars overlap widely, the sample is too small to distinguish the "
        "models. Reconstruction error is $\\lVert h - \\hat h\\rVert / \\lVert h\\rVert$ "
        f"of a layer's output, averaged over layers.{note if checkpoints else ''}"
    )
elif view.is_active:
    st.info(
        "The first results appear in a few seconds; this page updates automatically.",
        icon=":material/hourglass_top:",
    )
    with st.grid(3, min_column_width=290, key="skeletons") as grid:
        for _ in range(3):
            with grid.cell():
                st.skeleton(height=320)
frame.show_stopped(view.store.jobs(view.study))
if view.models:
    page_takeaways()
with st.container(horizontal=True, vertical_alignment="center", key="demo-row"):
    ui.demo_button(view.store, "demo-overview", "secondary")
    ui.embedding_demo_button(view.store, "demo-overview")
    ui.guard_demo_button(view.store, "demo-overview")
    st.caption(
        "Nine models on bundled film reviews, 4 to 9 min on two cores; three embedding models on a "
        "bundled retrieval collection, about 3 min; or three guard models that detect prompt "
        "injections, about 2 min. Finished runs are reused."
    )
    st.page_link("pages/studies.py", label="All studies", icon=":material/folder_open:")
