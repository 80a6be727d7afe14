"""Options declared once, as fields of frozen dataclasses, and the base class of methods.

Methods, measures, data sources and the settings of a run are such dataclasses: forms, command-line
flags, keys of sweep files, JSON and the contract tests are derived from the fields. Independent of
encoders, Streamlit and SQL.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .aliases import current_name, current_options
from .errors import PruneError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Self

    import pandas as pd
    from torch import Tensor, nn


# output of the tokenizer: each tensor is (examples, tokens), attention_mask included
Batch = dict[str, "Tensor"]
# progress 0..1 and a one-line message; raises Cancelled when the user has requested it
Report = Callable[[float, str], None]
# tables by name: a measure's first table has its name, a method's is "prune"
Rows = dict[str, "pd.DataFrame"]


def no_report(progress: float, message: str) -> None:
    """Ignore progress: the report for callers that do not show it."""


def subrange(report: Report, start: float, end: float) -> Report:
    """Return a report whose 0..1 is mapped to start..end of another."""
    return lambda progress, message: report(start + (end - start) * progress, message)


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[Any] | None = None,
    several: bool = False,
    unit: str = "",
    expert: bool = False,
    kind: type | None = None,
    none: str = "",
    title: str = "",
    metavar: str = "",
    suggestions: Sequence[str] = (),
) -> Any:
    """Declare an option: a field with help text, limits and choices.

    Forms collapse expert options. With `several`, the value is one or more of the choices,
    separated by commas. `choices` may map values to their titles in forms; `suggestions` are values
    that a form offers besides others. If the default is None, `kind` is the type of other values
    and `none` the word for None. `title` is the label in forms (default: the name), `metavar` the
    placeholder in `--help`.
    """
    return field(
        default=default,
        metadata={
            "type": kind or type(default),
            "none": none,
            "title": title,
            "metavar": metavar,
            "suggestions": suggestions,
            "help": help,
            "low": low,
            "high": high,
            "choices": choices,
            "several": several,
            "unit": unit,
            "expert": expert,
        },
    )


def preset(kind: type[Options], name: str, default: Any) -> Any:
    """Redeclare an option of `kind` with another default, for a subclass that is a preset."""
    return field(default=default, metadata=kind.__dataclass_fields__[name].metadata)


# options of a structured method that replace the sparsity
TARGETS = ("speedup", "latency_ms", "bytes")
# the same and the batch size and length at which latency is measured
TARGET_OPTIONS = (*TARGETS, "at_batch", "at_length")


def target_label(options: Mapping[str, Any]) -> str:
    """Describe the target of a method: 3 times faster, 12 ms, 20 MB; "" if it has a sparsity."""
    if size := options.get("bytes"):
        return f"{size / 1e6:.3g} MB"
    for name, text in (("speedup", "{:g} times faster"), ("latency_ms", "{:g} ms")):
        if options.get(name):
            return text.format(options[name])
    return ""


DISTILLATION_OPTIONS = ("distil", "distil_adversarial")  # options of distillation after pruning


def distillation_label(options: Mapping[str, Any]) -> str:
    """Describe the distillation of a model; "" for one that was not distilled."""
    if not options.get("distil"):
        return ""
    augmentation = " with adversarial examples" if options.get("distil_adversarial") else ""
    return f"distilled {options['distil']:g} min{augmentation}"


# unstructured methods that may follow a structured one as a second stage
SECOND_STAGE_METHODS = {
    "magnitude": "Magnitude",
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
    "akr": "AKR",
}
SECOND_STAGE_OPTIONS = ("second_stage", "second_stage_sparsity", "second_stage_pattern")


def second_stage_label(options: Mapping[str, Any]) -> str:
    """Describe the unstructured second stage of a structured method: then AKR 2:4; "" if none."""
    if not options.get("second_stage"):
        return ""
    level = options.get(
        "second_stage_pattern"
    ) or f"{options['second_stage_sparsity']:.1%}".replace(".0%", "%")
    return f"then {SECOND_STAGE_METHODS[options['second_stage']]} {level}"


@dataclass(frozen=True)
class Options:
    """Base of everything with options: validates their values, converts to and from JSON."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""  # one line for cards and `prune_core methods`
    version: ClassVar[int] = 1  # part of the key of a stage: raised when its results change

    def __post_init__(self) -> None:
        for spec in option_specs(type(self)):
            object.__setattr__(self, spec["name"], self._checked(spec))

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> Self:
        """Create an object from the options among the keys of a mapping; others are ignored."""
        names = [spec["name"] for spec in option_specs(cls)]
        return cls(**{name: values[name] for name in names if name in values})

    def _checked(self, spec: Mapping[str, Any]) -> Any:
        """Return the value of an option, converted to its type; PruneError if it is invalid."""
        value, kind, none = getattr(self, spec["name"]), spec["type"], spec["none"]
        name = ": ".join(filter(None, (self.name, spec["name"])))
        if none and value in (None, none):
            return None
        or_none = f", or {none}" if none else ""
        try:
            value = _convert(kind, value)
        except (TypeError, ValueError, KeyError):
            raise PruneError(
                f"{name} is {value!r}; it must be {TYPE_TITLES.get(kind, 'text')}{or_none}."
            ) from None
        if spec["several"]:
            value = ", ".join(dict.fromkeys(choice.strip() for choice in value.split(",")))
        if spec["choices"] is not None:
            for choice in value.split(", ") if spec["several"] else [value]:
                if choice not in spec["choices"]:
                    allowed = ", ".join(map(str, spec["choices"]))
                    number = "one or more" if spec["several"] else "one"
                    raise PruneError(f"{name} is {choice!r}; choose {number} of {allowed}.")
        low, high = spec["low"], spec["high"]
        # `not (low <= value)` also refuses NaN
        if low is not None and not low <= value or high is not None and not value <= high:
            if high is None:
                bounds = f"at least {low}"
            elif low is None:
                bounds = f"at most {high}"
            else:
                bounds = f"between {low} and {high}"
            raise PruneError(f"{name} is {value}; it must be {bounds}{or_none}.")
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return the options as a dictionary."""
        return asdict(self)


BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)
TYPE_TITLES = {bool: "true or false", int: "a whole number", float: "a number"}


def _convert(kind: type, value: Any) -> Any:
    """Convert a value from a form, a flag (text) or JSON to the type of the field."""
    if kind is bool:
        return BOOLEANS[str(value).lower()]
    if kind is str and not isinstance(value, str | int | float):
        raise ValueError
    is_fraction = kind is int and isinstance(value, float) and value != int(value)
    if is_fraction or (kind in (int, float) and isinstance(value, bool)):
        raise ValueError
    return kind(value)


@dataclass(frozen=True)
class Method(Options):
    """A pruning method: prunes a model in place by writing zeros; shapes do not change."""

    paper: ClassVar[str] = ""
    labelled: ClassVar[bool] = False  # whether calibration examples need labels
    removes: ClassVar[str] = "weights"  # or "units": whole heads and neurons
    sparsity: float = option(0.5, "Fraction of the encoder's weights to remove", low=0.0, high=0.99)
    distil: float = option(
        0.0,
        "Maximum minutes of distillation after pruning: the remaining weights are trained to match "
        "the dense model's outputs on the calibration examples; 0 = none",
        low=0.0,
        high=600.0,
        unit="min",
        expert=True,
    )
    distil_adversarial: bool = option(
        False,
        "Adversarial augmentation during distillation: calibration examples that DeepWordBug "
        "perturbs until the pruned model's prediction changes are added, with the dense model's "
        "output for the original text as the target",
        expert=True,
    )

    @property
    def label(self) -> str:
        """Name of the run in charts."""
        return f"{self.title} {self.sparsity:.1%}".replace(".0%", "%")

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Prune in place; the table "prune" has one row per layer and weight matrix.

        Its columns include sparsity, damping and seconds.
        """
        raise NotImplementedError


