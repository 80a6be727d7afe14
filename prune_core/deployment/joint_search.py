"""Joint search over sparsity and numeric format: what to try next, and which file is the best.

It runs nothing; `joint_search_run` does. All formats of the unpruned model are tried first. The
one that is best in the objective, among those that meet the limits on quality, is the reference, in
which sparsity is bisected (`size_search`). The other formats are tried at the highest sparsity that
meets these limits. Each trial is tested at a higher confidence, so that the result has the
confidence of the policy (Bonferroni over the largest possible number of trials).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import pandas as pd

from ..analysis.evidence import Evidence
from ..analysis.quantities import quality
from ..analysis.tradeoff import pareto_front
from ..errors import PruneError
from ..plugins import Method
from ..views import VIEWS, quantities
from . import deployment_check, size_search
from .policy import Policy

FASTEST, SMALLEST = "fastest", "smallest"
# column of each objective, larger is better; times relative to the dense model in the same run
OBJECTIVES = {FASTEST: "speedup", SMALLEST: "bytes"}


@dataclass(frozen=True)
class FormatTrial:
    """One file and the result of its check; measured values are NaN if there is no file."""

    sparsity: float  # requested: 0 for the unpruned model
    format: str
    label: str
    job: int  # 0 if the method cannot reach this sparsity
    has_quality: bool  # whether the limits that depend on the examples are met
    is_within_limits: bool  # whether all limits are met
    detail: str
    score: float = np.nan  # of the first metric of the task
    score_low: float = np.nan
    score_high: float = np.nan
    bytes: float = np.nan
    latency: float = np.nan  # seconds per batch, median
    speedup: float = np.nan  # over the dense model in PyTorch fp32, in the same run
    memory: float = np.nan  # peak resident bytes of a fresh process
    path: str = ""


def most_trials(formats: Sequence[str]) -> int:
    """Return the largest number of trials of a search."""
    return size_search.TRIALS + 2 * len(formats) - 1


def next_trials(
    trials: Sequence[FormatTrial], formats: Sequence[str], objective: str
) -> list[tuple[float, str]]:
    """Return the (sparsity, format) pairs to try next; [] at the end of the search."""
    tried = {(trial.sparsity, trial.format) for trial in trials}
    if missing := [(0.0, name) for name in formats if (0.0, name) not in tried]:
        return missing
    if (reference := reference_format(trials, objective)) is None:
        return []
    steps = [_as_step(trial) for trial in trials if trial.format == reference and trial.sparsity]
    if (sparsity := size_search.next_sparsity(steps)) is not None:
        return [(sparsity, reference)]
    passed = max((step.sparsity for step in steps if step.is_within_limits), default=0.0)
    return [(passed, name) for name in formats if (passed, name) not in tried]


def reference_format(trials: Sequence[FormatTrial], objective: str) -> str | None:
    """Return the best format of the unpruned model with sufficient quality; None if none has."""
    unpruned = [trial for trial in trials if not trial.sparsity and trial.has_quality]
    return min(unpruned, key=lambda trial: _cost(trial, objective)).format if unpruned else None


def best(trials: Sequence[FormatTrial], objective: str) -> FormatTrial | None:
    """Return the best trial within all limits; None if there is none."""
    fitting = [trial for trial in trials if trial.is_within_limits]
    return min(fitting, key=lambda trial: _cost(trial, objective)) if fitting else None


def _as_step(trial: FormatTrial) -> size_search.Trial:
    """Return a trial of the bisection, which only reads quality: more sparsity costs less."""
    decision = deployment_check.SHIP if trial.has_quality else deployment_check.STOP
    return size_search.Trial(trial.sparsity, trial.label, trial.job, decision, trial.detail)


def _cost(trial: FormatTrial, objective: str) -> float:
    value = getattr(trial, OBJECTIVES[objective])
    return -value if objective == FASTEST else value


def judge(
    measured: Evidence, policy: Policy, sparsity: float, format: str, path: str
) -> FormatTrial:
    """Check a measured file at the confidence of `policy`, and collect its measured values."""
    verdicts = deployment_check.check(measured, policy)
    on_quality = [verdict for verdict in verdicts if verdict.criterion.counts_examples]
    row = measured.tables["cost"].set_index("model").loc["pruned"]
    score, low, high = _score(measured)
    return FormatTrial(
        sparsity,
        format,
        measured.job.label,
        measured.job.id,
        has_quality=deployment_check.decision(on_quality) == deployment_check.SHIP,
        is_within_limits=deployment_check.decision(verdicts) == deployment_check.SHIP,
        detail=deployment_check.summary_sentence(verdicts, policy),
        score=score,
        score_low=low,
        score_high=high,
        bytes=float(row["bytes"]),
        latency=float(row["latency_p50"]),
        speedup=float(row["speedup_measured"]),
        memory=float(row.get("resident_memory", np.nan)),
        path=path,
    )


def _score(measured: Evidence) -> tuple[float, float, float]:
    """Return the first metric of the task and its interval; NaN if none was measured."""
    tables = {name: measured.tables[name] for name in VIEWS if len(measured.tables[name])}
    metrics = quality(quantities(tables))
    if not metrics:
        return np.nan, np.nan, np.nan
    value, low, high, _ = metrics[0].read(tables[metrics[0].table])
    return value, low, high


def table(trials: Sequence[FormatTrial], objective: str) -> pd.DataFrame:
    """Return one row per trial: its fields, `front` (on the Pareto front of score and cost) and
    `chosen`.
    """
    columns = [spec.name for spec in fields(FormatTrial)]
    rows = pd.DataFrame([asdict(trial) for trial in trials], columns=columns)
    column, chosen = OBJECTIVES[objective], best(trials, objective)
    measured = rows[rows[[column, "score"]].notna().all(axis=1)]
    better = "higher" if objective == FASTEST else "lower"
    points = list(measured[[column, "score"]].itertuples(index=False, name=None))
    front = measured.index[pareto_front(points, better, "higher")]
    rows["front"] = rows.index.isin(front)
    rows["chosen"] = [trial is chosen for trial in trials]
    return rows


def result_sentence(trials: Sequence[FormatTrial], policy: Policy, objective: str) -> str:
    """Describe the result of the search."""
    confidence = f"at {policy.confidence:g}% confidence"
    if chosen := best(trials, objective):
        return (
            f"{chosen.label} (job {chosen.job}) is the {objective} of {len(trials)} tested files "
            f"that meets every limit {confidence}."
        )
    # the smallest or fastest of those with sufficient quality says which other limit it violates
    nearest = min(
        trials,
        key=lambda trial: (
            not trial.has_quality,
            np.nan_to_num(_cost(trial, objective), nan=np.inf),
        ),
    )
    return f"No tested file meets every limit {confidence}. {nearest.label}: {nearest.detail}"


def check_method(method: Method | None) -> None:
    """Raise PruneError without a method, or for one whose files are no smaller or faster."""
    if method is None:
        raise PruneError("The search needs a method that removes heads and neurons; name one.")
    if method.removes != "units":
        raise PruneError(
            f"{method.title} removes single weights, which makes no file smaller or faster; leave "
            "--formats and --trim out, or choose a method that removes heads and neurons, "
            "such as --method kprune."
        )
