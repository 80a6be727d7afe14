"""From a dense model to a pruned copy, in steps: a method; single weights of what whole units left; minutes of tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import PruneError
from ..models.checkpoints.weights import non_finite
from ..models.compact import compact_model, expand_into
from ..models.replay import sparsity_by_projection
from ..plugins import Batch, Method, Report, Rows, build, subrange
from .distillation import AdversarialCopies, distill, split_batches
from .unitwise import UnitMethod

Augment = Callable[
    [nn.Module, Report], Sequence[AdversarialCopies]
]  # attacks a pruned model on the calibration sentences; an entry a batch


def prune(
    method: Method,
    dense: nn.Module,
    batches: Sequence[Batch],
    report: Report,
    methods: Mapping[str, type[Method]],
    copier: Augment | None = None,
) -> tuple[nn.Module, Rows]:
    """A pruned copy of the dense model by a method and what it asks for after it, and the tables of all steps."""
    model = copy.deepcopy(dense).eval()
    parts = (
        split_batches(batches) if method.distil else None
    )  # which refuses too few before anything is pruned
    tuning = 0.4 if method.distil_attacked else 0.3  # where it begins
    pruning = subrange(report, 0.0, 0.3) if parts else report
    if isinstance(method, UnitMethod) and method.then:
        rows = method.prune(model, batches, subrange(pruning, 0.0, 0.6))
        _check_finite(model, method)
        second_stage = _second_stage(method, methods)
        apply_second_stage(model, second_stage, batches, report=subrange(pruning, 0.6, 1.0))
        rows["prune"] = rows["prune"].assign(
            sparsity=[row["sparsity"] for row in sparsity_by_projection(model)]
        )
    else:
        rows = method.prune(model, batches, pruning)
    _check_finite(model, method)
    if parts is None:
        return model, rows
    if method.distil_attacked:
        assert copier, "the caller knows the sentences"
        parts = split_batches(batches, copier(model, subrange(report, 0.3, 0.4)))
    return model, rows | {
        "distil": distill(model, dense, *parts, method.distil, subrange(report, tuning, 1.0))
    }


def _second_stage(method: UnitMethod, methods: Mapping[str, type[Method]]) -> Method:
    if method.then_pattern:
        options: dict[str, Any] = {"pattern": method.then_pattern}
    else:
        options = {"sparsity": method.then_sparsity}
    return build(methods, method.then, options)


def apply_second_stage(
    model: nn.Module, method: Method, batches: Sequence[Batch], report: Report
) -> None:
    """Prune single weights of the compact model, then write its weights back into `model`.

    The compact model is fitted to its own outputs, not to those of the model before units were removed.
    """
    small = compact_model(model)
    method.prune(small, batches, report)
    expand_into(small, model)


def _check_finite(model: nn.Module, method: Method) -> None:
    if bad := non_finite(model):
        raise PruneError(
            f"After {method.title} {len(bad)} matrices hold values that are no numbers, the first {bad[0]}: look whether the dense "
            "checkpoint holds any, and give more calibration sentences, of different length."
        )
