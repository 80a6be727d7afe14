"""Query attacks: how often changed queries lose all relevant documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from .. import formatting as f
from ..analysis.attack_success import success_rate
from ..analysis.compared_models import ComparedModel
from ..analysis.quantities import Quantity
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import most_pruned, pruned_models, rows_of, sentence_name
from .attack import INTERVALS, of_recipe, recipes
from .base import Chart, MeasureView, Tables

TITLE = "How often do attacks on queries succeed?"
GLOSS = (
    "Percentage of attacked queries whose relevant documents all leave the top k, with 95% "
    "intervals. Only queries with a relevant document in the model's own top k are attacked."
)


def _quantity(recipe: str) -> Quantity:
    return Quantity(
        f"query_success:{recipe}",
        f"{recipe} on queries",
        "Success rate of query attacks",
        table="query_attack",
        read=partial(
            of_recipe,
            recipe=recipe,
            column="success_rate",
            low="success_low",
            high="success_high",
            n="attacked",
        ),
        show=f.percent,
        better="lower",
        gloss="Percentage of queries with a relevant document in the top k for which small changes "
        "of the query remove all of them from it.",
        tick=".0%",
    )


def _takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State the success of the first recipe on the dense and the most pruned model."""
    rows, examples = tables["query_attack"], tables["query_attack_example"]
    dense = next((model for model in models if model.is_dense and len(rows_of(rows, model))), None)
    shown = most_pruned(pruned_models(rows, models))
    if dense is None or not shown:
        return ""
    recipe = recipes(rows)[0]
    of_dense, of_pruned = (
        rows_of(examples[examples["recipe"] == recipe], model) for model in (dense, shown[0])
    )
    versus = success_rate(of_dense, of_pruned)
    if not versus.n:
        return ""
    points = f"{f.signed(100 * versus.difference)} points"
    return (
        f"{recipe} removes all relevant documents from the top k for {f.percent(versus.dense)} of "
        f"{versus.n} queries of the dense model and "
        f"{f.percent(versus.pruned)} of {sentence_name(shown[0])} ({points}, 95% interval "
        f"{f.signed(100 * versus.low)} to {f.signed(100 * versus.high)}, "
        f"{f.p_value(versus.p_value)}; queries attacked on both)."
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
