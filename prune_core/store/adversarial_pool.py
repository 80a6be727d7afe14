"""The pool: adversarial texts that a person keeps, whatever becomes of their study."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pandas as pd

from .store import Store


def load(store: Store) -> pd.DataFrame:
    """The texts kept, the newest first."""
    with store.read() as db:
        found = db.execute("SELECT * FROM pool ORDER BY id DESC").fetchall()
    return pd.DataFrame([dict(row) for row in found])


def add(
    store: Store,
    *,
    text: str,
    pair: str | None,
    perturbed: str,
    label: str,
    recipe: str,
    model: str,
    study: str,
    note: str,
) -> None:
    """Put a text into the pool; one that is there from the same model and recipe only gets the new note."""
    same = (text, pair, perturbed, recipe, model, study)
    with store.write() as db:
        where = (
            "text = ? AND pair IS ? AND perturbed = ? AND recipe = ? AND model = ? AND study = ?"
        )
        if not db.execute(f"UPDATE pool SET note = ? WHERE {where}", (note, *same)).rowcount:
            columns = "text, pair, perturbed, recipe, model, study, label, note, added"
            db.execute(
                f"INSERT INTO pool ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*same, label, note, time.time()),
            )


def remove(store: Store, ids: Sequence[int]) -> None:
    """Take texts out of the pool."""
    with store.write() as db:
        db.executemany("DELETE FROM pool WHERE id = ?", [(id,) for id in ids])
