"""Read a table from a file or a saved dataset.

Formats: text, JSON, Parquet, Arrow, Excel and CoNLL, compressed or not; pandas, pyarrow and fsspec
do the reading. Each table's index is the line or row number in the file and is named accordingly,
for messages.
"""

import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..errors import PruneError
from ..paths import TABLES, resolve_allowed
from . import arrow_tables, columns, delimited, json_tables
from .conll import group_words, is_conll, parse_conll
from .delimited import Dialect
from .encodings import BOMS, decode
from .examples import DataSource
from .header import rows_above_header

TEXT = (".csv", ".tsv", ".txt", ".tab")
JSON = (".json", ".jsonl", ".ndjson")
COLUMNAR = (".parquet", ".pq", ".arrow", ".feather")
EXCEL = (".xlsx", ".xlsm")
CONLL = (".conll", ".bio", ".iob", ".iob2")
SUFFIXES = (*TEXT, *JSON, *COLUMNAR, *EXCEL, *CONLL)
PACKED = (".gz", ".bz2", ".xz", ".zip")
MAX_BYTES = 1_000_000_000  # of a table, uncompressed
MAX_ROWS = 5_000_000
MAGIC = {  # first bytes of a file -> its suffix
    rb"PAR1": ".parquet",
    rb"ARROW1\0\0": ".arrow",
    rb"\x1f\x8b": ".gz",
    rb"BZh[1-9]1AY&SY": ".bz2",
    rb"\xfd7zXZ\0": ".xz",
    rb"PK\x03\x04": ".zip",
    rb"\x80[\x02-\x05]": ".pkl",
    rb"\xd0\xcf\x11\xe0": ".xls",
}
REFUSED = {
    ".pkl": "is a Python pickle, which can run code when opened and is never read; save the "
    "table with DataFrame.to_parquet or to_csv",
    ".xls": "is a workbook of Excel 97 (.xls); save it as .xlsx or .csv",
}
PARTS = ("validation", "dev", "test", "train")  # the first that exists is evaluated on
SPLIT_COLUMNS = ("split", "set", "subset", "partition")
BROKEN = (  # raised by readers for damaged files and wrong formats
    ValueError,
    OSError,
    KeyError,
    TypeError,
    EOFError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)

DETECT = Dialect()


class Table(NamedTuple):
    """Rows and how they were read."""

    rows: pd.DataFrame  # the index is the line or row in the file, and is named accordingly
    form: Dialect = DETECT
    description: str = ""  # of the dialect; "" for the default
    names: Mapping[str, list[str]] = {}  # column -> class names of its integer labels
    part: str = ""  # requested split, sheet or key, if the file has several
    notes: Sequence[str] = ()  # on rows left out or merged


def dialect_of(source: DataSource) -> Dialect:
    """Return the dialect options of a source."""
    return Dialect(
        source.separator,
        source.encoding,
        source.header,
        quotes=source.quotes,
        bad_rows=source.bad_rows,
    )


def suffix(path: str) -> str:
    """File suffix; for a compressed file, of its content."""
    name = Path(path)
    return Path(name.stem).suffix.lower() if name.suffix.lower() in PACKED else name.suffix.lower()


def is_path(name: str) -> bool:
    """Whether a name is a local path or a bundled table rather than a Hub id."""
    file = Path(name).expanduser()
    return (
        name in TABLES
        or file.exists()
        or suffix(name) in SUFFIXES
        or name.startswith((".", "/", "~"))
        or file.suffix.lower() in PACKED
    )


def read(path: str, form: Dialect = DETECT, part: str = "", text: str = "") -> Table:
    """Read a file or saved dataset as a table.

    `part` selects a split, sheet or key if there are several, or a value of the split column;
    `text` is the text column, needed only for `form.bad_rows="merge"`.
    """
    file = resolve_allowed(path)
    path = str(TABLES.get(path, path))
    if not file.exists():
        raise PruneError(f"{path}: there is no such file.")
    if file.is_dir():
        table = _read_saved(file, path, part)
    else:
        try:
            table = _read_file(file, path, form, part=part, text_column=text)
        except BROKEN as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise PruneError(
                f"{path} cannot be read as {suffix(path) or 'a table'}: {reason}."
            ) from None
    if part != table.part:
        table = table._replace(rows=rows_of_split(table.rows, part, path))
    if table.rows.empty:
        raise PruneError(f"{path} has no rows.")
    if len(table.rows) > MAX_ROWS:
        raise PruneError(
            f"{path} has {len(table.rows):,} rows; take a sample of at most {MAX_ROWS:,}, "
            "a few thousand are enough."
        )
    if not table.rows.index.name:
        table.rows.index = pd.RangeIndex(1, len(table.rows) + 1, name="row")
    return table._replace(rows=table.rows.rename(columns=str))


