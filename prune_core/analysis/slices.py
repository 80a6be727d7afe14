"""Slices of the evaluation examples: by length, label, keyword, or a column of the user's file."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..data import columns
from ..data.examples import DataSource
from ..errors import PruneError
from ..paths import table_path
from ..statistics import mcnemar, paired_bounds
from ..tasks import TaskType, of_table, task_data
from .attack_success import thirds

MAX_VALUES = 20  # distinct values of a column used for slices


def slice_masks(
    rows: pd.DataFrame,
    requested: Sequence[str],
    task_type: TaskType,
    names: Sequence[str],
    source: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Return (examples,) masks by slice name; equal lengths stay in one third."""
    texts = [
        " ".join(filter(None, pair))
        for pair in zip(rows["text"], rows["pair"].fillna(""), strict=True)
    ]
    masks: dict[str, np.ndarray] = {}
    for request in requested:
        group, _, argument = request.partition(":")
        if group == "length":
            lengths = thirds(
                pd.Series([len(text.split()) for text in texts]),
                ("short", "middle", "long"),
                "{:.0f} words",
            )
            masks |= {str(name): lengths == name for name in lengths.categories}
        elif group == "label" and task_type.is_single_label and not rows["label"].isna().any():
            masks |= {
                f"label {name}": (rows["label"] == index).to_numpy()
                for index, name in enumerate(names)
            }
        elif group == "keyword":
            pattern = re.compile(rf"(?<!\w){re.escape(argument)}(?!\w)", re.IGNORECASE)
            masks[f"with “{argument}”"] = np.array([bool(pattern.search(text)) for text in texts])
            if not masks[f"with “{argument}”"].any():
                raise PruneError(
                    f"No evaluation text contains the word {argument!r}, so its slice is empty; "
                    f"remove keyword:{argument}."
                )
        elif group == "column":
            values = column_values(source, list(rows["text"]), argument)
            masks |= {
                f"{argument} {value}": (values == value).to_numpy()
                for value in sorted(values.dropna().unique())
            }
    return {name: mask for name, mask in masks.items() if mask.any()}


def column_values(source: Mapping[str, Any], texts: Sequence[str], name: str) -> pd.Series:
    """Return (examples,) the value of a column in the row of each text; NaN if it is ambiguous."""
    data = DataSource.from_keys(source)
    if not task_data.is_file(data.task) or not table_path(data.task).exists():
        raise PruneError(
            f"column:{name} is read from the evaluation file, but {data.task!r} is not an existing "
            "file; remove this slice."
        )
    rows = task_data.table_of(data).rows
    if name not in rows:
        raise PruneError(
            f"{data.task}: there is no column {name!r} to slice by; it has "
            f"{', '.join(rows.columns)}."
        )
    if rows[name].astype(str).nunique() > MAX_VALUES:
        raise PruneError(
            f"{data.task}: column {name!r} has {rows[name].astype(str).nunique()} different "
            f"values; slices need at most {MAX_VALUES}."
        )
    text = columns.choose_columns(rows, data, data.task, of_table(rows)).text
    values = rows[name].map(str).groupby(rows[text].map(str)).agg(["first", "nunique"])
    # a text in several rows may have several values
    result = pd.Series(texts).map(values.loc[values["nunique"] == 1, "first"])
    if result.isna().all():
        raise PruneError(
            f"{data.task}: no evaluation text has a unique value of {name!r}; remove column:{name}."
        )
    return result


def slice_verdicts(
    masks: Mapping[str, np.ndarray], dense: np.ndarray, pruned: np.ndarray, alpha: float
) -> pd.DataFrame:
    """Return one row per slice: n, accuracies, one-sided bounds of the difference, McNemar's test.

    `p_holm` is corrected for all slices.
    """
    rows = []
    for name, chosen in masks.items():
        n = int(chosen.sum())
        broken, fixed = int((dense & ~pruned & chosen).sum()), int((~dense & pruned & chosen).sum())
        low, high = paired_bounds(broken, fixed, n, alpha=alpha)
        rows.append(
            {
                "slice": name,
                "n": n,
                "dense": dense[chosen].mean(),
                "pruned": pruned[chosen].mean(),
                "difference": (fixed - broken) / n,
                "low": low,
                "high": high,
                "broken": broken,
                "fixed": fixed,
                "p_value": mcnemar(broken, fixed),
            }
        )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p_value"].to_numpy()))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Correct p-values for multiple tests (Holm 1979)."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * (len(p_values) - np.arange(len(p_values))))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1.0, steps)
    return corrected
