"""Results of a run as Markdown: a table per type of row, a line per skipped or failed section."""

from __future__ import annotations

import math
from typing import Any

TITLES = {
    "correctness": "Correctness: the device compared with the CPU",
    "pruning_time": "Pruning time compared with its lower bound",
    "scaling": "Scaling of AKR's time and memory",
    "latency": "Latency of dense and pruned models",
    "attack_queries": "Attacks: model queries per second",
}
HIDDEN = (
    "table",
    "FLOPs by purpose",
    "ten longest",
    "ten longest on the host",
    "synchronizing operations",
)  # only in the JSON file


def markdown(results: dict[str, Any]) -> str:
    """Return the page."""
    environment = results["environment"]
    lines = [
        f"**{environment['device']}**, {environment['date']}, "
        f"commit {environment['commit'] or 'unknown'}; "
        + ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
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
    skipped = [f"Skipped: {row['skipped']}" for row in rows if "skipped" in row]
    rows = [row for row in rows if "skipped" not in row]
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
