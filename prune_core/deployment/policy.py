"""Deployment policies: limits on what pruning may cost, read from and written to YAML files.

The module `deployment_check` tests them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..analysis.evidence import CONFIDENCE, SLICES
from ..errors import PruneError
from ..plugins import closest_match
from ..views import CRITERIA


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
            criterion = CRITERIA[name]
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if not is_number or not criterion.low <= limit <= criterion.high:
                raise PruneError(
                    f"policy: {name} is {limit!r}; it must be a number between "
                    f"{criterion.low:g} and {criterion.high:g} ({criterion.unit})."
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
    return Policy(
        {str(name): limit for name, limit in values.items()}, tuple(map(str, slices)), confidence
    )


def load(path: Path) -> Policy:
    """Read a policy file; raise PruneError if it is missing or invalid."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PruneError(f"{path} cannot be read: {error}.") from None
