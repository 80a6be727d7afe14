"""From a dense model to a pruned copy: the method, an optional second stage, optional
distillation.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from ..errors import PruneError
from ..models.checkpoints.weights import non_finite
from ..models.compact import compact_model, expand_into
from ..models.replay import sparsity_by_projection
from ..plugins import Batch, Method, Report, Rows, build, subrange
from .distillation import AdversarialCopies, distill, split_batches
from .unitwise import UnitMethod

# attacks a pruned model on the calibration examples; one entry per batch
Augment = Callable[[nn.Module, Report], Sequence[AdversarialCopies]]


def prune(
    method: Method,
    dense: nn.Module,
    batches: Sequence[Batch],
    report: Report,
    methods: Mapping[str, type[Method]],
    copier: Augment | None = None,
) -> tuple[nn.Module, Rows]:
    """A pruned copy of the dense model and the tables of all stages.

    `methods` is the registry that the second stage is looked up in; `copier` makes adversarial
    copies for distillation.
    """
    model = copy.deepcopy(dense).eval()
    # raises PruneError for too few examples before pruning starts
    parts = split_batches(batches) if method.distil else None
    pruning = subrange(report, 0.0, 0.3) if parts else report
    if isinstance(method, UnitMethod) and method.second_stage:
        rows = method.prune(model, batches, subrange(pruning, 0.0, 0.6))
        _check_finite(model, method)
        pattern = method.second_stage_pattern
        second_stage = build(
            methods,
            method.second_stage,
            {"pattern": pattern} if pattern else {"sparsity": method.second_stage_sparsity},
        )
        # single weights of the compact model, which is fitted to its own outputs, not to those of
        # the model before units were removed
        small = compact_model(model)
        second_stage.prune(small, batches, subrange(pruning, 0.6, 1.0))
        expand_into(small, model)
        rows["prune"] = rows["prune"].assign(
            sparsity=[row["sparsity"] for row in sparsity_by_projection(model)]
        )
    else:
        rows = method.prune(model, batches, pruning)
    _check_finite(model, method)
    if parts is None:
        return model, rows
    if method.distil_adversarial:
        assert copier, "the caller has the examples"
        parts = split_batches(batches, copier(model, subrange(report, 0.3, 0.4)))
    tuning = subrange(report, 0.4 if method.distil_adversarial else 0.3, 1.0)
    return model, rows | {"distil": distill(model, dense, *parts, method.distil, tuning)}


def _check_finite(model: nn.Module, method: Method) -> None:
    if bad := non_finite(model):
        raise PruneError(
            f"After {method.title}, {len(bad)} tensors contain NaN or infinite values, the first "
            f"{bad[0]}: check that the dense checkpoint is finite, and use more calibration "
            "examples "
            "of different lengths."
        )
