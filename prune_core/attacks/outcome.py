"""Outcome of an example under attack, and a log of outcomes in JSON Lines, so that interrupted runs
resume.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

SUCCESS, FAILED, SKIPPED, ERROR = "success", "failed", "skipped", "error"


@dataclass(frozen=True)
class AttackOutcome:
    """Outcome of one example; the fields are the columns of the table `attack_example`."""

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
    pair: str | None = None  # second text of a pair
    perturbed_pair: str | None = None


class OutcomeLog:
    """One recipe's outcomes in a JSON Lines file.

    Only lines with the same key are `known`; without a path nothing is written. Chunks of other
    processes, attack.0.jsonl and so on next to attack.jsonl, are read too.
    """

    def __init__(self, path: Path | None = None, recipe: str = "", key: str = ""):
        self._path, self._head = path, {"recipe": recipe, "key": key}
        self.known: dict[int, AttackOutcome] = {}  # by example, from an earlier run
        if path is None:
            return
        if path.is_file():
            # drop an incomplete line of a killed process
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        files = sorted(path.parent.glob(f"{path.stem}*.jsonl"))
        lines = b"".join(file.read_bytes() for file in files)
        for line in lines.splitlines(keepends=True):
            if line.endswith(b"\n") and (entry := json.loads(line)).items() >= self._head.items():
                self.known[entry["example"]] = AttackOutcome(
                    **{name: value for name, value in entry.items() if name not in self._head}
                )

    def append(self, outcome: AttackOutcome) -> None:
        """Write an outcome; it is in the file when this returns."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**self._head, **asdict(outcome)}) + "\n")
