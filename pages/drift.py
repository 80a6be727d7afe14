"""Drift: how far the sentence embeddings moved, block by block, and which sentences moved most."""

import pandas as pd
import streamlit as st

from pages.sections import drift_map, selected_examples
from pages.widgets import frame, ui
from prune_core import plots
from prune_core.analysis import takeaways

view = frame.view()
rows = view.rows("drift") if view.models else pd.DataFrame()
changed = view.rows("drift_adversarial") if view.models else rows
if rows.empty:
    ui.empty(
        view.store,
        "Drift",
        "**Do sentences stay where they were?** This page compares the dense and the pruned "
        "embedding of every sentence: similarity by block, a map on which each move can be "
        "followed, and the sentences that moved most.",
        key="drift",
        waiting=view.waiting,
    )

poolings = list(dict.fromkeys(rows["pooling"]))
ui.page_header("Drift", takeaways.drift(rows, view.models, poolings[0]))
ui.stop_without(view.pruned, view.waiting)
TITLES = {"cls": "[CLS] token", "mean": "mean over tokens"}
blocks = int(rows["block"].max()) + 1


def by_block() -> None:
    """Likeness of the embeddings block by block."""
    pooling = poolings[0]
    if len(poolings) > 1:
        pooling = ui.choice_widget(
            st.segmented_control,
            "pooling",
            poolings,
            default=poolings[0],
            label="Sentence embedding",
            format_func=TITLES.get,
        )
    with st.grid(2, min_column_width=330, key="similarities") as grid:
        for what in plots.SIMILARITIES:
            with grid.cell():
                ui.chart(
                    what.title,
                    what.gloss,
                    plots.by_block(
                        rows,
                        view.models,
                        what,
                        pooling=pooling,
                        dark=view.dark,
                        height=230,
                        adversarial=changed,
                    ),
                    key=f"drift-{what.column}",
                    small=True,
                )
    if len(changed):
        ends = changed["n"].min(), changed["n"].max()
        sizes = "–".join(dict.fromkeys(f"{n:.0f}" for n in ends))
        seeds = " per seed" if view.means() else ""
        st.caption(f"Dashed: adversarial examples of attacks on that model, n = {sizes}{seeds}.")
    ui.how_to_read(
        "Embeddings are the "
        + TITLES[pooling]
        + " after each block. **CKA** $=\\lVert Y^\\top X\\rVert_F^2/(\\lVert X^\\top "
        "X\\rVert_F\\lVert Y^\\top Y\\rVert_F)$ on centred embeddings is 1 when the two sets "
        "differ by a rotation and a scale only; **Procrustes** is the distance left after "
        "the best rotation of the normalised sets; **neighbours kept** is the mean share of "
        f"a sentence's {int(rows['k'].iloc[0])} nearest neighbours that stay nearest. The "
        "dotted line marks no change."
    )


def on_the_map() -> None:
    """One model's map in one block, what is chosen on it, and the sentences that moved most."""
    model = ui.one_model(mapped, "drift-model", "Model on the map", dark=view.dark)
    with st.container(horizontal=True, key="map-choices"):
        block = (
            ui.choice_widget(
                st.select_slider, "block", list(range(1, blocks + 1)), default=blocks, label="Block"
            )
            - 1
        )
        names = drift_map.projections(view, block)
        projection = names[0]
        if len(names) > 1:
            kinds = drift_map.KINDS
            projection = ui.choice_widget(
                st.segmented_control,
                "projection",
                names,
                default=names[0],
                label="Projection",
                format_func=kinds.get,
            )
    drift_map.draw(view, model, block, projection=projection)
    selected_examples.panel(view, model)
    st.markdown("#### Which examples moved most?")
    view.caption_seed("This table shows", [model])
    drift_map.table(view, drift_map.movers(view, model, block, projection=projection), "movers")


mapped = drift_map.mapped(view)
ui.parts(
    {
        **({"map": ("Sentence by sentence", on_the_map)} if mapped else {}),
        "blocks": ("Block by block", by_block),
    },
    "drift-part",
)
