"""Read a user's table from any kind of file: text, JSON, Parquet, Arrow, Excel or CoNLL, packed or not, or a saved data set.

pandas, pyarrow and fsspec do the reading. Each table's index is the line or row in the file, named so, for messages. Knows
nothing of labels.
"""

from __future__ import annotations

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
from ..paths import resolve_allowed
from . import arrow_tables, columns, delimited, json_tables
from .conll import group_words, is_conll, parse_conll
from .delimited import Dialect
from .encodings import BOMS, decode
from .header import header_below

TEXT = (".csv", ".tsv", ".txt", ".tab")
JSON = (".json", ".jsonl", ".ndjson")
COLUMNAR = (".parquet", ".pq", ".arrow", ".feather")
EXCEL = (".xlsx", ".xlsm")
CONLL = (".conll", ".bio", ".iob", ".iob2")
SUFFIXES = (*TEXT, *JSON, *COLUMNAR, *EXCEL, *CONLL)
PACKED = (".gz", ".bz2", ".xz", ".zip")
UNPACKED, MOST_ROWS = 1_000_000_000, 5_000_000  # bytes and rows that a table may have
MAGIC = {  # first bytes of files that may have any name -> their ending
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
    ".pkl": "is a Python pickle, which can run code when it is opened and is never read; save the "
    "table with DataFrame.to_parquet or to_csv",
    ".xls": "is a workbook of Excel 97 (.xls); save it as .xlsx or .csv",
}
PARTS = (
    "validation",
    "dev",
    "test",
    "train",
)  # of a file or folder that holds several: the first is evaluated on
SPLIT_COLUMNS = ("split", "set", "subset", "partition")
BROKEN = (  # what readers raise for a file of another kind or a damaged one
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

AS_FOUND = Dialect()


class Table(NamedTuple):
    """Rows and how they were read."""

    rows: pd.DataFrame  # its index is the line or row in the file, and is named so
    form: Dialect = AS_FOUND
    description: str = ""  # of the form, "" where nothing is unusual
    names: Mapping[str, list[str]] = {}  # of numbered classes, by column
    part: str = ""  # the split, sheet or key that was asked for, where the file holds several
    notes: Sequence[str] = ()  # what was left out or merged


def suffix(path: str) -> str:
    """Of what is inside, where the file is packed."""
    name = Path(path)
    return Path(name.stem).suffix.lower() if name.suffix.lower() in PACKED else name.suffix.lower()


def is_path(name: str) -> bool:
    """Whether a name means something on this machine rather than on the Hub."""
    file = Path(name).expanduser()
    return (
        file.exists()
        or suffix(name) in SUFFIXES
        or name.startswith((".", "/", "~"))
        or file.suffix.lower() in PACKED
    )


def read(path: str, form: Dialect = AS_FOUND, part: str = "", text: str = "") -> Table:
    """The file's table. `part` names a split, a sheet or a key where it holds several, or a value of its split column; `text`
    the column of texts, which matters only for `form.bad_rows="merge"`."""
    file = resolve_allowed(path)
    if not file.exists():
        raise PruneError(f"{path}: there is no such file.")
    if file.is_dir():
        table = _saved(file, path, part)
    else:
        try:
            table = _read(file, path, form, part=part, text_column=text)
        except PruneError:
            raise
        except BROKEN as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise PruneError(
                f"{path} cannot be read as {suffix(path) or 'a table'}: {reason}."
            ) from None
    if part != table.part:
        table = table._replace(rows=of_split(table.rows, part, path))
    if table.rows.empty:
        raise PruneError(f"{path} has no rows.")
    if len(table.rows) > MOST_ROWS:
        raise PruneError(
            f"{path} has {len(table.rows):,} rows; take a sample of at most {MOST_ROWS:,}, a few thousand are enough."
        )
    if not table.rows.index.name:
        table.rows.index = pd.RangeIndex(1, len(table.rows) + 1, name="row")
    return table._replace(rows=table.rows.rename(columns=str))


def _read(file: Path, path: str, form: Dialect, part: str, text_column: str) -> Table:
    content, kind = _content(file, path)
    if kind not in SUFFIXES:
        kind = _looks(content)
    if not kind:
        raise PruneError(
            f"{path} is no kind of table known here; those are {', '.join(SUFFIXES)}, also packed ({', '.join(PACKED)}), and folders of "
            "save_to_disk."
        )
    if kind in EXCEL:
        return _with_sentences(_excel(content, path, part))
    if kind in COLUMNAR:
        if kind in arrow_tables.PARQUET:
            _fits(arrow_tables.unpacked_size(content), path)
        rows, names = arrow_tables.read(content, kind, path)
        return Table(rows, names=names)
    if kind in JSON:
        text, _ = decode(content, form.encoding, path)
        found, lines = json_tables.parse(text, lines=kind != ".json")
        records, key = _under_key(found, path, part)
        rows = json_tables.records(records)
        if len(lines) == len(rows):
            rows.index = pd.Index(lines, name="line")
        return Table(rows, part=key)
    if kind in CONLL or (kind in TEXT and not form.separator and is_conll(content)):
        text, encoding = decode(content, form.encoding, path)
        rows, description = parse_conll(text, path)
        return Table(rows, Dialect(encoding=encoding), description)
    tabs, named = kind in (".tsv", ".tab"), lambda names: columns.text_name(names, text_column)
    rows, form, notes = delimited.read(content, path, form, tabs=tabs, text_column=named)
    return _with_sentences(Table(rows, form, form.description, notes=notes))


def _with_sentences(table: Table) -> Table:
    """The table, with the words of a sentence in one row where it has one word per row."""
    if (found := group_words(table.rows)) is None:
        return table
    rows, column = found
    how = f"one word per row, grouped by column {column!r}"
    return table._replace(rows=rows, description=", ".join(filter(None, (table.description, how))))


def _looks(content: bytes) -> str:
    """The ending that a file of another name should have had; "" where it is no text."""
    head = content[:10_000]
    if b"\0" in head and not head.startswith(tuple(mark for mark, _ in BOMS)):
        return ""
    return ".json" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[{")) else ".txt"


def _content(file: Path, path: str) -> tuple[bytes, str]:
    """(what is in the file, its ending), unpacked; the first bytes count more than the name."""
    with file.open("rb") as opened:
        return _unpacked(_bounded(opened, path), file.suffix.lower(), path, inner=suffix(path))


def _unpacked(content: bytes, ending: str, path: str, inner: str) -> tuple[bytes, str]:
    """`inner` is the ending of what is packed."""
    from fsspec.compression import compr

    kind = next((name for magic, name in MAGIC.items() if re.match(magic, content)), ending)
    if kind in REFUSED:
        raise PruneError(f"{path} {REFUSED[kind]}.")
    if kind == ".zip" and (ending == ".zip" or zipfile.is_zipfile(io.BytesIO(content))):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            inside = [
                name
                for name in packed.namelist()
                if not name.endswith("/") and not name.startswith("__MACOSX")
            ]
            if any(name.startswith("xl/") for name in inside):
                return content, ".xlsx"
            if len(inside) != 1:
                raise PruneError(
                    f"{path} holds {len(inside)} files ({', '.join(inside[:5])}); unpack it and name one of them."
                )
            with packed.open(inside[0]) as opened:
                own = Path(inside[0]).suffix.lower()
                return _unpacked(_bounded(opened, path), own, path, inner=own)
    if kind in (".gz", ".bz2", ".xz"):
        name = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}[kind]
        with compr[name](io.BytesIO(content), mode="rb") as opened:
            return _unpacked(_bounded(opened, path), inner, path, inner=inner)
    return content, kind if kind in COLUMNAR else inner


def _bounded(opened: Any, path: str) -> bytes:
    """All of it, unless that is more than fits: a small packed file may hold any number of zeros."""
    content = bytes(opened.read(UNPACKED + 1))
    _fits(len(content), path)
    return content


def _fits(size: int, path: str) -> None:
    if size > UNPACKED:
        raise PruneError(
            f"{path} holds more than {UNPACKED / 1e9:g} GB unpacked; take a sample of its rows, a few thousand are enough."
        )


def _excel(content: bytes, path: str, part: str) -> Table:
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            _fits(sum(each.file_size for each in packed.infolist()), path)
    sheets = pd.read_excel(
        io.BytesIO(content), sheet_name=None, dtype=str, keep_default_na=False, na_filter=False
    )
    part = _whose(sheets, part)
    if part and part not in sheets:
        raise PruneError(f"{path} has no sheet {part!r}; it has {', '.join(map(str, sheets))}.")
    name = part or max(sheets, key=lambda sheet: len(sheets[sheet]))  # others may be titles
    rows = sheets[name]
    if above := header_below(
        [[str(cell) for cell in rows.columns], *rows.head(20).astype(str).to_numpy().tolist()]
    ):
        raise PruneError(
            f"{path}, sheet {name!r}, row {above + 1}: the names of the columns seem to stand there, below "
            f"{above} other row{'s' if above > 1 else ''}; delete what stands above them."
        )
    rows.index = pd.RangeIndex(
        2, len(rows) + 2, name="row"
    )  # as Excel numbers them, below the header
    return Table(
        rows, description=f"sheet {name!r} of {len(sheets)}" if len(sheets) > 1 else "", part=part
    )


def _saved(folder: Path, path: str, part: str) -> Table:
    """A folder that `datasets` saved; of several splits the one named, else the one to evaluate on."""
    import pyarrow as pa

    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        part = _whose(splits, part)
        name = part_of(splits, part, path)
        return _saved(folder / name, path, "")._replace(
            description=f"split {name!r} of {', '.join(splits)}", part=part
        )
    if not (folder / "state.json").is_file():
        raise PruneError(
            f"{path} is a folder without a data set in it (no state.json or dataset_dict.json); name a file, or a folder of "
            "save_to_disk."
        )
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    pieces = [
        pa.ipc.open_stream(pa.memory_map(str(folder / each["filename"]))).read_all()
        for each in state["_data_files"]
    ]
    rows, names = arrow_tables.to_frame(pa.concat_tables(pieces), path)
    return Table(rows, names=names)


def splits_of(rows: pd.DataFrame) -> tuple[str, list[str]]:
    """(the column that says which split a row is of, its values); ("", []) where none does."""
    for column in rows:
        if str(column).strip().lower() in SPLIT_COLUMNS:
            values = [str(value) for value in rows[column].drop_duplicates() if str(value).strip()]
            if {value.lower() for value in values} & set(PARTS):
                return str(column), values
    return "", []


def splits(path: str, form: Dialect = AS_FOUND, text: str = "") -> tuple[str, str]:
    """(training split, split to evaluate on) of a saved folder, or by a file's split column; empty unless it has both."""
    file = resolve_allowed(path)
    if (file / "dataset_dict.json").is_file():
        names = list(json.loads((file / "dataset_dict.json").read_text(encoding="utf-8"))["splits"])
    else:
        try:
            names = splits_of(read(path, form, text=text).rows)[1]
        except PruneError:  # several tables, of which one is to be named: who reads it says so
            names = []
    return usual_splits(names)


def usual_splits(names: Sequence[str]) -> tuple[str, str]:
    """(training split, split to evaluate on) among these; empty unless both are there."""
    by_name = {name.lower(): name for name in reversed(names)}
    evaluated = next((by_name[part] for part in PARTS if part in by_name and part != "train"), "")
    return (by_name["train"], evaluated) if "train" in by_name and evaluated else ("", "")


def of_split(rows: pd.DataFrame, part: str, path: str) -> pd.DataFrame:
    """The rows of a split, by the column that says which each is of."""
    column, values = splits_of(rows)
    if not column:
        raise PruneError(
            f"{path} is one table, without a column that says which split a row is of; leave --split {part!r} out."
        )
    return rows[rows[column] == part_of(values, part, path)]


def _whose(parts: Collection[str], asked: str) -> str:
    """What is asked for of these; nothing where there is one alone of another name: its rows are then meant."""
    return "" if len(parts) == 1 and asked not in parts else asked


def part_of(parts: Any, asked: str, path: str) -> str:
    """The split to evaluate on: the one asked for, else the usual one."""
    if asked and asked not in parts:
        raise PruneError(f"{path} has no part {asked!r}; it has {', '.join(parts)}.")
    return asked or next((name for name in PARTS if name in parts), next(iter(parts)))


def _under_key(content: Any, path: str, part: str) -> tuple[Any, str]:
    """(the list of records under a key, the key where it was asked for); what holds no such lists as it is."""
    keys = content if isinstance(content, Mapping) else {}
    lists = {
        key: value
        for key, value in keys.items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    }
    if not lists:
        return content, ""
    part = _whose(lists, part)
    if len(lists) > 1 and not part and not set(lists) & set(PARTS):
        raise PruneError(f"{path} has records under {', '.join(lists)}; name one with --split.")
    return lists[part_of(lists, part, path)], part
