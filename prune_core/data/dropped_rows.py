"""How many rows of a table may be left out before the user is asked."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from ..errors import PruneError
from ..formatting import percent, plural
from .examples import DataSource

MOST_DROPPED, MOST_ROWS = (
    0.05,
    20,
)  # more of the rows, or more rows, are left out only if the user agrees
SHOWN = 3  # examples in a question


class RowQuestion(PruneError):
    """Rows cannot be used; `--bad-rows skip` leaves them out."""


def line_number(rows: pd.DataFrame, row: int) -> str:
    """The place of a row in its file, such as line 5."""
    name = rows.index.name
    return f"{name} {rows.index[row]}" if name else f"row {row + 1}"


def check_dropped(
    rows: pd.DataFrame,
    dropped: Collection[int],
    source: DataSource,
    what: str,
    remedy: str = "correct it",
    *,
    column: str | None = None,
    always: bool = False,
) -> None:
    """RowQuestion if these rows are more than may be left out unnoticed; `always`, however few."""
    many = len(dropped) > min(MOST_ROWS, MOST_DROPPED * len(rows))
    if source.bad_rows == "skip" or not (many or always):
        return
    shown = [
        f"{line_number(rows, row)} ({_shown(rows, row, column)})" for row in sorted(dropped)[:SHOWN]
    ]
    raise RowQuestion(
        f"{source.task}: {len(dropped):,} of {plural(len(rows), 'row')} ({percent(len(dropped) / len(rows))}) "
        f"{'has' if len(dropped) == 1 else 'have'} {what}: {', '.join(shown)}. Use --bad-rows skip to leave them out, or {remedy}."
    )


def _shown(rows: pd.DataFrame, row: int, column: str | None) -> str:
    cell = rows[column].iloc[row] if column else " | ".join(str(value) for value in rows.iloc[row])
    return repr(str(cell)[:40])
