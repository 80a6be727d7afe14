"""Detection at a threshold: recall, false positives and ranking metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from .. import formatting as f
from ..analysis import detection_slices
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import Criterion
from ..analysis.detection import RANKING, false_positive_increase, recall_loss
from ..analysis.evidence import Evidence
from ..analysis.quantities import Quantity, Value, summary, with_interval
from ..analysis.seeds import ONE_SEED, Averaging
from ..analysis.takeaways import (
    capital,
    difference_words,
    most_pruned,
    pruned_models,
    rows_of,
    sentence_name,
)
from ..statistics import paired_bounds
from ..tasks import TaskType
from .base import Chart, MeasureView, Tables, has_pruned

RATES = ("recall", "false_positive_rate", "precision")
DIFFERENCES = ("recall", "false_positive_rate", *RANKING)
AVERAGED = (
    *(f"{prefix}{name}" for name in (*RATES, *RANKING) for prefix in ("", "dense_")),
    *(f"{name}_difference" for name in DIFFERENCES),
)
ALPHA = 0.05  # one-sided error probability of the losses that a takeaway rules out


def _mean_over_labels(rows: pd.DataFrame, column: str, n: str) -> Value:
    """Return the value of a single label with its interval, or the mean over several labels."""
    if len(rows) == 1:
        return with_interval(rows, column, f"{column}_low", f"{column}_high", n=n)
    return float(rows[column].mean()), np.nan, np.nan, float(rows[n].sum())


def _quantity(
    key: str, column: str, title: str, gloss: str, n: str = "n", better: str = "higher"
) -> Quantity:
    return Quantity(
        key,
        title,
        title,
        table="threshold",
        read=partial(_mean_over_labels, column=column, n=n),
        show=f.percent,
        better=better,
        gloss=gloss,
        tick=".0%",
    )


QUANTITIES = (
    _quantity(
        "recall",
        "recall",
        "Recall at the threshold",
        "Percentage of examples with the label that are detected; mean over labels if several.",
        n="positives",
    ),
    _quantity(
        "false_positive_rate",
        "false_positive_rate",
        "False-positive rate",
        "Percentage of examples without the label that are detected; mean over labels if several.",
        n="negatives",
        better="lower",
    ),
    _quantity(
        "precision",
        "precision",
        "Precision at the threshold",
        "Percentage of detected examples that have the label; it depends on how rare the label is.",
    ),
    _quantity(
        "detection_ap",
        "average_precision",
        "Average precision (detection)",
        "Area under the precision-recall curve over all thresholds.",
    ),
    _quantity(
        "roc_auc",
        "roc_auc",
        "ROC AUC",
        "Probability that an example with the label has a higher score than one without it.",
    ),
    _quantity(
        "tpr_at_fpr_1",
        "tpr_at_fpr_1",
        "Recall at 1% false positives",
        "Highest recall of any threshold with a false-positive rate of at most 1%.",
        n="positives",
    ),
    _quantity(
        "tpr_at_fpr_01",
        "tpr_at_fpr_01",
        "Recall at 0.1% false positives",
        "Highest recall of any threshold with a false-positive rate of at most 0.1%; with fewer "
        "than 1,000 examples without the label, the recall at no false positives.",
        n="positives",
    ),
)


def detects(task_type: TaskType, predictions: TaskType) -> bool:
    """Support classifiers and multi-label models."""
    return predictions.is_single_label or task_type.has_several_labels


_criterion = partial(
    Criterion,
    measure="threshold",
    table="threshold_example",
    unit="points",
    high=100,
    in_default_policy=False,
    supports=detects,
)
CRITERIA = (
    _criterion(
        "recall_loss",
        "Recall loss at the threshold",
        "Largest drop in recall from the dense model at the threshold, for each label",
        evidence=recall_loss,
        default=5.0,
        units="examples with the label",
    ),
    _criterion(
        "false_positive_increase",
        "False-positive rate increase",
        "Largest increase of the false-positive rate over the dense model at the threshold, for "
        "each label",
        evidence=false_positive_increase,
        default=1.0,
        units="examples without the label",
    ),
    _criterion(
        "slice_recall_loss",
        "Recall loss in a slice",
        "Largest drop in recall in each slice of the policy, such as column:language, for each "
        "label",
        evidence=detection_slices.recall_loss,
        default=10.0,
        units="examples with the label in the slice",
    ),
    _criterion(
        "slice_false_positive_increase",
        "False-positive rate increase in a slice",
        "Largest increase of the false-positive rate in each slice of the policy, such as "
        "column:language, for each label",
        evidence=detection_slices.false_positive_increase,
        default=2.0,
        units="examples without the label in the slice",
    ),
)


def takeaway(tables: Tables, models: Sequence[ComparedModel]) -> str:
    """State recall and false positives of a most pruned model, and the loss that n rules out."""
    rows = tables["threshold"]
    shown = most_pruned(pruned_models(rows, models))
    model = next(iter(shown), None) or next(
        (model for model in models if len(rows_of(rows, model))), None
    )
    if model is None:
        return ""
    labels = rows_of(rows, model)
    # with several labels, the one with the largest recall loss
    row = labels.loc[labels["recall_difference"].fillna(np.inf).idxmin()]
    if not row["positives"]:
        return f"No evaluation example has the label {row['positive']!r}."
    interval = f"95% interval {f.percent(row['recall_low'])} to {f.percent(row['recall_high'])}"
    name = capital(sentence_name(model)) if model.is_dense else sentence_name(model)
    sentence = (
        f"{name} detects {f.mean_count(row['true_positives'])} of "
        f"{f.mean_count(row['positives'])} examples of {row['positive']!r} "
        f"({f.percent(row['recall'])}, {interval}) at a false-positive rate of "
        f"{f.percent(row['false_positive_rate'])} "
        f"({f.percent(row['false_positive_rate_low'])} to "
        f"{f.percent(row['false_positive_rate_high'])}, n = {row['negatives']:.0f})"
    )
    if model.is_dense:
        return sentence + "."
    difference, low, high = (row[f"recall_difference{end}"] for end in ("", "_low", "_high"))
    change = difference_words(difference, low, high, n=row["positives"])
    n = round(row["positives"])
    excluded = 100 * -paired_bounds(0, 0, n, alpha=ALPHA)[0]
    return (
        f"{sentence}; its recall is {change}. {n} such examples can rule out only losses of more "
        f"than {excluded:.1f} points. {_refit_sentence(row)}"
    ).rstrip()


def _advice(measured: Evidence, limits: Mapping[str, float]) -> str:
    """Propose a new threshold if scores shifted; name the slice that loses the most recall."""
    sentences = [_refit_sentence(row) for _, row in measured.tables["threshold"].iterrows()]
    table = detection_slices.rates(measured)
    table = table[table["positives"] > 0] if len(table) else table
    table = table[table["recall"] < table["dense_recall"]] if len(table) else table
    if len(table):
        sentences.append(_slice_sentence(table))
    return " ".join(filter(None, sentences))


def _refit_sentence(row: pd.Series) -> str:
    """Propose to refit the threshold of a pruned model if its scores shifted, else ""."""
    refitted_recall = row["tpr_at_fpr_1"]
    if row["threshold"] != row["dense_threshold"] or not refitted_recall > row["recall_high"]:
        return ""
    return (
        f"The scores of {row['positive']!r} shifted: a threshold fitted to the pruned model would "
        f"detect {f.percent(refitted_recall)} at a false-positive rate of 1%; the dense model's "
        f"threshold detects {f.percent(row['recall'])} (measure again with threshold.refit=true)."
    )


def _slice_sentence(table: pd.DataFrame) -> str:
    worst = table.loc[(table["recall"] - table["dense_recall"]).idxmin()]
    return (
        f"Recall of {worst['positive']!r} drops most in the slice “{worst['slice']}”: "
        f"{worst['true_positives']} of {worst['positives']} detected (recall, 95% interval "
        f"{f.percent(worst['recall_low'])} to {f.percent(worst['recall_high'])}), "
        f"{worst['dense_true_positives']} by the dense model."
    )


def _charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    from .. import plots

    if has_pruned(models):
        quantity = QUANTITIES[0]
        figure = plots.against_sparsity(summary(tables, models, [quantity]), models, quantity, dark)
        gloss = f"{quantity.gloss} Bars are exact 95% intervals."
        yield Chart(f"{quantity.title} against sparsity", gloss, figure)


VIEW = MeasureView(
    tables={
        "threshold": Averaging(
            ("positive",),
            intervals=tuple((name, f"{name}_low", f"{name}_high") for name in AVERAGED),
        ),
        "threshold_example": ONE_SEED,
    },
    quantities=lambda tables: QUANTITIES,
    takeaway=takeaway,
    advice=_advice,
    charts=_charts,
    criteria=CRITERIA,
)
