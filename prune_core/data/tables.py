"""Tables of a person's own, whatever kind of file they are: packed or not, text, JSON, Parquet, Arrow, Excel, CoNLL, a saved data set.

pandas, pyarrow and fsspec read them; here stands which of them, and what a file looks like inside. Knows nothing of labels.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..errors import PruneError
from ..paths import allowed
from . import delimited
from .delimited import Form

TEXT = (".csv", ".tsv", ".txt", ".tab")
JSON = (".json", ".jsonl", ".ndjson")
COLUMNAR = (".parquet", ".pq", ".arrow", ".feather")
EXCEL = (".xlsx", ".xlsm")
CONLL = (".conll", ".bio", ".iob", ".iob2")
SUFFIXES = (*TEXT, *JSON, *COLUMNAR, *EXCEL, *CONLL)
PACKED = (".gz", ".bz2", ".xz", ".zip")
UNPACKED, MOST_ROWS = 1_000_000_000, 5_000_000  # bytes and rows that a table may have
PARTS = ("train", "validation", "dev", "test")  # of a file or folder that holds several, in no order of worth
SPLIT_COLUMNS = ("split", "set", "subset", "partition")


AS_FOUND = Form()


class Table(NamedTuple):
    """Rows, how the file was written where that is a question, the names of numbered classes by column, and the part of the file that
    was asked for where it is a split, a sheet or a key."""

    rows: pd.DataFrame
    form: Form = AS_FOUND
    said: str = ""
    names: Mapping[str, list[str]] = {}
    part: str = ""


def suffix(path: str) -> str:
    """Of what is inside, where the file is packed."""
    name = Path(path)
    return Path(name.stem).suffix.lower() if name.suffix.lower() in PACKED else name.suffix.lower()


def is_path(name: str) -> bool:
    """Whether a name means something on this machine rather than on the Hub."""
    file = Path(name).expanduser()
    return file.exists() or suffix(name) in SUFFIXES or name.startswith((".", "/", "~")) or file.suffix.lower() in PACKED


def read(path: str, form: Form = AS_FOUND, part: str = "") -> Table:
    """The file's table. `part` names a split, a sheet or a key where it holds several, or a value of a column that says which split a
    row is of."""
    file = allowed(path)
    if not file.exists():
        raise PruneError(f"{path}: there is no such file.")
    if file.is_dir():
        table = _saved(file, path, part)
    else:
        try:
            table = _read(file, path, form, part)
        except PruneError:
            raise
        except (ValueError, OSError, KeyError, TypeError, EOFError, RecursionError, zipfile.BadZipFile) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise PruneError(f"{path} cannot be read as {suffix(path) or 'a table'}: {reason}.") from None
    if part != table.part:
        table = table._replace(rows=_of_split(table.rows, part, path))
    if table.rows.empty:
        raise PruneError(f"{path} has no rows.")
    if len(table.rows) > MOST_ROWS:
        raise PruneError(f"{path} has {len(table.rows):,} rows; take a sample of at most {MOST_ROWS:,}, a few thousand are enough.")
    return table._replace(rows=table.rows.rename(columns=str))


def _read(file: Path, path: str, form: Form, part: str) -> Table:
    content, kind = _content(file, path)
    if kind not in SUFFIXES:
        kind = _looks(content)
    if not kind:
        raise PruneError(
            f"{path} is no kind of table known here; those are {', '.join(SUFFIXES)}, also packed ({', '.join(PACKED)}), and folders of "
            "save_to_disk."
        )
    if kind in EXCEL:
        return _excel(content, path, part)
    if kind in COLUMNAR:
        return _columnar(content, kind, path)
    if kind in JSON:
        text, _ = delimited.decode(content, form.encoding, path)
        records, key = _under_key(_json(text, lines=kind != ".json"), path, part)
        return Table(_records(records), part=key)
    if kind in CONLL or (kind == ".txt" and not form.separator and looks_conll(content)):
        text, encoding = delimited.decode(content, form.encoding, path)
        return Table(conll(text, path), Form(encoding=encoding), "a word a line")
    rows, found = delimited.read(content, path, form, tabs=kind in (".tsv", ".tab"))
    return Table(rows, found, found.said)


def _looks(content: bytes) -> str:
    """The ending that a file of another name should have had; "" where it is no text."""
    head = content[:10_000]
    if b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ""
    return ".json" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[{")) else ".txt"


def _content(file: Path, path: str) -> tuple[bytes, str]:
    """(what is in the file, its ending), unpacked."""
    import fsspec

    if file.suffix.lower() == ".zip":
        with zipfile.ZipFile(file) as packed:
            inside = [name for name in packed.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
            if len(inside) != 1:
                raise PruneError(f"{path} holds {len(inside)} files ({', '.join(inside[:5])}); unpack it and name one of them.")
            with packed.open(inside[0]) as opened:
                return _bounded(opened, path), Path(inside[0]).suffix.lower()
    with fsspec.open(str(file), "rb", compression="infer") as opened:
        return _bounded(opened, path), suffix(path)


def _bounded(opened: Any, path: str) -> bytes:
    """All of it, unless that is more than fits: a small packed file may hold any number of zeros."""
    content = bytes(opened.read(UNPACKED + 1))
    _fits(len(content), path)
    return content


def _fits(size: int, path: str) -> None:
    if size > UNPACKED:
        raise PruneError(f"{path} holds more than {UNPACKED / 1e9:g} GB unpacked; take a sample of its rows, a few thousand are enough.")


def _excel(content: bytes, path: str, part: str) -> Table:
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            _fits(sum(each.file_size for each in packed.infolist()), path)
    sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, dtype=str, keep_default_na=False, na_filter=False)
    part = _whose(sheets, part)
    if part and part not in sheets:
        raise PruneError(f"{path} has no sheet {part!r}; it has {', '.join(map(str, sheets))}.")
    name = part or next(sheet for sheet in [*[s for s, rows in sheets.items() if len(rows)], *sheets])
    return Table(sheets[name], said=f"sheet {name!r} of {len(sheets)}" if len(sheets) > 1 else "", part=part)


def _columnar(content: bytes, kind: str, path: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferReader(content)
    if kind in (".parquet", ".pq"):
        told = pq.read_metadata(buffer)
        _fits(sum(told.row_group(i).total_byte_size for i in range(told.num_row_groups)), path)
        buffer.seek(0)
        return _of_arrow(pq.read_table(buffer))
    try:
        return _of_arrow(pa.ipc.open_file(buffer).read_all())
    except pa.ArrowInvalid:
        return _of_arrow(pa.ipc.open_stream(pa.BufferReader(content)).read_all())


def _of_arrow(table: Any) -> Table:
    """`datasets` writes what numbered classes are called into the schema."""
    written = (table.schema.metadata or {}).get(b"huggingface")
    features = json.loads(written).get("info", {}).get("features", {}) if written else {}
    names = {column: found for column, feature in features.items() if (found := class_names(feature))}
    return Table(table.to_pandas(), names=names)


def class_names(feature: Any) -> list[str]:
    """Of a ClassLabel, or of a list of them, in the plain form that `datasets` writes."""
    if isinstance(feature, list):
        feature = feature[0] if feature else {}
    if not isinstance(feature, Mapping):
        return []
    return list(feature["names"]) if feature.get("_type") == "ClassLabel" else class_names(feature.get("feature"))


def _saved(folder: Path, path: str, part: str) -> Table:
    """A folder that `datasets` saved; of several splits the one named, else the one to evaluate on."""
    import pyarrow as pa

    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        part = _whose(splits, part)
        name = part_of(splits, part, path)
        return _saved(folder / name, path, "")._replace(said=f"split {name!r} of {', '.join(splits)}", part=part)
    if not (folder / "state.json").is_file():
        raise PruneError(f"{path} is a folder without a data set in it (no state.json or dataset_dict.json); name a file, or a folder of "
                         "save_to_disk.")  # fmt: skip
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    pieces = [pa.ipc.open_stream(pa.memory_map(str(folder / each["filename"]))).read_all() for each in state["_data_files"]]
    return _of_arrow(pa.concat_tables(pieces))


def splits_of(rows: pd.DataFrame) -> tuple[str, list[str]]:
    """(the column that says which split a row is of, its values); ("", []) where none does."""
    for column in rows:
        if str(column).strip().lower() in SPLIT_COLUMNS:
            values = [str(value) for value in rows[column].drop_duplicates() if str(value).strip()]
            if {value.lower() for value in values} & set(PARTS):
                return str(column), values
    return "", []


def _of_split(rows: pd.DataFrame, part: str, path: str) -> pd.DataFrame:
    """The rows of a split, by the column that says which each is of."""
    column, values = splits_of(rows)
    if not column:
        raise PruneError(f"{path} is one table, without a column that says which split a row is of; leave --split {part!r} out.")
    return rows[rows[column] == part_of(values, part, path)].reset_index(drop=True)


def _whose(parts: Collection[str], asked: str) -> str:
    """What is asked for of these; nothing where there is one alone of another name: its rows are then meant."""
    return "" if len(parts) == 1 and asked not in parts else asked


def part_of(parts: Any, asked: str, path: str) -> str:
    """The split to evaluate on: the one asked for, else the usual one."""
    if asked and asked not in parts:
        raise PruneError(f"{path} has no part {asked!r}; it has {', '.join(parts)}.")
    return asked or next((name for name in ("validation", "dev", "test", "train") if name in parts), next(iter(parts)))


def _json(text: str, lines: bool) -> Any:
    """What the file holds; of lines, a list."""
    if not lines:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            if not text.lstrip().startswith("{"):  # a record a line under the other ending
                raise
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is no JSON ({error.msg})") from None
    return records


def _under_key(content: Any, path: str, part: str) -> tuple[Any, str]:
    """(the list of records under a key, the key where it was asked for); what holds no such lists as it is."""
    keys = content if isinstance(content, Mapping) else {}
    lists = {key: value for key, value in keys.items() if isinstance(value, list) and value and isinstance(value[0], Mapping)}
    if not lists:
        return content, ""
    part = _whose(lists, part)
    if len(lists) > 1 and not part and not set(lists) & set(PARTS):
        raise PruneError(f"{path} has records under {', '.join(lists)}; name one with --split.")
    return lists[part_of(lists, part, path)], part


def _records(content: Any) -> pd.DataFrame:
    """A list of records; or records by their keys; or columns; or SQuAD as it is published."""
    if isinstance(content, Mapping):
        by_key = all(isinstance(value, Mapping) and len(value) < len(content) for value in content.values())
        return _records(list(content.values())) if by_key else pd.DataFrame(content)
    if content and isinstance(content[0], Mapping) and "paragraphs" in content[0]:
        return pd.DataFrame(
            {"question": ask["question"], "context": paragraph["context"],
             "answers": {key: [answer[key] for answer in ask.get("answers", [])] for key in ("text", "answer_start")}}
            for article in content for paragraph in article["paragraphs"] for ask in paragraph["qas"]
        )  # fmt: skip
    if not all(isinstance(record, Mapping) for record in content):
        rows = [row if isinstance(row, list) else [row] for row in content]
        return pd.DataFrame(rows).rename(columns=lambda place: f"column {place + 1}")
    flat = pd.json_normalize(list(content), sep=".")
    # of nested fields only answers as SQuAD has them are of use whole; of others the parts stand under their dotted names
    nested = dict.fromkeys(
        key for record in content for key, value in record.items() if isinstance(value, Mapping) and {"text", "answer_start"} <= set(value)
    )
    whole = pd.DataFrame({key: [record.get(key) for record in content] for key in nested}, index=flat.index)
    return pd.concat([flat, whole], axis=1)


def looks_conll(content: bytes) -> bool:
    """A text file of short lines whose last cell is O, B-… or I-…, parted by blank ones."""
    lines = content[:20_000].decode("utf-8", errors="replace").splitlines()[:-1]
    tagged = [line.split() for line in lines if line.strip()]
    return bool(tagged) and any(not line.strip() for line in lines) and all(
        len(cells) > 1 and (cells[-1] == "O" or cells[-1][:2] in ("B-", "I-", "E-", "S-")) for cells in tagged if cells[0] != "-DOCSTART-"
    )  # fmt: skip


def conll(text: str, path: str) -> pd.DataFrame:
    """Sentences of a file with a word a line, its tag in the last column: `tokens` and `ner_tags`, a list each."""
    tokens: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        cells = line.split()
        if not cells or cells[0] == "-DOCSTART-":
            if tokens[-1]:
                tokens.append([])
                tags.append([])
        elif line.startswith("#") and len(cells) != 2:
            continue  # a comment
        elif len(cells) < 2:
            raise PruneError(f"{path}, line {number}: {line[:60]!r} has no tag; a line is a word and its tag.")
        else:
            tokens[-1].append(cells[0])
            tags[-1].append(cells[-1])
    return pd.DataFrame({"tokens": tokens[:-1], "ner_tags": tags[:-1]})
