"""The figures of a run as Markdown: a table for each kind of row, and a sentence for what was
left out or went wrong.
"""

from __future__ import annotations

import math
from typing import Any

TITLES = {
    "right": "Right: the device against the CPU",
    "fast": "Fast: pruning against its floor",
    "grows": "Grows: AKR's time and memory",
    "quick": "Small and quick: latency of dense and pruned models",
    "asked": "Attack rate: answers a second",
}
HIDDEN = (
    "table",
    "FLOPs by purpose",
    "ten longest",
    "ten longest on the host",
    "waits",
)  # for the JSON


def markdown(found: dict[str, Any]) -> str:
    """The whole page."""
    about = found["about"]
    lines = [
        f"**{about['device']}**, {about['date']}, commit {about['commit'] or 'unknown'}; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + "."
    ]
    for name, section in found["sections"].items():
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
    said = [f"Left out: {row['left out']}" for row in rows if "left out" in row]
    rows = [row for row in rows if "left out" not in row]
    columns = [
        key for key in dict.fromkeys(key for row in rows for key in row) if key not in HIDDEN
    ]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)] if rows else []
    return [
        *head,
        *("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows),
        *said,
    ]


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
