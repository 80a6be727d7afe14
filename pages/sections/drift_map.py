"""Map of one model's sentence embeddings in one layer, and the examples that moved most."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.analysis.drift_samples import with_evaluation_indices

KINDS = {"umap": "UMAP", "pca": "PCA"}


def mapped(view: View) -> list[ComparedModel]:
    """The models that have a map."""
    moved = view.first_seed("drift_map")
    return [model for model in view.pruned if len(moved) and (moved["job"] == model.job).any()]


def projections(view: View, block: int) -> list[str]:
    """The projections that block has been drawn in."""
    moved = view.first_seed("drift_map")
    return [
        name
        for name in ("pca", "umap")
        if ((moved["block"] == block) & (moved["projection"] == name)).any()
    ]


def draw(
    view: View, model: ComparedModel, block: int, projection: str, small: bool = False
) -> None:
    """The map, whose points can be clicked and drawn around."""
    moved, texts = _tables(view)
    ui.chart(
        f"Where did the sentences go in block {block + 1} of {model.label}?",
        f"{KINDS[projection]} fitted on the dense embeddings only; pruned embeddings are projected "
        "onto it, so a long line is a large shift. Crosses mark examples whose prediction changed. "
        "Click a point to read its example, or draw around several to compare them with the rest. "
        f"{view.which_seed('This chart shows', [model])}".rstrip(),
        plots.moves(
            moved,
            model,
            block,
            projection=projection,
            texts=texts,
            names=view.label_names,
            dark=view.dark,
        ),
        key="map",
        small=small,
        selects=lambda examples: frame.choose_examples(view.study, examples),
        lasso=True,
    )


def _tables(view: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`drift_map` and `drift_example`, with indices into the evaluation sample as `example`."""
    moved, texts = view.first_seed("drift_map"), view.first_seed("drift_example")
    return with_evaluation_indices(moved, view.jobs), with_evaluation_indices(texts, view.jobs)


def movers(view: View, model: ComparedModel, block: int, projection: str) -> pd.DataFrame:
    """The model's examples and how far each moved on the map, largest move first."""
    moved, told = _tables(view)
    here = (
        (moved["job"] == model.job)
        & (moved["block"] == block)
        & (moved["projection"] == projection)
    )
    texts = told.loc[told["job"] == model.job, ["example", "text", "label", "dense", "pruned"]]
    found = (
        moved.loc[here, ["example", "move"]]
        .merge(texts, on="example")
        .sort_values("move", ascending=False)
    )
    return found.assign(changed=plots.prediction_changed(found)).reset_index(drop=True)


def table(view: View, found: pd.DataFrame, key: str) -> None:
    """The first fifty as a table; a click on a row's box chooses its example."""
    top = float(found["move"].max()) or 1.0
    shown = ui.readable_labels(found, view.label_names)

    def changed() -> None:
        rows = st.session_state[f"table-{key}"]["selection"]["rows"]
        frame.choose_examples(
            view.study, [int(found["example"].iloc[row]) for row in rows if row < len(found)]
        )

    ui.table(
        shown.head(50)[["text", "move", "label", "dense", "pruned", "changed"]],
        key,
        {
            "text": st.column_config.TextColumn("sentence", width="large"),
            "move": st.column_config.ProgressColumn(
                "move on the map", format="%.2f", min_value=0, max_value=top
            ),
            "label": "true label",
            "dense": "dense says",
            "pruned": "pruned says",
            "changed": st.column_config.CheckboxColumn("changed"),
        },
        plain=shown,
        height=360,
        on_select=changed,
        selection_mode="multi-row",
    )
