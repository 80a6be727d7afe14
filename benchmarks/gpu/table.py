"""Results of a run as Markdown: a table per type of row, a line per skipped or failed section."""

from __future__ import annotations

import math
from typing import Any

TITLES = {
    "right": "Correctness: the device compared with the CPU",
    "fast": "Pruning time compared with its lower bound",
    "grows": "Scaling of AKR's time and memory",
    "quick": "Latency of dense and pruned models",
    "asked": "Attacks: model queries per second",
}
HIDDEN = (
    "table",
    "FLOPs by purpose",
    "ten longest",
    "ten longest on the host",
    "waits",
)  # only in the JSON file


def markdown(results: dict[str, Any]) -> str:
    """Return the page."""
    about = results["about"]
    lines = [
        f"**{about['device']}**, {about['date']}, commit {about['commit'] or 'unknown'}; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + "."
    ]
    for name, section in results["sections"].items():
        lines += [
            "",
            f"### {TITLES[name]}",
            "",
            f"{section['status']} ({section['seconds']:.0f} s).",
        ]
        rows = section["rows"]
        for table in dict.fromkeys(row["table"] for row in rows):
            lines += ["", *_table([row for row in rows if row["table"] == table])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    skipped = [f"Left out: {row['left out']}" for row in rows if "left out" in row]
    rows = [row for row in rows if "left out" not in row]
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if key not in HIDDEN
    ]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)] if rows else []
    return [
        *head,
        *("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows),
        *skipped,
    ]


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
