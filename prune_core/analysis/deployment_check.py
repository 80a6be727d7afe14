"""Test every limit of a policy for non-inferiority on paired data: met, violated or inconclusive.

A limit is met if the one-sided bound at the policy's confidence is within it. The decision is
"ship" only if all limits are met, so a model that violates any limit passes with probability at
most alpha (an intersection-union test, Berger 1982). A limit counts as violated only at alpha
divided by the number of tests (Bonferroni), so a false "do not ship" is equally rare.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from math import ceil, floor, sqrt
from typing import Any

import numpy as np

from .. import formatting as f
from ..aliases import CHECK_KEYS, VERDICT_KEYS, with_former_keys
from .evidence import BoundedMetric, Evidence, criterion_metrics, metric_of
from .policy import AT_LEAST, CRITERIA, Policy, criterion_title, limit_direction

SHIP, STOP, INCONCLUSIVE = "ship", "do not ship", "inconclusive"
MET, VIOLATED = "met", "violated"
CODES = {SHIP: 0, STOP: 1, INCONCLUSIVE: 3}  # exit codes of the command line
MAX_NAMES = 2  # violated limits named in a sentence
POWER = 0.84  # standard errors beyond the limit for 80 of 100 samples to decide
MAX_EXAMPLES = 10_000_000  # examples; beyond, the measured value counts as equal to the limit


@dataclass(frozen=True)
class Verdict:
    """The test of one limit, in the limit's unit; `used` are fractions of the limit."""

    criterion: str
    group: str  # attack or slice, "" for the whole sample
    limit: float
    value: float
    bound: float  # worst value not ruled out at the policy's confidence
    result: str  # MET, VIOLATED or INCONCLUSIVE
    n: int
    # examples that would decide in 80 of 100 samples if the measured value is the true one
    examples_needed: int | None
    detail: str  # why the result is inconclusive and what to do, "" otherwise
    used: tuple[float, float, float] = (np.nan, np.nan, np.nan)  # value, low, high over the limit
    metric: str = "accuracy"  # of the task

    @property
    def title(self) -> str:
        """The criterion with the attack or slice."""
        return criterion_title(self.criterion, self.metric) + (
            f" · {self.group}" if self.group else ""
        )

    @property
    def inline(self) -> str:
        """The title inside a sentence."""
        return f.inline(criterion_title(self.criterion, self.metric)) + (
            f" ({self.group})" if self.group else ""
        )

    @property
    def limit_text(self) -> str:
        """The limit in words: at most 2 points."""
        return f"{limit_direction(self.criterion)} {_amount(self.limit, self.criterion)}"

    @property
    def excluded(self) -> str:
        """Values that the sample rules out: "more than 3.4 points"; "" if none."""
        at_least = self.criterion in AT_LEAST
        possible = self.bound > 0 if at_least else self.bound < CRITERIA[self.criterion].high
        if not np.isfinite(self.bound) or not possible:
            return ""
        digits = 100 if CRITERIA[self.criterion].unit == "times" else 10
        # rounded away from the measured value, so as not to exclude more than the sample does
        direction, rounded = "more", ceil(self.bound * digits - 1e-9) / digits
        if at_least:
            direction, rounded = "less", floor(self.bound * digits + 1e-9) / digits
        return f"{direction} than {_amount(rounded + 0.0, self.criterion)}"

    @property
    def rules_out(self) -> str:
        """The same for a sentence: "an accuracy loss of more than 3.4 points"; "" if none."""
        article = "an" if self.inline[0] in "aeiou" or self.inline.startswith("F1") else "a"
        return f"{article} {self.inline} of {self.excluded}" if self.excluded else ""


def _amount(value: float, criterion: str) -> str:
    unit = CRITERIA[criterion].unit
    number = f"{value:g}".replace("-", "−")
    if unit in ("%", "times"):
        return f"{number}{'%' if unit == '%' else '×'}"
    return f"{number} {'point' if value == 1 and unit == 'points' else unit}"


