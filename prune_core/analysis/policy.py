"""Deployment policies: limits on what pruning may cost, read from and written to YAML files.

The module `deployment_check` tests them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..errors import PruneError
from ..plugins import closest_match
from ..tasks import METRICS, TASK_TYPES, prediction_type

# task types whose predictions are correct or incorrect, equal or different
DISCRETE = tuple(name for name, each in TASK_TYPES.items() if each.is_discrete)
SINGLE_LABEL = tuple(name for name, each in TASK_TYPES.items() if each.is_single_label)


@dataclass(frozen=True)
class Criterion:
    """One criterion: title, unit and range of its limit, and the measure that it needs."""

    title: str
    help: str
    unit: str
    default: float
    low: float = 0.0
    high: float = 1e9
    scale: float = 100.0  # converts a measured value to the limit's unit
    measure: str = "accuracy"  # the required measure
    in_default_policy: bool = True
    kinds: tuple[str, ...] = tuple(TASK_TYPES)  # task types that it supports

    def applies(self, kind: str, metric: str = "") -> bool:
        """Whether the criterion supports a task type and metric."""
        return kind in self.kinds or (
            self.kinds == DISCRETE and prediction_type(kind, metric).is_discrete
        )


CRITERIA = {
    "accuracy_loss": Criterion(
        "Accuracy loss",
        "Largest drop of accuracy, or of the task's own metric, below the dense model",
        "points",
        default=1.0,
        high=100,
    ),
    "attack_success": Criterion(
        "Attack success increase",
        "Largest increase of each attack's success rate, on examples that both models classify "
        "correctly",
        "points",
        default=3.0,
        high=100,
        measure="attack",
        kinds=SINGLE_LABEL,
    ),
    "agreement": Criterion(
        "Agreement with dense",
        "Lowest percentage of predictions equal to the dense model's; needs no labels",
        "%",
        default=97.0,
        high=100,
        kinds=DISCRETE,
    ),
    "slice_loss": Criterion(
        "Accuracy loss in the worst slice",
        "Largest drop in any slice; small slices need large limits",
        "points",
        default=5.0,
        high=100,
        kinds=DISCRETE,
    ),
    "calibration_error": Criterion(
        "Calibration error increase",
        "Largest increase of the calibration error over the dense model's",
        "points",
        default=2.0,
        high=100,
        kinds=SINGLE_LABEL,
    ),
    "latency_p95": Criterion(
        "95th-percentile latency",
        "Longest 95th-percentile time of a batch, as timed by the cost measure",
        "ms",
        default=50.0,
        scale=1000.0,
        measure="cost",
        in_default_policy=False,
    ),
    "speedup": Criterion(
        "Speed-up",
        "Lowest speed-up over the dense model, measured in alternation",
        "times",
        default=1.0,
        scale=1.0,
        measure="cost",
        in_default_policy=False,
    ),
    "size": Criterion(
        "Size on disk",
        "Largest weights file",
        "MB",
        default=100.0,
        scale=1e-6,
        measure="cost",
        in_default_policy=False,
    ),
}
AT_LEAST = ("agreement", "speedup")  # lower limits; all others are upper limits


def criterion_title(name: str, metric: str) -> str:
    """Return a criterion's title, such as "Spearman correlation loss" for a task's metric."""
    return f"{METRICS[metric].title} loss" if name == "accuracy_loss" else CRITERIA[name].title


def limit_direction(name: str) -> str:
    """Return "at least" or "at most"."""
    return "at least" if name in AT_LEAST else "at most"


SLICES = ("length", "label")  # predefined; keyword:WORD and column:NAME are custom
CONFIDENCE = 95.0  # %, one-sided


@dataclass(frozen=True)
class Policy:
    """Limits by criterion in the criteria's units; raise PruneError if a value is invalid."""

    limits: Mapping[str, float]
    slices: tuple[str, ...] = SLICES
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if not self.limits:
            raise PruneError(
                f"The policy has no limit; name at least one of {', '.join(CRITERIA)}."
            )
        for name, limit in self.limits.items():
            if name not in CRITERIA:
                raise PruneError(
                    f"policy: {name!r} is not a criterion.{closest_match(name, CRITERIA)} The "
                    f"criteria are: {', '.join(CRITERIA)}."
                )
            low, high = CRITERIA[name].low, CRITERIA[name].high
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if not is_number or not low <= limit <= high:
                raise PruneError(
                    f"policy: {name} is {limit!r}; it must be a number between {low:g} and "
                    f"{high:g} ({CRITERIA[name].unit})."
                )
        for name in self.slices:
            if name not in SLICES and not name.startswith(("keyword:", "column:")):
                raise PruneError(
                    f"policy: {name!r} is not a slice; write {', '.join(SLICES)}, keyword:WORD or "
                    "column:NAME."
                )
        if not isinstance(self.confidence, int | float) or not 50 < self.confidence < 100:
            raise PruneError(
                f"policy: confidence is {self.confidence!r}; it must be a number between 50 and "
                "100 (%)."
            )

    @property
    def alpha(self) -> float:
        """The largest probability of a false "ship"."""
        return 1 - self.confidence / 100

    def as_yaml(self) -> str:
        """Return the text of a policy file, with a comment for each limit."""
        lines = [
            f"{name}: {limit:g}  # {CRITERIA[name].unit}; {CRITERIA[name].help}"
            for name, limit in self.limits.items()
        ]
        slices = yaml.safe_dump(
            {"slices": list(self.slices)}, default_flow_style=True, allow_unicode=True, width=1000
        ).strip()[1:-1]
        return "\n".join([*lines, slices, f"confidence: {self.confidence:g}  # %, one-sided", ""])


def default_policy(kind: str, metric: str = "") -> Policy:
    """Return the default policy for a task type and metric."""
    return Policy(
        {
            name: criterion.default
            for name, criterion in CRITERIA.items()
            if criterion.in_default_policy and criterion.applies(kind, metric)
        }
    )


def parse(text: str, path: str) -> Policy:
    """Parse the text of a policy file; raise PruneError if it is invalid."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PruneError(
            f"{path} is not readable as YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(values, dict):
        raise PruneError(
            f"{path} contains no policy; write one limit per line, such as accuracy_loss: 1.0."
        )
    slices = values.pop("slices", list(SLICES))
    if not isinstance(slices, list):
        raise PruneError(
            f"{path}: slices is {slices!r}; it must be a list, such as [length, label]."
        )
    confidence = values.pop("confidence", CONFIDENCE)
    return Policy(
        {str(name): limit for name, limit in values.items()}, tuple(map(str, slices)), confidence
    )


def load(path: Path) -> Policy:
    """Read a policy file; raise PruneError if it is missing or invalid."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PruneError(f"{path} cannot be read: {error}.") from None