# name of the pseudo-method of experiments that measure a model from elsewhere
CANDIDATE = "candidate"

Plugin = TypeVar("Plugin", bound=Options)


def build(
    registry: Mapping[str, type[Plugin]], name: str, options: Mapping[str, Any] | None = None
) -> Plugin:
    """Create the plug-in of that name with these options.

    Raise PruneError with the closest match if the name or an option is unknown.
    """
    name = current_name(name)
    if name not in registry:
        raise PruneError(
            f"There is no {name!r}.{closest_match(name, registry)} "
            f"Available: {', '.join(registry)}."
        )
    kind, options = registry[name], current_options(name, options or {})
    known = [spec.name for spec in fields(kind)]
    for key in options:
        if key not in known:
            raise PruneError(
                f"{name} has no option {key!r}.{closest_match(key, known)} "
                f"Options: {', '.join(known) or 'none'}."
            )
    return kind(**options)


def closest_match(word: str, words: Any) -> str:
    """Return a "Did you mean …?" sentence with the closest word, or "" if none is close."""
    matches = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def option_specs(kind: type[Options]) -> list[dict[str, Any]]:
    """Return name, type, default and metadata of every option in order, for forms and flags."""
    return [
        {"name": spec.name, "default": spec.default, **spec.metadata}
        for spec in fields(kind)
        if spec.metadata
    ]
