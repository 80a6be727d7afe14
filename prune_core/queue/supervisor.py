"""Unattended operation: periodic housekeeping of the queue, and a dashboard that is restarted.

Does not import torch; knows nothing of what jobs or pages do.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from ..errors import PruneError
from ..paths import ROOT
from ..store.locks import Lock
from ..store.store import Store
from .jobs import housekeeping

INTERVAL = 2.0  # seconds between housekeeping runs
RESTART_DELAYS = (1.0, 30.0)  # seconds before an exited dashboard is restarted: first, maximum


def supervise(
    store: Store,
    is_over: Callable[[], bool],
    log: Callable[[str], None],
    interval: float = INTERVAL,
) -> None:
    """Run housekeeping every `interval` seconds until `is_over` returns True.

    A store has one active supervisor; a second one waits for the first to end. An error that
    persists, such as a full disk, is passed to `log` once.
    """
    lock = Lock(store.home / "workers" / "supervisor.lock")
    logged = ""
    while not is_over():
        if lock.file is not None or lock.acquire():
            try:
                housekeeping(store)
                logged = ""
            except (PruneError, OSError) as error:
                # a full disk or an unavailable store: logged once, then retried
                if str(error) != logged:
                    logged = str(error)
                    log(logged)
        time.sleep(interval)
    lock.release()


class Dashboard:
    """The dashboard's server as a child process that is restarted when it exits."""

    def __init__(self, arguments: Sequence[str], log: Callable[[str], None]):
        self.command = [sys.executable, "-m", "streamlit", "run", "app.py", *arguments]
        self.log, self.delay, self.restart_at = log, RESTART_DELAYS[0], 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def ensure_running(self) -> None:
        """Start the server, or restart it after a delay that doubles each time; never waits."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            self.log(
                f"The dashboard exited with status {self.process.returncode}; "
                f"it is restarted in {self.delay:.0f} s."
            )
            self.restart_at = time.monotonic() + self.delay
            self.delay = min(2 * self.delay, RESTART_DELAYS[1])
            self.process = None
        elif time.monotonic() >= self.restart_at:
            self.process = subprocess.Popen(self.command, cwd=ROOT, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """Stop the server; workers continue."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