def check(measured: Evidence, policy: Policy) -> list[Verdict]:
    """Return one verdict per limit, or per attack for attack limits, in the policy's order."""
    tests = [
        (name, group, value)
        for name in policy.limits
        for group, value in criterion_metrics(measured, policy, name)
    ]
    return [
        replace(
            check_limit(name, group, value, policy=policy, tests=len(tests)),
            metric=metric_of(measured.tables["accuracy"]),
        )
        for name, group, value in tests
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
    limits = {1: "the limit is", 2: "both limits are"}.get(
        len(verdicts), f"all {len(verdicts)} limits are"
    )
    if overall == SHIP:
        return f"Ship: {limits} met {confidence}."
    reason = VIOLATED if overall == STOP else INCONCLUSIVE
    decisive = [verdict for verdict in verdicts if verdict.result == reason]
    if overall == STOP:
        names = [verdict.inline for verdict in decisive[:MAX_NAMES]]
        if len(decisive) > MAX_NAMES:
            names.append(f"{len(decisive) - MAX_NAMES} more")
        verb = "violates its limit" if len(decisive) == 1 else "violate their limits"
        listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
        return f"Do not ship: {listed} {verb} {confidence}."
    sizes = sorted(
        {
            verdict.n
            for verdict in decisive
            if verdict.n and CRITERIA[verdict.criterion].measure != "cost"
        }
    )
    ends = " to ".join(map(f.count, dict.fromkeys(sizes[:1] + sizes[-1:])))
    n = f"with n = {ends}, " if sizes else ""
    limits = "the limit" if len(verdicts) == 1 else f"{len(decisive)} of {len(verdicts)} limits"
    return (
        f"Inconclusive: {n}{limits} can be neither met nor violated {confidence}. "
        f"{_detail(decisive[0])}"
    )


def _detail(first: Verdict) -> str:
    """Describe what the sample rules out for an inconclusive limit, or why there is no result."""
    if not first.rules_out or first.result != INCONCLUSIVE:
        return f"{first.title}: {first.detail}."
    needed = (
        f", which takes about {f.count(first.examples_needed)} examples to decide"
        if first.examples_needed
        else ""
    )
    limit = _amount(first.limit, first.criterion)
    return f"This sample rules out {first.rules_out}; the limit is {limit}{needed}."


def check_limit(
    name: str, group: str, metric: BoundedMetric | str, *, policy: Policy, tests: int
) -> Verdict:
    """Test one limit; `tests` is the number of all tests, for the correction of violations."""
    requested, scale = policy.limits[name], CRITERIA[name].scale
    if isinstance(metric, str):
        return Verdict(
            name,
            group,
            requested,
            value=np.nan,
            bound=np.nan,
            result=INCONCLUSIVE,
            n=0,
            examples_needed=None,
            detail=metric,
        )
    limit = requested / scale
    if name == "agreement":
        limit = 1 - limit
    elif name == "speedup":
        limit = 1 / max(requested, 1e-9)
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
        name,
        group,
        requested,
        value=_in_limit_unit(name, metric.value),
        bound=_in_limit_unit(name, high),
        result=result,
        n=metric.n,
        examples_needed=examples_needed,
        detail=metric.detail or _explain(result, examples_needed, metric.n),
        used=(metric.value / divisor, low / divisor, high / divisor),
    )


def _in_limit_unit(name: str, value: float) -> float:
    """Convert a cost to the limit's unit."""
    scale = CRITERIA[name].scale
    if name == "agreement":
        return (1 - value) * scale
    if name == "speedup" and value:
        return 1 / value
    return value * scale


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
        if metric.of is not None:
            low, high = metric.of(n).bounds(alpha)
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


def _explain(result: str, examples_needed: int | None, n: int) -> str:
    if result != INCONCLUSIVE:
        return ""
    if examples_needed:
        needed = f.count(examples_needed)
        return f"n = {f.count(n)} is too small; about {needed} examples would decide"
    return "the measured value is at the limit; no sample size would decide"


def to_record(verdicts: list[Verdict], measured: Evidence, policy: Policy) -> dict[str, Any]:
    """Convert verdicts to plain data for --json; the keys of earlier versions are included."""
    record = {
        "job": measured.job.id,
        "label": measured.job.label,
        "decision": decision(verdicts),
        "summary": summary_sentence(verdicts, policy),
        "confidence": policy.confidence,
        "verdicts": [with_former_keys(_verdict_record(each), VERDICT_KEYS) for each in verdicts],
    }
    return with_former_keys(record, CHECK_KEYS)


def _verdict_record(verdict: Verdict) -> dict[str, Any]:
    return {
        "criterion": verdict.criterion,
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
