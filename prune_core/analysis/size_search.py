"""The largest share that may go within a policy's limits, by bisection: what to try next, and what the tries say. Runs nothing.

It is a share of weights or FLOPs, or of the time that a dense pass takes.

More gone is taken to be no better. As several tries are looked at, each is judged at a confidence that leaves the policy's own for
the answer as a whole (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

from ..errors import PruneError
from ..store.job import Job
from ..store.store import Store
from . import deployment_check
from .evidence import Evidence, evidence
from .policy import CRITERIA, Policy

MOST, STEP = 0.98, 0.02  # the largest share tried, and how near the first that fails is near enough
TRIES = ceil(log2(MOST / STEP))


@dataclass(frozen=True)
class Trial:
    """One share and what became of it."""

    share: float
    label: str
    job: int  # 0 where the method could not do it
    answer: str  # of deploy: SHIP, STOP or INCONCLUSIVE
    detail: str

    @property
    def holds(self) -> bool:
        """Whether every limit surely holds."""
        return self.answer == deployment_check.SHIP


def trial_criteria(policy: Policy) -> Policy:
    """By what a single try is judged."""
    return replace(policy, confidence=100 - (100 - policy.confidence) / TRIES)


def judge_trial(store: Store, job: Job, share: float, policy: Policy) -> Trial:
    """A finished job of that share."""
    found = evidence(store, job)
    verdicts = deployment_check.check(found, trial_criteria(policy))
    return Trial(
        share,
        job.label,
        job.id,
        answer=deployment_check.decision(verdicts),
        detail=deployment_check.summary_sentence(verdicts, trial_criteria(policy)),
    )


def refuse_unknowable(store: Store, dense: Job, policy: Policy) -> None:
    """Raise PruneError if the sample is so small that not even the dense model, compared with itself, meets the limits.

    Limits on time and size are left out: they depend on what is removed, not on the sample.
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
    found = Evidence(dense, dense, tables, dense_attacks=tables["attack_example"])
    for verdict in deployment_check.check(found, trial_criteria(replace(policy, limits=limits))):
        if verdict.answer != deployment_check.MET:
            raise PruneError(
                f"{verdict.title} {verdict.asked}: not even the dense model compared with itself surely meets this "
                f"limit ({verdict.detail}); measure more examples, or allow more."
            )


def next_share(tries: Sequence[Trial]) -> float | None:
    """Half-way between the largest that holds and the smallest that does not; None where they are near enough."""
    holds = max((one.share for one in tries if one.holds), default=0.0)
    fails = min((one.share for one in tries if not one.holds), default=MOST + STEP)
    middle = round((holds + fails) / 2, 2)
    return None if fails - holds <= STEP + 1e-9 or middle in (holds, fails) else middle


def result_sentence(tries: Sequence[Trial], policy: Policy, superlative: str = "smallest") -> str:
    """The answer in a sentence."""
    limits = "every limit" if len(policy.limits) > 1 else "the limit"
    best = max((one for one in tries if one.holds), key=lambda one: one.share, default=None)
    worse = min((one for one in tries if not one.holds), key=lambda one: one.share, default=None)
    beyond = (
        f" {worse.label} does not: {worse.detail[0].lower()}{worse.detail[1:]}" if worse else ""
    )
    if best is None:
        return (
            f"No share that was tried holds {limits} at {policy.confidence:g}% confidence.{beyond}"
        )
    return f"{best.label} (job {best.job}) is the {superlative} that holds {limits} at {policy.confidence:g}% confidence.{beyond}"
