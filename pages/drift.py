"""Drift: shift of the sentence embeddings by layer, and the examples that moved most."""

import pandas as pd
import streamlit as st

from pages.sections import drift_map, selected_examples
from pages.widgets import frame, ui
from prune_core import plots
from prune_core.analysis import takeaways

view = frame.view()
rows = view.rows("drift") if view.models else pd.DataFrame()
adversarial = view.rows("drift_adversarial") if view.models else rows
if rows.empty:
    ui.empty(
        view.store,
        "Drift",
        "**How far do sentence embeddings move?** This page compares the dense and the pruned "
        "embedding of every example: similarity by layer, a map that shows every shift, and the "
        "examples that moved most.",
        key="drift",
        is_active=view.is_active,
    )

poolings = list(dict.fromkeys(rows["pooling"]))
ui.page_header("Drift", takeaways.drift(rows, view.models, poolings[0], view.units))
ui.stop_without(view.pruned, view.is_active)
TITLES = {
    "cls": "[CLS] token",
    "mean": "mean over tokens",
    "own": "result of the model's pooling",
}


def by_block() -> None:
    """Draw the similarity of dense and pruned embeddings by layer."""
    pooling = ui.segments_if_several(
        "pooling", {name: TITLES[name] for name in poolings}, label="Sentence embedding"
    )
    with st.grid(2, min_column_width=330, key="similarities") as grid:
        for similarity in plots.SIMILARITIES:
            with grid.cell():
                ui.chart(
                    similarity.title,
                    similarity.gloss,
                    plots.by_block(
                        rows,
                        view.models,
                        similarity,
                        pooling=pooling,
                        dark=view.dark,
                        height=230,
                        adversarial=adversarial,
                    ),
                    key=f"drift-{similarity.column}",
                    small=True,
                )
    if len(adversarial):
        ends = dict.fromkeys(f"{n:.0f}" for n in adversarial["n"].agg(["min", "max"]))
        st.caption(
            f"Dashed: adversarial examples of attacks on that model, n = {'–'.join(ends)}"
            f"{' per seed' if view.means() else ''}."
        )
    ui.how_to_read(
        "Embeddings are the "
        + TITLES[pooling]
        + " after each layer. **CKA** $=\\lVert Y^\\top X\\rVert_F^2/(\\lVert X^\\top "
        "X\\rVert_F\\lVert Y^\\top Y\\rVert_F)$ on centered embeddings is 1 when the two sets "
        "differ by a rotation and a scale only; **Procrustes** is the distance left after "
        "the best rotation of the normalized sets; **neighbors kept** is the mean fraction of "
        f"an example's {int(rows['k'].iloc[0])} nearest neighbors that are preserved. The "
        "dotted line marks no change."
    )


def embedding_map() -> None:
    """Draw one model's map in one layer, the selected examples, and those that moved most."""
    model = ui.one_model(mapped, "drift-model", "Model on the map", dark=view.dark)
    with st.container(horizontal=True, key="map-choices"):
        block = ui.block_slider(int(rows["block"].max()) + 1)
        projection = ui.segments_if_several(
            "projection", drift_map.projections(view, block), label="Projection"
        )
    drift_map.draw(view, model, block, projection=projection)
    selected_examples.panel(view, model)
    st.markdown("#### Which examples moved most?")
    view.caption_seed("This table shows", [model])
    drift_map.table(view, drift_map.movers(view, model, block, projection=projection), "movers")


mapped = drift_map.models_with_map(view)
ui.sections(
    {
        **({"map": ("By example", embedding_map)} if mapped else {}),
        "layers": ("By layer", by_block),
    },
    "drift-section",
)