def _read_file(file: Path, path: str, form: Dialect, part: str, text_column: str) -> Table:
    with file.open("rb") as stream:  # the first bytes override the name
        content, kind = _unpack(
            _read_bounded(stream, path), file.suffix.lower(), path, inner=suffix(path)
        )
    if kind not in SUFFIXES:
        kind = _sniff_suffix(content)
    if not kind:
        raise PruneError(
            f"{path} has an unknown table format; supported are {', '.join(SUFFIXES)}, also "
            f"compressed ({', '.join(PACKED)}), and folders written by save_to_disk."
        )
    if kind in EXCEL:
        return _group_sentences(_read_excel(content, path, part))
    if kind in COLUMNAR:
        if kind in arrow_tables.PARQUET:
            _check_size(arrow_tables.unpacked_size(content), path)
        rows, names = arrow_tables.read(content, kind, path)
        return Table(rows, names=names)
    if kind in JSON:
        text, _ = decode(content, form.encoding, path)
        document, lines = json_tables.parse(text, lines=kind != ".json")
        records, key = _records_under_key(document, path, part)
        rows = json_tables.records(records)
        if len(lines) == len(rows):
            rows.index = pd.Index(lines, name="line")
        return Table(rows, part=key)
    if kind in CONLL or (kind in TEXT and not form.separator and is_conll(content)):
        text, encoding = decode(content, form.encoding, path)
        rows, description = parse_conll(text, path)
        return Table(rows, Dialect(encoding=encoding), description)
    rows, form, notes = delimited.read(
        content,
        path,
        form,
        tabs=kind in (".tsv", ".tab"),
        text_column=lambda names: columns.text_column_name(names, text_column),
    )
    return _group_sentences(Table(rows, form, form.description, notes=notes))


def _group_sentences(table: Table) -> Table:
    """Group words into sentences if the table has one word per row."""
    if (grouped := group_words(table.rows)) is None:
        return table
    rows, column = grouped
    grouping = f"one word per row, grouped by column {column!r}"
    return table._replace(
        rows=rows, description=", ".join(filter(None, (table.description, grouping)))
    )


