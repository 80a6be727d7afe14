"""A command in a child process, so that pages neither import heavy packages nor wait for it.

Light imports only; independent of what the command does.
"""

import os
import subprocess
import sys
import tempfile
import time

from ..errors import PruneError
from ..paths import ROOT


class ChildProcess:
    """`python -m …` in the background; its output, or its last line on stderr as a PruneError."""

    def __init__(self, *arguments: str, timeout: float):
        self.timeout, self.started = timeout, time.monotonic()  # seconds
        # files, not pipes: nobody reads before the end, and a full pipe would block the process;
        # they stay open as long as the process runs
        self.stdout, self.stderr = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
        )

    @property
    def is_over(self) -> bool:
        """Whether the process has ended; kill it if it has run for longer than `timeout`."""
        if self.process.poll() is None and time.monotonic() - self.started > self.timeout:
            self.process.kill()
            self.process.wait()
        return self.process.poll() is not None

    @property
    def latest(self) -> str:
        """The last line on stderr so far."""
        # pread: the file offset is shared with the process and must not move
        size = os.fstat(self.stderr.fileno()).st_size
        tail = os.pread(self.stderr.fileno(), 4096, max(0, size - 4096))
        lines = tail.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def output(self) -> str:
        """Wait for the end and return what the process printed to stdout."""
        self.process.wait()
        self.stdout.seek(0)
        self.stderr.seek(0)
        if self.process.returncode == 0:
            return self.stdout.read().strip()
        lines = [line.strip() for line in self.stderr if line.strip()]
        raise PruneError(
            lines[-1] if lines else f"No result within {self.timeout:.0f} s; try again."
        )
