"""Dense and pruned under the same attack on the same examples: what differs by more than chance, and what would be missed.

From the saved outcomes alone. Pruning moves the set of examples that a model gets right, so success rates are compared over
those that both get right. Knows nothing of models or of textattack.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from .formatting import p_value, plural
from .statistics import mcnemar, wilson

ATTACKED = ("success", "failed")  # outcomes of examples that the model got right
RESAMPLES = 2000
POWER = 1.96 + 0.84  # standard errors: a difference of so many is found in 80 of 100 samples at the 5% level


class Versus(NamedTuple):
    """A share on the same `n` examples for dense and for a pruned model; differences are pruned minus dense."""

    n: int
    dense: float
    pruned: float
    low: float  # 95% bootstrap interval of the difference
    high: float
    p_value: float  # McNemar's exact test
    missed: float  # a smaller difference would be found in less than 80 of 100 such samples

    @property
    def difference(self) -> float:
        """Pruned minus dense."""
        return self.pruned - self.dense


def under_attack(dense: pd.DataFrame, pruned: pd.DataFrame) -> Versus:
    """Accuracy under attack over all examples; rows of `attack_example` of one recipe, a model each."""
    both = _joined(dense, pruned)
    return _versus(both["outcome_dense"] == "failed", both["outcome"] == "failed")


def success_rate(dense: pd.DataFrame, pruned: pd.DataFrame) -> Versus:
    """Attack success over the examples that both models got right before the attack."""
    both = _joined(dense, pruned)
    both = both[both["outcome"].isin(ATTACKED) & both["outcome_dense"].isin(ATTACKED)]
    return _versus(both["outcome_dense"] == "success", both["outcome"] == "success")


def _joined(dense: pd.DataFrame, pruned: pd.DataFrame) -> pd.DataFrame:
    """Outcomes of the examples on which neither search broke."""
    both = pruned[["example", "outcome"]].merge(dense[["example", "outcome"]], on="example", suffixes=("", "_dense"))
    return both[(both["outcome"] != "error") & (both["outcome_dense"] != "error")]


def _versus(dense: pd.Series, pruned: pd.Series) -> Versus:
    n = len(dense)
    if not n:
        return Versus(0, *[float("nan")] * 6)
    gap = pruned.to_numpy(float) - dense.to_numpy(float)
    more, fewer = int((gap > 0).sum()), int((gap < 0).sum())
    if more + fewer:
        found = bootstrap((gap,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0))
        low, high = map(float, found.confidence_interval)
    else:  # no example differs: the bootstrap would say 0 to 0, as if n were infinite
        high = wilson(0, n)[1]
        low = -high
    # Connor (1987): the standard error of a paired difference is √(ψ/n), ψ the share of examples that differ
    apart = max(more + fewer, 1) / n
    return Versus(n, float(dense.mean()), float(pruned.mean()), low, high, mcnemar(more, fewer), min(1.0, POWER * sqrt(apart / n)))


def verdict(versus: Versus) -> str:
    """In plain words, no more than the figures show."""
    if not versus.n:
        return "No sentence to compare on"
    if versus.p_value < 0.05:
        more = "more" if versus.difference > 0 else "fewer"
        return f"Attacks succeed on {plural(round(100 * abs(versus.difference)), 'point')} {more} ({p_value(versus.p_value)})"
    return f"No detectable change at n = {versus.n}; under {100 * versus.missed:.0f} points would often be missed"


def table(examples: pd.DataFrame, dense: int, jobs: Sequence[int]) -> pd.DataFrame:
    """A row a pruned job, of one recipe's rows: success where both were right, accuracy under attack, and the verdict."""
    of = lambda job: examples[examples["job"] == job]  # noqa: E731
    out = []
    for job in jobs:
        rate, under = success_rate(of(dense), of(job)), under_attack(of(dense), of(job))
        out.append({"job": job, **rate._asdict(), "difference": rate.difference, "under_attack": under.pruned,
                    "under_attack_difference": under.difference, "under_attack_p": under.p_value, "verdict": verdict(rate)})  # fmt: skip
    return pd.DataFrame(out)
