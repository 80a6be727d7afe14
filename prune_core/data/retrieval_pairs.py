"""Read tables of queries with their documents: pairs, triples and candidates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from . import tables
from .cells import is_empty
from .column_names import FIRST_STAGE_SCORES, PASSAGES, RANKS, first_usual
from .delimited import Dialect
from .dropped_rows import line_number
from .retrieval import RetrievalCollection, collection

GRADES = ("score", "relevance", "rel", "grade", "label", "relevance_score", "judgement")
QUERIES = ("query", "question", "anchor", "sentence1", "text1", "premise")
POSITIVES = ("positive", "positives", "pos", "positive_passages", "answer")
NEGATIVES = ("negative", "negatives", "neg", "hard_negatives", "negative_passages")


def read_pairs(
    path: str,
    *,
    query: str = "",
    positive: str = "",
    negative: str = "",
    grade: str = "",
    rank: str = "",
    split: str = "",
    form: Dialect = tables.DETECT,
) -> RetrievalCollection:
    """Read a table of queries with their documents; "" detects a column by its usual names.

    Either (query, positive) or (query, positive, negative), whose cells may be lists, or one row
    per candidate (query, document, grade), whose order is the first stage's if there is a column
    `rank`. Equal texts are one query or document. Without a negative or a grade, the documents are
    all texts of the table and there are no candidates.
    """
    table = tables.read(path, form, part=split).rows
    column = _column_finder(table, path)
    asked = column(query, QUERIES, "query")
    relevant = column(positive, POSITIVES, "")
    graded = column(grade, GRADES, "") if grade or not relevant else ""
    if not relevant:
        relevant = column("", PASSAGES, "positive", used=(asked, graded))
    others = column(negative, NEGATIVES, "")
    rows = _document_rows(table, asked, relevant, others)
    rows["grade"] = rows["is_positive"].astype(float)
    ranked = column(rank, RANKS, "") if graded else ""
    if graded:
        rows["grade"] = numbers(table, graded, path)[rows["row"]]
    if ranked:
        rows["rank"] = numbers(table, ranked, path)[rows["row"]]
        rows = rows.sort_values("rank", kind="stable")
    return _from_rows(rows, path, bool(graded or others), bool(ranked), form.bad_rows == "skip")


def first_stage_scores(
    table: pd.DataFrame, path: str, used: Sequence[str | None] = ()
) -> list[float] | None:
    """Return the first stage's score of each candidate, (rows,), the best is the highest.

    From a column of ranks or of scores, other than those in `used`; None if there is none.
    """
    if rank := first_usual(table, RANKS, used):
        return (-numbers(table, rank, path)).tolist()
    score = first_usual(table, FIRST_STAGE_SCORES, used)
    return numbers(table, score, path).tolist() if score else None


def _document_rows(table: pd.DataFrame, query: str, positive: str, negative: str) -> pd.DataFrame:
    """Return one row per query and document: query, document, is_positive and row."""
    rows = [
        (cell_text(table[query].iloc[row]), text, is_positive, row)
        for row in range(len(table))
        for column, is_positive in ((positive, True), (negative, False))
        if column
        for text in _cells(table[column].iloc[row])
    ]
    return pd.DataFrame(rows, columns=["query", "document", "is_positive", "row"])


def _from_rows(
    rows: pd.DataFrame, path: str, has_candidates: bool, is_ordered: bool, skip: bool
) -> RetrievalCollection:
    """Make a collection of rows with query, document and grade; texts become ids q1…, d1…"""
    texts: dict[str, pd.Series] = {}
    for name in ("query", "document"):
        codes, unique = pd.factorize(rows[name])
        rows[name] = [f"{name[0]}{code + 1}" for code in codes]
        ids = [f"{name[0]}{code + 1}" for code in range(len(unique))]
        texts[name] = pd.Series(list(unique), index=pd.Index(ids, dtype=object), dtype=object)
    # the same document as positive and as negative of a query is relevant
    best = rows.groupby(["query", "document"], sort=False, as_index=False)["grade"].max()
    candidates = {
        str(query): tuple(found["document"]) for query, found in best.groupby("query", sort=False)
    }
    return collection(
        texts["document"],
        texts["query"],
        best,
        candidates if has_candidates else None,
        name=path,
        is_first_stage_order=has_candidates and is_ordered,
        skip=skip,
    )


def _column_finder(table: pd.DataFrame, path: str) -> Callable[..., str]:
    """Return a function that finds a column: the requested one, else by its usual names."""

    def column(requested: str, names: Sequence[str], needed: str, used: Sequence[str] = ()) -> str:
        """Return a column; "" if there is none and `needed` is empty, else PruneError."""
        if requested and requested not in table:
            raise PruneError(
                f"{path} has no column {requested!r}; it has {', '.join(map(str, table.columns))}."
            )
        found = requested or first_usual(table, names, used=used) or ""
        if needed and not found:
            raise PruneError(
                f"{path} has no column named {' or '.join(names[:3])} among "
                f"{', '.join(map(str, table.columns))}; name one {needed}."
            )
        return str(found)

    return column


def cell_text(value: Any) -> str:
    """Return the text of a cell; of a passage with title and text, both."""
    if isinstance(value, Mapping):
        parts = [str(value[name]) for name in ("title", "text") if value.get(name)]
        return " ".join(parts)
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ".join(map(str, value))
    return "" if is_empty(value) else str(value).strip()


def _cells(value: Any) -> list[str]:
    """Return the texts of a cell with one text or a list of them, without empty ones."""
    values = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    return [text for text in map(cell_text, values) if text]


def numbers(table: pd.DataFrame, column: str, path: str) -> np.ndarray:
    """Return a column as (rows,) floats; PruneError with the line of a value that is no number."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        value = str(table[column].iloc[bad[0]])[:40]
        raise PruneError(
            f"{path}, {line_number(table, int(bad[0]))}, column {column!r}: {value!r} is not a "
            f"number ({plural(len(bad), 'such row')}); write a number, such as 0 or 1."
        )
    return values
