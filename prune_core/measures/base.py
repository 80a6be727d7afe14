"""The base class of measures and the pair of models that they compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import PruneError
from ..plugins import Options, Report, Rows
from ..tasks import TASK_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from ..tasks.task_data import Task


@dataclass(frozen=True)
class Pair:
    """A dense and a pruned model with their data; both are the same object for the dense
    baseline.
    """

    dense: nn.Module
    pruned: nn.Module
    tokenizer: Any
    task: Task
    seed: int = 0
    batch_size: int = 32
    max_length: int = 128
    # results for the dense model, cached for the next experiment
    memo: dict[Any, Any] = field(default_factory=dict)
    folder: Path | None = None  # of the job, for files other than tables
    rows: Rows = field(default_factory=dict)  # tables of earlier stages
    # cache of dense results that several processes share
    shared: Callable[[Any, Callable[[], Any]], Any] | None = None
    # (index, count): with count > 1, attack only that part of the examples and return no tables
    chunk: tuple[int, int] = (0, 1)
    # of a candidate whose tokenizer differs from the dense model's; see `tokenizer_of`
    pruned_tokenizer: Any = None
    # results for the pruned model, dropped when any field is replaced
    pruned_memo: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        from ..models.checkpoints.weights import non_finite

        for role, model in (("dense", self.dense), ("pruned", self.pruned)):
            if bad := non_finite(model):
                raise PruneError(
                    f"The {role} model has NaN or infinite weights in {len(bad)} tensors, the "
                    "first "
                    f"{bad[0]}; its metrics would be meaningless. Prune less, or check the "
                    "checkpoint."
                )

    def of_dense(self, key: Any, compute: Callable[[], Any], plain: bool = False) -> Any:
        """A result for the dense model, computed once for all experiments.

        With `plain` (tensors, lists, tuples, numbers, strings) it is also shared between processes.
        """
        if key not in self.memo:
            share = self.shared if plain else None
            self.memo[key] = share(key, compute) if share else compute()
        return self.memo[key]

    def of_pruned(self, key: Any, compute: Callable[[], Any]) -> Any:
        """A result for the pruned model, computed once for all measures of a run."""
        if key not in self.pruned_memo:
            self.pruned_memo[key] = compute()
        return self.pruned_memo[key]

    def tokenizer_of(self, model: nn.Module) -> Any:
        """The tokenizer of the dense model, or the candidate's own."""
        return self.tokenizer if model is self.dense else self.pruned_tokenizer or self.tokenizer

    @property
    def is_dense(self) -> bool:
        """True for the dense baseline, which is measured against itself."""
        return self.dense is self.pruned


@dataclass(frozen=True)
class Measure(Options):
    """Compare a dense and a pruned model; the first returned table has the measure's name."""

    kinds: ClassVar[tuple[str, ...]] = tuple(TASK_TYPES)  # of models that it supports
    is_default: ClassVar[bool] = True  # whether it is selected by default

    @property
    def reads(self) -> str:
        """Name of a measure that must run before, as its tables are read from pair.rows; "" for
        none.
        """
        return ""

    def measure(self, pair: Pair, report: Report) -> Rows:
        """Return tables by name, and report progress."""
        raise NotImplementedError
