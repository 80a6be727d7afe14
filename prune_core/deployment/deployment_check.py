"""Test every limit of a policy for non-inferiority on paired data: met, violated or inconclusive.

A limit is met if the one-sided bound at the policy's confidence is within it. The decision is
"ship" only if all limits are met, so a model that violates any limit passes with probability at
most alpha (an intersection-union test, Berger 1982). A limit counts as violated only at alpha
divided by the number of tests (Bonferroni), so a false "do not ship" is equally rare.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import numpy as np

from .. import formatting as f
from .. import views
from ..aliases import CHECK_KEYS, VERDICT_KEYS, with_former_keys
from ..analysis.bounded_metrics import BoundedMetric
from ..analysis.criteria import INCONCLUSIVE, MET, VIOLATED, Verdict
from ..analysis.evidence import Evidence, metric_of
from ..views import CRITERIA
from .policy import Policy

SHIP, STOP = "ship", "do not ship"  # or INCONCLUSIVE
CODES = {SHIP: 0, STOP: 1, INCONCLUSIVE: 3}  # exit codes of the command line
MAX_NAMES = 2  # violated limits named in a sentence
POWER = 0.84  # standard errors beyond the limit for 80 of 100 samples to decide
MAX_EXAMPLES = 10_000_000  # examples; beyond, the measured value counts as equal to the limit


def with_policy(measured: Evidence, policy: Policy) -> Evidence:
    """Return the evidence with a policy's slices and error probability."""
    return replace(measured, slices=policy.slices, alpha=policy.alpha)


def check(measured: Evidence, policy: Policy) -> list[Verdict]:
    """Return one verdict per limit, or per attack for attack limits, in the policy's order."""
    return check_metrics(metrics(measured, policy), policy, metric_of(measured.tables["accuracy"]))


def metrics(measured: Evidence, policy: Policy) -> dict[tuple[str, str], BoundedMetric | str]:
    """Return the cost of every test, by criterion and attack or slice, in the policy's order."""
    measured = with_policy(measured, policy)
    return {
        (name, group): metric
        for name in policy.limits
        for group, metric in CRITERIA[name].metrics(measured).items()
    }


def check_metrics(
    costs: Mapping[tuple[str, str], BoundedMetric | str],
    policy: Policy,
    task_metric: str,
    tests: int = 0,
) -> list[Verdict]:
    """Return one verdict per cost.

    `tests` is the number of tests that violations are corrected for (0: the number of costs).
    """
    tests = tests or len(costs)
    return [
        replace(check_limit(name, group, cost, policy=policy, tests=tests), metric=task_metric)
        for (name, group), cost in costs.items()
    ]


def decision(verdicts: list[Verdict]) -> str:
    """Return SHIP if every limit is met, STOP if one is violated, else INCONCLUSIVE."""
    results = {verdict.result for verdict in verdicts}
    if VIOLATED in results:
        return STOP
    return INCONCLUSIVE if INCONCLUSIVE in results else SHIP


def summary_sentence(verdicts: list[Verdict], policy: Policy) -> str:
    """Describe the decision and the limits that decide it."""
    overall, confidence = decision(verdicts), f"with {policy.confidence:.4g}% confidence"
    if overall == SHIP:
        limits = {1: "the limit is", 2: "both limits are"}.get(
            len(verdicts), f"all {len(verdicts)} limits are"
        )
        return f"Ship: {limits} met {confidence}."
    reason = VIOLATED if overall == STOP else INCONCLUSIVE
    decisive = [verdict for verdict in verdicts if verdict.result == reason]
    if overall == STOP:
        return f"Do not ship: {_violations(decisive)} {confidence}."
    sizes = sorted(
        {verdict.n for verdict in decisive if verdict.n and verdict.criterion.counts_examples}
    )
    ends = " to ".join(map(f.count, dict.fromkeys(sizes[:1] + sizes[-1:])))
    n = f"with n = {ends}, " if sizes else ""
    limits = "the limit" if len(verdicts) == 1 else f"{len(decisive)} of {len(verdicts)} limits"
    return (
        f"Inconclusive: {n}{limits} can be neither met nor violated {confidence}. "
        f"{_detail(decisive[0])}"
    )


def advice(measured: Evidence, policy: Policy) -> list[str]:
    """Return what the measures advise at the policy's limits and confidence."""
    return views.advice(with_policy(measured, policy), policy.limits)


