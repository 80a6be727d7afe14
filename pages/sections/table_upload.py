"""The user's own data file: upload or path, how it is parsed, and which columns are used."""

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pages.widgets import ui
from pages.widgets.flag_names import with_field_names
from prune_core import PruneError
from prune_core.data import columns, retrieval_files, tables, uploads
from prune_core.data.delimited import SEPARATORS, Dialect
from prune_core.data.examples import DataSource
from prune_core.data.retrieval import RetrievalCollection
from prune_core.plugins import option_specs
from prune_core.store import text_sets
from prune_core.store.store import Store
from prune_core.tasks import DEFAULT, TASK_TYPES, of_table
from prune_core.tasks.regression import Regression

FILE = "a file of your own"  # these two are values of the choice of data
HUB = "a data set of the Hub"
TYPES = [ending.removeprefix(".") for ending in (*tables.SUFFIXES, *tables.PACKED)]
NO_LABEL = "none: compare with the dense model"
YES_NO = {"": "auto", "yes": "yes", "no": "no"}
QUOTES = {"": "auto", "yes": "yes", "backslash": "yes, escaped by a backslash", "no": "no"}
BAD_ROWS = {"": "ask", "skip": "skip", "merge": "merge extra cells into the text"}
PARSING = ("separator", "encoding", "header", "quotes", "bad_rows")
SPECS = {spec["name"]: spec for spec in option_specs(DataSource)}


def file(store: Store, prefix: str) -> str:
    """Draw an upload and a path field; return the path of the last one used.

    The upload has its own key and is stored when its widget returns it: a callback may be lost if
    the user clicks elsewhere while the upload arrives.
    """
    stored_key, seen_key = f"{prefix}uploaded", f"{prefix}upload-seen"

    def clear() -> None:
        st.session_state[stored_key] = ""

    def changed() -> None:
        # the user removed the upload; when the page is reopened, it is empty without a change
        if not st.session_state[f"{prefix}upload"]:
            clear()

    upload = st.file_uploader("Upload a file", TYPES, key=f"{prefix}upload", on_change=changed)
    if upload and upload.file_id != st.session_state.get(seen_key):
        st.session_state.update(
            {
                stored_key: str(uploads.save(store.home, upload.name, upload.getvalue())),
                seen_key: upload.file_id,
            }
        )
    path = st.text_input(
        "or enter its path",
        key=f"{prefix}path",
        placeholder="/data/reviews.csv",
        help=(
            "Path of the file, or of a folder (written by save_to_disk, or a BEIR or Cranfield "
            "collection) on the machine that serves this page. Uploads are saved there."
        ),
        on_change=clear,
        persist_state="session",
    ).strip()
    if known := text_sets.names(store):
        kept = st.selectbox(
            "or a set of saved test examples",
            known,
            None,
            key=f"{prefix}text-set",
            placeholder="Choose a set",
            help="Saved on the pages Attack and Inspect.",
            persist_state="session",
        )
        if kept:
            return str(text_sets.file_of(store, kept))
    uploaded = str(st.session_state.get(stored_key, ""))
    if uploaded:
        st.caption(f"The upload {Path(uploaded).name} is used; a path entered here replaces it.")
    return uploaded or path


def rows(path: str) -> dict[str, Any]:
    """Draw first rows, columns and parsing options; return keys of a sweep.

    `task` is "" if the file cannot be read.
    """
    if not path:
        st.info(
            "Upload a file or enter its path to see its first rows and choose its columns.",
            icon=":material/table_rows:",
        )
        return {}
    location = Path(path).expanduser()
    if location.is_dir() and ui.run_action(retrieval_files.is_collection, path):
        return _collection(path)
    # values of widgets that are drawn below the table, as they need its detected format
    options = {name: st.session_state.get(f"{name}-{path}", "") for name in (*PARSING, "split")}
    try:
        table = _read(
            path,
            tuple(options.items()),
            st.session_state.get(f"text-{path}", ""),
            changed=location.stat().st_mtime if location.exists() else 0.0,
        )
    except PruneError as error:
        st.error(with_field_names(str(error)))
        _parsing_form(path, Dialect(), "", is_open=True)
        return {"task": ""}
    if retrieval_files.holds_queries(table.rows) and st.toggle(
        "Evaluate retrieval: queries with their documents",
        key=f"collection-{path}",
        help="For embedding models. Otherwise, the rows are pairs of texts, as rerankers score.",
    ):
        show_first_rows(table.rows)
        return options
    chosen = _columns(path, table.rows)
    used = [name for name in chosen.values() if name not in ("", columns.NO_LABELS)]
    if len(set(used)) < len(used):
        st.error("Text, second text and label must be different columns.")
        return {"task": ""}
    shown = (chosen["label"], chosen["text"], chosen["text_pair"])
    show_first_rows(table.rows[[name for name in shown if name in table.rows]])
    if table.description:
        st.caption(f"Read as: {table.description}.")
    for note in filter(None, table.notes):
        st.caption(note)
    _parsing_form(path, table.form, tables.split_column(table.rows)[0])
    return chosen | options


