"""Size search: bisection for the highest sparsity within a policy's limits.

The module only decides what to try next; it runs nothing. Sparsity is a fraction of weights, of
FLOPs, or of the time of a dense pass. Higher sparsity is assumed to be no better. Each trial is
tested at a higher confidence, so that the result has the confidence of the policy (Bonferroni).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

from ..errors import PruneError
from ..store.job import Job
from ..store.store import Store
from . import deployment_check
from .evidence import Evidence, evidence
from .policy import CRITERIA, Policy

MAX_SPARSITY, STEP = 0.98, 0.02  # the highest sparsity tried, and the resolution
TRIALS = ceil(log2(MAX_SPARSITY / STEP))


@dataclass(frozen=True)
class Trial:
    """One sparsity and the result of its check."""

    sparsity: float
    label: str
    job: int  # 0 if the method cannot reach this sparsity
    answer: str  # SHIP, STOP or INCONCLUSIVE of `deployment_check`
    detail: str

    @property
    def holds(self) -> bool:
        """Whether every limit is met at the required confidence."""
        return self.answer == deployment_check.SHIP


def trial_criteria(policy: Policy) -> Policy:
    """Return the policy of a single trial, with its higher confidence."""
    return replace(policy, confidence=100 - (100 - policy.confidence) / TRIALS)


def judge_trial(store: Store, job: Job, sparsity: float, policy: Policy) -> Trial:
    """Check a finished job of a sparsity."""
    verdicts = deployment_check.check(evidence(store, job), trial_criteria(policy))
    return Trial(
        sparsity,
        job.label,
        job.id,
        answer=deployment_check.decision(verdicts),
        detail=deployment_check.summary_sentence(verdicts, trial_criteria(policy)),
    )


def check_sample_size(store: Store, dense: Job, policy: Policy) -> None:
    """Raise PruneError if the sample is too small for the dense model itself to meet the limits.

    Limits on time and size are ignored, as they do not depend on the sample.
    """
    limits = {
        name: limit for name, limit in policy.limits.items() if CRITERIA[name].measure != "cost"
    }
    if not limits:
        return
    tables = {
        name: store.rows(name, [dense.id])
        for name in ("accuracy", "prediction", "cost", "timing", "attack_example")
    }
    measured = Evidence(dense, dense, tables, dense_attacks=tables["attack_example"])
    for verdict in deployment_check.check(measured, trial_criteria(replace(policy, limits=limits))):
        if verdict.result != deployment_check.MET:
            raise PruneError(
                f"{verdict.title} {verdict.limit_text}: even the dense model compared with itself "
                f"does not meet this limit with confidence ({verdict.detail}); evaluate on more "
                "examples or relax the limit."
            )


def next_sparsity(trials: Sequence[Trial]) -> float | None:
    """Return the middle of the highest passed and the lowest failed sparsity; None at the end."""
    passed = max((trial.sparsity for trial in trials if trial.holds), default=0.0)
    failed = min(
        (trial.sparsity for trial in trials if not trial.holds), default=MAX_SPARSITY + STEP
    )
    middle = round((passed + failed) / 2, 2)
    is_done = failed - passed <= STEP + 1e-9 or middle in (passed, failed)
    return None if is_done else middle


def result_sentence(trials: Sequence[Trial], policy: Policy, superlative: str = "smallest") -> str:
    """Describe the result of the search."""
    limits = "every limit" if len(policy.limits) > 1 else "the limit"
    best = max(
        (trial for trial in trials if trial.holds), key=lambda trial: trial.sparsity, default=None
    )
    worst = min(
        (trial for trial in trials if not trial.holds),
        key=lambda trial: trial.sparsity,
        default=None,
    )
    confidence = f"at {policy.confidence:g}% confidence"
    failure = (
        f" {worst.label} does not: {worst.detail[0].lower()}{worst.detail[1:]}" if worst else ""
    )
    if best is None:
        return f"No tested sparsity meets {limits} {confidence}.{failure}"
    return (
        f"{best.label} (job {best.job}) is the {superlative} model that meets {limits} "
        f"{confidence}.{failure}"
    )
