"""What became of an example under attack, and the file that keeps it: a line each, so that a killed run goes on where it was.

Knows nothing of textattack, models or tables.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SUCCESS, FAILED, SKIPPED, ERROR = "success", "failed", "skipped", "error"


@dataclass(frozen=True)
class AttackOutcome:
    """What became of one example; the fields are the columns of the table `attack_example`."""

    example: int
    outcome: str
    text: str
    label: int
    perturbed: str | None = None
    original_prediction: int | None = None
    perturbed_prediction: int | None = None
    original_probabilities: list[float] | None = None
    perturbed_probabilities: list[float] | None = None
    words_changed: int | None = None
    share_changed: float | None = None
    queries: int = 0
    seconds: float = 0.0
    note: str = ""
    pair: str | None = None  # the second sentence, where there is one
    perturbed_pair: str | None = None


class OutcomeLog:
    """One recipe's outcomes in a file of JSON lines. Only lines under the same key are `known`; without a path nothing is kept.

    What other processes found in chunks, in attack.0.jsonl and so on beside attack.jsonl, is known as well.
    """

    def __init__(self, path: Path | None = None, recipe: str = "", key: str = ""):
        self._path, self._head = path, {"recipe": recipe, "key": key}
        self.known: dict[int, AttackOutcome] = {}  # by example, from an earlier run
        if path is None:
            return
        if path.is_file():
            os.truncate(
                path, path.read_bytes().rfind(b"\n") + 1
            )  # a line that was being written when the process died
        lines = b"".join(
            each.read_bytes() for each in sorted(path.parent.glob(f"{path.stem}*.jsonl"))
        )
        for line in lines.splitlines(keepends=True):
            if line.endswith(b"\n") and (found := json.loads(line)).items() >= self._head.items():
                outcome = AttackOutcome(
                    **{name: value for name, value in found.items() if name not in self._head}
                )
                self.known[outcome.example] = outcome

    def append(self, outcome: AttackOutcome) -> None:
        """On the disk before this returns."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**self._head, **asdict(outcome)}) + "\n")
