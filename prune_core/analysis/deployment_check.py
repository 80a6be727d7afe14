"""Test every limit of a policy for non-inferiority on paired data: met, violated or inconclusive.

A limit is met if the one-sided bound at the policy's confidence lies within it. Shipping needs all limits to be met, so a
model that violates any one of them ships with at most probability alpha (an intersection-union test, Berger 1982). A limit
counts as violated only at alpha divided by the number of tests (Bonferroni), so a false "do not ship" is as rare.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from math import ceil, floor, sqrt
from typing import Any

import numpy as np

from .. import formatting as f
from .evidence import BoundedMetric, Evidence, criterion_metrics, metric_of
from .policy import AT_LEAST, CRITERIA, Policy, side, titled

SHIP, STOP, INCONCLUSIVE = "ship", "do not ship", "inconclusive"
MET, VIOLATED = "met", "violated"
CODES = {SHIP: 0, STOP: 1, INCONCLUSIVE: 3}  # of the command line
NAMED = 2  # tests that a sentence names
POWER = 0.84  # standard errors beyond the limit for 80 of 100 samples to decide
FAR = 10_000_000  # no sample that large is drawn: the model lies on the limit


@dataclass(frozen=True)
class Verdict:
    """One limit compared with the measurement, in the limit's unit; `used` is the fraction of the limit."""

    criterion: str
    of: str  # attack or slice, "" for the whole sample
    limit: float
    value: float
    bound: float  # worst value that the sample does not rule out, at the policy's confidence
    answer: str  # MET, VIOLATED or INCONCLUSIVE
    n: int
    needs: (
        int | None
    )  # examples that would decide in 80 of 100 samples, if the measured value is the true one
    detail: str  # why the answer is inconclusive and what to do, "" otherwise
    used: tuple[float, float, float] = (np.nan, np.nan, np.nan)  # value, low, high over the limit
    metric: str = "accuracy"  # by which the task is judged

    @property
    def title(self) -> str:
        """Criterion, and the attack or slice."""
        return titled(self.criterion, self.metric) + (f" · {self.of}" if self.of else "")

    @property
    def inline(self) -> str:
        """The title inside a sentence."""
        return f.inline(titled(self.criterion, self.metric)) + (f" ({self.of})" if self.of else "")

    @property
    def asked(self) -> str:
        """The limit in words: at most 2 points."""
        return f"{side(self.criterion)} {_amount(self.limit, self.criterion)}"

    @property
    def excluded(self) -> str:
        """What the sample rules out, in short: "more than 3.4 points"; "" if nothing."""
        at_least = self.criterion in AT_LEAST
        possible = self.bound > 0 if at_least else self.bound < CRITERIA[self.criterion].high
        if not np.isfinite(self.bound) or not possible:
            return ""
        digits = 100 if CRITERIA[self.criterion].unit == "times" else 10
        # rounded away from the measured value: never more than the sample rules out
        rounded = (
            floor(self.bound * digits + 1e-9) if at_least else ceil(self.bound * digits - 1e-9)
        ) / digits
        return f"{'less' if at_least else 'more'} than {_amount(rounded + 0.0, self.criterion)}"

    @property
    def rules_out(self) -> str:
        """What the sample rules out, inside a sentence: "an accuracy loss of more than 3.4 points"; "" if nothing."""
        article = "an" if self.inline[0] in "aeiou" or self.inline.startswith("F1") else "a"
        return f"{article} {self.inline} of {self.excluded}" if self.excluded else ""


def _amount(value: float, criterion: str) -> str:
    unit = CRITERIA[criterion].unit
    number = f"{value:g}".replace("-", "−")
    if unit in ("%", "times"):
        return f"{number}{'%' if unit == '%' else '×'}"
    return f"{number} {'point' if value == 1 and unit == 'points' else unit}"


def check(found: Evidence, policy: Policy) -> list[Verdict]:
    """One verdict per limit, for attacks one per attack; in the policy's order."""
    asked = [
        (name, of, figure)
        for name in policy.limits
        for of, figure in criterion_metrics(found, policy, name)
    ]
    metric = metric_of(found.tables["accuracy"])
    return [
        replace(judged(name, of, figure, policy=policy, tests=len(asked)), metric=metric)
        for name, of, figure in asked
    ]


def decision(verdicts: list[Verdict]) -> str:
    """SHIP if every limit is met, STOP if one is violated, else INCONCLUSIVE."""
    answers = {each.answer for each in verdicts}
    return STOP if VIOLATED in answers else INCONCLUSIVE if INCONCLUSIVE in answers else SHIP


