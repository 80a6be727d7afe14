"""Attacks: accuracy under attack and success rate of each recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis import attack_evidence, takeaways
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion, single_label
from ..analysis.quantities import NO_VALUE, Quantity, Value, summary, with_interval
from ..analysis.seeds import ONE_SEED, Averaging
from .base import Chart, MeasureView, Tables, has_pruned

INTERVALS = (
    ("accuracy", "accuracy_low", "accuracy_high"),
    ("under_attack", "under_attack_low", "under_attack_high"),
    ("success_rate", "success_low", "success_high"),
)
SUCCESS = Criterion(
    "attack_success",
    "Attack success increase",
    "Largest increase of each attack's success rate, on examples that both models classify "
    "correctly",
    "points",
    measure="attack",
    table="attack_example",
    evidence=attack_evidence.attack_success,
    decidable=attack_evidence.decidable_increase,
    default=3.0,
    high=100,
    supports=single_label,
)


def recipes(attack: pd.DataFrame) -> list[str]:
    """Return the attack recipes in the rows of the table `attack`, largest sample first."""
    if attack.empty:
        return []
    largest = attack.groupby("recipe", sort=False)["n"].max()
    return list(largest.sort_values(ascending=False, kind="stable").index)


def attack_quantities(recipe: str) -> tuple[Quantity, Quantity]:
    """Return accuracy under an attack and its success rate."""
    return (
        Quantity(
            f"under_attack:{recipe}",
            f"Accuracy under {recipe}",
            "Accuracy under attack",
            table="attack",
            read=partial(
                of_recipe,
                recipe=recipe,
                column="under_attack",
                low="under_attack_low",
                high="under_attack_high",
                n="n",
            ),
            show=f.percent,
            better="higher",
            gloss="Percentage of examples that are correct and on which the attack fails.",
            tick=".0%",
        ),
        success_quantity(
            recipe,
            key=f"success:{recipe}",
            title=f"Success of {recipe}",
            axis="Attack success rate",
            table="attack",
            gloss="Percentage of correctly classified examples on which the attack succeeds.",
        ),
    )


def success_quantity(
    recipe: str, *, key: str, title: str, axis: str, table: str, gloss: str
) -> Quantity:
    """Return the success rate of an attack in a table with the columns of `attack`."""
    return Quantity(
        key,
        title,
        axis,
        table=table,
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
        gloss=gloss,
        tick=".0%",
    )


def of_recipe(rows: pd.DataFrame, recipe: str, column: str, low: str, high: str, n: str) -> Value:
    """Return a rate of a recipe with its interval."""
    rows = rows[rows["recipe"] == recipe]
    return with_interval(rows, column, low, high=high, n=n) if len(rows) else NO_VALUE


def _quantities(tables: Tables) -> list[Quantity]:
    return [each for recipe in recipes(tables["attack"]) for each in attack_quantities(recipe)]


def _charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    from .. import plots

    gloss = (
        "Percentage of successful attacks among the examples that the model classifies correctly."
    )
    yield Chart("Attack success", gloss, plots.success(tables["attack"], models, dark))
    if not has_pruned(models):
        return
    for recipe in recipes(tables["attack"]):
        quantity, _ = attack_quantities(recipe)
        rows = summary(tables, models, [quantity])
        yield Chart(
            f"{quantity.title} against sparsity",
            f"{quantity.gloss} Bars are 95% intervals.",
            plots.against_sparsity(rows, models, quantity, dark),
        )


VIEW = MeasureView(
    tables={
        "attack": Averaging(("recipe",), INTERVALS),
        "attack_slice": Averaging(("kind", "slice"), INTERVALS),  # computed from attack_example
        "attack_example": ONE_SEED,
        "transfer": ONE_SEED,  # single examples: two seeds may have other ones
    },
    quantities=_quantities,
    takeaway=lambda tables, models: takeaways.attack(
        tables["attack"], tables["attack_example"], models
    ),
    charts=_charts,
    criteria=(SUCCESS,),
)
