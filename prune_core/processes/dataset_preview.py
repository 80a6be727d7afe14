"""Preview of a task's first rows, fetched in a child process: `datasets` is a heavy import.

`DatasetPreview` starts it and imports nothing heavy;
`python -m prune_core.processes.dataset_preview TASK [CONFIG SPLIT]` prints one line of JSON.
"""

import json
import sys
from typing import Any

from ..errors import PruneError
from .child_process import ChildProcess

ROWS = 5
MAX_CHARACTERS = 400  # of a text
TIMEOUT = 90.0  # seconds


class DatasetPreview(ChildProcess):
    """One preview request, running or finished."""

    def __init__(self, task: str, config: str = "", split: str = ""):
        super().__init__(
            "prune_core.processes.dataset_preview", task, config, split, timeout=TIMEOUT
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return up to five rows; raise PruneError if the data cannot be fetched."""
        return json.loads(self.output())


def fetch_rows(task: str, config: str = "", split: str = "") -> list[dict[str, Any]]:
    """Return the first rows of an evaluation split, with label names instead of numbers.

    `task` is a known task or the id of a Hub data set; of a retrieval collection, the queries.
    """
    from ..data import hub, hub_collections
    from ..tasks.known_tasks import KNOWN_TASKS

    known = KNOWN_TASKS.get(task)
    path = task
    if known:
        path, config = known.path, known.config or ""
        split = split or known.evaluation
    elif not config and hub_collections.is_collection(task):
        config, split = "queries", ""
    try:
        rows = hub.preview(path, config or None, split, rows=ROWS)
    except (OSError, ValueError) as error:
        raise PruneError(
            f"{task} can neither be downloaded from the Hub nor found in its cache: go online "
            "before the run, or use a local file. "
            f"({(str(error).splitlines() or [''])[0][:160]})"
        ) from None
    names = known.labels if known else ()
    return [
        {name: _display(value, names if name == "label" else ()) for name, value in row.items()}
        for row in rows
    ]


def _display(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value if isinstance(value, int | float) else str(value)[:MAX_CHARACTERS]


if __name__ == "__main__":
    try:
        print(json.dumps(fetch_rows(*sys.argv[1:4])))
    except PruneError as error:
        sys.exit(str(error))