def summary_sentence(verdicts: list[Verdict], policy: Policy) -> str:
    """The decision in words, and what decides it."""
    answer, surely = decision(verdicts), f"with {policy.confidence:.4g}% confidence"
    limits = {1: "the limit is", 2: "both limits are"}.get(
        len(verdicts), f"all {len(verdicts)} limits are"
    )
    if answer == SHIP:
        return f"Ship: {limits} met {surely}."
    which = [
        each for each in verdicts if each.answer == (VIOLATED if answer == STOP else INCONCLUSIVE)
    ]
    if answer == STOP:
        named = [each.inline for each in which[:NAMED]]
        named += [f"{len(which) - NAMED} more"] if len(which) > NAMED else []
        listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
        return f"Do not ship: {listed} {'violates its limit' if len(which) == 1 else 'violate their limits'} {surely}."
    sizes = sorted(
        {each.n for each in which if each.n and CRITERIA[each.criterion].measure != "cost"}
    )
    n = (
        f"with n = {' to '.join(f.count(size) for size in dict.fromkeys((sizes[0], sizes[-1])))}, "
        if sizes
        else ""
    )
    limits = "the limit" if len(verdicts) == 1 else f"{len(which)} of {len(verdicts)} limits"
    return (
        f"Inconclusive: {n}{limits} can be neither met nor violated {surely}. {_detail(which[0])}"
    )


def _detail(first: Verdict) -> str:
    """What the sample does say about an inconclusive limit, or why it says nothing."""
    if not first.rules_out or first.answer != INCONCLUSIVE:
        return f"{first.title}: {first.detail}."
    more = f", which takes about {f.count(first.needs)} examples to decide" if first.needs else ""
    return f"This sample rules out {first.rules_out}; the limit is {_amount(first.limit, first.criterion)}{more}."


def judged(
    name: str, of: str, figure: BoundedMetric | str, *, policy: Policy, tests: int
) -> Verdict:
    """Test one limit of a policy that has so many tests."""
    asked, scale = policy.limits[name], CRITERIA[name].scale
    if isinstance(figure, str):
        return Verdict(
            name,
            of,
            asked,
            value=np.nan,
            bound=np.nan,
            answer=INCONCLUSIVE,
            n=0,
            needs=None,
            detail=figure,
        )
    limit = (
        1 - asked / scale
        if name == "agreement"
        else 1 / max(asked, 1e-9)
        if name == "speedup"
        else asked / scale
    )
    low, high = figure.bounds(policy.alpha)
    surely = figure.bounds(policy.alpha / tests)[0]
    answer = MET if high <= limit else VIOLATED if surely > limit else INCONCLUSIVE
    needs = (
        None
        if answer != INCONCLUSIVE or not np.isfinite(high)
        else _needed(figure, limit, policy.alpha, tests=tests)
    )
    over, value, bound = max(limit, 1e-9), _shown(name, figure.value), _shown(name, high)
    return Verdict(
        name,
        of,
        asked,
        value=value,
        bound=bound,
        answer=answer,
        n=figure.n,
        needs=needs,
        detail=figure.detail or _told(answer, needs, figure.n),
        used=(figure.value / over, low / over, high / over),
    )


def _shown(name: str, value: float) -> float:
    """A cost in the limit's unit."""
    scale = CRITERIA[name].scale
    return (
        (1 - value) * scale
        if name == "agreement"
        else 1 / value
        if name == "speedup" and value
        else value * scale
    )


def _needed(figure: BoundedMetric, limit: float, alpha: float, tests: int) -> int | None:
    """Examples that would show on which side of the limit the value lies, in 80 of 100 samples."""
    holds = figure.value <= limit
    alpha = alpha if holds else alpha / tests
    gap = abs(limit - figure.value)
    if not np.isfinite(gap) or gap < 1e-9 or not figure.n:
        return None
    from scipy.stats import norm

    z = float(norm.ppf(1 - alpha))

    def decides(n: int) -> bool:
        if figure.of is not None:
            low, high = figure.of(n).bounds(alpha)
            return high <= limit if holds else low > limit
        low, high = figure.bounds(alpha)
        half = (high - figure.value if holds else figure.value - low) * sqrt(
            figure.n / n
        )  # bounds narrow by the root of n
        return bool(half <= gap)

    least = figure.n
    while not decides(least):
        least *= 2
        if least > FAR:
            return None
    least = bisect_left(range(least), True, lo=least // 2, key=decides)
    return max(figure.n + 1, ceil(least * ((z + POWER) / z) ** 2))


def _told(answer: str, needs: int | None, n: int) -> str:
    if answer != INCONCLUSIVE:
        return ""
    if needs:
        return f"n = {f.count(n)} is too small; about {f.count(needs)} examples would decide"
    return "the measured value is at the limit; no sample size would decide"


def to_record(verdicts: list[Verdict], found: Evidence, policy: Policy) -> dict[str, Any]:
    """The decision as plain data, for --json."""
    return {
        "job": found.job.id,
        "label": found.job.label,
        "decision": decision(verdicts),
        "told": summary_sentence(verdicts, policy),
        "confidence": policy.confidence,
        "verdicts": [_record(each) for each in verdicts],
    }


def _record(each: Verdict) -> dict[str, Any]:
    numbers = {
        name: None if not np.isfinite(value) else value
        for name, value in (("value", each.value), ("bound", each.bound))
    }
    return {
        "criterion": each.criterion,
        "of": each.of,
        "limit": each.asked,
        **numbers,
        "rules_out": each.rules_out or None,
        "answer": each.answer,
        "n": each.n,
        "needs": each.needs,
        "told": each.detail,
    }
