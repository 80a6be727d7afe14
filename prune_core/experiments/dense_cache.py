"""Cache of a dense model's results in a folder shared by shards, Ray tasks and resumed runs.

Each result is computed by the first process that needs it. Values are tensors, lists, numbers and
texts, which are loaded as data and never as code.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..store.locks import Lock

TIMEOUT = 3600.0  # seconds to wait for another process; after that it is computed here as well


class DenseCache:
    """Results of one dense model on one task."""

    def __init__(self, folder: Path, frame: str, device: torch.device):
        self.folder, self.device = folder / hashlib.sha256(frame.encode()).hexdigest()[:16], device

    def get(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return the result with that key, computed if no process has stored it."""
        file = self.folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.pt"
        lock = Lock(file.with_suffix(".lock"))
        lock.acquire(TIMEOUT)
        try:
            if not file.is_file():
                part = file.with_suffix(f".{os.getpid()}.part")
                torch.save(compute(), part)
                os.replace(part, file)
            return torch.load(file, map_location=self.device, weights_only=True)
        finally:
            lock.release()
