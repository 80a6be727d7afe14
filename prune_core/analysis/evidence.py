"""Evidence for deployment: the cost of pruning for every criterion, with bounds, from stored rows.

Larger values are worse. The module `deployment_check` compares them with limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..models.inference import contention
from ..statistics import paired_bounds, paired_resamples, proportion_bounds, quantile_bounds
from ..store.job import Job
from ..store.store import Store
from ..tasks import DEFAULT, METRICS, TASK_TYPES, TaskType, prediction_type, values_for
from . import slices
from .attack_success import ATTACKED, join_dense
from .calibration import signed_root, squared_calibration_error
from .policy import CRITERIA, Policy

RESAMPLES = 1000
WIDENING = 1.15  # in simulations, bounds of the calibration error are about a tenth too narrow
# passes; with fewer, the largest is not a 95% bound of the 95th percentile (0.95 ** 59 < 0.05)
MIN_PASSES = 59
PROPORTIONS = ("accuracy", "binary_accuracy", "exact_match", "subset_accuracy")


class BoundedMetric(NamedTuple):
    """A cost (larger is worse) and the function that bounds it at a one-sided error probability."""

    value: float
    n: int
    bounds: Callable[[float], tuple[float, float]]
    detail: str = ""
    of: Callable[[int], BoundedMetric] | None = None  # the same rates in a sample of another size


@dataclass(frozen=True)
class Evidence:
    """Measurements of a pruned job and of its dense model."""

    job: Job
    dense: Job | None
    tables: Mapping[str, pd.DataFrame]  # of the pruned job
    dense_attacks: pd.DataFrame

    @property
    def kind(self) -> str:
        """The name of the task type."""
        return str(self.job.facts.get("kind", DEFAULT))

    @property
    def prediction_type(self) -> TaskType:
        """The task type of the stored predictions."""
        return prediction_type(self.kind, str(self.job.facts.get("metric", "")))

    @property
    def label_names(self) -> list[str]:
        """The names of the model's labels."""
        return list(self.job.facts.get("label_names", []))

    @property
    def metric(self) -> str:
        """The metric of the task."""
        return str(self.tables["accuracy"]["metric"].iloc[0])

    @property
    def labelled(self) -> bool:
        """Whether accuracy was measured against labels rather than the dense model."""
        return not METRICS[self.metric].against_dense


def metric_of(accuracy: pd.DataFrame) -> str:
    """Return the metric of the table; accuracy if it is empty or without labels."""
    metric = str(accuracy["metric"].iloc[0]) if len(accuracy) else "accuracy"
    return "accuracy" if METRICS[metric].against_dense else metric


def evidence(store: Store, job: Job) -> Evidence:
    """Load the measurements of a pruned job and of the dense model with the same data and seed."""
    if not job.experiment.get("method"):
        raise PruneError(f"Job {job.id} is the dense model; choose the job of a pruned model.")
    shared = ("checkpoint", "source", "seed", "evaluation_size", "max_length")
    dense = next(
        (
            other
            for other in reversed(store.jobs(job.study))
            if not other.experiment.get("method")
            and all(other.experiment.get(key) == job.experiment.get(key) for key in shared)
        ),
        None,
    )
    tables = {
        name: store.rows(name, [job.id])
        for name in ("accuracy", "prediction", "cost", "timing", "attack_example")
    }
    return Evidence(
        job,
        dense,
        tables,
        dense_attacks=store.rows("attack_example", [dense.id]) if dense else pd.DataFrame(),
    )


def criterion_metrics(
    measured: Evidence, policy: Policy, name: str
) -> Iterator[tuple[str, BoundedMetric | str]]:
    """Yield (attack or slice, metric) of a criterion; the reason if it was not measured."""
    measure = CRITERIA[name].measure
    table = {"accuracy": "prediction", "attack": "attack_example", "cost": "cost"}[measure]
    if measured.tables[table].empty:
        yield "", f"not measured: run it with the measure {measure}"
    elif name == "attack_success":
        yield from _attacks(measured)
    elif name == "slice_loss":
        yield from _worst_slice(measured, policy)
    else:
        yield "", CRITERION_METRICS[name](measured)


