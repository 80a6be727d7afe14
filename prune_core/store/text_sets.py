"""Named sets of test examples that users save from attacks or enter, to measure models on.

A set is a CSV file in the folder of the store, which is read like any other data file.
"""

import os
import re
import tempfile
from pathlib import Path

import pandas as pd

from ..errors import PruneError
from .store import Store

FOLDER = "text-sets"
TEXT, PAIR, LABEL, SOURCE = "text", "text_pair", "label", "source"


def names(store: Store) -> list[str]:
    """Return the names of all sets."""
    return sorted(file.stem for file in (store.home / FOLDER).glob("[!.]*.csv"))


def file_of(store: Store, name: str) -> Path:
    """Return the file of a set; raise PruneError if the name is not a valid file name."""
    if not re.fullmatch(r"\w[\w. -]*", name.strip()):
        raise PruneError(
            f"{name!r} is not a name for a set of texts; use letters, digits, spaces and hyphens."
        )
    return store.home / FOLDER / f"{name.strip()}.csv"


def add(store: Store, name: str, *, text: str, pair: str | None, label: str, source: str) -> int:
    """Add a text with its label to a set; return the number of examples in the set.

    `source` describes where the text comes from. A duplicate replaces the earlier example.
    """
    file = file_of(store, name)
    rows = pd.read_csv(file, dtype=str, keep_default_na=False) if file.is_file() else pd.DataFrame()
    columns = [TEXT, *([PAIR] if pair else []), LABEL, SOURCE]
    if len(rows) and list(rows.columns) != columns:
        expected = "pairs of texts" if PAIR in rows else "single texts"
        raise PruneError(f"The set {name} has {expected}; choose another name for this text.")
    new = {TEXT: text, PAIR: pair, LABEL: label, SOURCE: source}
    identity = [column for column in (TEXT, PAIR) if column in columns]
    rows = pd.concat([rows, pd.DataFrame([new])[columns]], ignore_index=True)
    rows = rows.drop_duplicates(identity, keep="last")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".", delete=False) as partial:
        rows.to_csv(partial, index=False)
    os.replace(partial.name, file)  # atomic: a worker never reads a partial file
    return len(rows)
