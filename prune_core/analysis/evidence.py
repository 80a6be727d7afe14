"""What is known of a pruned model beside the dense one, and of every criterion a figure with its bounds.

From stored rows alone. Larger figures are worse, in their own unit; whether they are too bad is deploy's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..data.metrics import METRICS, prediction_type, values_for
from ..errors import PruneError
from ..models.inference import contention
from ..statistics import paired_bounds, paired_resamples, proportion_bounds, quantile_bounds
from ..store.job import Job
from ..store.store import Store
from . import slices
from .attack_success import ATTACKED, join_dense
from .calibration import root, squared_error
from .policy import CRITERIA, Policy

RESAMPLES = 1000
WIDER = 1.15  # simulated bounds of a calibration error come out about a tenth too narrow
ENOUGH = (
    59  # passes; with fewer the largest is no 95% bound of the 95th percentile (0.95 ** 59 < 0.05)
)
SHARES = ("accuracy", "binary_accuracy", "exact_match", "subset_accuracy")


class BoundedMetric(NamedTuple):
    """A cost in its own unit, larger is worse, and what bounds it at each one-sided error probability."""

    value: float
    n: int
    bounds: Callable[[float], tuple[float, float]]
    detail: str = ""
    of: Callable[[int], BoundedMetric] | None = None  # the same shares in a sample of another size


@dataclass(frozen=True)
class Evidence:
    """What was measured of a pruned job and of the dense one beside it."""

    job: Job
    dense: Job | None
    tables: Mapping[str, pd.DataFrame]  # of the pruned job
    dense_attacks: pd.DataFrame

    @property
    def kind(self) -> str:
        """What the model gives, a key of examples.KINDS."""
        return str(self.job.facts.get("kind", "classification"))

    @property
    def prediction_type(self) -> str:
        """The task type of the stored predictions."""
        return prediction_type(self.kind, str(self.job.facts.get("metric", "")))

    @property
    def names(self) -> list[str]:
        """Of the model's labels."""
        return list(self.job.facts.get("label_names", []))

    @property
    def metric(self) -> str:
        """The task's own figure."""
        return str(self.tables["accuracy"]["metric"].iloc[0])

    @property
    def labelled(self) -> bool:
        """Whether accuracy was measured against labels, not against the dense model."""
        return not METRICS[self.metric].against_dense


def metric_of(accuracy: pd.DataFrame) -> str:
    """The figure that the loss is of, from the table; accuracy where there is none yet, or none against labels."""
    metric = str(accuracy["metric"].iloc[0]) if len(accuracy) else "accuracy"
    return "accuracy" if METRICS[metric].against_dense else metric


