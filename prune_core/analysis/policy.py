"""What a pruned model may cost at most before it ships: limits as plain data, read from and written as a YAML file.

Knows the criteria by name and unit; how they are judged is deploy's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..data.examples import TASK_TYPES
from ..data.metrics import METRICS, prediction_type
from ..errors import PruneError
from ..plugins import closest_match

ANSWERS = tuple(
    kind for kind in TASK_TYPES if kind != "regression"
)  # that are right or wrong, the same or another


@dataclass(frozen=True)
class Criterion:
    """One limit: how it is asked for, and by how much the limit's unit is larger than the figure's own."""

    title: str
    help: str
    unit: str
    usual: float
    low: float = 0.0
    high: float = 1e9
    scale: float = 100.0  # the figure times this is in the limit's unit
    measure: str = "accuracy"  # what has to be measured first
    asked: bool = True  # in a new policy
    kinds: tuple[str, ...] = tuple(TASK_TYPES)  # of heads that it can be asked of

    def applies(self, kind: str, metric: str = "") -> bool:
        """Whether it can be asked of models with that kind of head, evaluated by that metric."""
        needs_hits = self.kinds == ANSWERS
        return kind in self.kinds or (needs_hits and prediction_type(kind, metric) in ANSWERS)


CRITERIA = {
    "accuracy_loss": Criterion(
        "Accuracy loss",
        "Largest drop of accuracy, or of the task's own metric, below the dense model",
        "points",
        usual=1.0,
        high=100,
    ),
    "attack_success": Criterion(
        "Attack success increase",
        "Largest increase of each attack's success rate, on examples that both models get right",
        "points",
        usual=3.0,
        high=100,
        measure="attack",
        kinds=("classification",),
    ),
    "agreement": Criterion(
        "Agreement with dense",
        "Lowest percentage of predictions equal to the dense model's; needs no labels",
        "%",
        usual=97.0,
        high=100,
        kinds=ANSWERS,
    ),
    "slice_loss": Criterion(
        "Accuracy loss in the worst slice",
        "Largest drop in any slice; small slices need large limits",
        "points",
        usual=5.0,
        high=100,
        kinds=ANSWERS,
    ),
    "calibration_error": Criterion(
        "Calibration error increase",
        "Largest increase of the calibration error over the dense model's",
        "points",
        usual=2.0,
        high=100,
        kinds=("classification",),
    ),
    "latency_p95": Criterion(
        "95th-percentile latency",
        "Longest 95th-percentile time of a batch, as timed by the cost measure",
        "ms",
        usual=50.0,
        scale=1000.0,
        measure="cost",
        asked=False,
    ),
    "speedup": Criterion(
        "Speed-up",
        "Lowest speed-up over the dense model, both timed in turn",
        "times",
        usual=1.0,
        scale=1.0,
        measure="cost",
        asked=False,
    ),
    "size": Criterion(
        "Size on disk",
        "Largest weights file",
        "MB",
        usual=100.0,
        scale=1e-6,
        measure="cost",
        asked=False,
    ),
}
AT_LEAST = ("agreement", "speedup")  # all others are at most


def titled(name: str, metric: str) -> str:
    """The criterion's title for a task judged by that metric."""
    return f"{METRICS[metric].title} loss" if name == "accuracy_loss" else CRITERIA[name].title


def side(name: str) -> str:
    """Which side of its limit a criterion may lie on, in words."""
    return "at least" if name in AT_LEAST else "at most"


SLICES = ("length", "label")  # always there; keyword:WORD and column:NAME are the reader's own
CONFIDENCE = 95.0  # %, one-sided


@dataclass(frozen=True)
class Policy:
    """Limits by criterion, in their units; what is not named is not asked for."""

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
                    f"A policy has no {name!r}.{closest_match(name, CRITERIA)} It may have: {', '.join(CRITERIA)}."
                )
            low, high = CRITERIA[name].low, CRITERIA[name].high
            if (
                isinstance(limit, bool)
                or not isinstance(limit, int | float)
                or not low <= limit <= high
            ):
                raise PruneError(
                    f"policy: {name} is {limit!r}; it must be a number between {low:g} and {high:g} ({CRITERIA[name].unit})."
                )
        for each in self.slices:
            if each not in SLICES and not each.startswith(("keyword:", "column:")):
                raise PruneError(
                    f"policy: {each!r} is no slice; write {', '.join(SLICES)}, keyword:WORD or column:NAME."
                )
        if not isinstance(self.confidence, int | float) or not 50 < self.confidence < 100:
            raise PruneError(
                f"policy: confidence is {self.confidence!r}; it must be a number between 50 and 100 (%)."
            )

    @property
    def alpha(self) -> float:
        """The largest probability of a false "ship"."""
        return 1 - self.confidence / 100

    def as_yaml(self) -> str:
        """The file's text, with what each limit means."""
        lines = [
            f"{name}: {limit:g}  # {CRITERIA[name].unit}; {CRITERIA[name].help}"
            for name, limit in self.limits.items()
        ]
        some = yaml.safe_dump(
            {"slices": list(self.slices)}, default_flow_style=True, allow_unicode=True, width=1000
        ).strip()[1:-1]
        return "\n".join([*lines, some, f"confidence: {self.confidence:g}  # %, one-sided", ""])


def usual(kind: str, metric: str = "") -> Policy:
    """The limits of a new policy for models with that kind of head, evaluated by that metric."""
    asked = {name: each for name, each in CRITERIA.items() if each.asked}
    return Policy({name: each.usual for name, each in asked.items() if each.applies(kind, metric)})


def parse(text: str, path: str) -> Policy:
    """A policy file's text; what is wrong in it is a sentence."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PruneError(
            f"{path} is not readable as YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(found, dict):
        raise PruneError(
            f"{path} holds no policy; write one limit a line, such as accuracy_loss: 1.0."
        )
    slices = found.pop("slices", list(SLICES))
    if not isinstance(slices, list):
        raise PruneError(
            f"{path}: slices is {slices!r}; it must be a list, such as [length, label]."
        )
    confidence = found.pop("confidence", CONFIDENCE)
    return Policy(
        {str(name): limit for name, limit in found.items()}, tuple(map(str, slices)), confidence
    )


def load(path: Path) -> Policy:
    """The policy in a file."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PruneError(f"{path} cannot be read: {error}.") from None
