"""Limit on the number of table rows that are dropped without asking the user."""

from collections.abc import Collection

import pandas as pd

from ..errors import PruneError
from ..formatting import percent, plural
from .examples import DataSource

# above either limit, rows are dropped only if the user agrees
MAX_DROPPED_FRACTION = 0.05  # fraction of the rows
MAX_DROPPED_ROWS = 20
SHOWN = 3  # examples in the message


class RowQuestion(PruneError):
    """Some rows cannot be used; the user can drop them with `--bad-rows skip`."""


def line_number(rows: pd.DataFrame, row: int) -> str:
    """Position of a row in its file, such as "line 5"."""
    name = rows.index.name
    return f"{name} {rows.index[row]}" if name else f"row {row + 1}"


def check_dropped(
    rows: pd.DataFrame,
    dropped: Collection[int],
    source: DataSource,
    problem: str,
    remedy: str = "correct it",
    *,
    column: str | None = None,
    always: bool = False,
) -> None:
    """Raise RowQuestion if more rows would be dropped than the limits allow; with `always`, if any.

    `problem` completes "12 of 40 rows have …"; `remedy` is the alternative to dropping them.
    """
    many = len(dropped) > min(MAX_DROPPED_ROWS, MAX_DROPPED_FRACTION * len(rows))
    if source.bad_rows == "skip" or not (many or always):
        return
    shown = [
        f"{line_number(rows, row)} ({_preview(rows, row, column)})"
        for row in sorted(dropped)[:SHOWN]
    ]
    raise RowQuestion(
        f"{source.task}: {len(dropped):,} of {plural(len(rows), 'row')} "
        f"({percent(len(dropped) / len(rows))}) {'has' if len(dropped) == 1 else 'have'} "
        f"{problem}: {', '.join(shown)}. "
        f"Use --bad-rows skip to leave them out, or {remedy}."
    )


def _preview(rows: pd.DataFrame, row: int, column: str | None) -> str:
    cell = rows[column].iloc[row] if column else " | ".join(str(value) for value in rows.iloc[row])
    return repr(str(cell)[:40])