def _violations(violated: list[Verdict]) -> str:
    """Name the first violated limits: "accuracy loss and size on disk violate their limits"."""
    names = [verdict.inline_title for verdict in violated[:MAX_NAMES]]
    if len(violated) > MAX_NAMES:
        names.append(f"{len(violated) - MAX_NAMES} more")
    verb = "violates its limit" if len(violated) == 1 else "violate their limits"
    return f"{' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} {verb}"


def _detail(first: Verdict) -> str:
    """Describe what the sample rules out for an inconclusive limit, or why there is no result."""
    if not first.rules_out or first.result != INCONCLUSIVE:
        return f"{first.title}: {first.detail}."
    needed = (
        f", which takes about {f.count(first.examples_needed)} {first.criterion.units} to decide"
        if first.examples_needed
        else ""
    )
    limit = first.criterion.amount(first.limit)
    return f"This sample rules out {first.rules_out}; the limit is {limit}{needed}."


def check_limit(
    name: str, group: str, metric: BoundedMetric | str, *, policy: Policy, tests: int
) -> Verdict:
    """Test one limit; `tests` is the number of all tests, for the correction of violations."""
    criterion, requested = CRITERIA[name], policy.limits[name]
    if isinstance(metric, str):
        metric = BoundedMetric(np.nan, 0, lambda alpha: (np.nan, np.nan), detail=metric)
    limit = criterion.cost_limit(requested)
    low, high = metric.bounds(policy.alpha)
    result = INCONCLUSIVE
    if high <= limit:
        result = MET
    elif metric.bounds(policy.alpha / tests)[0] > limit:
        result = VIOLATED
    is_open = result == INCONCLUSIVE and np.isfinite(high)
    examples_needed = _needed(metric, limit, policy.alpha, tests=tests) if is_open else None
    divisor = max(limit, 1e-9)
    return Verdict(
        criterion,
        group,
        requested,
        value=criterion.in_unit(metric.value),
        bound=criterion.in_unit(high),
        result=result,
        n=metric.n,
        examples_needed=examples_needed,
        detail=metric.detail or _explain(result, examples_needed, metric.n, criterion.units),
        limit_fractions=(metric.value / divisor, low / divisor, high / divisor),
    )


def _needed(metric: BoundedMetric, limit: float, alpha: float, tests: int) -> int | None:
    """Return how many examples would decide in 80 of 100 samples; None if no number would."""
    is_met = metric.value <= limit
    alpha = alpha if is_met else alpha / tests
    gap = abs(limit - metric.value)
    if not np.isfinite(gap) or gap < 1e-9 or not metric.n:
        return None
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha))

    def decides(n: int) -> bool:
        if metric.at_size is not None:
            low, high = metric.at_size(n).bounds(alpha)
            return high <= limit if is_met else low > limit
        low, high = metric.bounds(alpha)
        half = high - metric.value if is_met else metric.value - low
        return bool(half * sqrt(metric.n / n) <= gap)  # bounds narrow with the root of n

    size = metric.n
    while not decides(size):
        size *= 2
        if size > MAX_EXAMPLES:
            return None
    size = bisect_left(range(size), True, lo=size // 2, key=decides)
    return max(metric.n + 1, ceil(size * ((z + POWER) / z) ** 2))


def _explain(result: str, examples_needed: int | None, n: int, units: str) -> str:
    if result != INCONCLUSIVE:
        return ""
    if examples_needed:
        needed = f.count(examples_needed)
        return f"n = {f.count(n)} is too small; about {needed} {units} would decide"
    return "the measured value is at the limit; no sample size would decide"


def to_record(verdicts: list[Verdict], measured: Evidence, policy: Policy) -> dict[str, Any]:
    """Convert verdicts to plain data for --json; the keys of earlier versions are included."""
    record = {
        "job": measured.job.id,
        "label": measured.job.label,
        "decision": decision(verdicts),
        "summary": summary_sentence(verdicts, policy),
        "advice": advice(measured, policy),
        "confidence": policy.confidence,
        "verdicts": [with_former_keys(verdict_record(each), VERDICT_KEYS) for each in verdicts],
    }
    return with_former_keys(record, CHECK_KEYS)


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """Convert a verdict to plain data."""
    return {
        "criterion": verdict.criterion.key,
        "group": verdict.group,
        "limit": verdict.limit_text,
        "value": verdict.value if np.isfinite(verdict.value) else None,
        "bound": verdict.bound if np.isfinite(verdict.bound) else None,
        "rules_out": verdict.rules_out or None,
        "result": verdict.result,
        "n": verdict.n,
        "examples_needed": verdict.examples_needed,
        "detail": verdict.detail,
    }
