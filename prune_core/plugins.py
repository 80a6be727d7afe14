"""What a method and a measure are: frozen dataclasses that hold their options and do their work.

Forms, flags, JSON and the contract tests come from the fields. Knows nothing of encoders, Streamlit or SQL.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from .errors import PruneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from torch import Tensor, nn


Batch = dict[
    str, "Tensor"
]  # what the tokenizer gives: (sentences, tokens) each, attention_mask included
Report = Callable[
    [float, str], None
]  # progress 0..1 and one line; raises Cancelled when the user asked for it
Rows = dict[str, "pd.DataFrame"]  # tables by name; a measure's own name first, "prune" for a method


def no_report(progress: float, message: str) -> None:
    """A report for callers that show no progress."""


def subrange(report: Report, start: float, end: float) -> Report:
    """A report whose 0..1 is mapped onto start..end of another."""
    return lambda progress, message: report(start + (end - start) * progress, message)


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    several: bool = False,
    unit: str = "",
    expert: bool = False,
) -> Any:
    """A field that knows its help text, limits and choices; expert options are folded away in forms.

    With `several` its text is one or more of the choices, joined by commas.
    """
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "choices": choices,
        "several": several,
        "unit": unit,
        "expert": expert,
    }
    return field(default=default, metadata=metadata)


def preset(kind: type[Options], name: str, default: Any) -> Any:
    """An option of `kind` with another default, all else as it is: for a subclass that is a choice of options."""
    return field(default=default, metadata=kind.__dataclass_fields__[name].metadata)


TARGETS = (
    "speedup",
    "latency_ms",
    "bytes",
)  # options of a unit method that stand in the place of a share
TARGET_OPTIONS = (*TARGETS, "at_batch", "at_length")  # and where a time is measured


def target_label(options: Mapping[str, Any]) -> str:
    """What a method was asked to reach in the place of a share: 3 times faster, 12 ms, 20 MB; "" where it was a share."""
    said = {"speedup": "{:g} times faster", "latency_ms": "{:g} ms"}
    if size := options.get("bytes"):
        return f"{size / 1e6:.3g} MB"
    return next(
        (text.format(options[name]) for name, text in said.items() if options.get(name)), ""
    )


DISTILLATION_OPTIONS = ("distil", "distil_attacked")  # options of tuning afterwards


def distillation_label(options: Mapping[str, Any]) -> str:
    """How a model that was tuned is named; "" for one that was not."""
    with_copies = " on attacked copies too" if options.get("distil_attacked") else ""
    return f"distilled {options['distil']:g} min{with_copies}" if options.get("distil") else ""


SECOND_STAGE_METHODS = {
    "magnitude": "Magnitude",
    "wanda": "Wanda",
    "sparsegpt": "SparseGPT",
    "akr": "AKR",
}  # what may follow a unit method
SECOND_STAGE_OPTIONS = ("then", "then_sparsity", "then_pattern")  # its options that say so


def second_stage_label(options: Mapping[str, Any]) -> str:
    """What is done to the weights that whole units left: then AKR 2:4; "" where nothing is."""
    if not options.get("then"):
        return ""
    level = options.get("then_pattern") or f"{options['then_sparsity']:.1%}".replace(".0%", "%")
    return f"then {SECOND_STAGE_METHODS[options['then']]} {level}"


@dataclass(frozen=True)
class Options:
    """Base of every plug-in: checks its values when made, and survives JSON."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""  # one line for cards and `prune_core methods`

    def __post_init__(self) -> None:
        for spec in fields(self):
            checked = self._checked(spec.name, type(spec.default), spec.metadata)
            object.__setattr__(self, spec.name, checked)

    def _checked(self, key: str, kind: type, meta: Mapping[str, Any]) -> Any:
        value = getattr(self, key)
        try:
            value = _convert(kind, value)
        except (TypeError, ValueError):
            raise PruneError(
                f"{self.name}: {key} is {value!r}; it must be {TYPE_TITLES.get(kind, 'text')}."
            ) from None
        if meta.get("several"):
            value = ", ".join(dict.fromkeys(part.strip() for part in value.split(",")))
        if meta.get("choices") is not None:
            for part in value.split(", ") if meta.get("several") else [value]:
                if part not in meta["choices"]:
                    which, allowed = (
                        ("some" if meta.get("several") else "one"),
                        ", ".join(map(str, meta["choices"])),
                    )
                    raise PruneError(
                        f"{self.name}: {key} is {part!r}; choose {which} of {allowed}."
                    )
        low, high = meta.get("low"), meta.get("high")
        # `not (low <= value)` also refuses NaN
        if low is not None and not low <= value or high is not None and not value <= high:
            bounds = (
                f"at least {low}"
                if high is None
                else f"at most {high}"
                if low is None
                else f"between {low} and {high}"
            )
            raise PruneError(f"{self.name}: {key} is {value}; it must be {bounds}.")
        return value

    def to_dict(self) -> dict[str, Any]:
        """The options as plain data."""
        return asdict(self)


TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
TYPE_TITLES = {bool: "true or false", int: "a whole number", float: "a number"}


def _convert(kind: type, value: Any) -> Any:
    """The value as the field's type, from a form, a flag (text) or JSON."""
    if kind is bool:
        word = str(value).lower()
        if word not in (*TRUE, *FALSE):
            raise ValueError
        return word in TRUE
    is_fraction = kind is int and isinstance(value, float) and value != int(value)
    if is_fraction or (kind in (int, float) and isinstance(value, bool)):
        raise ValueError
    return kind(value)


@dataclass(frozen=True)
class Method(Options):
    """Prunes a model in place; every weight it removes is written as zero, shapes stay."""

    paper: ClassVar[str] = ""
    labelled: ClassVar[bool] = False  # whether calibration sentences need labels
    sparsity: float = option(0.5, "Share of the encoder's weights to remove", low=0.0, high=0.99)
    distil: float = option(
        0.0,
        "Minutes at most of tuning afterwards: what is left learns from the dense model on the calibration sentences; 0 = none",
        low=0.0,
        high=600.0,
        unit="min",
        expert=True,
    )
    distil_attacked: bool = option(
        False,
        "Tune on attacked copies too: of sentences that DeepWordBug changes until the pruned model errs, "
        "the dense model's answer to the sentence as it was is learnt",
        expert=True,
    )

    @property
    def label(self) -> str:
        """How charts name this run."""
        return f"{self.title} {self.sparsity:.1%}".replace(".0%", "%")

    def prune(self, model: nn.Module, batches: Sequence[Batch], report: Report) -> Rows:
        """Prune in place; the table "prune" says per block and part what was done (sparsity, damping, seconds)."""
        raise NotImplementedError


Plugin = TypeVar("Plugin", bound=Options)


def build(
    registry: Mapping[str, type[Plugin]], name: str, options: Mapping[str, Any] | None = None
) -> Plugin:
    """The plug-in of that name with these options; a wrong name or option is a sentence with the nearest right one."""
    if name not in registry:
        raise PruneError(
            f"There is no {name!r}.{closest_match(name, registry)} Available: {', '.join(registry)}."
        )
    kind, options = registry[name], dict(options or {})
    known = [spec.name for spec in fields(kind)]
    for key in options:
        if key not in known:
            raise PruneError(
                f"{name} has no option {key!r}.{closest_match(key, known)} It has: {', '.join(known) or 'none'}."
            )
    return kind(**options)


def closest_match(word: str, words: Any) -> str:
    """A sentence that asks whether the closest of the words was meant; "" where none is close."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def option_specs(kind: type[Options]) -> list[dict[str, Any]]:
    """Name, type, default and metadata of every option, in order: what a form or a flag list is drawn from."""
    return [
        {"name": spec.name, "type": type(spec.default), "default": spec.default, **spec.metadata}
        for spec in fields(kind)
        if spec.default is not MISSING
    ]
