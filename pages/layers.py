"""Layers: where in the network the error arises, what of it is a layer's own, and where the zeros are."""

import pandas as pd
import streamlit as st

from pages.sections import layer_details, whatif
from pages.widgets import frame, ui
from prune_core import formatting, plots
from prune_core.analysis import takeaways

view = frame.view()
rows = view.rows("reconstruction") if view.models else pd.DataFrame()
if rows.empty:
    ui.empty(
        view.store,
        "Layers",
        "**Where does pruning hurt?** This page shows the relative error of every block and matrix: how it grows with depth, how "
        "much of it a "
        "layer makes itself and how much it inherits, and what share of each matrix is really zero.",
        key="layers",
        waiting=view.waiting,
    )

ui.opening("Layers", takeaways.layers(rows, view.models))
ui.stop_without(view.pruned, view.waiting)
pruned = [model for model in view.pruned if (rows["job"] == model.job).any()]
units = view.first_seed("unit")
cut = [model for model in view.pruned if len(units) and (units["job"] == model.job).any()]


def by_depth() -> None:
    """The total error of every model, block by block."""
    names = ["block", *(part for part in plots.PART_TITLES if part != "block")]
    part: str = ui.chosen(
        st.segmented_control,
        "part",
        names,
        default="block",
        label="Output of",
        format_func=plots.PART_TITLES.get,
    )
    ui.chart(
        "How does the error grow with depth?",
        "One line a model: the distance between its outputs and the dense model's, relative to their size (0 = identical, 1 = as large "
        "as the output itself). Click a mark to see its block closely.",
        plots.by_depth(rows, view.models, part, view.dark),
        key="depth",
        selects=layer_details.choose,
    )
    ui.how_to_read(
        "With $W, x$ the dense weights and inputs and $\\hat W, \\hat x$ the pruned ones, all over $\\lVert Wx\\rVert$: **own** $\\lVert "
        "W\\hat x-\\hat W\\hat x\\rVert$ "
        "is what pruning this layer does, **inherited** $\\lVert Wx-W\\hat x\\rVert$ is what came in with its input, **total** $\\lVert "
        "Wx-\\hat W\\hat x\\rVert$ is what "
        "goes out. Errors partly cancel, so the total can be smaller than the two stacked."
    )


def by_matrix() -> None:
    """Every matrix of every model on one scale."""
    shades = {
        "total": "total error",
        "own": "own error",
        "inherited": "inherited error",
        "sparsity": "realised sparsity",
    }
    column = ui.chosen(
        st.segmented_control,
        "shade",
        list(shades),
        default="total",
        label="Colour shows",
        format_func=shades.get,
    )
    ui.chart(
        f"Which matrices have the largest {shades[column]}?"
        if column != "sparsity"
        else "How sparse is each matrix?",
        "Block by part, one map a model, all on one scale; depth runs downwards. Click a cell to see its block closely.",
        plots.heat_maps(rows, pruned, column, dark=view.dark),
        key="heat",
        selects=layer_details.choose,
    )


def own_or_inherited() -> None:
    """What of the error a block makes itself, and where the zeros are."""
    model = ui.one_model(pruned, "layer-model", "One model closely", dark=view.dark)
    left, right = st.columns(2, gap="medium")
    with left:
        ui.chart(
            "Own or inherited?",
            f"{model.label}, mean over the six matrices of a block: areas stacked, the dashed line is the total that results.",
            plots.own_and_inherited(rows, model, view.dark),
            key="own",
            small=True,
        )
    with right:
        ui.chart(
            "Where are the zeros?",
            "Realised sparsity: one mark a matrix, the thin upright tick is what was asked for.",
            plots.realised_sparsity(rows, pruned, view.dark),
            key="zeros",
            small=True,
        )


def heads_and_neurons() -> None:
    """Of structured models: which units are left."""
    structured = ui.one_model(cut, "unit-model", "Structured model", dark=view.dark)
    ui.chart(
        "Which heads and neurons are left?",
        "One square per head (hollow = removed) and one bar per block for the neurons. The colour "
        "is the type of knowledge that kept the unit, if the method records it. "
        f"{view.which_seed('This chart shows', [structured])}".rstrip(),
        plots.kept_units(units, structured, view.dark),
        key="units",
    )
    ui.how_to_read(
        f"{structured.label}. By K-prune a head or a neuron stays when its score, its knowledge per FLOP, is above the threshold that the "
        "FLOPs budget sets; other methods choose by their own rule. "
        "**Predictive** knowledge is how much the predictions would change without it, "
        "$\\tfrac12(\\partial\\mathrm{KL}/\\partial m)^2$; **representational** knowledge is how much the sub-layer's output would, "
        "$\\lVert X W\\rVert_F^2$, each with its weight in the method. Hover over a head for its figures."
    )


def figures() -> None:
    """The rows behind the page."""
    names = {model.job: model.label for model in view.models}
    dense = {
        model.job for model in view.models if model.is_dense
    }  # its errors are zero by definition
    own = rows[~rows["job"].isin(dense)]
    shown = own.assign(
        run=own["job"].map(names), block=own["block"] + 1, part=own["part"].map(plots.PART_TITLES)
    )
    written = {
        **dict.fromkeys(("own", "inherited", "total"), formatting.error),
        "cosine": formatting.plain,
        "realised sparsity": formatting.percent,
    }
    columns = ["run", "block", "part", "own", "inherited", "total", "cosine", "sparsity"]
    ui.table(
        shown[columns]
        .rename(columns={"sparsity": "realised sparsity"})
        .style.format(written, na_rep="–"),
        "reconstruction",
        None,
        plain=own,
        height=420,
    )


VIEWS = {
    "depth": ("By depth", by_depth),
    "block": ("One block", lambda: layer_details.show(view, rows, pruned)),
    "matrices": ("Matrix by matrix", by_matrix),
    "own": ("Own or inherited", own_or_inherited),
    "units": ("Heads and neurons", heads_and_neurons),
    "whatif": ("What if", lambda: whatif.show(view)),
    "figures": ("All figures", figures),
}
there = {
    "block": bool(pruned),
    "matrices": bool(pruned),
    "own": bool(pruned),
    "units": bool(cut),
    "whatif": bool(pruned),
}
ui.parts({key: part for key, part in VIEWS.items() if there.get(key, True)}, "layers-part")
