"""Studies: lists of experiments under one name; the bundled demo, and sweeps written as YAML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from ..aliases import STUDY_KEYS, current_keys, current_name, current_options
from ..data.examples import DataSource
from ..errors import PruneError
from ..measures import MEASURES
from ..methods import METHODS
from ..paths import ASSETS
from ..plugins import TARGETS, Method, build, closest_match, option_specs
from .experiment import Experiment

FOLDER = ASSETS / "studies"  # the bundled ones
DEMO = "Demo"
DEMO_METHODS = ("magnitude", "sparsegpt", "akr")
DEMO_SPARSITIES = (0.5, 0.7)
# An attacker who may change 15% of the words succeeds on about half of the dense model's examples,
# which leaves room for differences in both directions. Word-level attacks take longer: with these
# numbers of examples the study takes about four minutes on two cores.
DEMO_OPTIONS: dict[str, dict[str, Any]] = {
    "attack": {"examples": 150, "word_examples": 50, "max_changed": 0.15},
    "sensitivity": {"examples": 128},
}


def demo_experiments() -> list[Experiment]:
    """Return the demo study, with the default measures.

    The dense model, three methods at two sparsities, and a robust checkpoint, dense and pruned.
    """
    methods = [
        build(METHODS, name, {"sparsity": sparsity})
        for sparsity in DEMO_SPARSITIES
        for name in DEMO_METHODS
    ]
    measures = tuple(
        build(MEASURES, name, DEMO_OPTIONS.get(name))
        for name, measure in MEASURES.items()
        if measure.is_default
    )
    plain = [
        Experiment(method=method, measures=measures, study=DEMO) for method in (None, *methods)
    ]
    return [*plain, *(replace(each, checkpoint="demo-robust") for each in (plain[0], plain[-1]))]


@dataclass(frozen=True)
class Sweep:
    """The keys of a sweep file: every method at every sparsity and pattern, for every seed."""

    description: str = ""  # one sentence for lists
    study: str = ""
    checkpoint: str = "demo"
    checkpoints: Sequence[str] = ()  # several checkpoints instead of one, compared in one study
    task: str = "demo"
    text: str = ""
    text_pair: str = ""
    label: str = ""
    calibration: str = ""  # separate calibration set
    metric: str = ""
    labels: str = ""  # meanings of label values; this and the next as in DataSource
    separator: str = ""
    encoding: str = ""
    header: str = ""
    quotes: str = ""
    bad_rows: str = ""
    config: str = ""
    split: str = ""
    min_words: int | None = None
    methods: Sequence[Any] = ()
    sparsities: Sequence[float] = ()
    patterns: Sequence[str] = ()
    # such as {speedup: 3}, of methods that remove heads and neurons
    targets: Sequence[dict[str, Any]] = ()
    seeds: Sequence[int] = (0,)
    measures: Sequence[Any] = ("accuracy",)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # by plug-in
    dense: bool = True  # include the dense baseline
    calibration_size: int = 256
    evaluation_size: int = 0
    device: str = "auto"
    batch_size: int = 32
    max_length: int = 128
    tf32: bool = False
    keep: str = "difference"

    def experiments(self) -> list[Experiment]:
        """Return the grid of experiments.

        Seeds are outermost, so that an interrupted study has one of everything; then checkpoints,
        each of which has its own dense model.
        """
        source = DataSource(
            **{spec.name: str(getattr(self, spec.name)) for spec in fields(DataSource)}
        )
        measures = tuple(
            build(MEASURES, name, options)
            for name, options in self._named(self.measures, "measures")
        )
        return [
            Experiment(
                checkpoint,
                source,
                method,
                measures=measures,
                calibration=self.calibration_size,
                evaluation=self.evaluation_size,
                seed=seed,
                device=self.device,
                batch_size=self.batch_size,
                max_length=self.max_length,
                study=self.study,
                min_words=self.min_words,
                tf32=self.tf32,
                keep=self.keep,
            )
            for seed in _typed_list(self.seeds, "seeds", int)
            for checkpoint in _typed_list(self.checkpoints, "checkpoints", str) or [self.checkpoint]
            for method in [*([None] if self.dense else []), *self._methods()]
        ]

    def _methods(self) -> list[Method]:
        settings: list[dict[str, Any]] = [
            *({"sparsity": value} for value in _list(self.sparsities, "sparsities")),
            *({"pattern": value} for value in _list(self.patterns, "patterns")),
            *(self._target(entry) for entry in _list(self.targets, "targets")),
        ]
        methods = self._named(self.methods, "methods")
        names = [name for name, _ in methods]
        for key, option, removes in (
            ("patterns", "pattern", "single weights"),
            ("targets", TARGETS[0], "heads and neurons"),
        ):
            if getattr(self, key) and names and not any(_has(name, option) for name in names):
                raise PruneError(
                    f"{key}: none of {', '.join(names)} removes {removes}; leave the {key} out."
                )
        return [
            build(METHODS, name, options | setting)
            for setting in settings or [{}]
            for name, options in methods
            if all(key == "sparsity" or _has(name, key) for key in setting)
        ]

    def _target(self, entry: Any) -> dict[str, Any]:
        if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in TARGETS:
            raise PruneError(
                f"targets: {entry!r} is invalid; each must be one of {', '.join(TARGETS)}, "
                "such as {speedup: 3}."
            )
        return entry

    def _named(self, entries: Sequence[Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        """Parse entries such as `akr` or `akr: {solver: admm}` to (name, options)."""
        parsed = []
        for entry in _list(entries, key):
            is_pair = isinstance(entry, dict) and len(entry) == 1
            name, options = next(iter(entry.items())) if is_pair else (entry, {})
            if not isinstance(name, str) or not isinstance(options or {}, dict):
                raise PruneError(
                    f"{key}: {entry!r} is invalid; write a name, or "
                    "{name: {option: value}} for options."
                )
            name = current_name(name)
            common = current_options(name, self.options.get(name) or {})
            parsed.append((name, common | current_options(name, options or {})))
        return parsed


def _has(name: str, option: str) -> bool:
    """Whether a method has that option; true for unknown names, which `build` reports."""
    return name not in METHODS or any(
        spec["name"] == option for spec in option_specs(METHODS[name])
    )


def _list(value: Any, key: str) -> list[Any]:
    if isinstance(value, (str, dict)) or not isinstance(value, Sequence):
        raise PruneError(f"{key} is {value!r}; write a list, such as [a, b].")
    return list(value)


def _typed_list(value: Any, key: str, kind: type) -> list[Any]:
    """Return a list of whole numbers or of texts; raise PruneError for another value."""
    values = _list(value, key)
    expected = "whole numbers, such as [0, 1]" if kind is int else "texts, such as [a, b]"
    for item in values:
        if not isinstance(item, kind) or isinstance(item, bool):
            raise PruneError(f"{key}: {item!r} is invalid; write {expected}.")
    return values


def bundled_studies() -> dict[str, str]:
    """Return the bundled studies: name -> description in one sentence."""
    return {
        path.stem: _content(path).get("description", "") for path in sorted(FOLDER.glob("*.yaml"))
    }


def load(path: Path, changes: Mapping[str, Any] | None = None) -> list[Experiment]:
    """Return the experiments of a sweep file or of a bundled study; `changes` override its keys.

    Under `sweeps` a file may list several sweeps, each with its own keys; several tasks make
    several studies. Experiments that several sweeps have in common, such as the dense model, are
    listed once.
    """
    if not path.is_file():
        if str(path) not in bundled_studies():
            raise PruneError(
                f"{path}: there is no such file, and no bundled study of that name "
                f"({', '.join(bundled_studies())})."
            )
        path = FOLDER / f"{path}.yaml"
    content = _content(path)
    changes = dict(changes or {})
    sweeps = changes.pop("sweeps", content.pop("sweeps", [{}]))
    if not all(isinstance(sweep, dict) for sweep in _list(sweeps, f"{path}: sweeps")):
        raise PruneError(
            f"{path}: each entry of sweeps must be keys and values, such as "
            "{study: A, task: sst2}."
        )
    experiments = [
        experiment
        for sweep in sweeps
        for experiment in _sweep(path, {**content, **sweep, **changes}).experiments()
    ]
    if not experiments:
        raise PruneError(f"{path} has no experiments: add methods, or dense: true.")
    return list(dict.fromkeys(experiments))


def parse_changes(words: Mapping[str, str]) -> dict[str, Any]:
    """Parse values as YAML, as they would be written in the file, such as seeds=[0, 1]."""
    try:
        return {key: yaml.safe_load(value) for key, value in words.items()}
    except yaml.YAMLError:
        raise PruneError(
            f"{', '.join(words)}: write values as in the file, such as seeds=[0, 1]."
        ) from None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PruneError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise PruneError(f"{path} has no keys; a sweep needs at least methods and sparsities.")
    return content


KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    dict: "options by name, such as {akr: {rounds: 20}}",
}


def _plain(path: Path, key: str, value: Any) -> Any:
    """Check the type of a key's value and convert it.

    A number where a text belongs becomes a text, and YAML's booleans become yes and no again where
    those words are expected.
    """
    if key in ("header", "quotes") and isinstance(value, bool):
        return "yes" if value else "no"
    default = Sweep.__dataclass_fields__[key].default
    kind = {"options": dict, "min_words": int}.get(key) or type(default)
    # lists are checked where they are read
    if kind is tuple or (key == "min_words" and value is None):
        return value
    if kind is str and type(value) in (int, float):
        return str(value)
    if type(value) is not kind:
        raise PruneError(f"{path}: {key} is {value!r}; it must be {KINDS[kind]}.")
    return value


def _sweep(path: Path, content: Mapping[str, Any]) -> Sweep:
    known = list(Sweep.__dataclass_fields__)
    content = current_keys(content, STUDY_KEYS)
    if isinstance(options := content.get("options"), dict):
        content["options"] = {current_name(name): value for name, value in options.items()}
    for key in content:
        if key not in known:
            raise PruneError(
                f"{path}: there is no key {key!r}.{closest_match(str(key), known)} "
                f"Known: {', '.join(known)}, sweeps."
            )
    sweep = Sweep(
        **{"study": path.stem, **{key: _plain(path, key, value) for key, value in content.items()}}
    )
    for name, options in sweep.options.items():
        if not isinstance(options or {}, dict):
            raise PruneError(
                f"{path}: the options of {name} are {options!r}; write {{option: value}}."
            )
        if name not in METHODS and name not in MEASURES:
            raise PruneError(
                f"{path}: options are given for {name!r}, which is neither a method nor a measure."
            )
    return sweep
