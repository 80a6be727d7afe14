"""What is known of a dense model, found by whoever asks first and read by all who share a folder: shards, Ray's tasks, a run resumed.

Holds tensors, lists, numbers and texts, which are read as data and never as code. Knows nothing of what they mean.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..store.locks import Lock

TIMEOUT = 3600.0  # seconds in which another may find it; who then still waits finds it alone


class DenseCache:
    """The facts of one dense model on one task."""

    def __init__(self, folder: Path, frame: str, device: torch.device):
        self.folder, self.device = folder / hashlib.sha256(frame.encode()).hexdigest()[:16], device

    def get(self, key: Any, compute: Callable[[], Any]) -> Any:
        """The fact of that key, computed where nobody has."""
        file = self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.pt"
        lock = Lock(file.with_suffix(".lock"))
        lock.take(TIMEOUT)
        try:
            if not file.is_file():
                part = file.with_suffix(f".{os.getpid()}.part")
                torch.save(compute(), part)
                os.replace(part, file)
            return torch.load(file, map_location=self.device, weights_only=True)
        finally:
            lock.release()
