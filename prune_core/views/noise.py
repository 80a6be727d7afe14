"""Everyday noise: accuracy on noisy text, failure rates and loss beyond that on clean text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion
from ..analysis.noise import EXTRA, VALUES, columns_of, noise_loss, overall
from ..analysis.quantities import NO_VALUE, Quantity, Value, summary, with_interval
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import (
    difference_words,
    most_pruned,
    pruned_models,
    rows_of,
    sentence_name,
)
from .attack import attack_quantities, recipes
from .base import Chart, MeasureView, Tables


def _overall(rows: pd.DataFrame, value: str) -> Value:
    """Return a value over all perturbations and strengths with its interval."""
    rows = overall(rows)
    column, low, high = columns_of(value)
    return with_interval(rows, column, low, high=high) if len(rows) else NO_VALUE


_quantity = partial(Quantity, table="noise")
UNDER_NOISE = _quantity(
    "under_noise",
    "Accuracy under noise",
    "Accuracy on noisy text",
    read=partial(_overall, value="accuracy"),
    show=f.percent,
    better="higher",
    gloss="Percentage of noisy texts (typos, OCR errors and other everyday noise) predicted "
    "correctly.",
    tick=".0%",
)
FAILURES = _quantity(
    "noise_failure",
    "Failure rate under noise",
    "Failure rate under noise",
    read=partial(_overall, value="failure_rate"),
    show=f.percent,
    better="lower",
    gloss="Percentage of noisy texts whose prediction differs from the same model's for the "
    "original text.",
    tick=".0%",
)
EXTRA_LOSS = _quantity(
    "noise_extra_loss",
    "Additional loss under noise",
    "Loss under noise minus loss on clean text (points)",
    read=partial(_overall, value=EXTRA),
    show=f.points,
    better="lower",
    gloss="Accuracy lost by pruning on noisy texts, minus the accuracy lost on their originals; "
    "above 0, clean text underestimates the loss.",
    scale=100.0,
    tick="+.1f",
)
CLEAN = _quantity(
    "noise_clean",
    "Accuracy on the original texts",
    "Accuracy",
    read=partial(_overall, value="clean_accuracy"),
    show=f.percent,
    better="higher",
    gloss="Percentage of the original texts predicted correctly, each counted once per noisy copy.",
    tick=".0%",
)
LOSS = Criterion(
    "noise_loss",
    "Loss under noise",
    "Largest drop in accuracy on noisy text from the dense model; without labels, and for "
    "scores, largest increase of the failure rate",
    "points",
    measure="noise",
    table="noise_count",
    evidence=noise_loss,
    default=2.0,
    high=100,
    in_default_policy=False,
)


def _is_labelled(rows: pd.DataFrame) -> bool:
    return bool(rows["accuracy"].notna().any())


def _quantities(tables: Tables) -> list[Quantity]:
    labelled = _is_labelled(tables["noise"])
    return [UNDER_NOISE, FAILURES, EXTRA_LOSS] if labelled else [FAILURES]


def takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State whether the most pruned model loses more on noisy text than on clean text."""
    rows = tables["noise"]
    shown = most_pruned(pruned_models(rows, models))
    if not shown:
        return ""
    column = "accuracy_difference" if _is_labelled(rows) else "failure_difference"

    def worse(model: ComparedModel) -> float:
        value = _overall(rows_of(rows, model), column)[0]
        return -value if column == "accuracy_difference" else value

    model = max(shown, key=worse)
    row, name = overall(rows_of(rows, model)).iloc[0], sentence_name(model)
    value, low, high = (row[each] for each in columns_of(column))
    words = difference_words(value, low, high, n=row["n"])
    if column == "failure_difference":
        return (
            f"Noise changes {f.percent(row['failure_rate'])} of the predictions of {name}, {words}."
        )
    extra, extra_low, extra_high = (row[each] for each in columns_of(EXTRA))
    interval = f"95% interval {f.signed(100 * extra_low)} to {f.signed(100 * extra_high)}"
    points = f"{100 * abs(extra):.1f} points {'more' if extra > 0 else 'less'}"
    verdict = f"Pruning loses {points} than on the original texts ({interval})."
    if extra_low <= 0 <= extra_high:
        verdict = (
            "The accuracy lost by pruning does not differ detectably between noisy text and "
            f"the original texts ({f.signed(100 * extra)} points, {interval})."
        )
    return f"On noisy text, {name} has {f.percent(row['accuracy'])} accuracy, {words}. {verdict}"


def accuracy_quantities(tables: Tables) -> dict[str, Quantity]:
    """Return the measured accuracies by kind of text: original, noisy, attacked."""
    noise = tables["noise"]
    if noise.empty or not _is_labelled(noise):
        return {}
    found = {"Original text": CLEAN, "Everyday noise": UNDER_NOISE}
    attack = tables.get("attack", pd.DataFrame())
    return found | {recipe: attack_quantities(recipe)[0] for recipe in recipes(attack)}


def charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    """Draw accuracy on clean, noisy and attacked text, failures by perturbation and strength."""
    from .. import plots

    rows = tables["noise"]
    if found := accuracy_quantities(tables):
        values = summary(tables, models, list(found.values()))
        yield Chart(
            "Clean, noisy and attacked text",
            "Accuracy of each model with 95% intervals. The noise is the same for all models; an "
            "attack searches for the worst changes, on a smaller sample.",
            plots.robustness_by_text(values, models, found, dark),
        )
    yield Chart(
        "Which noise changes predictions?",
        "Percentage of noisy texts whose prediction differs from the same model's prediction for "
        "the original text, over all strengths, with 95% intervals; n is the number of examples "
        "that the noise can change. For a directional test, the percentage of violations.",
        plots.noise_failures(rows, models, dark),
    )
    if rows["strength"].nunique() > 1:
        yield Chart(
            "How much does stronger noise matter?",
            "All perturbations that should not change the prediction, with 95% intervals.",
            plots.noise_by_strength(rows, models, dark),
        )


VIEW = MeasureView(
    tables={
        "noise": Averaging(("perturbation", "strength"), tuple(map(columns_of, VALUES))),
        "noise_count": ONE_SEED,
        "noise_example": ONE_SEED,
    },
    quantities=_quantities,
    takeaway=takeaway,
    charts=charts,
    criteria=(LOSS,),
)
