"""Looks after the queue when nobody looks at a page, and after the dashboard where it is told to. Imports no torch.

Knows nothing of what jobs or pages do.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from ..errors import PruneError
from ..paths import ROOT
from ..store.locks import Lock
from ..store.store import Store
from .jobs import housekeeping

INTERVAL = 2.0  # seconds between looks
PAUSE = (
    1.0,
    30.0,
)  # seconds before a dashboard that ended by itself is started again: at first, and at most


def supervise(
    store: Store, over: Callable[[], bool], say: Callable[[str], None], look: float = INTERVAL
) -> None:
    """Until it is over: mark the dead, queue again what died, keep a worker at every queue. A store has one; a second one waits."""
    lock, said = Lock(store.home / "workers" / "supervisor.lock"), ""
    while not over():
        if lock.file is not None or lock.take():
            try:
                housekeeping(store)
                said = ""
            except (
                PruneError,
                OSError,
            ) as error:  # a full disk, a store that is away: said once, tried again
                if str(error) != said:
                    said = str(error)
                    say(said)
        time.sleep(look)
    lock.release()


class Dashboard:
    """The server of the pages as a process of its own, started again where it ends by itself."""

    def __init__(self, arguments: Sequence[str], say: Callable[[str], None]):
        self.command = [sys.executable, "-m", "streamlit", "run", "app.py", *arguments]
        self.say, self.pause, self.due = say, PAUSE[0], 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def tend(self) -> None:
        """Start it, or start it again."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            self.say(
                f"The dashboard ended with {self.process.returncode}; it is started again in {self.pause:.0f} s."
            )
            self.due, self.pause = time.monotonic() + self.pause, min(2 * self.pause, PAUSE[1])
            self.process = None
        elif time.monotonic() >= self.due:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it; workers go on."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
