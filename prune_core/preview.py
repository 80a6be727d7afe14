"""The first rows of a known task, fetched by a process of its own: `datasets` is a heavy import, and the Hub may be slow.

`Peek` is the asking side and imports nothing heavy; `python -m prune_core.preview TASK` answers with one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import PruneError

ROOT = Path(__file__).resolve().parent.parent
ROWS = 5
LONGEST = 400  # characters of a text; the whole answer must fit into a pipe's buffer, which nobody reads before the end
PATIENCE = 90.0  # seconds


class Peek:
    """One question to the Hub, on its way or answered."""

    def __init__(self, task: str, log: Path):
        self.task, self.log = task, log
        self.started = time.monotonic()
        self.answer: dict[str, Any] | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            command = [sys.executable, "-m", "prune_core.preview", task]
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)

    @property
    def is_over(self) -> bool:
        """Whether the answer is there; a process without one after a while is ended."""
        if self.process.poll() is None and time.monotonic() - self.started > PATIENCE:
            self.process.kill()
            self.process.wait()
        return self.process.poll() is not None

    def rows(self) -> list[dict[str, Any]]:
        """Up to five rows; PruneError where they could not be had."""
        if self.answer is None:
            assert self.process.stdout, "opened with a pipe"
            told = self.process.stdout.read()
            self.answer = json.loads(told) if told else {"error": f"{self.task}: no answer from the Hub; {self.log} may say why."}
        if "error" in self.answer:
            raise PruneError(self.answer["error"])
        return self.answer["rows"]


def fetch(task: str) -> list[dict[str, Any]]:
    """The first rows of the task's evaluation split, label numbers as names."""
    from datasets import load_dataset

    from .data import KNOWN

    known = KNOWN[task]
    try:
        rows = list(load_dataset(known.path, known.config, split=known.evaluation, streaming=True).take(ROWS))
    except (OSError, ValueError):  # what datasets raises without a network, where only its cache can still help
        try:
            rows = list(load_dataset(known.path, known.config, split=known.evaluation).select(range(ROWS)))
        except (OSError, ValueError):
            raise PruneError(
                f"{task} can be neither fetched from the Hub nor found in its cache: go online before the run, or use a file of your own."
            ) from None
    return [{name: _shown(value, known.labels if name == "label" else ()) for name, value in row.items()} for row in rows]


def _shown(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, int | float) else str(value)[:LONGEST]


if __name__ == "__main__":
    try:
        answer: dict[str, Any] = {"rows": fetch(sys.argv[1])}
    except PruneError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
