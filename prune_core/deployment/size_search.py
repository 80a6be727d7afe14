"""Size search: bisection for the highest sparsity within a policy's limits.

The module only decides what to try next; it runs nothing. Sparsity is a fraction of weights, of
FLOPs, or of the time of a dense pass. Higher sparsity is assumed to be no better. Each trial is
tested at a higher confidence, so that the result has the confidence of the policy (Bonferroni).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

from ..analysis.criteria import MET
from ..analysis.evidence import Evidence, JobTables, evidence
from ..errors import PruneError
from ..methods import METHODS
from ..plugins import TARGETS, Method, build
from ..store.job import Job
from ..store.store import Store
from ..views import CRITERIA
from . import deployment_check
from .policy import Policy

MAX_SPARSITY, STEP = 0.98, 0.02  # the highest sparsity tried, and the resolution
TRIALS = ceil(log2(MAX_SPARSITY / STEP))


@dataclass(frozen=True)
class Trial:
    """One sparsity and the result of its check."""

    sparsity: float
    label: str
    job: int  # 0 if the method cannot reach this sparsity
    decision: str  # SHIP, STOP or INCONCLUSIVE of `deployment_check`
    detail: str

    @property
    def is_within_limits(self) -> bool:
        """Whether every limit is met at the required confidence."""
        return self.decision == deployment_check.SHIP


def with_target(method: Method, fraction: float, fastest: bool) -> Method:
    """Set the method's sparsity, or its speedup 1 / (1 - fraction); drop its earlier target."""
    options = {
        name: value
        for name, value in method.to_dict().items()
        if name not in ("sparsity", "pattern", *TARGETS)
    }
    if "," in str(options.get("allocation", "")):  # a list of sparsities fits only its own mean
        del options["allocation"]
    target = {"speedup": round(1 / (1 - fraction), 2)} if fastest else {"sparsity": fraction}
    return build(METHODS, method.name, options | target)


def trial_criteria(policy: Policy, trials: int = TRIALS) -> Policy:
    """Return the policy of a single trial of at most `trials`, with its higher confidence."""
    return replace(policy, confidence=100 - (100 - policy.confidence) / trials)


def judge_trial(store: Store, job: Job, sparsity: float, policy: Policy) -> Trial:
    """Check a finished job of a sparsity."""
    verdicts = deployment_check.check(evidence(store, job), trial_criteria(policy))
    return Trial(
        sparsity,
        job.label,
        job.id,
        decision=deployment_check.decision(verdicts),
        detail=deployment_check.summary_sentence(verdicts, trial_criteria(policy)),
    )


def quality_limits(policy: Policy) -> dict[str, float]:
    """Return the limits that depend on the examples: without those on time, size and memory."""
    return {name: limit for name, limit in policy.limits.items() if CRITERIA[name].counts_examples}


def check_sample_size(store: Store, dense: Job, policy: Policy, trials: int = TRIALS) -> None:
    """Raise PruneError if the sample is too small for the dense model itself to meet the limits.

    Limits that do not depend on the sample, such as those on time and size, are ignored.
    """
    if not (limits := quality_limits(policy)):
        return
    tables = JobTables(store, [dense.id])
    measured = Evidence(dense, dense, tables, dense_tables=tables)
    criteria = trial_criteria(replace(policy, limits=limits), trials)
    for verdict in deployment_check.check(measured, criteria):
        if verdict.result != MET:
            raise PruneError(
                f"{verdict.title} {verdict.limit_text}: even the dense model compared with itself "
                f"does not meet this limit with confidence ({verdict.detail}); evaluate on more "
                "examples or relax the limit."
            )


def next_sparsity(trials: Sequence[Trial]) -> float | None:
    """Return the middle of the highest passed and the lowest failed sparsity; None at the end."""
    best, next_worse = _closest_to_the_limit(trials)
    passed = best.sparsity if best else 0.0
    failed = next_worse.sparsity if next_worse else MAX_SPARSITY + STEP
    middle = round((passed + failed) / 2, 2)
    is_done = failed - passed <= STEP + 1e-9 or middle in (passed, failed)
    return None if is_done else middle


def _closest_to_the_limit(trials: Sequence[Trial]) -> tuple[Trial | None, Trial | None]:
    """Return the sparsest trial within the limits and the least sparse of the others."""
    by_sparsity = sorted(trials, key=lambda trial: trial.sparsity)
    passed = [trial for trial in by_sparsity if trial.is_within_limits]
    failed = [trial for trial in by_sparsity if not trial.is_within_limits]
    return (passed[-1] if passed else None, failed[0] if failed else None)


def result_sentence(trials: Sequence[Trial], policy: Policy, superlative: str = "smallest") -> str:
    """Describe the result of the search."""
    limits = "every limit" if len(policy.limits) > 1 else "the limit"
    best, next_worse = _closest_to_the_limit(trials)
    confidence = f"at {policy.confidence:g}% confidence"
    failure = ""
    if next_worse:
        detail = next_worse.detail
        failure = f" {next_worse.label} does not: {detail[0].lower()}{detail[1:]}"
    if best is None:
        return f"No tested sparsity meets {limits} {confidence}.{failure}"
    return (
        f"{best.label} (job {best.job}) is the {superlative} model that meets {limits} "
        f"{confidence}.{failure}"
    )
