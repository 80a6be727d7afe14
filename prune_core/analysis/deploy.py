"""May it ship? Every limit of a policy as a non-inferiority test on paired data: yes, no, or not known at this n.

A limit holds where a one-sided bound at the policy's confidence lies within it. Shipping needs all of them, so a model beyond any
one limit ships falsely with at most the probability left (an intersection-union test, Berger 1982); a single limit counts as
broken only where it is at that probability divided by the number of tests, so a false "do not ship" is as rare.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from math import ceil, sqrt
from typing import Any

import numpy as np

from .. import formatting as f
from .evidence import Evidence, Figure, figures, judged_by
from .policy import CRITERIA, Policy, side, titled

SHIP, STOP, UNKNOWN = "ship", "do not ship", "not known"
HOLDS, BROKEN = "holds", "broken"
CODES = {SHIP: 0, STOP: 1, UNKNOWN: 3}  # of the command line
NAMED = 2  # tests that a sentence names
POWER = 0.84  # standard errors beyond the limit for 80 of 100 samples to decide
FAR = 10_000_000  # no sample that large is drawn: the model lies on the limit


@dataclass(frozen=True)
class Verdict:
    """One limit against what was measured, in the limit's unit; `used` is the share of what it allows."""

    criterion: str
    of: str  # the attack or slice that it is about, "" for the whole
    limit: float
    value: float
    bound: float  # as bad as it may be, at the policy's confidence
    answer: str  # HOLDS, BROKEN or UNKNOWN
    n: int
    needs: int | None  # examples that would decide in 80 of 100 samples, if what was seen is so
    told: str
    used: tuple[float, float, float] = (np.nan, np.nan, np.nan)  # value, low, high over the limit
    metric: str = "accuracy"  # by which the task is judged

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return titled(self.criterion, self.metric) + (f" · {self.of}" if self.of else "")

    @property
    def asked(self) -> str:
        """The limit in words: at most 2 points."""
        unit = CRITERIA[self.criterion].unit
        return f"{side(self.criterion)} {self.limit:g} {'point' if self.limit == 1 and unit == 'points' else unit}"


def check(found: Evidence, policy: Policy) -> list[Verdict]:
    """A verdict a limit, and one an attack; in the policy's order."""
    asked = [(name, of, figure) for name in policy.limits for of, figure in figures(found, policy, name)]
    metric = judged_by(found.tables["accuracy"])
    return [replace(_judged(name, of, figure, policy, len(asked)), metric=metric) for name, of, figure in asked]


def decision(verdicts: list[Verdict]) -> str:
    """SHIP where every limit holds, STOP where one is broken, else UNKNOWN."""
    answers = {each.answer for each in verdicts}
    return STOP if BROKEN in answers else UNKNOWN if UNKNOWN in answers else SHIP


def sentence(found: Evidence, verdicts: list[Verdict], policy: Policy) -> str:
    """The decision in words, with what decides it."""
    answer = decision(verdicts)
    if answer == SHIP:
        return f"Ship: every limit holds at {policy.confidence:.4g}% confidence ({f.plural(len(verdicts), 'test')})."
    which = [each for each in verdicts if each.answer == (BROKEN if answer == STOP else UNKNOWN)]
    some = [each.title if each.criterion == "accuracy_loss" and each.metric != "accuracy" else each.title[0].lower() + each.title[1:]
            for each in which[:NAMED]]  # fmt: skip
    some += [f"{len(which) - NAMED} more"] if len(which) > NAMED else []
    named = " and ".join(filter(None, (", ".join(some[:-1]), some[-1])))
    if answer == STOP:
        return f"Do not ship: {named} {'is' if len(which) == 1 else 'are'} beyond the limit at {policy.confidence:.4g}% confidence."
    more = [each.needs for each in which if each.needs]
    told = f" About {f.count(max(more))} examples would decide." if len(more) == len(which) else ""
    return f"Not known: {named} cannot be told from the limit with what was measured.{told}"


def _judged(name: str, of: str, figure: Figure | str, policy: Policy, tests: int) -> Verdict:
    asked, scale = policy.limits[name], CRITERIA[name].scale
    if isinstance(figure, str):
        return Verdict(name, of, asked, np.nan, np.nan, UNKNOWN, 0, None, figure)
    limit = 1 - asked / scale if name == "agreement" else 1 / max(asked, 1e-9) if name == "speedup" else asked / scale
    low, high = figure.bounds(policy.alpha)
    surely = figure.bounds(policy.alpha / tests)[0]
    answer = HOLDS if high <= limit else BROKEN if surely > limit else UNKNOWN
    needs = None if answer != UNKNOWN else _needed(figure, limit, policy.alpha, tests)
    over, value, bound = max(limit, 1e-9), _shown(name, figure.value), _shown(name, high)
    return Verdict(name, of, asked, value, bound, answer, figure.n, needs, figure.told or _told(answer, needs, figure.n),
                   (figure.value / over, low / over, high / over))  # fmt: skip


def _shown(name: str, value: float) -> float:
    """A cost as the limit is written."""
    scale = CRITERIA[name].scale
    return (1 - value) * scale if name == "agreement" else 1 / value if name == "speedup" and value else value * scale


def _needed(figure: Figure, limit: float, alpha: float, tests: int) -> int | None:
    """How many examples would show on which side of the limit this figure lies, in 80 of 100 samples."""
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
        half = (high - figure.value if holds else figure.value - low) * sqrt(figure.n / n)  # bounds narrow by the root of n
        return bool(half <= gap)

    least = figure.n
    while not decides(least):
        least *= 2
        if least > FAR:
            return None
    least = bisect_left(range(least), True, lo=least // 2, key=decides)
    return max(figure.n + 1, ceil(least * ((z + POWER) / z) ** 2))


def _told(answer: str, needs: int | None, n: int) -> str:
    if answer != UNKNOWN:
        return ""
    return f"not known at n = {n}" + (f"; about {f.count(needs)} would decide" if needs else "; it lies on the limit")


def as_record(verdicts: list[Verdict], found: Evidence, policy: Policy) -> dict[str, Any]:
    """The decision as plain data, for --json."""
    return {"job": found.job.id, "label": found.job.label, "decision": decision(verdicts), "told": sentence(found, verdicts, policy),
            "confidence": policy.confidence, "verdicts": [_record(each) for each in verdicts]}  # fmt: skip


def _record(each: Verdict) -> dict[str, Any]:
    numbers = {name: None if not np.isfinite(value) else value for name, value in (("value", each.value), ("bound", each.bound))}
    return {"criterion": each.criterion, "of": each.of, "limit": each.asked, **numbers, "answer": each.answer, "n": each.n,
            "needs": each.needs, "told": each.told}  # fmt: skip
