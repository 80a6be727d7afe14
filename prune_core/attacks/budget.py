"""What an attack on one example may cost, and the clock that holds a search to it. Knows nothing of textattack."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..plugins import Report

_BEAT = 0.2  # seconds between reports: a cancel is noticed at once, and progress costs nothing


class BudgetExceeded(Exception):
    """Raised inside a search whose time budget is spent."""


@dataclass(frozen=True)
class AttackBudget:
    """Limits for one example: what may be spent on it, and what of it may change."""

    queries: int = (
        500  # as TextAttack counts them: texts that the search asks about, cached answers included
    )
    seconds: float = 30.0  # of its own work and its share of the models'
    share: float = 1.0  # of the words that may be changed
    similarity: float = 0.0  # least cosine to the original by MiniLM; 0 leaves it to the recipe
    never: tuple[str, ...] = ()  # words in lower case that stay as they are
    column: str = "first"  # of a sentence pair: first, second or both may change


class ProgressReporter:
    """Reports now and then; asked by everything that is done often, so that a cancel comes through."""

    def __init__(self, report: Report):
        self._report, self._last = report, 0.0
        self.progress, self.message = 0.0, "starting"

    def report_if_due(self) -> None:
        """Cheap enough to call for every text; the report may raise Cancelled."""
        now = time.perf_counter()
        if now >= self._last + _BEAT:
            self._last = now
            self._report(self.progress, self.message)


class Clock:
    """One search's own time: it runs only while the search does."""

    def __init__(self, beat: Callable[[], None], seconds: float = float("inf")):
        self._beat, self.seconds = beat, seconds
        self.spent = (
            0.0  # whoever answers a search adds its share of the seconds that the models took
        )
        self._since: float | None = None

    def resume(self) -> None:
        """The search goes on."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """The search waits."""
        self.spent, self._since = self.total, None

    @property
    def total(self) -> float:
        """Seconds so far."""
        return self.spent + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def stop(self) -> None:
        """What is left to do for this search takes no more from its budget."""
        self.seconds = float("inf")

    def check(self) -> None:
        """Cheap enough to call for every text: raises OutOfTime, or Cancelled through the beat."""
        self._beat()
        if self.total >= self.seconds:
            raise BudgetExceeded
