"""Layers: reconstruction error by layer and matrix, and the heads and neurons that remain."""

import pandas as pd

from pages.sections import layer_details, whatif
from pages.widgets import frame, ui
from prune_core import formatting, plots
from prune_core.analysis import takeaways
from prune_core.analysis.compared_models import with_rows

view = frame.view()
rows = view.rows("reconstruction") if view.models else pd.DataFrame()
if rows.empty:
    ui.empty(
        view.store,
        "Layers",
        "**Where does pruning hurt?** This page shows the relative error of every layer and "
        "matrix: how it grows with depth, how much of it comes from the layer itself and how much "
        "is inherited, and the realized sparsity of each matrix.",
        key="layers",
        is_active=view.is_active,
    )

ui.page_header("Layers", takeaways.layers(rows, view.models))
ui.stop_without(view.pruned, view.is_active)
pruned, titles = with_rows(view.pruned, rows), plots.projection_titles(rows)
units = view.first_seed("unit")
structured_models = with_rows(view.pruned, units)
MATRIX_VALUES = {
    "total": "total error",
    "own": "own error",
    "inherited": "inherited error",
    "sparsity": "realized sparsity",
}


def by_depth() -> None:
    """Draw the total error of every model by layer."""
    projection: str = ui.segments("layer-output", titles, "block", label="Output of")
    ui.chart(
        "How does the error grow with depth?",
        "One line per model: the distance between its outputs and the dense model's, relative to "
        "their norm (0: identical, 1: as large as the output itself). Click a mark to see its "
        "layer in detail.",
        plots.by_depth(rows, view.models, projection, dark=view.dark),
        key="depth",
        selects=layer_details.choose,
    )
    ui.how_to_read(
        "With $W, x$ the dense weights and inputs and $\\hat W, \\hat x$ the pruned ones, all "
        "relative to $\\lVert Wx\\rVert$: the **own** error "
        "$\\lVert W\\hat x-\\hat W\\hat x\\rVert$ comes from pruning this matrix, the "
        "**inherited** error $\\lVert Wx-W\\hat x\\rVert$ from its input, and the **total** is "
        "$\\lVert Wx-\\hat W\\hat x\\rVert$. Errors partly cancel, so the total can be smaller "
        "than their sum."
    )


def by_matrix() -> None:
    """Draw the chosen error of every matrix of every model on one scale."""
    column = ui.segments("matrix-value", MATRIX_VALUES, label="Color shows")
    question = f"Which matrices have the largest {MATRIX_VALUES[column]}?"
    if column == "sparsity":
        question = "How sparse is each matrix?"
    ui.chart(
        question,
        "Layers (downwards) by matrix, one map per model, all on one scale. Click a cell to see "
        "its layer in detail.",
        plots.heat_maps(rows, pruned, column, dark=view.dark),
        key="heat-map",
        selects=layer_details.choose,
    )


def heads_and_neurons() -> None:
    """Draw the heads and neurons that remain in a structured model."""
    structured = ui.one_model(structured_models, "unit-model", "Structured model", dark=view.dark)
    ui.chart(
        "Which heads and neurons are left?",
        "One square per head (hollow = removed, smaller = narrower) and one bar per layer for the "
        "neurons. The color "
        "is the type of knowledge that the unit was kept for, if the method records it. "
        f"{view.which_seed('This chart shows', [structured])}".rstrip(),
        plots.kept_units(units, structured, view.dark),
        key="units",
    )
    ui.how_to_read(
        f"{structured.label}. K-prune keeps a head or neuron if its score, its knowledge per FLOP, "
        "is above the threshold set by the FLOPs budget; other methods have their own rules. "
        "**Predictive** knowledge is how much the predictions would change without it, "
        "$\\tfrac12(\\partial\\mathrm{KL}/\\partial m)^2$; **representational** knowledge is how "
        "much the sub-layer's output would change, $\\lVert X W\\rVert_F^2$, each with its weight "
        "in the method. Hover over a head for its values."
    )


def all_values() -> None:
    """Show the rows behind the page, without the dense models, whose errors are zero."""
    errors = rows[~rows["job"].isin([model.job for model in view.models if model.is_dense])]
    shown = errors.assign(
        run=errors["job"].map(view.labels),
        block=errors["block"] + 1,
        projection=errors["projection"].map(titles),
    )
    formats = {
        **dict.fromkeys(("own", "inherited", "total"), formatting.error),
        "cosine": formatting.plain,
        "realized sparsity": formatting.percent,
    }
    renamed = shown[
        ["run", "block", "projection", "own", "inherited", "total", "cosine", "sparsity"]
    ].rename(columns={"block": "layer", "projection": "matrix", "sparsity": "realized sparsity"})
    ui.table(renamed.style.format(formats, na_rep="–"), "reconstruction", plain=errors, height=420)


VIEWS = {
    "depth": ("By depth", by_depth),
    "model": ("One model", lambda: layer_details.show(view, rows, pruned)),
    "matrices": ("By matrix", by_matrix),
    "units": ("Heads and neurons", heads_and_neurons),
    "what-if": ("What if", lambda: whatif.show(view)),
    "values": ("All values", all_values),
}
available = {
    **dict.fromkeys(("model", "matrices", "what-if"), bool(pruned)),
    "units": bool(structured_models),
}
ui.sections(
    {key: section for key, section in VIEWS.items() if available.get(key, True)}, "layers-section"
)
