"""Query attacks: how often changed queries lose all relevant documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .. import formatting as f
from ..analysis.attack_success import success_rate
from ..analysis.compared_models import ComparedModel
from ..analysis.quantities import Quantity
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import (
    dense_and_most_pruned,
    rows_of,
    sentence_name,
    success_change,
)
from .attack import INTERVALS, recipes, success_quantity
from .base import Chart, MeasureView, Tables

TITLE = "How often do attacks on queries succeed?"
GLOSS = (
    "Percentage of attacked queries whose relevant documents all leave the top k, with 95% "
    "intervals. Only queries with a relevant document in the model's own top k are attacked."
)


def _quantity(recipe: str) -> Quantity:
    return success_quantity(
        recipe,
        key=f"query_success:{recipe}",
        title=f"{recipe} on queries",
        axis="Success rate of query attacks",
        table="query_attack",
        gloss="Percentage of queries with a relevant document in the top k for which small changes "
        "of the query remove all of them from it.",
    )


def _takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State the success of the first recipe on the dense and the most pruned model."""
    rows, examples = tables["query_attack"], tables["query_attack_example"]
    compared = dense_and_most_pruned(rows, models)
    if compared is None:
        return ""
    recipe = recipes(rows)[0]
    attacked = examples[examples["recipe"] == recipe]
    versus = success_rate(*(rows_of(attacked, model) for model in compared))
    if not versus.n:
        return ""
    return (
        f"{recipe} removes all relevant documents from the top k for {f.percent(versus.dense)} of "
        f"{versus.n} queries of the dense model and "
        f"{f.percent(versus.pruned)} of {sentence_name(compared[1])} "
        f"({success_change(versus)}; queries attacked on both)."
    )


def charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    """Draw the success rates of attacks on queries, if there are any."""
    from .. import plots

    if len(tables["query_attack"]):
        yield Chart(
            TITLE, GLOSS, plots.success(tables["query_attack"], models, dark, noun="queries")
        )


VIEW = MeasureView(
    tables={
        "query_attack": Averaging(("recipe",), INTERVALS),
        "query_attack_example": ONE_SEED,
    },
    reads=("query_attack_example",),
    quantities=lambda tables: [_quantity(recipe) for recipe in recipes(tables["query_attack"])],
    takeaway=_takeaway,
    charts=charts,
)
