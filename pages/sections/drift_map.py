"""Map of one model's sentence embeddings in one layer, and the examples that moved most."""

import pandas as pd
import streamlit as st

from pages.widgets import frame, ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis.compared_models import ComparedModel
from prune_core.analysis.drift_samples import with_evaluation_indices

PROJECTIONS = {"pca": "PCA", "umap": "UMAP"}


def models_with_map(view: View) -> list[ComparedModel]:
    """Return the pruned models that have a map."""
    points = view.first_seed("drift_map")
    return [model for model in view.pruned if len(points) and (points["job"] == model.job).any()]


def projections(view: View, block: int) -> dict[str, str]:
    """Return the projections that are available for a layer with their titles."""
    points = view.first_seed("drift_map")
    known = set(points.loc[points["block"] == block, "projection"])
    return {name: title for name, title in PROJECTIONS.items() if name in known}


def draw(view: View, model: ComparedModel, block: int, projection: str) -> None:
    """Draw the map; clicked or lassoed points are selected."""
    points, texts = _tables(view)
    has_predictions = texts["pruned"].notna().any()
    crosses = " Crosses mark examples whose prediction changed." if has_predictions else ""
    ui.chart(
        f"How do embeddings move in layer {block + 1} of {model.label}?",
        f"{PROJECTIONS[projection]} fitted on the dense embeddings only and applied to the pruned "
        f"ones, so a long line is a large shift.{crosses} "
        "Click a point to read its example, or select several with the lasso to compare them with "
        "the rest. "
        f"{view.which_seed('This chart shows', [model])}".rstrip(),
        plots.embedding_shifts(
            points,
            model,
            block,
            projection=projection,
            texts=texts,
            names=view.label_names,
            dark=view.dark,
        ),
        key="map",
        selects=lambda examples: frame.choose_examples(view.study, examples),
        lasso=True,
    )


def _tables(view: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `drift_map` and `drift_example`; `example` is an index into the evaluation sample."""
    points, texts = view.first_seed("drift_map"), view.first_seed("drift_example")
    return with_evaluation_indices(points, view.jobs), with_evaluation_indices(texts, view.jobs)


def movers(view: View, model: ComparedModel, block: int, projection: str) -> pd.DataFrame:
    """Return the model's examples with their shift on the map, largest first."""
    points, examples = _tables(view)
    chosen = (
        (points["job"] == model.job)
        & (points["block"] == block)
        & (points["projection"] == projection)
    )
    texts = examples.loc[
        examples["job"] == model.job, ["example", "text", "label", "dense", "pruned"]
    ]
    return (
        points.loc[chosen, ["example", "move"]]
        .merge(texts, on="example")
        .sort_values("move", ascending=False, ignore_index=True)
        .assign(changed=plots.prediction_changed)
    )


def table(view: View, shifts: pd.DataFrame, key: str) -> None:
    """Show the first fifty rows of `movers`; selecting rows selects their examples."""
    shown = ui.readable_labels(shifts, view.label_names)

    def changed() -> None:
        rows = st.session_state[f"table-{key}"]["selection"]["rows"]
        frame.choose_examples(
            view.study, [int(shifts["example"].iloc[row]) for row in rows if row < len(shifts)]
        )

    columns = ["text", "move", "label", "dense", "pruned", "changed"]
    missing = {name for name in columns[2:] if shifts[name].isna().all()}
    if "pruned" in missing:
        missing.add("changed")
    ui.table(
        shown.head(50)[[name for name in columns if name not in missing]],
        key,
        {
            "text": st.column_config.TextColumn("text", width="large"),
            "move": st.column_config.ProgressColumn(
                "shift on the map",
                format="%.2f",
                min_value=0,
                max_value=float(shifts["move"].max()) or 1.0,
            ),
            "label": "true label",
            "dense": "dense prediction",
            "pruned": "pruned prediction",
            "changed": st.column_config.CheckboxColumn("changed"),
        },
        plain=shown,
        height=360,
        on_select=changed,
        selection_mode="multi-row",
    )
