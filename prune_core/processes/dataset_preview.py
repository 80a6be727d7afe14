"""The first rows of a known task, fetched by a process of its own: `datasets` is a heavy import, and the Hub may be slow.

`Peek` is the asking side and imports nothing heavy; `python -m prune_core.processes.dataset_preview TASK [CONFIG SPLIT]` answers with one line of JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ..errors import PruneError
from .child_process import ChildProcess

ROWS = 5
MAX_CHARACTERS = 400  # characters of a text
TIMEOUT = 90.0  # seconds


class DatasetPreview(ChildProcess):
    """One question to the Hub, on its way or answered."""

    def __init__(self, task: str, config: str = "", split: str = ""):
        super().__init__(
            "prune_core.processes.dataset_preview", task, config, split, patience=TIMEOUT
        )

    def rows(self) -> list[dict[str, Any]]:
        """Up to five rows; PruneError where they could not be had."""
        return json.loads(self.output())


def fetch(task: str, config: str = "", split: str = "") -> list[dict[str, Any]]:
    """The first rows of a known task's or a Hub data set's evaluation split, label numbers as names."""
    from ..data import hub
    from ..data.known_tasks import KNOWN_TASKS

    known = KNOWN_TASKS.get(task)
    path, config, split = (
        (known.path, known.config or "", split or known.evaluation)
        if known
        else (task, config, split)
    )
    try:
        rows = hub.preview(path, config or None, split, rows=ROWS)
    except (OSError, ValueError) as error:
        raise PruneError(
            f"{task} can be neither fetched from the Hub nor found in its cache: go online before the run, or use a file of your own. "
            f"({(str(error).splitlines() or [''])[0][:160]})"
        ) from None
    names = known.labels if known else ()
    return [
        {name: _shown(value, names if name == "label" else ()) for name, value in row.items()}
        for row in rows
    ]


def _shown(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, int | float) else str(value)[:MAX_CHARACTERS]


if __name__ == "__main__":
    try:
        print(json.dumps(fetch(*sys.argv[1:4])))
    except PruneError as error:
        sys.exit(str(error))
