"""What an attack on one example may cost, and the clock that holds a search to it. Knows nothing of textattack."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..plugins import Report

_BEAT = 0.2  # seconds between reports: a cancel is noticed at once, and progress costs nothing


class OutOfTime(Exception):
    """Raised inside a search whose time budget is spent."""


@dataclass(frozen=True)
class Budget:
    """Limits for one example."""

    queries: int = 500  # as TextAttack counts them: texts that the search asks about, cached answers included
    seconds: float = 30.0
    share: float = 1.0  # of the words that may be changed


class Clock:
    """Asked by everything a search does often: raises OutOfTime, and lets the report raise Cancelled, within a search."""

    def __init__(self, report: Report):
        self._report = report
        self._progress, self._message = 0.0, "predicting the sentences to attack"
        self._beat = 0.0
        self._end = float("inf")

    def start(self, seconds: float, progress: float, message: str) -> None:
        """A new example begins."""
        self._end = time.perf_counter() + seconds
        self._progress, self._message = progress, message
        self._report(progress, message)

    def stop(self) -> None:
        """No example runs: nothing more runs out."""
        self._end = float("inf")

    def check(self) -> None:
        """Cheap enough to call for every text."""
        now = time.perf_counter()
        if now >= self._beat:
            self._beat = now + _BEAT
            self._report(self._progress, self._message)
        if now >= self._end:
            raise OutOfTime