def evidence(store: Store, job: Job) -> Evidence:
    """All that is stored about a job, and the attacks on the dense model of the same data and seed."""
    if not job.experiment.get("method"):
        raise PruneError(f"Job {job.id} is the dense model; check a pruned one.")
    same = ("checkpoint", "source", "seed", "evaluation", "max_length")
    dense = next(
        (
            other
            for other in reversed(store.jobs(job.study))
            if not other.experiment.get("method")
            and all(other.experiment.get(key) == job.experiment.get(key) for key in same)
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
    found: Evidence, policy: Policy, name: str
) -> Iterator[tuple[str, BoundedMetric | str]]:
    """What a criterion is judged by, an attack or slice each; a sentence where it was not measured."""
    table = {"accuracy": "prediction", "attack": "attack_example", "cost": "cost"}[
        CRITERIA[name].measure
    ]
    if found.tables[table].empty:
        yield "", f"not measured: run it with the measure {CRITERIA[name].measure}"
    elif name == "attack_success":
        yield from _attacks(found)
    elif name == "slice_loss":
        yield from _worst_slice(found, policy)
    else:
        yield "", CRITERION_METRICS[name](found)


def difference(broken: int, fixed: int, n: int) -> BoundedMetric:
    """A loss: the share right before minus that after."""

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = paired_bounds(broken, fixed, n, alpha=alpha)
        return -high, -low

    return BoundedMetric(
        (broken - fixed) / n,
        n,
        bounds,
        of=lambda size: difference(round(broken * size / n), round(fixed * size / n), size),
    )


def _accuracy(found: Evidence) -> BoundedMetric | str:
    rows = found.tables["prediction"]
    if not found.labelled:
        changed = _agreement(found)
        if isinstance(changed, str):
            return changed
        told = "no labels: accuracy falls at most by the percentage of changed predictions"
        return BoundedMetric(
            np.nan, changed.n, lambda alpha: (-np.inf, changed.bounds(alpha)[1]), detail=told
        )
    if found.metric in SHARES:
        was, now = (slices.hits(rows, side, found.prediction_type) for side in ("dense", "pruned"))
        return difference(int((was & ~now).sum()), int((~was & now).sum()), len(rows))
    draws = _paired_figures(found.metric, rows)
    row = found.tables["accuracy"].iloc[0]
    return _drawn(float(row["dense_score"] - row["score"]), draws[:, 0] - draws[:, 1], len(rows))


def _paired_figures(name: str, rows: pd.DataFrame) -> np.ndarray:
    """(resamples, 2): the task's own figure of dense and pruned on examples drawn anew."""
    metric, right = METRICS[name], list(rows["label"])
    if metric.counts is not None and metric.of_counts is not None:
        of_counts, was, now = (
            metric.of_counts,
            *(metric.counts(right, list(rows[side])) for side in ("dense", "pruned")),
        )
        return paired_resamples(
            lambda _, drawn: of_counts(drawn.sum(0)),
            was,
            was,
            after=now,
            resamples=RESAMPLES,
            seed=0,
        )
    if "dense_f1" in rows:  # spans: each answer's own
        was, now = (rows[f"{side}_f1"].to_numpy() for side in ("dense", "pruned"))
        return paired_resamples(
            lambda _, drawn: float(drawn.mean()), was, was, after=now, resamples=RESAMPLES, seed=0
        )
    was, now = (
        np.array(values_for(name, list(rows[side]), list(rows.get(f"{side}_probabilities", ()))))
        for side in ("dense", "pruned")
    )
    return paired_resamples(
        metric.compute, np.array(right), was, after=now, resamples=RESAMPLES, seed=0
    )


def _drawn(value: float, draws: np.ndarray, n: int, least: float = 1.0) -> BoundedMetric:
    """Bounds by a paired bootstrap, wider by √(n/(n−1)) and never narrower than `least` examples."""
    wide = sqrt(n / max(1, n - 1))

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = np.quantile(draws, (alpha, 1 - alpha))
        return value - max(wide * (value - low), least / n), value + max(
            wide * (high - value), least / n
        )

    return BoundedMetric(value, n, bounds)


def _agreement(found: Evidence) -> BoundedMetric | str:
    if found.prediction_type == "regression":
        return "scores are never the same to the last digit; leave agreement out"
    same = slices.agreed(found.tables["prediction"], found.prediction_type)
    return _share(int((~same).sum()), len(same))


def _share(hits: int, n: int) -> BoundedMetric:
    return BoundedMetric(
        hits / n,
        n,
        lambda alpha: proportion_bounds(hits, n, alpha),
        of=lambda size: _share(round(hits * size / n), size),
    )


def _calibration(found: Evidence) -> BoundedMetric | str:
    rows = found.tables["prediction"]
    if found.kind != "classification":
        return "calibration is of classifiers' probabilities; leave it out"
    if not found.labelled:
        return "calibration needs labels; leave it out, or name a label column"
    right = rows["label"].to_numpy(int)
    was, now = (
        np.array([*rows[f"{side}_probabilities"]], dtype=float) for side in ("dense", "pruned")
    )
    value = squared_error(right, now) - squared_error(right, was)
    draws = paired_resamples(squared_error, right, was, after=now, resamples=RESAMPLES, seed=0)
    moved = draws[:, 1] - draws[:, 0]
    # what chance adds to the sample's gaps is added to every draw again
    figure = _drawn(value, value + WIDER * (moved - moved.mean()), len(rows), least=0.0)

    def bounds(alpha: float) -> tuple[float, float]:
        low, high = figure.bounds(alpha)
        return root(low), root(high)

    return BoundedMetric(root(value), len(rows), bounds)


def _attacks(found: Evidence) -> Iterator[tuple[str, BoundedMetric | str]]:
    own = found.tables["attack_example"]
    if found.dense_attacks.empty:
        yield (
            "",
            "the dense model of the same data and seed was not attacked; run it with the measure attack",
        )
        return
    if found.dense is not None and _attack_options(found.dense) != _attack_options(found.job):
        yield (
            "",
            "dense was attacked under other settings, so the figures do not compare; attack both alike",
        )
        return
    for recipe, rows in own.groupby("recipe", sort=False):
        both = join_dense(found.dense_attacks[found.dense_attacks["recipe"] == recipe], rows)
        both = both[both["outcome"].isin(ATTACKED) & both["outcome_dense"].isin(ATTACKED)]
        if both.empty:
            yield str(recipe), "no sentence that both models got right was attacked on both"
            continue
        was, now = (both[column] == "success" for column in ("outcome_dense", "outcome"))
        yield str(recipe), difference(int((~was & now).sum()), int((was & ~now).sum()), len(both))


def _attack_options(job: Job) -> dict[str, object] | None:
    """What the attacks on a job's model were allowed; which attacks, and how many sentences, are paired one by one."""
    options = next(
        (
            each["options"]
            for each in job.experiment.get("measures", ())
            if each["name"] == "attack"
        ),
        None,
    )
    return options and {
        name: value
        for name, value in options.items()
        if name not in ("recipes", "examples", "word_examples")
    }


def slice_table(found: Evidence, policy: Policy) -> pd.DataFrame:
    """What each slice lost, worst bound first; empty where answers are not right or wrong."""
    rows = found.tables["prediction"]
    if rows.empty or found.prediction_type == "regression" or not found.labelled:
        return pd.DataFrame()
    source = found.job.experiment["source"]
    inside = slices.members(
        rows, policy.slices, found.prediction_type, names=found.names, source=source
    )
    was, now = (slices.hits(rows, side, found.prediction_type) for side in ("dense", "pruned"))
    judged = slices.slice_verdicts(inside, was, now, alpha=policy.alpha)
    return judged.sort_values("low", kind="stable", ignore_index=True) if len(judged) else judged


def _worst_slice(found: Evidence, policy: Policy) -> Iterator[tuple[str, BoundedMetric | str]]:
    """The slice whose bound is worst: where it holds all do."""
    table = slice_table(found, policy)
    if table.empty:
        yield "", "there is no slice whose answers are right or wrong"
        return
    worst = table.iloc[0]
    whole = difference(int(worst["broken"]), int(worst["fixed"]), int(worst["n"]))
    # that one of so many is beyond the limit must hold after all were looked at
    yield (
        str(worst["slice"]),
        whole._replace(
            bounds=lambda alpha: (_surest_loss(table, alpha / len(table)), whole.bounds(alpha)[1])
        ),
    )


def _surest_loss(table: pd.DataFrame, alpha: float) -> float:
    """The largest loss that a slice surely has."""
    counts = zip(table["broken"], table["fixed"], table["n"], strict=True)
    return max(
        -paired_bounds(int(broken), int(fixed), int(n), alpha=alpha)[1]
        for broken, fixed, n in counts
    )


def _cost(found: Evidence, column: str) -> float:
    rows = found.tables["cost"]
    return float(rows.loc[rows["model"] == "pruned", column].iloc[0])


def forward_times(job: Job) -> int:
    """Timed passes for measuring cost again: as many as before, but enough for a 95th percentile."""
    before = (
        each["options"].get("repeats", 0)
        for each in job.experiment["measures"]
        if each["name"] == "cost"
    )
    return max([ENOUGH + 1, *before])


def _no_passes(found: Evidence) -> str:
    return f"single passes were not stored; measure again (python -m prune_core remeasure {found.job.id} cost)"


def _latency(found: Evidence) -> BoundedMetric | str:
    times = found.tables["timing"]
    if times.empty:
        return _no_passes(found)
    seconds = times.loc[times["model"] == "pruned", "seconds"].to_numpy()
    again = f"python -m prune_core remeasure {found.job.id} cost"
    few = f"{len(seconds)} timed passes are too few for a 95th percentile; time 60 ({again} --set cost.repeats=60)"
    told = few if len(seconds) < ENOUGH else ""
    figure = BoundedMetric(
        _cost(found, "latency_p95"),
        len(seconds),
        lambda alpha: quantile_bounds(seconds, 0.95, alpha),
        detail=told,
    )
    return _undisturbed(found, figure)


def _speed(found: Evidence) -> BoundedMetric | str:
    times = found.tables["timing"]
    if times.empty:
        return _no_passes(found)
    by_model = times.pivot(index="turn", columns="model", values="seconds")
    ratios = (by_model["pruned"] / by_model["dense"]).to_numpy()
    figure = BoundedMetric(
        float(np.median(ratios)), len(ratios), lambda alpha: quantile_bounds(ratios, 0.5, alpha)
    )
    return _undisturbed(found, figure)


def _undisturbed(found: Evidence, figure: BoundedMetric) -> BoundedMetric:
    """The figure without bounds if other processes took processor time while it was measured: it then shows nothing."""
    busy = disturbance(found.tables["cost"])
    if not busy:
        return figure
    more = " --set cost.repeats=60" if figure.detail else ""
    told = f"{busy}; measure again on an idle machine (python -m prune_core remeasure {found.job.id} cost{more})"
    return figure._replace(bounds=lambda alpha: (-np.inf, np.inf), detail=told)


def disturbance(timed: pd.DataFrame) -> str:
    """A clause if other processes disturbed the times of a table (`cost`, `forms`), else ""; old tables do not know."""
    loads = timed["other_load"].dropna() if "other_load" in timed else []
    return contention.disturbance(max(loads, default=None))


def _size(found: Evidence) -> BoundedMetric | str:
    size = _cost(found, "bytes")
    return BoundedMetric(size, 1, lambda alpha: (size, size))


CRITERION_METRICS: dict[str, Callable[[Evidence], BoundedMetric | str]] = {
    "accuracy_loss": _accuracy,
    "agreement": _agreement,
    "calibration_error": _calibration,
    "latency_p95": _latency,
    "speedup": _speed,
    "size": _size,
}


def flipped_predictions(found: Evidence) -> pd.DataFrame:
    """Examples that pruning broke or fixed, most surely wrong first; without labels those whose answer changed.

    Columns of `prediction`, and `what`: "broken", "fixed" or "changed".
    """
    rows = found.tables["prediction"]
    if rows.empty or found.prediction_type == "regression":
        return pd.DataFrame()
    if not found.labelled:
        return rows[~slices.agreed(rows, found.prediction_type)].assign(what="changed")
    was, now = (slices.hits(rows, side, found.prediction_type) for side in ("dense", "pruned"))
    what = np.where(was & ~now, "broken", np.where(~was & now, "fixed", ""))
    return rows.assign(what=what)[what != ""]
