"""Published results, read from assets/papers and validated.

A file contains a paper's setup and its exhibits (tables and plots) as printed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from .. import formatting as f
from ..errors import PruneError
from ..paths import ASSETS
from ..tasks import METRICS

HOME = ASSETS / "papers"
ATTRIBUTES = (
    "model",
    "task",
    "method",
    "sparsity",
    "pattern",
    "attack",
    "layer",
    "texts",
    "parameters",
    "retrained",
)
# attributes that are "" if an exhibit does not have them
TEXTS = ("model", "task", "pattern", "attack", "texts")
UNITS = {"percent": 0.01, "one": 1.0}
TASKS = {
    "sst2": "SST-2",
    "ag_news": "AG News",
    "imdb": "IMDB",
    "mrpc": "MRPC",
    "qqp": "QQP",
    "stsb": "STS-B",
    "squad": "SQuAD 1.1",
    "squad_v2": "SQuAD 2.0",
    "demo": "the bundled film reviews",
    "demo-guard": "the bundled requests to an assistant",
    "demo-retrieval": "the bundled retrieval collection",
}


@dataclass(frozen=True)
class Axis:
    """Title and number format of a published quantity."""

    title: str
    show: Callable[[float], str]
    tick: str  # plotly format


AXES = {
    **{
        name: Axis(METRICS[name].title, f.percent, ".0%")
        for name in ("accuracy", "spearman", "answer_f1")
    },
    "under_attack": Axis("Accuracy under attack", f.percent, ".0%"),
    "success_rate": Axis("Attack success rate", f.percent, ".0%"),
    "distance": Axis("Distance from the dense embedding", f.plain, ".2f"),
    "speedup": Axis("Measured speed-up (times)", lambda value: f"{value:.2f} times", ".1f"),
    "lead": Axis("K-prune minus Kwon et al. (points)", lambda value: f"{value:.1f} points", ".0f"),
}


@dataclass(frozen=True)
class Exhibit:
    """A table or plot of a paper.

    `figures` has one row per value: ATTRIBUTES, metric and value (percentages as fractions).
    """

    key: str
    paper: str
    citation: str
    number: str  # such as "Table 1"; "" if unknown
    title: str
    across: str  # x axis: sparsity, layer or task
    digitised: bool  # from a plot
    note: str
    setup: dict[str, Any]
    figures: pd.DataFrame

    @property
    def against(self) -> str:
        """The x axis of its charts: weights or FLOPs (fractions removed), layer or task."""
        return self.setup["removed"] if self.across == "sparsity" else self.across

    @property
    def source(self) -> str:
        """The paper and the number of the exhibit."""
        return ", ".join(filter(None, (self.paper, self.number)))


@cache
def exhibits() -> dict[str, Exhibit]:
    """Return every bundled exhibit by key."""
    return {exhibit.key: exhibit for path in sorted(HOME.glob("*.json")) for exhibit in read(path)}


def read(path: Path) -> list[Exhibit]:
    """Read the exhibits of one file; raise PruneError if it is invalid."""
    paper = json.loads(path.read_text(encoding="utf-8"))
    _require(paper, {"paper": str, "title": str, "setup": dict, "exhibits": list}, path.name)
    return [
        _exhibit(paper, record, f"{path.name}, {record.get('key', 'an exhibit without key')}")
        for record in paper["exhibits"]
    ]


def _exhibit(paper: dict[str, Any], record: dict[str, Any], place: str) -> Exhibit:
    _require(
        record,
        {
            **dict.fromkeys(("key", "number", "title", "across", "unit", "note"), str),
            **dict.fromkeys(("columns", "rows"), list),
            "digitised": bool,
            "facts": dict,
        },
        place,
    )
    columns, rows = record["columns"], record["rows"]
    if unknown := [
        name
        for name in [*columns, *record["facts"]]
        if name not in (*ATTRIBUTES, *AXES, "metric", "value")
    ]:
        raise PruneError(
            f"{place}: {unknown[0]!r} is neither an attribute nor a metric; known are "
            f"{', '.join((*ATTRIBUTES, *AXES))}."
        )
    if uneven := [row for row in rows if len(row) != len(columns)]:
        raise PruneError(
            f"{place}: {uneven[0]} has {len(uneven[0])} values for {len(columns)} columns."
        )
    if record["unit"] not in UNITS or record["across"] not in ("sparsity", "layer", "task"):
        raise PruneError(
            f"{place}: unit must be one of {', '.join(UNITS)}, across one of sparsity, layer, task."
        )
    table = pd.DataFrame(rows, columns=columns).assign(**record["facts"])
    if "metric" not in table:
        table = table.melt(
            [name for name in table if name not in AXES], var_name="metric", value_name="value"
        )
    table["value"] *= UNITS[record["unit"]]
    is_in_range = table["value"].between(0, 1 if record["unit"] == "percent" else 100)
    if not is_in_range.all() or not set(table["metric"]) <= set(AXES):
        raise PruneError(
            f"{place}: a value is out of range for its unit, or its metric is unknown."
        )
    if table.duplicated([name for name in table if name != "value"]).any():
        raise PruneError(f"{place}: a value is duplicated.")
    table = table.reindex(columns=[*ATTRIBUTES, "metric", "value"]).fillna(dict.fromkeys(TEXTS, ""))
    return Exhibit(
        paper=paper["paper"],
        citation=paper["title"],
        setup=paper["setup"],
        figures=table,
        **{
            name: record[name] for name in ("key", "number", "title", "across", "digitised", "note")
        },
    )


def _require(record: dict[str, Any], types: Mapping[str, type], place: str) -> None:
    for name, kind in types.items():
        if not isinstance(record.get(name), kind):
            raise PruneError(f"{place}: {name!r} is missing or not of type {kind.__name__}.")