def paired_loss(broken: int, fixed: int, n: int) -> BoundedMetric:
    """Return an accuracy loss: dense minus pruned accuracy on n examples."""

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = paired_bounds(broken, fixed, n, alpha=alpha)
        return -high, -low

    return BoundedMetric(
        (broken - fixed) / n,
        n,
        bounds,
        of=lambda size: paired_loss(round(broken * size / n), round(fixed * size / n), size),
    )


def _accuracy(measured: Evidence) -> BoundedMetric | str:
    rows = measured.tables["prediction"]
    if not measured.labelled:
        changed = _agreement(measured)
        if isinstance(changed, str):
            return changed
        return BoundedMetric(
            np.nan,
            changed.n,
            lambda alpha: (-np.inf, changed.bounds(alpha)[1]),
            detail="no labels: accuracy drops at most by the percentage of changed predictions",
        )
    if measured.metric in PROPORTIONS:
        dense, pruned = (
            measured.prediction_type.stored_correct(rows["label"], rows[side])
            for side in ("dense", "pruned")
        )
        return paired_loss(int((dense & ~pruned).sum()), int((~dense & pruned).sum()), len(rows))
    resamples = _paired_metrics(measured.metric, rows)
    row = measured.tables["accuracy"].iloc[0]
    return _bootstrapped(
        float(row["dense_score"] - row["score"]), resamples[:, 0] - resamples[:, 1], len(rows)
    )


def _paired_metrics(name: str, rows: pd.DataFrame) -> np.ndarray:
    """Return (resamples, 2): the task's metric of dense and pruned on resampled examples."""
    metric, labels = METRICS[name], list(rows["label"])
    if metric.counts is not None and metric.of_counts is not None:
        of_counts = metric.of_counts
        dense, pruned = (metric.counts(labels, list(rows[side])) for side in ("dense", "pruned"))
        return _resample(lambda _, counts: of_counts(counts.sum(0)), dense, dense, pruned)
    if "dense_f1" in rows:  # spans have one F1 per answer
        dense, pruned = (rows[f"{side}_f1"].to_numpy() for side in ("dense", "pruned"))
        return _resample(lambda _, scores: float(scores.mean()), dense, dense, pruned)
    dense, pruned = (
        np.array(values_for(name, list(rows[side]), list(rows.get(f"{side}_probabilities", ()))))
        for side in ("dense", "pruned")
    )
    return _resample(metric.compute, np.array(labels), dense, pruned)


def _resample(
    statistic: Callable[..., float], labels: np.ndarray, dense: np.ndarray, pruned: np.ndarray
) -> np.ndarray:
    return paired_resamples(statistic, labels, dense, after=pruned, resamples=RESAMPLES, seed=0)


def _bootstrapped(
    value: float, resamples: np.ndarray, n: int, min_examples: float = 1.0
) -> BoundedMetric:
    """Bound by a paired bootstrap, wider by √(n/(n−1)), by at least `min_examples` / n."""
    factor = sqrt(n / max(1, n - 1))

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = np.quantile(resamples, (alpha, 1 - alpha))
        smallest = min_examples / n
        return (
            value - max(factor * (value - low), smallest),
            value + max(factor * (high - value), smallest),
        )

    return BoundedMetric(value, n, bounds)


def _same_predictions(measured: Evidence) -> np.ndarray:
    """Return (examples,) whether both models predict the same."""
    rows = measured.tables["prediction"]
    return measured.prediction_type.is_same(rows["dense"], rows["pruned"])


def _agreement(measured: Evidence) -> BoundedMetric | str:
    if not measured.prediction_type.is_discrete:
        return "scores are never exactly equal; remove the limit on agreement"
    agrees = _same_predictions(measured)
    return _proportion(int((~agrees).sum()), len(agrees))


def _proportion(hits: int, n: int) -> BoundedMetric:
    return BoundedMetric(
        hits / n,
        n,
        lambda alpha: proportion_bounds(hits, n, alpha),
        of=lambda size: _proportion(round(hits * size / n), size),
    )


