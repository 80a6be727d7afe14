"""From a dense model to a pruned copy, in steps: a method; single weights of what whole units left; minutes of tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import PruneError
from ..models.checkpoints.weights import not_numbers
from ..models.compact import put_back, shrink
from ..models.replay import sparsity_by_part
from ..plugins import Batch, Method, Report, Rows, build, part_of
from .distillation import Copied, parted, tune
from .unitwise import UnitMethod

Copier = Callable[
    [nn.Module, Report], Sequence[Copied]
]  # attacks a pruned model on the calibration sentences; an entry a batch


def prune(
    method: Method,
    dense: nn.Module,
    batches: Sequence[Batch],
    report: Report,
    methods: Mapping[str, type[Method]],
    copier: Copier | None = None,
) -> tuple[nn.Module, Rows]:
    """A pruned copy of the dense model by a method and what it asks for after it, and the tables of all steps."""
    model = copy.deepcopy(dense).eval()
    parts = (
        parted(batches) if method.distil else None
    )  # which refuses too few before anything is pruned
    tuning = 0.4 if method.distil_attacked else 0.3  # where it begins
    pruning = part_of(report, 0.0, 0.3) if parts else report
    if isinstance(method, UnitMethod) and method.then:
        rows = method.prune(model, batches, part_of(pruning, 0.0, 0.6))
        _are_numbers(model, method)
        second_stage = _second_stage(method, methods)
        thin(model, second_stage, batches, report=part_of(pruning, 0.6, 1.0))
        rows["prune"] = rows["prune"].assign(
            sparsity=[row["sparsity"] for row in sparsity_by_part(model)]
        )
    else:
        rows = method.prune(model, batches, pruning)
    _are_numbers(model, method)
    if parts is None:
        return model, rows
    if method.distil_attacked:
        assert copier, "the caller knows the sentences"
        parts = parted(batches, copier(model, part_of(report, 0.3, 0.4)))
    return model, rows | {
        "distil": tune(model, dense, *parts, method.distil, part_of(report, tuning, 1.0))
    }


def _second_stage(method: UnitMethod, methods: Mapping[str, type[Method]]) -> Method:
    if method.then_pattern:
        options: dict[str, Any] = {"pattern": method.then_pattern}
    else:
        options = {"sparsity": method.then_sparsity}
    return build(methods, method.then, options)


def thin(model: nn.Module, method: Method, batches: Sequence[Batch], report: Report) -> None:
    """Prune single weights of the compact model, then write its weights back into `model`.

    The compact model is fitted to its own outputs, not to those of the model before units were removed.
    """
    small = shrink(model)
    method.prune(small, batches, report)
    put_back(small, model)


def _are_numbers(model: nn.Module, method: Method) -> None:
    if bad := not_numbers(model):
        raise PruneError(
            f"After {method.title} {len(bad)} matrices hold values that are no numbers, the first {bad[0]}: look whether the dense "
            "checkpoint holds any, and give more calibration sentences, of different length."
        )
