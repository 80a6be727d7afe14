"""What each measure contributes to the product: one file per measure, and this registry."""

from collections.abc import Mapping, Sequence

import pandas as pd

from ..analysis import seeds
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion
from ..analysis.evidence import Evidence
from ..analysis.quantities import Quantity
from ..analysis.seeds import Averaging
from . import (
    accuracy,
    attack,
    certified,
    corpus_poisoning,
    cost,
    drift,
    exports,
    noise,
    pruning,
    query_attack,
    reconstruction,
    reranking,
    retrieval,
    sensitivity,
    threshold,
)
from .base import Chart, MeasureView, Tables

__all__ = [
    "CRITERIA",
    "READ",
    "TABLES",
    "VIEWS",
    "Chart",
    "MeasureView",
    "Tables",
    "advice",
    "pooled",
    "quantities",
    "takeaways",
]

# in the order of tables and reports
VIEWS: dict[str, MeasureView] = {
    "prune": pruning.VIEW,
    "accuracy": accuracy.VIEW,
    "threshold": threshold.VIEW,
    "retrieval": retrieval.VIEW,
    "reranking": reranking.VIEW,
    "noise": noise.VIEW,
    "certified": certified.VIEW,
    "attack": attack.VIEW,
    "query_attack": query_attack.VIEW,
    "corpus_poisoning": corpus_poisoning.VIEW,
    "reconstruction": reconstruction.VIEW,
    "sensitivity": sensitivity.VIEW,
    "drift": drift.VIEW,
    "cost": cost.VIEW,
    "formats": exports.FORMATS,
    "quantization": exports.QUANTIZATION,
}
DECLARED: dict[str, Averaging] = {
    name: table for view in VIEWS.values() for name, table in view.tables.items()
}
# tables that quantities are read from
TABLES = tuple(name for name, view in VIEWS.items() if view.quantities)
# tables that takeaways and charts read, too
READ = (*TABLES, *(name for view in VIEWS.values() for name in view.reads))
# by key, in the order of forms: first those of the default policy, then by importance
CRITERIA: dict[str, Criterion] = {
    criterion.key: criterion
    for _, criterion in sorted(
        ((place, each) for view in VIEWS.values() for place, each in enumerate(view.criteria)),
        key=lambda pair: (not pair[1].in_default_policy, pair[0]),
    )
}


def quantities(tables: Tables) -> dict[str, Quantity]:
    """Return the quantities that the tables provide, by key."""
    return {
        quantity.key: quantity
        for name, view in VIEWS.items()
        if view.quantities and not tables.get(name, pd.DataFrame()).empty
        for quantity in view.quantities(tables)
    }


def takeaways(tables: Tables, models: Sequence[ComparedModel]) -> list[str]:
    """Return the sentences of all measures that the tables provide."""
    sentences = [
        view.takeaway(tables, models)
        for name, view in VIEWS.items()
        if view.takeaway and not tables.get(name, pd.DataFrame()).empty
    ]
    return [sentence for sentence in sentences if sentence]


def advice(measured: Evidence, limits: Mapping[str, float]) -> list[str]:
    """Return what all measures advise for one pruned model, given a policy's limits."""
    sentences = [
        view.advice(measured, limits)
        for name, view in VIEWS.items()
        if view.advice and len(measured.tables[name])
    ]
    return [sentence for sentence in sentences if sentence]


def pooled(
    name: str,
    rows: pd.DataFrame,
    models: Sequence[ComparedModel],
    predictions: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the rows of a table averaged over the seeds of each model; see `seeds.pooled`."""
    return seeds.pooled(
        name, rows, models, averaging=averaging_of(name, rows), predictions=predictions
    )


def averaging_of(name: str, rows: pd.DataFrame) -> Averaging:
    """Return the declaration of a table, inferred from its rows if it has none."""
    return DECLARED.get(name) or seeds.infer_averaging(rows)


def is_averaged(name: str, rows: pd.DataFrame) -> bool:
    """Whether a table is averaged over seeds; if not, pages show the rows of one seed."""
    return averaging_of(name, rows).identity is not None
