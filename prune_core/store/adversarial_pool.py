"""Pool of adversarial texts that users save from any study; deleting the study keeps them."""

import time
from collections.abc import Sequence

import pandas as pd

from .store import Store


def load(store: Store) -> pd.DataFrame:
    """Return the saved texts, newest first."""
    with store.read() as db:
        rows = db.execute("SELECT * FROM pool ORDER BY id DESC").fetchall()
    return pd.DataFrame([dict(row) for row in rows])


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
    """Add a text to the pool; if the same text of the same model is there, replace its note."""
    identity = (text, pair, perturbed, recipe, model, study)
    with store.write() as db:
        where = (
            "text = ? AND pair IS ? AND perturbed = ? AND recipe = ? AND model = ? AND study = ?"
        )
        if not db.execute(f"UPDATE pool SET note = ? WHERE {where}", (note, *identity)).rowcount:
            columns = "text, pair, perturbed, recipe, model, study, label, note, added"
            db.execute(
                f"INSERT INTO pool ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*identity, label, note, time.time()),
            )


def remove(store: Store, ids: Sequence[int]) -> None:
    """Delete texts from the pool."""
    with store.write() as db:
        db.executemany("DELETE FROM pool WHERE id = ?", [(id,) for id in ids])
