"""The user's own data file: upload or path, how it is parsed, and which columns are used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets.flag_names import with_field_names
from prune_core import PruneError
from prune_core.data import columns, tables, uploads
from prune_core.data.delimited import SEPARATORS, Dialect
from prune_core.data.examples import DataSource
from prune_core.store.store import Store

FILE = "a file of your own"  # what the choice of data calls it, and the next
HUB = "a data set of the Hub"
TYPES = [ending.removeprefix(".") for ending in (*tables.SUFFIXES, *tables.PACKED)]
NO_LABEL = "none: judge against the dense model"
YES_NO = {"": "as found", "yes": "yes", "no": "no"}
QUOTES = {"": "as found", "yes": "yes", "backslash": "yes, escaped by a backslash", "no": "no"}
BAD_ROWS = {"": "ask", "skip": "leave them out", "merge": "merge extra cells into the text"}
HOW = ("separator", "encoding", "header", "quotes", "bad_rows")


def file(store: Store, of: str) -> str:
    """The path of the file: that of the upload, or the one typed, whichever came last.

    The upload has its own key and is stored when its widget returns it: a callback may be lost if
    the user clicks elsewhere while the upload arrives.
    """
    kept, seen = f"{of}uploaded", f"{of}upload-seen"

    def drop() -> None:
        st.session_state[kept] = ""

    def changed() -> None:
        if not st.session_state[
            f"{of}upload"
        ]:  # taken out again; on a page come back to it is empty without having changed
            drop()

    upload = st.file_uploader("Upload it", TYPES, key=f"{of}upload", on_change=changed)
    if upload and upload.file_id != st.session_state.get(seen):
        st.session_state.update(
            {
                kept: str(uploads.save(store.home, upload.name, upload.getvalue())),
                seen: upload.file_id,
            }
        )
    path = st.text_input(
        "or give its path",
        key=f"{of}path",
        placeholder="/data/reviews.csv",
        help=(
            "Where the file, or a folder of save_to_disk, lies on the machine that serves this "
            "page. An upload is kept."
        ),
        on_change=drop,
        persist_state="session",
    ).strip()
    uploaded = str(st.session_state.get(kept, ""))
    if uploaded:
        st.caption(
            f"{Path(uploaded).name}, as uploaded, is read; a path typed here takes its place."
        )
    return uploaded or path


def rows(path: str) -> dict[str, Any]:
    """Parsing options, columns and first rows, as keys of a sweep; no task if unreadable."""
    if not path:
        st.info(
            "Upload a file, or give its path, to see its first rows and choose its columns.",
            icon=":material/table_rows:",
        )
        return {}
    # set by widgets below the table, which need to know how it was read
    asked = {name: st.session_state.get(f"{name}-{path}", "") for name in (*HOW, "split")}
    text = st.session_state.get(f"text-{path}", "")
    there = Path(path).expanduser()
    try:
        table = _read(
            path,
            tuple(asked.items()),
            text,
            changed=there.stat().st_mtime if there.exists() else 0.0,
        )
    except PruneError as error:
        st.error(with_field_names(str(error)))
        _how(path, Dialect(), "", is_open=True)
        return {"task": ""}
    chosen = _columns(path, table.rows)
    if len({*chosen.values()} - {"", columns.NO_LABELS}) < len(
        [name for name in chosen.values() if name not in ("", columns.NO_LABELS)]
    ):
        st.error("Text, second text and label must be different columns.")
        return {"task": ""}
    shown = [
        name
        for name in (chosen["label"], chosen["text"], chosen["text_pair"])
        if name in table.rows
    ]
    select_first_table(table.rows[shown])
    for note in (f"Read as: {table.description}." if table.description else "", *table.notes):
        if note:
            st.caption(note)
    _how(path, table.form, tables.split_column(table.rows)[0])
    return chosen | asked


@st.cache_resource(show_spinner=False, max_entries=2)  # which nobody changes
def _read(path: str, asked: tuple[tuple[str, str], ...], text: str, changed: float) -> tables.Table:
    form = dict(asked)
    return tables.read(path, part=form.pop("split"), form=Dialect(**form), text=text)


def _columns(path: str, table: pd.DataFrame) -> dict[str, str]:
    """The detected columns, to be corrected. The file's path is part of the widget keys."""
    names = list(table.columns)
    several = ",".join(columns.indicator_columns(table))
    try:
        found = columns.choose_columns(
            table, DataSource(), path, kind=columns.describe_columns(table)
        )
        text, pair, label = found.text, found.pair or "", found.label or several
    except PruneError:  # several could be the text: the reader chooses
        text, pair, label = names[-1], "", ""
    if not label and columns.describe_columns(table) == "classification":
        few = [
            name
            for name in names
            if name not in (text, pair)
            and 1 < table[name].astype(str).nunique() <= max(2, len(table) // 3)
        ]
        label = few[0] if len(few) == 1 else ""
    places, labels = st.columns(3), [columns.NO_LABELS, *names, *([several] if several else [])]
    return {
        "text": places[0].selectbox(
            "Text column", names, names.index(text), key=f"text-{path}", persist_state="session"
        ),
        "text_pair": places[1].selectbox(
            "Second text",
            ["", *names],
            ["", *names].index(pair),
            format_func=lambda name: name or "none",
            key=f"pair-{path}",
            help="For sentence pairs, or the context of questions.",
            persist_state="session",
        ),
        "label": places[2].selectbox(
            "Label column",
            labels,
            labels.index(label or columns.NO_LABELS),
            key=f"label-{path}",
            format_func=lambda name: (
                NO_LABEL if name == columns.NO_LABELS else name.replace(",", ", ")
            ),
            help="Of a multi-label file with a column of 1 and 0 for each label, all of these.",
            persist_state="session",
        ),
    }


def _how(path: str, form: Dialect, splits: str, is_open: bool = False) -> None:
    """The detected format of a text table, to be corrected, or the part to read of a container."""
    kind = tables.suffix(path)
    several = kind in (*tables.JSON, *tables.EXCEL) or Path(path).expanduser().is_dir()
    if several or splits or st.session_state.get(f"split-{path}"):
        with st.expander("Read another part", icon=":material/tune:", key="read-part"):
            st.text_input(
                "Split, sheet or key",
                key=f"split-{path}",
                placeholder="as found",
                help=(
                    "A split of a saved folder or by the file's own column, a sheet of an Excel "
                    "file, or a key of a JSON file of several."
                ),
                persist_state="session",
            )
    if several or kind in (*tables.COLUMNAR, *tables.CONLL):
        return
    with st.expander(
        "Read it differently", expanded=is_open, icon=":material/tune:", key="read-otherwise"
    ):
        grid = st.grid(5, min_column_width=150, gap="small", key="how")
        places = [grid.cell() for _ in HOW]
        signs = {
            "": f"as found ({SEPARATORS.get(form.separator, form.separator) or 'none'})",
            **{name: name for name in (*SEPARATORS.values(), "none")},
        }
        places[0].selectbox(
            "Separator",
            list(signs),
            format_func=signs.__getitem__,
            key=f"separator-{path}",
            persist_state="session",
        )
        places[1].text_input(
            "Encoding",
            key=f"encoding-{path}",
            placeholder=form.encoding or "such as cp1252",
            persist_state="session",
        )
        places[2].selectbox(
            "First row names columns",
            list(YES_NO),
            format_func=YES_NO.__getitem__,
            key=f"header-{path}",
            persist_state="session",
        )
        places[3].selectbox(
            "Quotes enclose cells",
            list(QUOTES),
            format_func=QUOTES.__getitem__,
            key=f"quotes-{path}",
            persist_state="session",
        )
        places[4].selectbox(
            "Bad rows",
            list(BAD_ROWS),
            format_func=BAD_ROWS.__getitem__,
            key=f"bad_rows-{path}",
            help=(
                "Rows with another number of cells, without a text, or with a value that does "
                "not fit its column."
            ),
            persist_state="session",
        )


def select_first_table(table: pd.DataFrame, of: str = "") -> None:
    """The first five rows; the label first, as texts are longer than the table is wide."""
    shown = table.head(5)
    lists = [
        name
        for name in shown
        if shown[name].map(lambda value: not isinstance(value, str | int | float | bool)).any()
    ]
    st.dataframe(
        shown.assign(**{name: shown[name].map(str) for name in lists}),
        hide_index=True,
        width="stretch",
        key="preview",
    )
    st.caption(f"The first five of {of or f'{len(table):,} rows'}.")
