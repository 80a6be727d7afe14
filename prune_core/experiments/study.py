"""Studies: lists of experiments under one name; the bundled demo, and sweeps written as YAML."""

from __future__ import annotations

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
from ..plugins import (
    TARGETS,
    Method,
    Options,
    build,
    closest_match,
    option,
    option_specs,
)
from ..tasks.task_data import RETRIEVAL_DEMO
from .experiment import Experiment
from .settings import RunSettings

FOLDER = ASSETS / "studies"  # the bundled ones
DEMO = "Demo"
DEMO_METHODS = ("magnitude", "sparsegpt", "akr")
DEMO_SPARSITIES = (0.5, 0.7)
EMBEDDING_DEMO = "Embedding demo"
GUARD_DEMO = "Guard demo"
# An attacker who may change 15% of the words succeeds on about half of the dense model's examples,
# which leaves room for differences in both directions. Word-level attacks take longer: with these
# numbers of examples the study takes four to nine minutes on two cores.
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


def embedding_demo_experiments() -> list[Experiment]:
    """Return the embedding demo: all-MiniLM-L6-v2, dense and pruned to 50% by two methods."""
    methods = [build(METHODS, name, {"sparsity": 0.5}) for name in ("magnitude", "akr")]
    options = {"retrieval": {}, "accuracy": {}, "reconstruction": {}, "drift": {"umap": False}}
    return [
        Experiment(
            "minilm",
            source=DataSource(RETRIEVAL_DEMO),
            method=method,
            measures=tuple(build(MEASURES, name, options[name]) for name in options),
            study=EMBEDDING_DEMO,
        )
        for method in (None, *methods)
    ]


def guard_demo_experiments() -> list[Experiment]:
    """Return the guard demo: a detector of prompt injections, dense and pruned by two methods.

    Only prompt injections are attacked: they are what someone would want to hide.
    """
    methods = [build(METHODS, name, {"sparsity": 0.5}) for name in ("magnitude", "akr")]
    evasion = {"recipes": "Base64, Homoglyphs", "examples": 40, "only_label": "injection"}
    options = {"accuracy": {}, "threshold": {}, "attack": evasion}
    return [
        Experiment(
            "demo-guard",
            source=DataSource("demo-guard"),
            method=method,
            measures=tuple(build(MEASURES, name, options[name]) for name in options),
            study=GUARD_DEMO,
        )
        for method in (None, *methods)
    ]


# by the option of the command `demo`
DEMOS = {
    "": demo_experiments,
    "embedding": embedding_demo_experiments,
    "guard": guard_demo_experiments,
}


# keys of a sweep file that are settings of all its experiments; seeds are part of the grid
SETTINGS = {
    kind: [spec["name"] for spec in option_specs(kind) if spec["name"] != "seed"]
    for kind in (DataSource, RunSettings)
}


@dataclass(frozen=True)
class Sweep(Options):
    """A sweep: every method at every sparsity, pattern and target, for every checkpoint and seed.

    The keys of a sweep file are these fields and, in place of `settings`, those of DataSource and
    RunSettings.
    """

    description: str = option("", "one sentence for lists")
    study: str = option("", "name of the study")
    dense: bool = option(True, "include the dense baseline")
    checkpoints: Sequence[str] = ()  # several checkpoints instead of one, compared in one study
    methods: Sequence[Any] = ()
    sparsities: Sequence[float] = ()
    patterns: Sequence[str] = ()
    # such as {speedup: 3}, of methods that remove heads and neurons
    targets: Sequence[dict[str, Any]] = ()
    seeds: Sequence[int] = (0,)
    measures: Sequence[Any] = ("accuracy",)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by plug-in
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, keys: Mapping[str, Any]) -> Sweep:
        """Create a sweep from the keys of a file; raise PruneError for an unknown key."""
        keys = current_keys(keys, STUDY_KEYS)
        names = [spec.name for spec in fields(cls) if spec.name != "settings"]
        settings = [name for group in SETTINGS.values() for name in group]
        known = [*names, *settings]
        for key in keys:
            if key not in known:
                raise PruneError(
                    f"there is no key {key!r}.{closest_match(str(key), known)} "
                    f"Known: {', '.join(known)}, sweeps."
                )
        sweep = cls(
            **{name: keys[name] for name in names if name in keys},
            settings={name: keys[name] for name in settings if name in keys},
        )
        return replace(sweep, options=_plugin_options(sweep.options))

    def experiments(self) -> list[Experiment]:
        """Return the grid of experiments.

        Seeds are outermost, so that an interrupted study has one of everything; then checkpoints,
        each of which has its own dense model.
        """
        source = DataSource.from_keys(self.settings)
        names = SETTINGS[RunSettings]
        settings = {name: self.settings[name] for name in names if name in self.settings}
        single = settings.pop("checkpoint", RunSettings.checkpoint)
        measures = tuple(
            build(MEASURES, name, options)
            for name, options in self._named(self.measures, "measures")
        )
        return [
            Experiment(
                checkpoint,
                source=source,
                method=method,
                measures=measures,
                seed=seed,
                study=self.study,
                **settings,
            )
            for seed in _typed_list(self.seeds, "seeds", int)
            for checkpoint in _typed_list(self.checkpoints, "checkpoints", str) or [single]
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
        for key, target, removes in (
            ("patterns", "pattern", "single weights"),
            ("targets", TARGETS[0], "heads and neurons"),
        ):
            if getattr(self, key) and names and not any(_has(name, target) for name in names):
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
    try:
        experiments = [
            experiment
            for sweep in sweeps
            for experiment in Sweep.from_dict(
                {"study": path.stem, **content, **sweep, **changes}
            ).experiments()
        ]
    except PruneError as error:
        raise PruneError(f"{path}: {error}") from None
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


def _plugin_options(options: Any) -> dict[str, Mapping[str, Any]]:
    """Return options by the current names of plug-ins; raise PruneError if they are invalid."""
    if not isinstance(options, Mapping):
        raise PruneError(
            f"options is {options!r}; it must be options by name, such as {{akr: {{rounds: 20}}}}."
        )
    for name, values in options.items():
        if not isinstance(values or {}, Mapping):
            raise PruneError(f"the options of {name} are {values!r}; write {{option: value}}.")
    by_name = {current_name(name): values for name, values in options.items()}
    if unknown := [name for name in by_name if name not in METHODS and name not in MEASURES]:
        raise PruneError(
            f"options are given for {unknown[0]!r}, which is neither a method nor a measure."
        )
    return by_name