def _sniff_suffix(content: bytes) -> str:
    """Guess the suffix from the content, ".json" or ".txt"; "" if it is not text."""
    head = content[:10_000]
    if b"\0" in head and not head.startswith(tuple(mark for mark, _ in BOMS)):
        return ""
    return ".json" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[{")) else ".txt"


def _unpack(content: bytes, ending: str, path: str, inner: str) -> tuple[bytes, str]:
    """Decompress repeatedly; return (content, suffix).

    `ending`: suffix of the outer file; `inner`: of the compressed one.
    """
    from fsspec.compression import compr

    kind = next((name for magic, name in MAGIC.items() if re.match(magic, content)), ending)
    if kind in REFUSED:
        raise PruneError(f"{path} {REFUSED[kind]}.")
    if kind == ".zip" and (ending == ".zip" or zipfile.is_zipfile(io.BytesIO(content))):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            members = [
                name
                for name in packed.namelist()
                if not name.endswith("/") and not name.startswith("__MACOSX")
            ]
            if any(name.startswith("xl/") for name in members):
                return content, ".xlsx"
            if len(members) != 1:
                raise PruneError(
                    f"{path} contains {len(members)} files ({', '.join(members[:5])}); "
                    "extract it and choose one of them."
                )
            with packed.open(members[0]) as stream:
                inner_suffix = Path(members[0]).suffix.lower()
                return _unpack(_read_bounded(stream, path), inner_suffix, path, inner=inner_suffix)
    if name := {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}.get(kind):
        with compr[name](io.BytesIO(content), mode="rb") as stream:
            return _unpack(_read_bounded(stream, path), inner, path, inner=inner)
    return content, kind if kind in COLUMNAR else inner


def _read_bounded(stream: Any, path: str) -> bytes:
    """Read a stream up to the size limit: a small archive can expand to any size."""
    content = bytes(stream.read(MAX_BYTES + 1))
    _check_size(len(content), path)
    return content


def _check_size(size: int, path: str) -> None:
    if size > MAX_BYTES:
        raise PruneError(
            f"{path} is larger than {MAX_BYTES / 1e9:g} GB uncompressed; take a sample of its "
            "rows, "
            "a few thousand are enough."
        )


def _read_excel(content: bytes, path: str, part: str) -> Table:
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            _check_size(sum(member.file_size for member in packed.infolist()), path)
    sheets = pd.read_excel(
        io.BytesIO(content), sheet_name=None, dtype=str, keep_default_na=False, na_filter=False
    )
    part = _requested_part(sheets, part)
    if part and part not in sheets:
        raise PruneError(f"{path} has no sheet {part!r}; it has {', '.join(map(str, sheets))}.")
    name = part or max(sheets, key=lambda sheet: len(sheets[sheet]))  # others may be title sheets
    rows = sheets[name]
    if above := rows_above_header(
        [[str(cell) for cell in rows.columns], *rows.head(20).astype(str).to_numpy().tolist()]
    ):
        raise PruneError(
            f"{path}, sheet {name!r}, row {above + 1}: the column names seem to be in this row, "
            f"below {above} other row{'s' if above > 1 else ''}; delete the rows above the header."
        )
    # numbered as in Excel, where the header is row 1
    rows.index = pd.RangeIndex(2, len(rows) + 2, name="row")
    return Table(
        rows, description=f"sheet {name!r} of {len(sheets)}" if len(sheets) > 1 else "", part=part
    )


def _read_saved(folder: Path, path: str, part: str) -> Table:
    """Read a folder written by `save_to_disk`: the requested split, else the default one to
    evaluate on.
    """
    import pyarrow as pa

    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        part = _requested_part(splits, part)
        name = choose_split(splits, part, path)
        return _read_saved(folder / name, path, "")._replace(
            description=f"split {name!r} of {', '.join(splits)}", part=part
        )
    if not (folder / "state.json").is_file():
        raise PruneError(
            f"{path} is a folder without a dataset (no state.json or dataset_dict.json); give a "
            "file, or a folder written by save_to_disk."
        )
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    pieces = [
        pa.ipc.open_stream(pa.memory_map(str(folder / file["filename"]))).read_all()
        for file in state["_data_files"]
    ]
    rows, names = arrow_tables.to_frame(pa.concat_tables(pieces), path)
    return Table(rows, names=names)


def split_column(rows: pd.DataFrame) -> tuple[str, list[str]]:
    """Return (column that assigns rows to splits, its values); ("", []) if there is none."""
    for column in rows:
        if str(column).strip().lower() in SPLIT_COLUMNS:
            values = [str(value) for value in rows[column].drop_duplicates() if str(value).strip()]
            if {value.lower() for value in values} & set(PARTS):
                return str(column), values
    return "", []


def train_and_evaluation_splits(
    path: str, form: Dialect = DETECT, text: str = ""
) -> tuple[str, str]:
    """Return (training, evaluation) split of a saved dataset or split column.

    ("", "") unless both exist.
    """
    file = resolve_allowed(path)
    if (file / "dataset_dict.json").is_file():
        return standard_splits(
            list(json.loads((file / "dataset_dict.json").read_text(encoding="utf-8"))["splits"])
        )
    try:
        return standard_splits(split_column(read(path, form, text=text).rows)[1])
    except PruneError:  # several tables without a choice: reading the file reports it
        return "", ""


def standard_splits(names: Sequence[str]) -> tuple[str, str]:
    """Return (training, evaluation) split among these names; ("", "") unless both exist."""
    by_name = {name.lower(): name for name in reversed(names)}
    evaluated = next((by_name[part] for part in PARTS if part in by_name and part != "train"), "")
    return (by_name["train"], evaluated) if "train" in by_name and evaluated else ("", "")


def rows_of_split(rows: pd.DataFrame, part: str, path: str) -> pd.DataFrame:
    """Select the rows of a split by the table's split column."""
    column, values = split_column(rows)
    if not column:
        raise PruneError(
            f"{path} is a single table without a split column "
            f"({', '.join(SPLIT_COLUMNS)}); omit --split {part!r}."
        )
    return rows[rows[column] == choose_split(values, part, path)]


def _requested_part(parts: Collection[str], requested: str) -> str:
    """Return the requested part; "" if there is a single part of another name.

    The request is then a value of the split column within this part.
    """
    return "" if len(parts) == 1 and requested not in parts else requested


def choose_split(parts: Any, requested: str, path: str) -> str:
    """Return the split to evaluate on: the requested one, else the first in PARTS."""
    if requested and requested not in parts:
        raise PruneError(f"{path} has no part {requested!r}; it has {', '.join(parts)}.")
    return requested or next((name for name in PARTS if name in parts), next(iter(parts)))


def _records_under_key(content: Any, path: str, part: str) -> tuple[Any, str]:
    """Return (records under a key, the key if requested); other content unchanged."""
    lists = {
        key: value
        for key, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    }
    if not lists:
        return content, ""
    part = _requested_part(lists, part)
    if len(lists) > 1 and not part and not set(lists) & set(PARTS):
        raise PruneError(f"{path} has records under {', '.join(lists)}; choose one with --split.")
    return lists[choose_split(lists, part, path)], part
