"""From a dense model to a pruned copy, in steps: a method; single weights of what whole units left; minutes of tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torch import nn

from ..errors import PruneError
from ..models.replay import sparsity_by_part
from ..models.compact import put_back, shrink
from ..models.checkpoints.weights import not_numbers
from ..plugins import Batch, Method, Report, Rows, build, part_of
from .distillation import Copied, parted, tune
from .unitwise import UnitMethod
from ..methods import METHODS

Copier = Callable[
    [nn.Module, Report], Sequence[Copied]
]  # attacks a pruned model on the calibration sentences; an entry a batch


def prune(
    method: Method,
    dense: nn.Module,
    batches: Sequence[Batch],
    report: Report,
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
        thin(model, method, batches, part_of(pruning, 0.6, 1.0))
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


def thin(model: nn.Module, method: UnitMethod, batches: Sequence[Batch], report: Report) -> None:
    """Prune single weights of the cut model, at whose own outputs a fit aims, and write what is left of them into the whole one."""
    options = (
        {"pattern": method.then_pattern}
        if method.then_pattern
        else {"sparsity": method.then_sparsity}
    )
    small = shrink(model)
    build(METHODS, method.then, options).prune(small, batches, report)
    put_back(small, model)


def _are_numbers(model: nn.Module, method: Method) -> None:
    if bad := not_numbers(model):
        raise PruneError(
            f"After {method.title} {len(bad)} matrices hold values that are no numbers, the first {bad[0]}: look whether the dense "
            "checkpoint holds any, and give more calibration sentences, of different length."
        )
