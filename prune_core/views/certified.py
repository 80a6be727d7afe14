"""Certified robustness: certified accuracy by number of changed words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from .. import formatting as f
from ..analysis.certified import VALUES, certified_loss, columns_of
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion
from ..analysis.quantities import NO_VALUE, Quantity, Value, with_interval
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import (
    difference_words,
    most_pruned,
    pruned_models,
    rows_of,
    sentence_name,
)
from ..data.masked_words import DELETE
from ..tasks import TaskType
from .base import Chart, MeasureView, Tables


def _at(rows: pd.DataFrame, changed: int) -> Value:
    """Return certified accuracy for a number of changed words with its interval."""
    rows = rows[rows["changed"] == changed]
    return with_interval(rows, *columns_of("accuracy")) if len(rows) else NO_VALUE


_quantity = partial(Quantity, table="certified", show=f.percent, better="higher", tick=".0%")
QUANTITIES = (
    _quantity(
        "smoothed_accuracy",
        "Smoothed accuracy",
        "Accuracy of the smoothed model",
        read=partial(_at, changed=0),
        gloss="Percentage of texts whose label is certainly that of most copies without most of "
        "the words, and correct.",
    ),
    _quantity(
        "certified_accuracy",
        "Certified accuracy, 1 word",
        "Certified accuracy, 1 changed word",
        read=partial(_at, changed=1),
        gloss="Percentage of texts predicted correctly by the smoothed model, whichever word is "
        "changed to whatever other word.",
    ),
)


def _is_single_label(task_type: TaskType, predictions: TaskType) -> bool:
    return task_type.is_single_label and predictions.is_single_label


LOSS = Criterion(
    "certified_loss",
    "Loss of certified accuracy",
    "Largest drop in certified accuracy for one changed word from the dense model",
    "points",
    measure="certified",
    table="certified_example",
    evidence=certified_loss,
    default=5.0,
    high=100,
    in_default_policy=False,
    supports=_is_single_label,
)


def changes(rows: pd.DataFrame) -> str:
    """Name the changes that the rows certify."""
    if (rows["removal"] == DELETE).any():
        return "replaced, inserted or deleted"
    return "replaced"


def takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State certified accuracy for one changed word of a most pruned model, or what is missing."""
    rows = tables["certified"]
    shown = [model for model in models if len(rows_of(rows, model))]
    if not shown:
        return ""
    one = rows[(rows["changed"] == 1) & rows["job"].isin([model.job for model in shown])]
    rate, constant = rows["rate"].max(), float(rows["most_frequent"].max())
    tuning = (
        f"fine-tune it on masked words (`finetune --mask-words {rate:g}`), or longer, before "
        "pruning, or remove another fraction"
    )
    if not (one["accuracy"] > 0).any():
        return (
            f"No prediction is certified for one {changes(rows)} word: without "
            f"{f.percent(rate)} of the words, the model does not predict one label often enough; "
            f"{tuning}."
        )
    pruned = most_pruned(pruned_models(one, models))
    model = min(pruned, key=lambda each: _at(rows_of(one, each), 1)[0]) if pruned else shown[0]
    row = rows_of(one, model).iloc[0]
    value, low, high = (row[each] for each in columns_of("accuracy_difference"))
    sentence = (
        f"Whichever word is {changes(rows)}, {sentence_name(model)} keeps "
        f"{f.percent(row['accuracy'])} of {row['n']:.0f} predictions correct"
    )
    if not model.is_dense:
        sentence += f", {difference_words(value, low, high, row['n'])}"
    sentence += ". "
    if one["accuracy"].max() <= constant:
        return sentence + (
            f"A model that always predicts the most frequent label has {f.percent(constant)}, so "
            f"these certificates are worth nothing; {tuning}."
        )
    return sentence + (
        f"A model that always predicts the most frequent label has {f.percent(constant)}."
    )


def charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    """Draw certified accuracy by number of changed words."""
    from .. import plots

    rows = tables["certified"]
    rates = " or ".join(f.percent(rate) for rate in sorted(set(rows["rate"])))
    yield Chart(
        "How many changed words are certified?",
        f"Fraction of texts whose prediction is correct and provably the same, whichever words are "
        f"{changes(rows)}, with 95% intervals. Each model predicts the majority over copies "
        f"without {rates} of the words. Dotted: always the most frequent label.",
        plots.certified_accuracy(rows, models, dark),
    )


VIEW = MeasureView(
    tables={
        "certified": Averaging(("removal", "rate", "changed"), tuple(map(columns_of, VALUES))),
        "certified_example": ONE_SEED,
    },
    quantities=lambda tables: QUANTITIES,
    takeaway=takeaway,
    charts=charts,
    criteria=(LOSS,),
)
