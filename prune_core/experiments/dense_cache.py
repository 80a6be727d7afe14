"""Cache of a dense model's results in a folder that shards, Ray tasks and resumed runs share.

Each result is computed by the first process that needs it, while the others wait. Values are
tensors, lists, numbers and texts, which are loaded as data and never as code.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..store.locks import Lock

TIMEOUT = 3600.0  # seconds to wait for another process before computing the result here too


class DenseCache:
    """Results of one dense model on one task.

    `context` identifies model, data and settings: results of another context are not reused.
    """

    def __init__(self, folder: Path, context: str, device: torch.device):
        self.folder, self.device = folder / _digest(context), device

    def get(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return the result with that key on the device; compute it if no process has stored it.

        Keys are compared by their `repr`.
        """
        file = self.folder / f"{_digest(repr(key))}.pt"
        lock = Lock(file.with_suffix(".lock"))
        lock.acquire(TIMEOUT)
        try:
            if not file.is_file():
                partial_file = file.with_suffix(f".{os.getpid()}.part")
                torch.save(compute(), partial_file)
                os.replace(partial_file, file)  # atomic: other processes read complete files only
            return torch.load(file, map_location=self.device, weights_only=True)
        finally:
            lock.release()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
