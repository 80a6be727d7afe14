"""Accuracy: the task's metric, its difference from the dense model, agreement and divergence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from .. import formatting as f
from ..analysis import prediction_evidence, takeaways
from ..analysis.compared_models import ComparedModel
from ..analysis.criteria import (
    Criterion,
    discrete_predictions,
    one_minus,
    single_label,
    with_scores,
)
from ..analysis.quantities import Quantity, headline, single_value, summary
from ..analysis.seeds import ONE_SEED, Averaging
from ..tasks import METRICS
from .base import Chart, MeasureView, Tables, has_pruned, units

AGREEMENT = Quantity(
    "agreement",
    "Agreement with dense",
    "Same prediction as dense",
    table="accuracy",
    read=partial(single_value, column="agreement"),
    show=f.percent,
    better="higher",
    gloss="Percentage of examples with the same prediction as the dense model, correct or not.",
    tick=".0%",
)
DIVERGENCE = Quantity(
    "divergence",
    "Divergence from dense",
    "Divergence from dense (KL, nats)",
    table="accuracy",
    read=partial(single_value, column="divergence"),
    show=f.error,
    better="lower",
    gloss="Mean Kullback–Leibler divergence of predicted probabilities; less noisy than accuracy.",
    tick=".2~g",
)
_prediction_criterion = partial(Criterion, measure="accuracy", table="prediction", high=100)
CRITERIA = (
    _prediction_criterion(
        "accuracy_loss",
        "{metric} loss",
        "Largest drop of accuracy, or of the task's own metric, below the dense model",
        "points",
        evidence=prediction_evidence.accuracy_loss,
        decidable=prediction_evidence.decidable_accuracy_loss,
        default=1.0,
        is_default_for=with_scores,
    ),
    _prediction_criterion(
        "agreement",
        "Agreement with dense",
        "Lowest percentage of predictions equal to the dense model's; needs no labels",
        "%",
        evidence=prediction_evidence.disagreement,
        decidable=prediction_evidence.decidable_disagreement,
        default=97.0,
        as_cost=one_minus,
        supports=discrete_predictions,
    ),
    _prediction_criterion(
        "slice_loss",
        "Accuracy loss in the worst slice",
        "Largest drop in any slice; small slices need large limits",
        "points",
        evidence=prediction_evidence.worst_slice,
        decidable=prediction_evidence.decidable_slice_loss,
        default=5.0,
        supports=discrete_predictions,
    ),
    _prediction_criterion(
        "calibration_error",
        "Calibration error increase",
        "Largest increase of the calibration error over the dense model's",
        "points",
        evidence=prediction_evidence.calibration_error,
        decidable=prediction_evidence.decidable_calibration_error,
        default=2.0,
        supports=single_label,
    ),
    _prediction_criterion(
        "accuracy_retained",
        "{metric} retained",
        "Lowest percentage of the dense model's accuracy, or of the task's metric, as in MLPerf",
        "%",
        evidence=prediction_evidence.relative_accuracy_loss,
        default=99.0,
        as_cost=one_minus,
        in_default_policy=False,
    ),
)


def _quantities(tables: Tables) -> list[Quantity]:
    rows = tables["accuracy"]
    metric = rows["metric"].iloc[0]
    score, difference = headline(metric)
    # without labels, the score already is the agreement with dense
    quantities = [score] if METRICS[metric].against_dense else [score, difference, AGREEMENT]
    # the divergence is not defined for spans
    has_divergence = "divergence" in rows and not rows["divergence"].isna().all()
    return [*quantities, *([DIVERGENCE] if has_divergence else [])]


def _charts(tables: Tables, models: Sequence[ComparedModel], dark: bool) -> Iterator[Chart]:
    from .. import plots

    if has_pruned(models):
        score = _quantities(tables)[0]
        figure = plots.against_sparsity(summary(tables, models, [score]), models, score, dark)
        gloss = f"{score.gloss} Bars are 95% intervals."
        yield Chart(f"{score.title} against sparsity", gloss, figure)


VIEW = MeasureView(
    tables={
        "accuracy": Averaging(
            (),
            intervals=(
                ("score", "low", "high"),
                ("dense_score", "dense_low", "dense_high"),
                ("difference", "difference_low", "difference_high"),
            ),
        ),
        "prediction": ONE_SEED,
    },
    quantities=_quantities,
    takeaway=lambda tables, models: takeaways.accuracy(tables["accuracy"], models, units(tables)),
    charts=_charts,
    criteria=CRITERIA,
)
