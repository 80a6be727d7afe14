"""One decision over several test sets, with the error probability of a single test set.

All: the model ships if every test set passes (an intersection-union test, Berger 1982). At most k
fail: every test set is tested at alpha / (k + 1), and m − k of m must pass (a partial conjunction
test, Benjamini and Heller 2008). Mean: the weighted mean of each cost is tested; its bounds combine
those of the test sets. A limit counts as violated only after correction for all tests of all test
sets (Bonferroni).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..aliases import CHECK_KEYS, VERDICT_KEYS, with_former_keys
from ..analysis.bounded_metrics import BoundedMetric, weighted_mean
from ..analysis.criteria import INCONCLUSIVE, Verdict
from ..analysis.evidence import Evidence, metric_of
from .deployment_check import (
    SHIP,
    STOP,
    check_metrics,
    decision,
    metrics,
    summary_sentence,
    verdict_record,
)
from .policy import MEAN, Policy


@dataclass(frozen=True)
class CombinedCheck:
    """The verdicts of a model on several test sets, and the combined decision."""

    policy: Policy
    verdicts: Mapping[str, list[Verdict]]  # by test set; one entry for their mean
    decision: str

    @property
    def summary(self) -> str:
        """Describe the decision and the reason for it."""
        flat = [verdict for verdicts in self.verdicts.values() for verdict in verdicts]
        if not self.policy.allowed_failures:
            return summary_sentence(flat, self.policy)
        results = [decision(verdicts) for verdicts in self.verdicts.values()]
        allowed, m = self.policy.allowed_failures, len(results)
        return (
            f"{self.decision.capitalize()}: {results.count(SHIP)} of {m} test sets meet all limits "
            f"and {results.count(STOP)} violate a limit with {self.policy.confidence:.4g}% "
            f"confidence; at most {allowed} may fail."
        )


def check_sets(measured: Mapping[str, Evidence], policy: Policy) -> CombinedCheck:
    """Test a model on the policy's test sets; `measured` has the evidence for each, by name."""
    costs = {
        each.name: metrics(measured[each.name], policy.of_set(each)) for each in policy.test_sets
    }
    task_metric = metric_of(next(iter(measured.values())).tables["accuracy"])
    if policy.combine == MEAN:
        weights = [each.weight for each in policy.test_sets]
        verdicts = check_metrics(_means(costs, weights), policy, task_metric)
        return CombinedCheck(policy, {MEAN: verdicts}, decision(verdicts))
    tests = sum(map(len, costs.values()))
    alpha = (100 - policy.confidence) / (1 + policy.allowed_failures)
    by_set = {
        each.name: check_metrics(
            {
                (name, _joined(each.name, group)): cost
                for (name, group), cost in costs[each.name].items()
            },
            replace(policy.of_set(each), confidence=100 - alpha),
            metric_of(measured[each.name].tables["accuracy"]),
            tests=tests,
        )
        for each in policy.test_sets
    }
    return CombinedCheck(policy, by_set, _combined(by_set, policy.allowed_failures))


def _joined(name: str, group: str) -> str:
    return " · ".join(filter(None, (name, group)))


def _combined(verdicts: Mapping[str, list[Verdict]], allowed_failures: int) -> str:
    """Return SHIP if enough test sets pass, STOP if too many fail, else INCONCLUSIVE."""
    results = [decision(each) for each in verdicts.values()]
    if results.count(SHIP) >= len(results) - allowed_failures:
        return SHIP
    return STOP if results.count(STOP) > allowed_failures else INCONCLUSIVE


def _means(
    costs: Mapping[str, Mapping[tuple[str, str], BoundedMetric | str]], weights: Sequence[float]
) -> dict[tuple[str, str], BoundedMetric | str]:
    """Return the weighted mean of every cost, or the reason that a test set lacks it."""
    means: dict[tuple[str, str], BoundedMetric | str] = {}
    for name, group in dict.fromkeys(key for each in costs.values() for key in each):
        found = [each.get((name, group), "not measured") for each in costs.values()]
        missing = [
            f"{cost} (test set {of_set})"
            for of_set, cost in zip(costs, found, strict=True)
            if isinstance(cost, str)
        ]
        known = [cost for cost in found if not isinstance(cost, str)]
        label = _joined(f"mean of {len(costs)} test sets", group)
        means[name, label] = missing[0] if missing else weighted_mean(known, weights)
    return means


def to_record(check: CombinedCheck, measured: Mapping[str, Evidence]) -> dict[str, Any]:
    """Convert the check to plain data for --json; the verdicts of a test set name it."""
    job = next(iter(measured.values())).job
    return with_former_keys(
        {
            "job": job.id,
            "label": job.label,
            "decision": check.decision,
            "summary": check.summary,
            "advice": [],
            "confidence": check.policy.confidence,
            "combine": check.policy.combine,
            "test_sets": {
                name: {"decision": decision(verdicts), "job": measured[name].job.id}
                for name, verdicts in check.verdicts.items()
                if name in measured
            },
            "verdicts": [
                with_former_keys({"test_set": name, **verdict_record(each)}, VERDICT_KEYS)
                for name, verdicts in check.verdicts.items()
                for each in verdicts
            ],
        },
        CHECK_KEYS,
    )
