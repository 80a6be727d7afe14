"""File locks that the operating system releases when the holding process ends in any way."""

import fcntl
import os
import time
from pathlib import Path


class Lock:
    """A file lock held by one process; the system releases it when that process ends."""

    def __init__(self, path: Path, file: int | None = None):
        self.path = path
        self.file = file  # open and locked while this process holds it

    def acquire(self, patience: float = 0.0) -> bool:
        """Acquire the lock; return False if another process still holds it after `patience` s."""
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
        """Release the lock."""
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def remove(self) -> None:
        """Release a lock that will not be used again and delete its file."""
        self.path.unlink(missing_ok=True)
        self.release()

    def is_held(self) -> bool:
        """Whether any process holds the lock."""
        if self.file is None and self.acquire():
            self.release()
            return False
        return True
