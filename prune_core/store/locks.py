"""File locks that the operating system releases when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


class Lock:
    """A file that one process holds; the system lets go of it when that process ends, however it ends."""

    def __init__(self, path: Path, file: int | None = None):
        self.path = path
        self.file = file  # open and locked while this process holds it

    def take(self, patience: float = 0.0) -> bool:
        """Hold it; False where somebody else still does after `patience` seconds."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(file)
                    return False
                time.sleep(0.05)
            else:
                self.file = file
                return True

    def release(self) -> None:
        """Let go."""
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def remove(self) -> None:
        """Let go of a lock that nobody will take again."""
        self.path.unlink(missing_ok=True)
        self.release()

    def is_held(self) -> bool:
        """Whether any process holds it."""
        if self.file is None and self.take():
            self.release()
            return False
        return True
