"""One command in a process of its own, for pages: heavy imports and slow answers stay out of the process that serves them.

Imports nothing heavy. Knows nothing of what the command does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from ..errors import PruneError
from ..paths import ROOT


class ChildProcess:
    """`python -m …` on its way or over; what it printed, or its last line of complaint as a PruneError."""

    def __init__(self, *arguments: str, patience: float):
        self.patience, self.started = patience, time.monotonic()  # seconds
        # files, not pipes: nobody reads before the end, and a pipe that is full would stop the process
        self.stdout, self.stderr = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115  open as long as the process is
        command = [sys.executable, "-m", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self.stdout, stderr=self.stderr
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended; one that takes too long is ended."""
        if self.process.poll() is None and time.monotonic() - self.started > self.patience:
            self.process.kill()
            self.process.wait()
        return self.process.poll() is not None

    @property
    def latest(self) -> str:
        """The last line of what it has reported so far."""
        # read at a place of our own: the process writes where its file stands, and the file is one
        size = os.fstat(self.stderr.fileno()).st_size
        lines = (
            os.pread(self.stderr.fileno(), 4096, max(0, size - 4096))
            .decode(errors="replace")
            .split("\n")
        )
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def output(self) -> str:
        """What it printed; to be asked for when it is over."""
        self.process.wait()
        self.stdout.seek(0)
        self.stderr.seek(0)
        if self.process.returncode == 0:
            return self.stdout.read().strip()
        lines = [line.strip() for line in self.stderr if line.strip()]
        raise PruneError(
            lines[-1] if lines else f"No answer within {self.patience:.0f} s; try again."
        )