def _calibration(measured: Evidence) -> BoundedMetric | str:
    rows = measured.tables["prediction"]
    if not TASK_TYPES[measured.kind].is_single_label:
        return "calibration needs class probabilities; remove this limit"
    if not measured.labelled:
        return "calibration needs labels; remove this limit or name a label column"
    labels = rows["label"].to_numpy(int)
    dense, pruned = (
        np.array([*rows[f"{side}_probabilities"]], dtype=float) for side in ("dense", "pruned")
    )
    value = squared_calibration_error(labels, pruned) - squared_calibration_error(labels, dense)
    resamples = _resample(squared_calibration_error, labels, dense, pruned)
    changes = resamples[:, 1] - resamples[:, 0]
    # every resample adds the bias by chance again, so changes are centered
    metric = _bootstrapped(
        value, value + WIDENING * (changes - changes.mean()), len(rows), min_examples=0.0
    )

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = metric.bounds(alpha)
        return signed_root(low), signed_root(high)

    return BoundedMetric(signed_root(value), len(rows), bounds)


def _attacks(measured: Evidence) -> Iterator[tuple[str, BoundedMetric | str]]:
    if measured.dense_attacks.empty:
        yield (
            "",
            "the dense model with the same data and seed was not attacked; run it with the measure "
            "attack",
        )
        return
    if measured.dense and _attack_options(measured.dense) != _attack_options(measured.job):
        yield (
            "",
            "the dense model was attacked with different settings, so rates are not comparable; "
            "attack both with the same settings",
        )
        return
    for recipe, rows in measured.tables["attack_example"].groupby("recipe", sort=False):
        both = join_dense(measured.dense_attacks[measured.dense_attacks["recipe"] == recipe], rows)
        both = both[both["outcome"].isin(ATTACKED) & both["outcome_dense"].isin(ATTACKED)]
        if both.empty:
            yield str(recipe), "no correctly classified example was attacked on both models"
            continue
        dense, pruned = (both[column] == "success" for column in ("outcome_dense", "outcome"))
        gained, lost = int((~dense & pruned).sum()), int((dense & ~pruned).sum())
        yield str(recipe), paired_loss(gained, lost, len(both))


def _attack_options(job: Job) -> dict[str, object] | None:
    """Return the settings of a job's attacks, without those on which examples may differ."""
    for measure in job.experiment.get("measures", ()):
        if measure["name"] == "attack":
            # recipes and examples are paired one by one
            paired = ("recipes", "examples", "word_examples")
            return {name: value for name, value in measure["options"].items() if name not in paired}
    return None


def slice_table(measured: Evidence, policy: Policy) -> pd.DataFrame:
    """Return the loss of each slice, worst bound first; empty without labels or for regression."""
    rows = measured.tables["prediction"]
    if rows.empty or not measured.prediction_type.is_discrete or not measured.labelled:
        return pd.DataFrame()
    masks = slices.slice_masks(
        rows,
        policy.slices,
        measured.prediction_type,
        names=measured.label_names,
        source=measured.job.experiment["source"],
    )
    dense, pruned = (
        measured.prediction_type.stored_correct(rows["label"], rows[side])
        for side in ("dense", "pruned")
    )
    verdicts = slices.slice_verdicts(masks, dense, pruned, alpha=policy.alpha)
    if verdicts.empty:
        return verdicts
    return verdicts.sort_values("low", kind="stable", ignore_index=True)


def _worst_slice(measured: Evidence, policy: Policy) -> Iterator[tuple[str, BoundedMetric | str]]:
    """Yield the slice with the worst bound: if it meets the limit, all slices do."""
    table = slice_table(measured, policy)
    if table.empty:
        yield "", "no slice has labels and predictions that are correct or incorrect"
        return
    worst = table.iloc[0]
    loss = paired_loss(int(worst["broken"]), int(worst["fixed"]), int(worst["n"]))
    # a violation must hold after correction for all slices
    yield (
        str(worst["slice"]),
        loss._replace(
            bounds=lambda alpha: (
                _largest_certain_loss(table, alpha / len(table)),
                loss.bounds(alpha)[1],
            )
        ),
    )


