"""Criteria of deployment policies, and verdicts: the results of testing their limits.

The views of the measures declare the criteria.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

import numpy as np

from .. import formatting as f
from ..tasks import METRICS, TASK_TYPES, TaskType, prediction_type
from ..tasks.embedding import Embedding
from ..tasks.regression import Regression
from .bounded_metrics import BoundedMetric
from .evidence import Evidence

MET, VIOLATED, INCONCLUSIVE = "met", "violated", "inconclusive"

Found = BoundedMetric | str  # a string is the reason why it was not measured


def one_minus(fraction: float) -> float:
    """Convert a fraction for which larger is better to a cost, and back."""
    return 1 - fraction


def reciprocal(ratio: float) -> float:
    """Convert a ratio for which larger is better to a cost, and back."""
    return 1 / max(ratio, 1e-9)


def any_task(task_type: TaskType, predictions: TaskType) -> bool:
    """Support every task type."""
    return True


def discrete_predictions(task_type: TaskType, predictions: TaskType) -> bool:
    """Support stored predictions that are equal or different, rather than close."""
    return predictions.is_discrete


def single_label(task_type: TaskType, predictions: TaskType) -> bool:
    """Support task types with a probability for each label, of which one holds."""
    return task_type.is_single_label


def embeddings(task_type: TaskType, predictions: TaskType) -> bool:
    """Support models that embed texts."""
    return task_type.name == Embedding.name


def scores(task_type: TaskType, predictions: TaskType) -> bool:
    """Support models that score texts."""
    return task_type.name == Regression.name


def any_metric(task_type: TaskType, metric: str) -> bool:
    """Test every model by default."""
    return True


def with_scores(task_type: TaskType, metric: str) -> bool:
    """Test all but embedding models without scored pairs by default."""
    known = task_type.metrics.get(metric)
    return task_type.name != Embedding.name or not (known is None or known.against_dense)


def without_scores(task_type: TaskType, metric: str) -> bool:
    """Test embedding models without scored pairs by default."""
    return not with_scores(task_type, metric)


@dataclass(frozen=True)
class Criterion:
    """What a policy can limit: title, unit and range of the limit, and the evidence for it.

    Its functions must be named ones: pages cache verdicts, for which they are pickled.
    """

    key: str
    title: str  # {metric} is replaced by the title of the task's metric
    help: str
    unit: str
    measure: str
    table: str  # of the measure; if it is empty, the criterion was not measured
    # the cost, or a cost for each group, such as an attack or a slice
    evidence: Callable[[Evidence], Found | Mapping[str, Found]]
    default: float
    low: float = 0.0
    high: float = 1e9
    scale: float = 100.0  # converts a measured value to the limit's unit
    # only of lower limits: converts a value to a cost, for which larger is worse, and back
    as_cost: Callable[[float], float] | None = None
    in_default_policy: bool = True
    counts_examples: bool = True  # n is a number of evaluation examples
    units: str = "examples"  # what n counts in sentences
    # options that the measure needs for this criterion
    measure_options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    # from the task type and the type of its stored predictions
    supports: Callable[[TaskType, TaskType], bool] = any_task
    # from the task type and the name of its metric, for the default policy
    is_default_for: Callable[[TaskType, str], bool] = any_metric
    # smallest limit (as a cost) that a sample of this size can decide, for the default policy
    decidable: Callable[[Evidence], float] | None = None

    @property
    def is_lower_limit(self) -> bool:
        """Whether the limit is the smallest acceptable value, rather than the largest."""
        return self.as_cost is not None

    @property
    def direction(self) -> str:
        """Return "at least" or "at most"."""
        return "at least" if self.is_lower_limit else "at most"

    def title_of(self, metric: str) -> str:
        """Return the title, such as "Spearman correlation loss" for a task's metric."""
        return self.title.format(metric=METRICS[metric].title)

    def applies(self, kind: str, metric: str = "") -> bool:
        """Whether the criterion supports a task type and metric."""
        return self.supports(TASK_TYPES[kind], prediction_type(kind, metric))

    def is_default(self, kind: str, metric: str = "") -> bool:
        """Whether the default policy for a task type and metric has this limit."""
        is_included = self.in_default_policy and self.is_default_for(TASK_TYPES[kind], metric)
        return is_included and self.applies(kind, metric)

    def default_at(self, measured: Evidence) -> float:
        """Return the default limit, relaxed if a sample of this size cannot decide it.

        A relaxed limit is rounded to half a unit.
        """
        if self.decidable is None or measured.tables[self.table].empty:
            return self.default
        limit = self.in_unit(self.decidable(measured))
        if self.is_lower_limit:
            return min(self.default, floor(2 * limit) / 2)
        return max(self.default, ceil(2 * limit) / 2)

    def metrics(self, measured: Evidence) -> Mapping[str, Found]:
        """Return the cost of each attack or slice; the key is "" for the whole sample."""
        if measured.tables[self.table].empty:
            return {"": f"not measured: run it with the measure {self.measure}"}
        found = self.evidence(measured)
        return found if isinstance(found, Mapping) else {"": found}

    def cost_limit(self, limit: float) -> float:
        """Convert a limit to the largest acceptable cost."""
        return self.as_cost(limit / self.scale) if self.as_cost else limit / self.scale

    def in_unit(self, cost: float) -> float:
        """Convert a cost to the limit's unit."""
        return (self.as_cost(cost) if self.as_cost else cost) * self.scale

    def amount(self, value: float) -> str:
        """Format a value with the unit."""
        number = f"{value:g}".replace("-", "−")
        if self.unit in ("%", "times"):
            return f"{number}{'%' if self.unit == '%' else '×'}"
        return f"{number} {'point' if value == 1 and self.unit == 'points' else self.unit}"


