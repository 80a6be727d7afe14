"""What a measure is: options that look at a dense and a pruned model and return tables. Knows no measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ..data.examples import TASK_TYPES
from ..errors import PruneError
from ..plugins import Options, Report, Rows

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from ..data.tasks import Task


@dataclass(frozen=True)
class Pair:
    """What a measure looks at. `dense` and `pruned` are the same object for the dense baseline."""

    dense: nn.Module
    pruned: nn.Module
    tokenizer: Any
    task: Task
    seed: int = 0
    batch_size: int = 32
    max_length: int = 128
    memo: dict[Any, Any] = field(
        default_factory=dict
    )  # facts about the dense model, kept for the next experiment
    folder: Path | None = None  # of the job, for what a measure keeps besides its tables
    rows: Rows = field(default_factory=dict)  # tables of the stages before
    elsewhere: Callable[[Any, Callable[[], Any]], Any] | None = (
        None  # asks other processes for such a fact before it is computed
    )
    chunk: tuple[int, int] = (
        0,
        1,
    )  # which of how many parts of the attacked sentences: their outcomes are kept, and no tables made

    def __post_init__(self) -> None:
        from ..models.checkpoints.weights import non_finite

        for role, model in (("dense", self.dense), ("pruned", self.pruned)):
            if bad := non_finite(model):
                raise PruneError(
                    f"The {role} model's weights hold values that are no numbers ({len(bad)} tensors, the first {bad[0]}); "
                    "nothing that is measured of it would mean anything."
                )

    def of_dense(self, key: Any, compute: Callable[[], Any], plain: bool = False) -> Any:
        """A fact about the dense model on this task, computed once however many experiments ask; where it is `plain` (tensors, lists,
        tuples, numbers, texts), once for all processes that share a folder."""
        if key not in self.memo:
            self.memo[key] = self.elsewhere(key, compute) if plain and self.elsewhere else compute()
        return self.memo[key]

    @property
    def is_dense(self) -> bool:
        """True for the dense baseline, which is measured against itself."""
        return self.dense is self.pruned


@dataclass(frozen=True)
class Measure(Options):
    """Looks at a dense and a pruned model and returns tables; the first bears the measure's name."""

    kinds: ClassVar[tuple[str, ...]] = tuple(TASK_TYPES)  # of the models it can look at
    usual: ClassVar[bool] = True  # whether a first look at a model takes it

    @property
    def reads(self) -> str:
        """The measure whose tables it reads in pair.rows, "" for none; it is done after that one."""
        return ""

    def measure(self, pair: Pair, report: Report) -> Rows:
        """The tables; reports progress on the way."""
        raise NotImplementedError