def _largest_certain_loss(table: pd.DataFrame, alpha: float) -> float:
    """Return the largest lower bound of the loss of any slice."""
    return max(
        -paired_bounds(int(broken), int(fixed), int(n), alpha=alpha)[1]
        for broken, fixed, n in zip(table["broken"], table["fixed"], table["n"], strict=True)
    )


def _cost(measured: Evidence, column: str) -> float:
    rows = measured.tables["cost"]
    return float(rows.loc[rows["model"] == "pruned", column].iloc[0])


def timed_passes(job: Job) -> int:
    """Return the passes for measuring cost again: as before, but enough for a 95th percentile."""
    repeats = (
        measure["options"].get("repeats", 0)
        for measure in job.experiment["measures"]
        if measure["name"] == "cost"
    )
    return max(MIN_PASSES + 1, max(repeats, default=0))


def _no_passes(measured: Evidence) -> str:
    return (
        "single passes were not stored; measure again "
        f"(python -m prune_core remeasure {measured.job.id} cost)"
    )


def _latency(measured: Evidence) -> BoundedMetric | str:
    times = measured.tables["timing"]
    if times.empty:
        return _no_passes(measured)
    seconds = times.loc[times["model"] == "pruned", "seconds"].to_numpy()
    detail = ""
    if len(seconds) < MIN_PASSES:
        detail = (
            f"{len(seconds)} timed passes are too few for a 95th percentile; measure 60 "
            f"(python -m prune_core remeasure {measured.job.id} cost --set cost.repeats=60)"
        )
    metric = BoundedMetric(
        _cost(measured, "latency_p95"),
        len(seconds),
        lambda alpha: quantile_bounds(seconds, 0.95, alpha),
        detail=detail,
    )
    return _undisturbed(measured, metric)


def _speed(measured: Evidence) -> BoundedMetric | str:
    times = measured.tables["timing"]
    if times.empty:
        return _no_passes(measured)
    by_model = times.pivot(index="turn", columns="model", values="seconds")
    ratios = (by_model["pruned"] / by_model["dense"]).to_numpy()
    metric = BoundedMetric(
        float(np.median(ratios)), len(ratios), lambda alpha: quantile_bounds(ratios, 0.5, alpha)
    )
    return _undisturbed(measured, metric)


def _undisturbed(measured: Evidence, metric: BoundedMetric) -> BoundedMetric:
    """Remove the bounds if other processes used the processor during the measurement."""
    busy = disturbance(measured.tables["cost"])
    if not busy:
        return metric
    option = " --set cost.repeats=60" if metric.detail else ""
    return metric._replace(
        bounds=lambda alpha: (-np.inf, np.inf),
        detail=f"{busy}; measure again on an idle machine "
        f"(python -m prune_core remeasure {measured.job.id} cost{option})",
    )


def disturbance(timed: pd.DataFrame) -> str:
    """Describe the load by other processes during the timing of a table (`cost`, `formats`).

    Empty if there was none, or for old tables without this column.
    """
    loads = timed["other_load"].dropna() if "other_load" in timed else []
    return contention.disturbance(max(loads, default=None))


def _size(measured: Evidence) -> BoundedMetric | str:
    size = _cost(measured, "bytes")
    return BoundedMetric(size, 1, lambda alpha: (size, size))


CRITERION_METRICS: dict[str, Callable[[Evidence], BoundedMetric | str]] = {
    "accuracy_loss": _accuracy,
    "agreement": _agreement,
    "calibration_error": _calibration,
    "latency_p95": _latency,
    "speedup": _speed,
    "size": _size,
}


def flipped_predictions(measured: Evidence) -> pd.DataFrame:
    """Return examples that pruning broke or fixed, or without labels those that changed.

    Columns of `prediction`, and `what`: "broken", "fixed" or "changed".
    """
    rows = measured.tables["prediction"]
    if rows.empty or not measured.prediction_type.is_discrete:
        return pd.DataFrame()
    if not measured.labelled:
        return rows[~_same_predictions(measured)].assign(what="changed")
    dense, pruned = (
        measured.prediction_type.stored_correct(rows["label"], rows[side])
        for side in ("dense", "pruned")
    )
    what = np.where(dense & ~pruned, "broken", np.where(~dense & pruned, "fixed", ""))
    return rows.assign(what=what)[what != ""]