@dataclass(frozen=True)
class Verdict:
    """The test of one limit, in the limit's unit."""

    criterion: Criterion
    group: str  # attack or slice, "" for the whole sample
    limit: float
    value: float
    bound: float  # worst value not ruled out at the policy's confidence
    result: str  # MET, VIOLATED or INCONCLUSIVE
    n: int
    # examples that would decide in 80 of 100 samples if the measured value is the true one
    examples_needed: int | None
    detail: str  # why the result is inconclusive and what to do, "" otherwise
    # value, low and high as fractions of the limit
    limit_fractions: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    metric: str = "accuracy"  # of the task

    @property
    def title(self) -> str:
        """The criterion with the attack or slice."""
        return self.criterion.title_of(self.metric) + (f" · {self.group}" if self.group else "")

    @property
    def inline_title(self) -> str:
        """The title inside a sentence."""
        group = f" ({self.group})" if self.group else ""
        return f.inline(self.criterion.title_of(self.metric)) + group

    @property
    def limit_text(self) -> str:
        """The limit in words: at most 2 points."""
        return f"{self.criterion.direction} {self.criterion.amount(self.limit)}"

    @property
    def excluded(self) -> str:
        """Values that the sample rules out: "more than 3.4 points"; "" if none."""
        is_lower, high = self.criterion.is_lower_limit, self.criterion.high
        if not np.isfinite(self.bound) or not (self.bound > 0 if is_lower else self.bound < high):
            return ""
        digits = 100 if self.criterion.unit == "times" else 10
        # rounded away from the measured value, so as not to exclude more than the sample does
        direction, rounded = "more", ceil(self.bound * digits - 1e-9) / digits
        if is_lower:
            direction, rounded = "less", floor(self.bound * digits + 1e-9) / digits
        return f"{direction} than {self.criterion.amount(rounded + 0.0)}"

    @property
    def rules_out(self) -> str:
        """The same for a sentence: "an accuracy loss of more than 3.4 points"; "" if none."""
        title = self.inline_title
        article = "an" if title.startswith((*"aeiou", "F1", "nDCG")) else "a"
        return f"{article} {title} of {self.excluded}" if self.excluded else ""
