"""Keys of stages: a stage is computed once for everything that determines its rows.

The key of pruning is a hash of the contents of checkpoint and data (not of their names), how they
are sampled, the method with its version and options, the seed, and what changes numbers (device
type, batch size, precision). That of a measure adds the measure with its version and options. The
name of the study, options at their defaults and where files are do not matter. Nor does the number
of threads: it changes sums in their last digits, and a store that is copied to another machine
would be computed again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..models.devices import device_type
from ..plugins import (
    DISTILLATION_OPTIONS,
    SECOND_STAGE_OPTIONS,
    TARGET_OPTIONS,
    Method,
    Options,
    second_stage_label,
    target_label,
)
from ..pruning.unitwise import UnitMethod
from ..store.results import PRUNE
from .candidate import CandidateModel
from .content_hashes import hash_candidate, hash_checkpoint, hash_data
from .experiment import Experiment

DATA_RULES = 5  # version of the rules that turn tables into examples


def stage_folders(experiment: Experiment, run: str = "") -> dict[str, str]:
    """Return the folder of every stage, below the folder of results.

    `run`: a name of this run, which makes new folders for it.
    """
    model: Any = {
        "checkpoint": hash_checkpoint(experiment.checkpoint) or experiment.checkpoint,
        "device": device_type(experiment.device),
        "tf32": experiment.tf32,
    }
    if experiment.pooling:
        model["pooling"] = experiment.pooling
    data = _data(experiment)
    evaluation = {"size": experiment.evaluation_size, "metric": experiment.source.metric}
    if method := experiment.method:
        model = {"model": model, "data": data, "method": _plugin(method, _used_options(method))}
        if isinstance(method, CandidateModel):  # by content, not by path
            model["method"]["options"] = hash_candidate(method.path, method.tokenizer)
        if isinstance(method, UnitMethod) and not method.length:
            # the FLOPs budget is for the mean length of the evaluation examples
            model["evaluation"] = experiment.evaluation_size
    parent = _hash(model)[:16] + (f"-{run}" if run else "")
    folders = {PRUNE: f"{parent}/{PRUNE}"} if method else {}
    plugins = {measure.name: _plugin(measure, measure.to_dict()) for measure in experiment.measures}
    for measure in experiment.measures:
        read = plugins.get(measure.reads)
        content = [model, data, evaluation, plugins[measure.name], *([read] if read else [])]
        folders[measure.name] = f"{parent}/{measure.name}-{_hash(content)[:8]}"
    return folders


def experiment_key(experiment: Experiment) -> str:
    """Return a hash of everything that determines the rows: equal keys mean equal rows."""
    return _hash(sorted(stage_folders(experiment).values()))


def _data(experiment: Experiment) -> dict[str, Any]:
    source = {name: value for name, value in asdict(experiment.source).items() if value}
    source.pop("metric", None)
    for name in ("task", "calibration"):
        if content := hash_data(source.get(name, "")):
            # the ending of a file's name decides how it is read
            source[name] = [[_suffixes(file), digest] for file, digest in content]
    return {
        "rules": DATA_RULES,
        "source": source,
        "calibration": experiment.calibration_size,
        "seed": experiment.seed,
        "min_words": experiment.min_words,
        "max_length": experiment.max_length,
        "batch_size": experiment.batch_size,
    }


def _suffixes(file: str) -> str:
    return "".join(Path(file).suffixes).lower()


def _plugin(plugin: Options, options: dict[str, Any]) -> dict[str, Any]:
    """Return name, version and the options that differ from their defaults."""
    defaults = {spec.name: spec.default for spec in fields(plugin)}
    changed = {name: value for name, value in options.items() if value != defaults[name]}
    return {"name": plugin.name, "version": plugin.version, "options": changed}


def _used_options(method: Method) -> dict[str, Any]:
    """Return the options of a method without those of stages and targets that it does not have."""
    options = method.to_dict()
    unused = {
        TARGET_OPTIONS: not target_label(options),
        SECOND_STAGE_OPTIONS: not second_stage_label(options),
        DISTILLATION_OPTIONS: not method.distil,
    }
    names = {name for group, is_unused in unused.items() if is_unused for name in group}
    return {name: value for name, value in options.items() if name not in names}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
