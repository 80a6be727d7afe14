"""Deployment policies: limits on what pruning may cost, read from and written to YAML files.

The module `deployment_check` tests them.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..analysis.evidence import CONFIDENCE, SLICES, Evidence
from ..data.examples import DataSource
from ..errors import PruneError
from ..paths import ASSETS
from ..plugins import closest_match
from ..views import CRITERIA

ALL, MEAN = "all", "mean"  # how test sets are combined; also "at most K fail"
FOLDER = ASSETS / "policies"
WEIGHT, LIMITS = "weight", "limits"  # keys of a test set besides those of its data


@dataclass(frozen=True)
class EvaluationSet:
    """A test set of a policy, with its weight and its own limits.

    `limits` override limits of the policy with the same name.
    """

    name: str
    source: DataSource
    limits: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        is_number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if not is_number or not self.weight > 0:
            raise PruneError(
                f"policy: the weight of {self.name} is {self.weight!r}; it must be a number "
                "above 0."
            )


@dataclass(frozen=True)
class Policy:
    """Limits by criterion in the criteria's units; raise PruneError if a value is invalid.

    With test sets, the limits apply to each of them, and `combine` defines how their results are
    combined into one decision.
    """

    limits: Mapping[str, float]
    slices: tuple[str, ...] = SLICES
    confidence: float = CONFIDENCE
    test_sets: tuple[EvaluationSet, ...] = ()
    combine: str = ALL

    def __post_init__(self) -> None:
        if not self.limits and not all(each.limits for each in self.test_sets or [self]):
            raise PruneError(
                f"The policy has no limit; name at least one of {', '.join(CRITERIA)}."
            )
        for limits in (self.limits, *(each.limits for each in self.test_sets)):
            _check_limits(limits)
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
        names = [each.name for each in self.test_sets]
        if duplicates := {name for name in names if names.count(name) > 1}:
            raise PruneError(
                f"policy: two test sets have the name {min(duplicates)!r}; give each another name."
            )
        self._check_combination()

    def _check_combination(self) -> None:
        allowed, sets = self.allowed_failures, len(self.test_sets)
        if self.combine not in (ALL, MEAN) and not 0 < allowed < sets:
            raise PruneError(
                f"policy: combine is {self.combine!r}; write all, mean, or at most K fail, with K "
                f"above 0 and below the number of test sets, which is {sets}."
            )
        if self.combine == MEAN and any(each.limits for each in self.test_sets):
            raise PruneError(
                "policy: with combine: mean, limits cannot differ between test sets; set limits "
                "only at the top level of the file, or write combine: all."
            )

    @property
    def needed_measures(self) -> dict[str, dict[str, Any]]:
        """The measures that the limits need, each with the options that they need."""
        needed: dict[str, dict[str, Any]] = {}
        for name in self.limits:
            criterion = CRITERIA[name]
            needed.setdefault(criterion.measure, {}).update(criterion.measure_options)
        return needed

    @property
    def allowed_failures(self) -> int:
        """The number of test sets that may fail."""
        found = re.fullmatch(r"at most (\d+) fails?", str(self.combine))
        return int(found[1]) if found else 0

    def relaxed(self, measured: Evidence) -> "Policy":
        """Return the policy with its criteria's default limits that the sample can decide."""
        return replace(
            self, limits={name: CRITERIA[name].default_at(measured) for name in self.limits}
        )

    def of_set(self, test_set: EvaluationSet) -> "Policy":
        """Return the policy of one test set, at this policy's confidence."""
        return Policy({**self.limits, **test_set.limits}, self.slices, self.confidence)

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
        lines += [slices, f"confidence: {self.confidence:g}  # %, one-sided"]
        if self.test_sets:
            sets = {each.name: _set_values(each) for each in self.test_sets}
            lines += [f"combine: {self.combine}"]
            lines += yaml.safe_dump({"test_sets": sets}, sort_keys=False, allow_unicode=True).split(
                "\n"
            )[:-1]
        return "\n".join([*lines, ""])


def _check_limits(limits: Mapping[str, float]) -> None:
    for name, limit in limits.items():
        if name not in CRITERIA:
            raise PruneError(
                f"policy: {name!r} is not a criterion.{closest_match(name, CRITERIA)} The "
                f"criteria are: {', '.join(CRITERIA)}."
            )
        criterion = CRITERIA[name]
        is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
        if not is_number or not criterion.low <= limit <= criterion.high:
            raise PruneError(
                f"policy: {name} is {limit!r}; it must be a number between "
                f"{criterion.low:g} and {criterion.high:g} ({criterion.unit})."
            )


def _set_values(test_set: EvaluationSet) -> dict[str, Any]:
    """Return a test set as in a policy file."""
    values: dict[str, Any] = {
        name: value for name, value in asdict(test_set.source).items() if value
    }
    values |= {LIMITS: dict(test_set.limits)} if test_set.limits else {}
    return values | ({WEIGHT: test_set.weight} if test_set.weight != 1 else {})


def default_policy(kind: str, metric: str = "") -> Policy:
    """Return the default policy for a task type and metric."""
    return Policy(
        {
            name: criterion.default
            for name, criterion in CRITERIA.items()
            if criterion.is_default(kind, metric)
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
    combine = values.pop("combine", ALL)
    test_sets = _parse_sets(values.pop("test_sets", {}), path)
    return Policy(
        {str(name): limit for name, limit in values.items()},
        slices=tuple(map(str, slices)),
        confidence=confidence,
        test_sets=test_sets,
        combine=combine,
    )


def _parse_sets(values: Any, path: str) -> tuple[EvaluationSet, ...]:
    """Parse the test sets of a policy file: each name with its data, limits and weight."""
    is_valid = isinstance(values, dict) and all(
        isinstance(each, dict) and each.get("task") and isinstance(each.get(LIMITS, {}), dict)
        for each in values.values()
    )
    if not is_valid:
        raise PruneError(
            f"{path}: each of test_sets must be a name with its data, such as "
            "german: {task: german.csv}, and may have limits and a weight."
        )
    return tuple(
        EvaluationSet(
            str(name),
            _data_of(str(name), each),
            limits=each.get(LIMITS, {}),
            weight=each.get(WEIGHT, 1.0),
        )
        for name, each in values.items()
    )


def _data_of(name: str, values: Mapping[str, Any]) -> DataSource:
    """Return the data of a test set; raise PruneError for unknown keys."""
    known = [*asdict(DataSource()), LIMITS, WEIGHT]
    for key in values:
        if key not in known:
            raise PruneError(
                f"policy: the test set {name} has no {key!r}.{closest_match(key, known)} Its keys "
                f"are: {', '.join(known)}."
            )
    return DataSource.from_keys(values)


def presets() -> list[str]:
    """Return the names of the bundled policies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(path: Path) -> Policy:
    """Read a policy file or a preset; raise PruneError if it is missing or invalid."""
    if not path.is_file() and str(path) in presets():
        path = FOLDER / f"{path}.yaml"
    if not path.exists():
        raise PruneError(
            f"{path}: no such file or preset; give the path of a policy file, or one of "
            f"{', '.join(presets())}."
        )
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PruneError(f"{path} cannot be read: {error}.") from None
