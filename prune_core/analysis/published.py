"""Published figures, read and checked from assets/papers.

A file holds a paper's set-up and its exhibits (tables and plots) as printed. Knows nothing of studies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from .. import formatting as f
from ..data.metrics import METRICS
from ..errors import PruneError
from ..paths import ASSETS

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
TEXTS = (
    "model",
    "task",
    "pattern",
    "attack",
    "texts",
)  # attributes that are "" where an exhibit does not have them
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
}


@dataclass(frozen=True)
class Axis:
    """How a published quantity is named and written."""

    title: str
    show: Callable[[float], str]
    tick: str  # plotly's format


AXES = {
    **{
        name: Axis(METRICS[name].title, f.percent, ".0%")
        for name in ("accuracy", "spearman", "answer_f1")
    },
    "under_attack": Axis("Accuracy under attack", f.percent, ".0%"),
    "success_rate": Axis("Attack success rate", f.percent, ".0%"),
    "distance": Axis("Distance from the dense embedding", f.plain, ".2f"),
    "speedup": Axis("Measured speed-up (times)", lambda value: f"{value:.2f} times", ".1f"),
    "lead": Axis(
        "Lead of K-prune over Kwon et al. (points)", lambda value: f"{value:.1f} points", ".0f"
    ),
}


@dataclass(frozen=True)
class Exhibit:
    """A table or plot of a paper. `figures` has a row a figure: ATTRIBUTES, metric, value (percent as a share)."""

    key: str
    paper: str
    citation: str
    number: str  # such as "Table 1"; "" where our notes have none
    title: str
    across: str  # what its figures are drawn against: sparsity, layer or task
    digitised: bool  # read off a plot
    note: str
    setup: dict[str, Any]
    figures: pd.DataFrame

    @property
    def against(self) -> str:
        """What is along its charts: weights or FLOPs (a share of them), layer or task."""
        return self.setup["removed"] if self.across == "sparsity" else self.across

    @property
    def source(self) -> str:
        """Where the figures stand."""
        return ", ".join(filter(None, (self.paper, self.number)))


@cache
def exhibits() -> dict[str, Exhibit]:
    """Every bundled exhibit by key."""
    return {exhibit.key: exhibit for path in sorted(HOME.glob("*.json")) for exhibit in read(path)}


def read(path: Path) -> list[Exhibit]:
    """The exhibits of one file; what is wrong with it is a sentence."""
    paper = json.loads(path.read_text(encoding="utf-8"))
    _has(paper, {"paper": str, "title": str, "setup": dict, "exhibits": list}, path.name)
    return [
        _exhibit(paper, each, f"{path.name}, {each.get('key', 'an exhibit without key')}")
        for each in paper["exhibits"]
    ]


def _exhibit(paper: dict[str, Any], given: dict[str, Any], place: str) -> Exhibit:
    texts = dict.fromkeys(("key", "number", "title", "across", "unit", "note"), str)
    _has(given, {**texts, "digitised": bool, "facts": dict, "columns": list, "rows": list}, place)
    columns, rows = given["columns"], given["rows"]
    if strange := [
        name
        for name in [*columns, *given["facts"]]
        if name not in (*ATTRIBUTES, *AXES, "metric", "value")
    ]:
        raise PruneError(
            f"{place}: {strange[0]!r} is no attribute and no figure; known are {', '.join((*ATTRIBUTES, *AXES))}."
        )
    if wrong := [row for row in rows if len(row) != len(columns)]:
        raise PruneError(
            f"{place}: {wrong[0]} has {len(wrong[0])} values for {len(columns)} columns."
        )
    if given["unit"] not in UNITS or given["across"] not in ("sparsity", "layer", "task"):
        raise PruneError(
            f"{place}: unit must be one of {', '.join(UNITS)}, across one of sparsity, layer, task."
        )
    table = pd.DataFrame(rows, columns=columns).assign(**given["facts"])
    if "metric" not in table:
        named = [name for name in table if name in AXES]
        table = table.melt([name for name in table if name not in named], named, "metric", "value")
    table["value"] *= UNITS[given["unit"]]
    if not table["value"].between(0, 1 if given["unit"] == "percent" else 100).all() or not set(
        table["metric"]
    ) <= set(AXES):
        raise PruneError(f"{place}: a figure is no number of its unit, or bears an unknown name.")
    if table.duplicated([name for name in table if name != "value"]).any():
        raise PruneError(f"{place}: a figure is there twice.")
    table = table.reindex(columns=[*ATTRIBUTES, "metric", "value"]).fillna(dict.fromkeys(TEXTS, ""))
    kept = {name: given[name] for name in ("key", "number", "title", "across", "digitised", "note")}
    return Exhibit(
        paper=paper["paper"], citation=paper["title"], setup=paper["setup"], figures=table, **kept
    )


def _has(given: dict[str, Any], wanted: Mapping[str, type], place: str) -> None:
    for name, kind in wanted.items():
        if not isinstance(given.get(name), kind):
            raise PruneError(f"{place}: {name!r} is missing or no {kind.__name__}.")
