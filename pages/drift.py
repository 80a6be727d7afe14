"""Drift: how far the sentence embeddings moved, block by block, and which sentences moved most."""

import pandas as pd
import streamlit as st

from pages import _chosen, _frame, _ui
from prune_core import plots
from prune_core.analysis import takeaways

view = _frame.view()
rows = view.rows("drift") if view.models else pd.DataFrame()
changed = view.rows("drift_adversarial") if view.models else rows
if rows.empty:
    _ui.empty(
        view.store,
        "Drift",
        "**Do sentences stay where they were?** This page compares the dense and the pruned embedding of every sentence: similarity "
        "by block, a map "
        "on which each move can be followed, and the sentences that moved most.",
        "drift",
        view.waiting,
    )

poolings = list(dict.fromkeys(rows["pooling"]))
_ui.opening("Drift", takeaways.drift(rows, view.models, poolings[0]))
_ui.stop_without(view.pruned, view.waiting)
titles = {"cls": "[CLS] token", "mean": "mean over tokens"}
blocks = int(rows["block"].max()) + 1
pooling, places = poolings[0], st.columns([2, 3], gap="medium")
with places[0]:
    if len(poolings) > 1:
        pooling = _ui.chosen(st.segmented_control, "pooling", poolings, poolings[0], label="Sentence embedding", format_func=titles.get)
    else:
        st.markdown(f"Sentence embedding  \n**{titles[pooling]}**")
with places[1]:
    block = _ui.chosen(st.select_slider, "block", list(range(1, blocks + 1)), blocks, label="Block on the map") - 1
with st.grid(2, min_column_width=330, key="similarities") as grid:
    for what in plots.SIMILARITIES:
        with grid.cell():
            _ui.chart(
                what.title,
                what.gloss,
                plots.by_block(rows, view.models, what, pooling, view.dark, 230, block, changed),
                f"drift-{what.column}",
                small=True,
            )
if len(changed):
    sizes = "–".join(map(str, sorted({changed["n"].min(), changed["n"].max()})))
    st.caption(f"Dashed: on the {sizes} adversarial sentences with which the attacks turned each model's own answer.")
_ui.how_to_read(
    "Embeddings are the "
    + titles[pooling]
    + " after each block. **CKA** $=\\lVert Y^\\top X\\rVert_F^2/(\\lVert X^\\top X\\rVert_F\\lVert Y^\\top Y\\rVert_F)$ on centred "
    "embeddings is 1 when the two sets differ by a rotation and a scale only; **Procrustes** is the distance left after the best "
    "rotation of the normalised sets; "
    "**neighbours kept** is the mean share of "
    f"a sentence's {int(rows['k'].iloc[0])} nearest neighbours that stay nearest. The dotted line marks no change."
)

moved, told = view.rows("drift_map"), view.rows("drift_example")
pruned = [model for model in view.pruned if (moved["job"] == model.job).any()]
if not pruned:
    st.stop()
here = moved[moved["block"] == block]
projections = [name for name in ("pca", "umap") if (here["projection"] == name).any()]
kinds = {"umap": "UMAP", "pca": "PCA"}
with st.container(horizontal=True, key="map-choices"):
    model = _ui.one_model(pruned, "drift-model", "Model on the map", view.dark)
    projection = projections[0]
    if len(projections) > 1:
        projection = _ui.chosen(st.segmented_control, "projection", projections, projections[0], label="Projection", format_func=kinds.get)
_ui.chart(
    f"Where did the sentences go in block {block + 1} of {model.label}?",
    f"{kinds[projection]} fitted on the dense embeddings alone; pruned points are placed on it, so a long thin line is a long move. "
    "Crosses mark sentences whose prediction changed.",
    plots.moves(moved, model, block, projection, told, view.label_names, view.dark),
    "map",
    selects=lambda examples: _frame.choose_examples(view.study, examples),
)
if not view.examples:
    st.caption("Click a point to read its sentence on every model; draw around several to set them against the rest.")
_chosen.panel(view, model)

st.markdown("#### Which sentences moved most?")
mine = here[(here["job"] == model.job) & (here["projection"] == projection)][["example", "move"]]
movers = mine.merge(told.loc[told["job"] == model.job, ["example", "text", "label", "dense", "pruned"]], on="example").sort_values(
    "move", ascending=False
)
shown = _ui.in_words(movers, view.label_names)
shown["changed"] = movers["dense"] != movers["pruned"]
top = float(movers["move"].max()) or 1.0
_ui.table(
    shown.head(50)[["text", "move", "label", "dense", "pruned", "changed"]],
    "movers",
    {
        "text": st.column_config.TextColumn("sentence", width="large"),
        "move": st.column_config.ProgressColumn("move on the map", format="%.2f", min_value=0, max_value=top),
        "label": "true label",
        "dense": "dense says",
        "pruned": "pruned says",
        "changed": st.column_config.CheckboxColumn("changed"),
    },
    shown,
    height=360,
)
