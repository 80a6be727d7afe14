"""Studies: the bundled demo, and sweeps written as YAML. A study is a list of experiments under one name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

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
# An attacker who may change 15% of the words succeeds on about half of the sentences of the dense model, which leaves room to see
# a difference either way. Word attacks take longer: with these numbers of sentences the study takes about four minutes on two cores.
DEMO_OPTIONS: dict[str, dict[str, Any]] = {
    "attack": {"examples": 150, "word_examples": 50, "max_changed": 0.15},
    "sensitivity": {"sentences": 128},
}


def demo_experiments() -> list[Experiment]:
    """What the one button runs, with all usual measures: dense and three methods at two sparsities; a robust start, and it pruned."""
    methods = [
        build(METHODS, name, {"sparsity": sparsity})
        for sparsity in DEMO_SPARSITIES
        for name in DEMO_METHODS
    ]
    measures = tuple(
        build(MEASURES, name, DEMO_OPTIONS.get(name))
        for name, measure in MEASURES.items()
        if measure.usual
    )
    plain = [
        Experiment(method=method, measures=measures, study=DEMO) for method in (None, *methods)
    ]
    robust = [replace(each, checkpoint="demo-robust") for each in (plain[0], plain[-1])]
    return [*plain, *robust]


@dataclass(frozen=True)
class Sweep:
    """The keys of a sweep file: every method at every sparsity and pattern, for every seed."""

    about: str = ""  # a sentence for lists
    study: str = ""
    checkpoint: str = "demo"
    starts: Sequence[str] = ()  # several checkpoints in its place, side by side in one study
    task: str = "demo"
    text: str = ""
    text_pair: str = ""
    label: str = ""
    calibration: str = ""  # a file of its own
    metric: str = ""
    labels: str = ""  # what label values mean; this and the next as examples.Source has them
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
    targets: Sequence[
        dict[str, Any]
    ] = ()  # such as {speedup: 3}, of methods that remove heads and neurons
    seeds: Sequence[int] = (0,)
    measures: Sequence[Any] = ("accuracy",)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # by plug-in
    dense: bool = True  # the baseline belongs to the study
    calibration_size: int = 256
    evaluation_size: int = 0
    device: str = "auto"
    batch_size: int = 32
    max_length: int = 128
    tf32: bool = False
    keep: str = "difference"

    def experiments(self) -> list[Experiment]:
        """The grid; seeds outermost, so that a study cut short has one of everything, then starts, whose dense models are their own."""
        source = DataSource(
            **{spec.name: str(getattr(self, spec.name)) for spec in fields(DataSource)}
        )
        measures = tuple(
            build(MEASURES, name, options)
            for name, options in self._named(self.measures, "measures")
        )
        return [
            Experiment(
                start,
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
            for seed in _each(self.seeds, "seeds", int)
            for start in _each(self.starts, "starts", str) or [self.checkpoint]
            for method in [*([None] if self.dense else []), *self._methods()]
        ]

    def _methods(self) -> list[Method]:
        points: list[dict[str, Any]] = [
            {"sparsity": value} for value in _list(self.sparsities, "sparsities")
        ]
        points += [{"pattern": value} for value in _list(self.patterns, "patterns")]
        points += [self._target(each) for each in _list(self.targets, "targets")]
        named = self._named(self.methods, "methods")
        for key, marks, removes in (
            ("patterns", ("pattern",), "single weights"),
            ("targets", TARGETS, "heads and neurons"),
        ):
            if getattr(self, key) and named and not any(_has(name, marks[0]) for name, _ in named):
                raise PruneError(
                    f"{key}: none of {', '.join(name for name, _ in named)} removes {removes}; leave the {key} out."
                )
        return [
            build(METHODS, name, options | point)
            for point in points or [{}]
            for name, options in named
            if all(key == "sparsity" or _has(name, key) for key in point)
        ]

    def _target(self, entry: Any) -> dict[str, Any]:
        if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in TARGETS:
            raise PruneError(
                f"targets: {entry!r} is not understood; write one of {', '.join(TARGETS)} each, such as {{speedup: 3}}."
            )
        return entry

    def _named(self, entries: Sequence[Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        """Entries such as `akr` or `akr: {solver: admm}` as (name, options)."""
        found = []
        for entry in _list(entries, key):
            name, own = (
                next(iter(entry.items()))
                if isinstance(entry, dict) and len(entry) == 1
                else (entry, {})
            )
            if not isinstance(name, str) or not isinstance(own or {}, dict):
                raise PruneError(
                    f"{key}: {entry!r} is not understood; write a name, or {{name: {{option: value}}}} for options."
                )
            found.append((name, {**(self.options.get(name) or {}), **(own or {})}))
        return found


def _has(name: str, option: str) -> bool:
    """Whether a method can be asked for that; a name that is none is left to build, which says so."""
    return name not in METHODS or any(
        spec["name"] == option for spec in option_specs(METHODS[name])
    )


def _list(value: Any, key: str) -> list[Any]:
    if isinstance(value, (str, dict)) or not isinstance(value, Sequence):
        raise PruneError(f"{key} is {value!r}; write a list, such as [a, b].")
    return list(value)


def _each(value: Any, key: str, kind: type) -> list[Any]:
    for each in (found := _list(value, key)):
        if not isinstance(each, kind) or isinstance(each, bool):
            raise PruneError(
                f"{key}: {each!r} is not understood; write {'whole numbers' if kind is int else 'texts'}, such as "
                f"{'[0, 1]' if kind is int else '[a, b]'}."
            )
    return found


def bundled() -> dict[str, str]:
    """The studies that come with the product: name -> what they are, in a sentence."""
    return {path.stem: _content(path).get("about", "") for path in sorted(FOLDER.glob("*.yaml"))}


def load(path: Path, changes: Mapping[str, Any] | None = None) -> list[Experiment]:
    """The experiments of a sweep file, or of the bundled study of that name; `changes` replace keys of the file.

    Under `sweeps` a file may list several, each with what it has of its own; a study of several tasks is several studies. What two of
    them ask for alike, such as the dense model, is there once.
    """
    if not path.is_file():
        if str(path) not in bundled():
            raise PruneError(
                f"{path}: there is no such file, and no bundled study of that name ({', '.join(bundled())})."
            )
        path = FOLDER / f"{path}.yaml"
    content = _content(path)
    changes = dict(changes or {})
    several = changes.pop("sweeps", content.pop("sweeps", [{}]))
    if not all(isinstance(own, dict) for own in _list(several, f"{path}: sweeps")):
        raise PruneError(
            f"{path}: each entry of sweeps must be keys and values, such as {{study: A, task: sst2}}."
        )
    found = [
        each
        for own in several
        for each in _sweep(path, {**content, **own, **changes}).experiments()
    ]
    if not found:
        raise PruneError(f"{path} asks for nothing: give methods, or dense: true.")
    return list(dict.fromkeys(found))


def parse_changes(words: Mapping[str, str]) -> dict[str, Any]:
    """Keys with values as one would write them in the file, such as seeds=[0, 1]."""
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
        raise PruneError(f"{path} holds no keys; a sweep needs at least methods and sparsities.")
    return content


KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    dict: "options by name, such as {akr: {rounds: 20}}",
}


def _plain(path: Path, key: str, value: Any) -> Any:
    """A value of the kind that its key holds; a number where a text belongs is written out, and YAML's yes is the word again."""
    if key in ("header", "quotes") and isinstance(value, bool):
        return "yes" if value else "no"
    kind = {"options": dict, "min_words": int}.get(key) or type(
        Sweep.__dataclass_fields__[key].default
    )
    if kind is tuple or (
        key == "min_words" and value is None
    ):  # lists are looked at where they are read
        return value
    if kind is str and type(value) in (int, float):
        return str(value)
    if type(value) is not kind:
        raise PruneError(f"{path}: {key} is {value!r}; it must be {KINDS[kind]}.")
    return value


def _sweep(path: Path, content: Mapping[str, Any]) -> Sweep:
    known = list(Sweep.__dataclass_fields__)
    for key in content:
        if key not in known:
            raise PruneError(
                f"{path}: there is no key {key!r}.{closest_match(str(key), known)} Known: {', '.join(known)}, sweeps."
            )
    sweep = Sweep(
        **{"study": path.stem, **{key: _plain(path, key, value) for key, value in content.items()}}
    )
    for name, own in sweep.options.items():
        if not isinstance(own or {}, dict):
            raise PruneError(f"{path}: the options of {name} are {own!r}; write {{option: value}}.")
        if name not in METHODS and name not in MEASURES:
            raise PruneError(
                f"{path}: options are given for {name!r}, which is no method and no measure."
            )
    return sweep
