"""Lineage: the parent of each model of a study, and the operation that made it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .. import formatting as f
from ..plugins import (
    DISTILLATION_OPTIONS,
    SECOND_STAGE_OPTIONS,
    distillation_label,
    second_stage_label,
)
from ..store.job import Job

LATER_STAGES = (*SECOND_STAGE_OPTIONS, *DISTILLATION_OPTIONS)
SHORT = ("sparsity", "pattern", "speedup", "latency_ms", "bytes", *LATER_STAGES)  # in labels


@dataclass(frozen=True)
class LineageNode:
    """A checkpoint, a measured model or an exported file."""

    key: str
    parent: str  # key of the model it was made from, "" if unknown
    title: str
    operation: str = ""  # that made it from its parent, with non-default options
    job: int = 0  # 0 if it was not measured


def lineage(
    jobs: Sequence[Job],
    files: pd.DataFrame,
    defaults: Mapping[str, Mapping[str, Any]],
) -> list[LineageNode]:
    """Return the nodes of a study, parents first.

    `files` are the rows of the table `formats`; `defaults` are the default options of each method.
    Checkpoint folders written by PruneScope have a file that names their parent.
    """
    nodes: dict[str, LineageNode] = {}
    for job in jobs:
        checkpoint = str(job.experiment["checkpoint"])
        for node in _ancestors(checkpoint):
            nodes.setdefault(node.key, node)
        if not job.experiment.get("method"):
            known = nodes[checkpoint]
            nodes[checkpoint] = LineageNode(
                checkpoint, known.parent, known.title, known.operation, known.job or job.id
            )
    measured = {_identity(job): job for job in jobs if job.experiment.get("method")}
    for job in measured.values():
        if job.is_candidate:  # not made from the dense model, unless its folder says so
            made, *ancestors = _ancestors(job.experiment["method"]["options"]["path"])
            nodes = {node.key: node for node in ancestors} | nodes
            key = f"job {job.id}"
            nodes[key] = LineageNode(key, made.parent, job.label, made.operation, job.id)
            continue
        parent, options = str(job.experiment["checkpoint"]), job.experiment["method"]["options"]
        first = _identity(job, first_stage=True)
        operation = _options(job, defaults)
        if first != _identity(job):
            steps = filter(None, (second_stage_label(options), distillation_label(options)))
            operation = ", ".join(steps)
            earlier = measured.get(first)
            title = job.label.split(" · ")[0]
            parent_key = f"job {earlier.id}" if earlier else f"step {first}"
            if not earlier:
                step = LineageNode(parent_key, parent, f"{title}, not measured")
                nodes.setdefault(parent_key, step)
            parent = parent_key
        key = f"job {job.id}"
        nodes[key] = LineageNode(key, parent, job.label, operation, job.id)
    for row in files.to_dict("records"):
        key, title = f"job {row['job']}", f"{row['format']}, {f.size(row['bytes'])}"
        if row["model"] == "pruned" and key in nodes:
            nodes[f"{key} {row['format']}"] = LineageNode(
                f"{key} {row['format']}", key, title, job=row["job"]
            )
    return _parents_first(nodes)


def _identity(job: Job, first_stage: bool = False) -> str:
    """Return a key of how a model was pruned; with `first_stage`, by the first stage only."""
    method = job.experiment["method"]
    options = {
        name: value
        for name, value in method["options"].items()
        if not (first_stage and name in LATER_STAGES)
        and not (name in LATER_STAGES and not _has_later_stage(method["options"]))
    }
    shared = [job.experiment[name] for name in ("checkpoint", "seed", "calibration_size")]
    return json.dumps([*shared, method["name"], options], sort_keys=True, default=str)


def _has_later_stage(options: Mapping[str, Any]) -> bool:
    return bool(options.get("second_stage") or options.get("distil"))


def _options(job: Job, defaults: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the options that differ from their defaults and are not in the label."""
    method = job.experiment["method"]
    usual = defaults[method["name"]]
    changed = [
        f"{name}={value}"
        for name, value in method["options"].items()
        if name not in SHORT and value != usual.get(name, value)
    ]
    return ", ".join(changed)


def _ancestors(checkpoint: str) -> list[LineageNode]:
    """Return a checkpoint and its ancestors, from the records in checkpoint folders."""
    nodes: list[LineageNode] = []
    seen = {checkpoint}
    while checkpoint:
        parent, operation = _origin(Path(checkpoint))
        parent = "" if parent in seen else parent  # records may form a cycle
        seen.add(parent)
        title = Path(checkpoint).name or checkpoint
        nodes.append(LineageNode(checkpoint, parent, title, operation))
        checkpoint = parent
    return nodes


def _origin(folder: Path) -> tuple[str, str]:
    """Return the (checkpoint, operation) that a folder was made from; ("", "") if unknown."""
    readers: dict[str, Callable[[dict[str, Any]], tuple[str, str]]] = {
        "prunescope.json": lambda record: (
            record["experiment"]["checkpoint"],
            record["experiment"]["method"]["name"],
        ),
        "finetune.json": lambda record: (record["recipe"]["checkpoint"], "fine-tuned"),
        "soup.json": lambda record: (
            "",
            f"average of {f.plural(len(record['ingredients']), 'fine-tuned model')}",
        ),
        "trim.json": lambda record: (
            record["checkpoint"],
            f"trimmed to {f.count(record['vocabulary'])} tokens",
        ),
    }
    for name, read in readers.items():
        try:
            return read(json.loads((folder / name).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no such record, or one of another program
    return "", ""


def _parents_first(nodes: Mapping[str, LineageNode]) -> list[LineageNode]:
    """Sort nodes depth first: descendants follow their ancestor."""
    children: dict[str, list[LineageNode]] = {}
    for node in nodes.values():
        parent = node.parent if node.parent in nodes else ""
        children.setdefault(parent, []).append(node)
    ordered: list[LineageNode] = []
    pending = children.get("", [])[::-1]
    while pending:
        node = pending.pop()
        ordered.append(node)
        pending += children.get(node.key, [])[::-1]
    return ordered
