"""Groups of evaluation examples that a model may serve worse: by length, label, keyword, or a column of the reader's file.

Rows of `prediction` in; membership, counts and bounds out. Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data import columns, tasks
from ..data.examples import AnswerSpans, DataSource
from ..data.metrics import exact_match, normalize_answer
from ..errors import PruneError
from ..statistics import mcnemar, paired_bounds
from .attack_success import thirds

MOST = 20  # different values of a column that make slices


def hits(rows: pd.DataFrame, side: str, kind: str) -> np.ndarray:
    """(examples,) whether the `side` ("dense" or "pruned") is right; of spans whether exactly an accepted answer was given."""
    if kind == "span":
        return np.array(
            [
                exact_match(AnswerSpans(list(right), [0] * len(right)), said) == 1.0
                for right, said in zip(rows["label"], rows[side], strict=True)
            ],
            dtype=bool,
        )
    return _same(rows["label"], rows[side])


def agreed(rows: pd.DataFrame, kind: str) -> np.ndarray:
    """(examples,) whether both models said the same."""
    sides = [
        rows[side].map(normalize_answer) if kind == "span" else rows[side]
        for side in ("dense", "pruned")
    ]
    return _same(*sides)


def _same(one: pd.Series, other: pd.Series) -> np.ndarray:
    """(examples,) where both say the same; of lists, where every entry is."""
    if one.map(lambda value: isinstance(value, list | tuple | np.ndarray)).any():
        one, other = one.map(tuple), other.map(tuple)
    return (one == other).to_numpy(bool)


def members(
    rows: pd.DataFrame,
    asked: Sequence[str],
    kind: str,
    names: Sequence[str],
    source: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """(examples,) booleans by slice name; thirds by length hold equal lengths together."""
    texts = [
        " ".join(filter(None, pair))
        for pair in zip(rows["text"], rows["pair"].fillna(""), strict=True)
    ]
    found: dict[str, np.ndarray] = {}
    for each in asked:
        sort, _, what = each.partition(":")
        if sort == "length":
            lengths = thirds(
                pd.Series([len(text.split()) for text in texts]),
                ("short", "middle", "long"),
                "{:.0f} words",
            )
            found |= {str(name): lengths == name for name in lengths.categories}
        elif sort == "label" and kind == "classification" and not rows["label"].isna().any():
            found |= {
                f"label {name}": (rows["label"] == index).to_numpy()
                for index, name in enumerate(names)
            }
        elif sort == "keyword":
            pattern = re.compile(rf"(?<!\w){re.escape(what)}(?!\w)", re.IGNORECASE)
            found[f"with “{what}”"] = np.array([bool(pattern.search(text)) for text in texts])
            if not found[f"with “{what}”"].any():
                raise PruneError(
                    f"No evaluation text has the word {what!r}, so nothing is known of that slice; leave keyword:{what} out."
                )
        elif sort == "column":
            values = column_of(source, list(rows["text"]), what)
            found |= {
                f"{what} {value}": (values == value).to_numpy()
                for value in sorted(values.dropna().unique())
            }
    return {name: inside for name, inside in found.items() if inside.any()}


def column_of(source: Mapping[str, Any], texts: Sequence[str], name: str) -> pd.Series:
    """(examples,) a column's value of the row that each text stands in, as text; nothing where that is not one."""
    of = DataSource(**{key: str(source.get(key, "")) for key in DataSource.__dataclass_fields__})
    if not tasks.is_file(of.task) or not Path(of.task).expanduser().exists():
        raise PruneError(
            f"column:{name} is read from the evaluation file, and {of.task!r} is none that is there; leave the slice out."
        )
    rows = tasks.table_of(of).rows
    if name not in rows:
        raise PruneError(
            f"{of.task}: there is no column {name!r} to slice by; it has {', '.join(rows.columns)}."
        )
    if rows[name].astype(str).nunique() > MOST:
        raise PruneError(
            f"{of.task}: column {name!r} has {rows[name].astype(str).nunique()} different values; "
            f"slices need at most {MOST}."
        )
    text = columns.choose_columns(rows, of, of.task, kind=columns.describe_columns(rows)).text
    values = rows[name].map(str).groupby(rows[text].map(str)).agg(["first", "nunique"])
    known = values.loc[
        values["nunique"] == 1, "first"
    ]  # a text that stands in several rows may have several values
    found = pd.Series(texts).map(known)
    if found.isna().all():
        raise PruneError(
            f"{of.task}: no evaluation text stands in it with one value of {name!r}; leave column:{name} out."
        )
    return found


def slice_verdicts(
    inside: Mapping[str, np.ndarray], was: np.ndarray, now: np.ndarray, alpha: float
) -> pd.DataFrame:
    """A row a slice: n, right before and after, one-sided bounds of the difference, and McNemar's p by Holm over all slices."""
    rows = []
    for name, chosen in inside.items():
        n, broken, fixed = (
            int(chosen.sum()),
            int((was & ~now & chosen).sum()),
            int((~was & now & chosen).sum()),
        )
        low, high = paired_bounds(broken, fixed, n, alpha=alpha)
        rows.append(
            {
                "slice": name,
                "n": n,
                "dense": was[chosen].mean(),
                "pruned": now[chosen].mean(),
                "difference": (fixed - broken) / n,
                "low": low,
                "high": high,
                "broken": broken,
                "fixed": fixed,
                "p_value": mcnemar(broken, fixed),
            }
        )
    return (
        pd.DataFrame(rows).assign(p_holm=lambda found: holm(found["p_value"].to_numpy()))
        if rows
        else pd.DataFrame()
    )


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number (Holm 1979)."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty(len(p))
    out[order] = np.minimum(1.0, steps)
    return out
