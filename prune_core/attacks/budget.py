"""Budget of an attack on one example, and the clock that enforces it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..plugins import Report

_INTERVAL = 0.2  # seconds between reports: a cancel is noticed quickly, and reports cost little


class BudgetExceeded(Exception):
    """Raised inside a search whose time budget is exhausted."""


@dataclass(frozen=True)
class AttackBudget:
    """Limits for one example: costs and permitted changes."""

    queries: int = 500  # as counted by TextAttack, including cached results
    seconds: float = 30.0  # of the search itself and its part of the models' time
    share: float = 1.0  # maximum fraction of changed words
    similarity: float = 0.0  # minimum MiniLM cosine to the original; 0: as in the recipe
    never: tuple[str, ...] = ()  # protected words in lower case
    column: str = "first"  # text of a pair that may change: first, second or both


class ProgressReporter:
    """Report progress at intervals; called from every frequent operation, so that a cancel is
    noticed.
    """

    def __init__(self, report: Report):
        self._report, self._last = report, 0.0
        self.progress, self.message = 0.0, "starting"

    def report_if_due(self) -> None:
        """Report if due; cheap enough to call for every text. The report may raise Cancelled."""
        now = time.perf_counter()
        if now >= self._last + _INTERVAL:
            self._last = now
            self._report(self.progress, self.message)


class Clock:
    """Time of one search; it runs only while the search does."""

    def __init__(self, on_progress: Callable[[], None], seconds: float = float("inf")):
        self._on_progress, self.seconds = on_progress, seconds
        self.spent = 0.0  # the scheduler adds the search's part of the models' time
        self._since: float | None = None

    def resume(self) -> None:
        """Continue the clock with the search."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Pause the clock while the search waits."""
        self.spent, self._since = self.total, None

    @property
    def total(self) -> float:
        """Seconds so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self.spent + running

    def stop(self) -> None:
        """Remove the limit: the remaining work for this search is not charged to its budget."""
        self.seconds = float("inf")

    def check(self) -> None:
        """Raise BudgetExceeded, or Cancelled via `on_progress`; cheap enough to call for every
        text.
        """
        self._on_progress()
        if self.total >= self.seconds:
            raise BudgetExceeded