def _collection(path: str) -> dict[str, Any]:
    """Show the first queries of a folder with a retrieval collection; return its split."""
    split = st.session_state.get(f"split-{path}", "").strip()
    found = ui.run_action(_read_collection, path, split)
    if found is not None:
        queries = pd.DataFrame({"query": found.queries})
        show_first_rows(queries, f"{len(queries):,} judged queries")
        st.caption(
            f"Read as: retrieval collection with {len(found.documents):,} documents and "
            f"{sum(map(len, found.judgements.values())):,} judgements, for embedding models and, "
            "with a run file, rerankers."
        )
    st.text_input(
        SPECS["split"]["title"],
        key=f"split-{path}",
        placeholder="test",
        help="The file in the folder qrels whose judgements are used.",
    )
    return {"split": split} if found is not None else {"task": ""}


@st.cache_resource(show_spinner=False, max_entries=2, ttl=60)  # it is not modified
def _read_collection(path: str, split: str) -> RetrievalCollection:
    return retrieval_files.read_collection(path, split)


@st.cache_resource(show_spinner=False, max_entries=2)  # tables are not modified
def _read(
    path: str, options: tuple[tuple[str, str], ...], text: str, changed: float
) -> tables.Table:
    dialect = dict(options)
    return tables.read(path, part=dialect.pop("split"), form=Dialect(**dialect), text=text)


def _columns(path: str, table: pd.DataFrame) -> dict[str, str]:
    """Draw the detected columns as choices; the file's path is part of the widget keys."""
    names = list(table.columns)
    indicators = ",".join(columns.indicator_columns(table))
    try:
        task_type = of_table(table)
        if task_type.name == DEFAULT and retrieval_files.holds_queries(table):
            task_type = TASK_TYPES[Regression.name]  # with more usual names of pairs
        detected = columns.choose_columns(table, DataSource(), path, task_type)
        text, pair, label = detected.text, detected.pair or "", detected.label or indicators
    except PruneError:  # ambiguous: the user chooses
        text, pair, label = names[-1], "", ""
    if not label and of_table(table).name == DEFAULT:
        candidates = [
            name
            for name in names
            if name not in (text, pair)
            and 1 < table[name].astype(str).nunique() <= max(2, len(table) // 3)
        ]
        label = candidates[0] if len(candidates) == 1 else ""
    cells = st.columns(3)
    labels = [columns.NO_LABELS, *names, *([indicators] if indicators else [])]
    return {
        "text": cells[0].selectbox(
            SPECS["text"]["title"],
            names,
            names.index(text),
            key=f"text-{path}",
            persist_state="session",
        ),
        "text_pair": cells[1].selectbox(
            SPECS["text_pair"]["title"],
            ["", *names],
            ["", *names].index(pair),
            format_func=lambda name: name or "none",
            key=f"pair-{path}",
            help="For sentence pairs, or the context of questions.",
            persist_state="session",
        ),
        "label": cells[2].selectbox(
            SPECS["label"]["title"],
            labels,
            labels.index(label or columns.NO_LABELS),
            key=f"label-{path}",
            format_func=lambda name: (
                NO_LABEL if name == columns.NO_LABELS else name.replace(",", ", ")
            ),
            help="For a multi-label file with one 0/1 column per label: all of these columns.",
            persist_state="session",
        ),
    }


def _parsing_form(path: str, dialect: Dialect, splits: str, is_open: bool = False) -> None:
    """Draw the detected format of a text table, or the choice of a split, sheet or key."""
    kind = tables.suffix(path)
    has_parts = kind in (*tables.JSON, *tables.EXCEL) or Path(path).expanduser().is_dir()
    if has_parts or splits or st.session_state.get(f"split-{path}"):
        with st.expander(
            "Read another split, sheet or key", icon=":material/tune:", key="split-form"
        ):
            st.text_input(
                "Split, sheet or key",
                key=f"split-{path}",
                placeholder="auto",
                help=_help("split"),
                persist_state="session",
            )
    if has_parts or kind in (*tables.COLUMNAR, *tables.CONLL):
        return
    with st.expander(
        "Parsing options", expanded=is_open, icon=":material/tune:", key="parsing-form"
    ):
        grid = st.grid(5, min_column_width=150, gap="small", key="parsing-options")
        cells = {name: grid.cell() for name in PARSING}
        separators = {
            "": f"auto ({SEPARATORS.get(dialect.separator, dialect.separator) or 'none'})",
            **{name: name for name in (*SEPARATORS.values(), "none")},
        }
        cells.pop("encoding").text_input(
            SPECS["encoding"]["title"],
            key=f"encoding-{path}",
            placeholder=dialect.encoding or "such as cp1252",
            help=_help("encoding"),
            persist_state="session",
        )
        choices = (separators, YES_NO, QUOTES, BAD_ROWS)
        for (name, cell), titles in zip(cells.items(), choices, strict=True):
            cell.selectbox(
                SPECS[name]["title"],
                list(titles),
                format_func=titles.__getitem__,
                key=f"{name}-{path}",
                help=_help(name),
                persist_state="session",
            )


def _help(name: str) -> str:
    text = str(SPECS[name]["help"])
    return text[0].upper() + text[1:]


def show_first_rows(table: pd.DataFrame, source: str = "") -> None:
    """Show the first five rows; put the label column first, as texts can exceed the width."""
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
    st.caption(f"First five rows of {source or f'{len(table):,}'}.")
