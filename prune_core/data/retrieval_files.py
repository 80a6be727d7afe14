"""Read retrieval collections: BEIR folders, TREC files, SMART files (Cranfield), tables of pairs.

Tables are read by `tables.py`, with its formats, compression, encodings and limits.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from ..paths import resolve_allowed
from . import tables
from .column_names import CANDIDATE_QUERIES, PASSAGES, first_usual
from .delimited import Dialect
from .dropped_rows import line_number
from .label_pairs import to_text
from .retrieval import Candidates, RetrievalCollection, collection
from .retrieval_pairs import GRADES, POSITIVES, QUERIES, cell_text, numbers, read_pairs

IDS = (
    *("_id", "id", "doc_id", "docid", "docno", "document_id", "pid", "passage_id", "corpus-id"),
    *("qid", "query_id", "query-id", "topic"),
)
TEXTS = ("text", "contents", "content", "body", "passage", "document", "abstract", "query")
QUERY_IDS = ("query-id", "query_id", "qid", "query", "topic")
DOCUMENT_IDS = ("corpus-id", "doc_id", "docid", "docno", "document-id", "pid", "document")
LINES = Dialect(separator="none", header="no", quotes="no")
TABLES = (*tables.JSON, *tables.COLUMNAR, *tables.EXCEL, ".csv")
CRANFIELD = ("cran.all.1400", "cran.qry", "cranqrel")
DOCUMENTS = ("corpus", "collection", "documents", "docs")  # names of files without suffixes
RUNS = ("run.*", "*.run", "*.trec")  # names of run files in a folder
# what a folder holds, for hashes of its contents
FILES = (
    *(f"{name}.*" for name in DOCUMENTS),
    *("*queries*", "*topics*", "*qrels*", "qrels/*", *CRANFIELD, *RUNS),
)


def read_collection(
    path: str, split: str = "", form: Dialect = tables.DETECT, *, has_run: bool = False
) -> RetrievalCollection:
    """Read a BEIR folder, the Cranfield folder, or a table of pairs, triples or candidates.

    `split` names the judgements of a BEIR folder or the split of a table. With `has_run`, the
    candidates are those of the run file in the folder; PruneError if there is none or several.
    """
    folder = resolve_allowed(path)
    if not folder.is_dir():
        return read_pairs(path, split=split, form=form)
    run = _run_file(folder, path) if has_run else ""
    if (folder / CRANFIELD[0]).is_file():
        return read_cranfield(path, form, run)
    return read_beir(path, split, form, run)


def is_collection(path: str, split: str = "", form: Dialect = tables.DETECT) -> bool:
    """Whether a path is a retrieval collection, rather than scored pairs or a saved dataset.

    A table is one if it has queries and positives, or documents of queries without a score, or with
    a score if queries have two or more documents on average.
    """
    folder = resolve_allowed(path)
    if folder.is_dir():
        is_cranfield = (folder / CRANFIELD[0]).is_file()
        is_beir = any(_named(folder, name) for name in ("corpus", "queries"))
        return is_cranfield or is_beir or bool(_document_file(folder) and _query_files(folder))
    return holds_queries(tables.read(path, form, part=split).rows)


def holds_queries(table: pd.DataFrame) -> bool:
    """Whether a table consists of queries and their documents; see `is_collection`."""
    unambiguous = [name for name in POSITIVES if name != "answer"]  # an answer may be a label
    if first_usual(table, QUERIES) and first_usual(table, unambiguous):
        return True
    query = first_usual(table, CANDIDATE_QUERIES)
    if query is None or first_usual(table, PASSAGES, used=(query,)) is None:
        return False
    if first_usual(table, GRADES, used=(query,)) is None:
        return True
    has_candidates = 2 * table[query].astype(str).nunique() <= len(table)
    return has_candidates and first_usual(table, POSITIVES) is None


def read_beir(
    path: str, split: str = "", form: Dialect = tables.DETECT, run: str = ""
) -> RetrievalCollection:
    """Read corpus.jsonl, queries.jsonl and qrels/<split>.tsv or qrels.tsv of a folder (BEIR).

    Thakur et al. (2021). Also compressed or in another table format, and with the names of MS MARCO
    and TREC: collection.tsv, queries.<split>.tsv, qrels.<split>.tsv, or others with queries or
    topics, and qrels, in their name. The text of a document is its title and its text. Without
    `split`: test, else validation, dev or train. `run`: a run file with candidates; "" for none.
    """
    folder = resolve_allowed(path)
    documents = _document_file(folder)
    found = {"corpus": documents, "queries": _query_files(folder)}
    missing = [name for name, files in found.items() if not files]
    if missing:
        raise PruneError(
            f"{path} has no {' and no '.join(f'{name}.jsonl' for name in missing)}; a retrieval "
            "folder holds corpus.jsonl, queries.jsonl and qrels/test.tsv."
        )
    judged, judgements = _judgement_file(folder, split, path)
    queries = _query_file(folder, judged, path)
    return read_trec(str(documents), str(queries), str(judgements), run, form=form, name=path)


def read_trec(
    documents: str,
    queries: str,
    judgements: str,
    candidates: str = "",
    *,
    form: Dialect = tables.DETECT,
    name: str = "",
) -> RetrievalCollection:
    """Read documents and queries (tables with an id, or SMART files), qrels and a run file.

    `candidates`: a run file whose order is the first stage's; "" for none. `name` names the data in
    messages. PruneErrors: see `collection`.
    """
    return collection(
        read_texts(documents, form),
        read_texts(queries, form),
        read_judgements(judgements, form),
        read_run(candidates, form=form) if candidates else None,
        name=name or judgements,
        skip=form.bad_rows == "skip",
    )


def from_dicts(
    corpus: Mapping[str, Any],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, float]],
    *,
    name: str,
    skip: bool = False,
) -> RetrievalCollection:
    """Make a collection of the dicts that BEIR's loaders return.

    `corpus`: a text, or a dict with title and text, by document id; `queries`: a text by query id;
    `qrels`: grades by document id, by query id. `name`, `skip`, PruneErrors: see `collection`.
    """
    documents, asked = (
        pd.Series(
            [cell_text(text) for text in texts.values()], index=list(map(str, texts)), dtype=object
        )
        for texts in (corpus, queries)
    )
    rows = [
        (str(query), str(document), float(grade))
        for query, grades in qrels.items()
        for document, grade in grades.items()
    ]
    judgements = pd.DataFrame(rows, columns=["query", "document", "grade"])
    return collection(documents, asked, judgements, name=name, skip=skip)


def read_cranfield(path: str, form: Dialect = tables.DETECT, run: str = "") -> RetrievalCollection:
    """Read the Cranfield collection (Cleverdon 1967) in SMART format from a folder.

    The queries of cranqrel are numbered by their order in cran.qry. Its grades from 1 (best) to 4
    become gains 2^(5 - grade) - 1; other codes become 0. Titles are part of the texts already.
    """
    folder = resolve_allowed(path)
    documents, queries, judgements = (str(folder / name) for name in CRANFIELD)
    asked = read_texts(queries, form)
    asked.index = pd.Index([str(number) for number in range(1, len(asked) + 1)])
    judged = read_judgements(judgements, form)
    codes = judged["grade"]
    judged["grade"] = np.where(codes.between(1, 4), np.exp2(5 - codes.clip(1, 4)) - 1, 0.0)
    return collection(
        read_texts(documents, form),
        asked,
        judged,
        read_run(run, form=form) if run else None,
        name=path,
        skip=form.bad_rows == "skip",
    )


def read_texts(path: str, form: Dialect = tables.DETECT) -> pd.Series:
    """Return the texts of documents or queries, indexed by id.

    A table has columns for id and text and may have a title, which precedes the text. Delimited
    files without a header: id, text, or id, …, title, text. SMART files: the sections .W.
    """
    if tables.suffix(path) not in tables.SUFFIXES or tables.suffix(path) == ".txt":
        lines = _lines(path, form)
        if re.match(r"\.I\s+\S+", lines.iloc[0]):
            return parse_smart(lines, path)
    return texts_of(_with_header(path, form, IDS), path)


def texts_of(table: pd.DataFrame, path: str) -> pd.Series:
    """Return the texts of a table with ids, indexed by id; `path` names it in messages."""
    ids, text = first_usual(table, IDS), first_usual(table, TEXTS)
    title: str | None = first_usual(table, ("title",), used=(ids, text))
    if ids is None and str(table.columns[0]) == "column 1" and len(table.columns) > 1:
        ids, text = "column 1", str(table.columns[-1])
        title = str(table.columns[-2]) if len(table.columns) > 2 else None
    if text is None:
        text, title = title, None
    if ids is None or text is None:
        raise PruneError(
            f"{path} has no column of {'ids' if ids is None else 'texts'} among "
            f"{', '.join(map(str, table.columns))}; name it {'_id' if ids is None else 'text'}."
        )
    texts = [cell_text(cell) for cell in table[text]]
    if title is not None:
        texts = [
            f"{cell_text(first)} {rest}".strip()
            for first, rest in zip(table[title], texts, strict=True)
        ]
    return _indexed(texts, [to_text(value) for value in table[ids]], table, path)


def _indexed(texts: Sequence[str], ids: Sequence[str], table: pd.DataFrame, path: str) -> pd.Series:
    if "" in ids:
        place = line_number(table, ids.index(""))
        raise PruneError(f"{path}, {place}: the id is empty; give every row a unique id.")
    index = pd.Index(ids, dtype=object)
    repeated = np.flatnonzero(index.duplicated())
    if len(repeated):
        place = f" in {line_number(table, int(repeated[0]))}" if len(ids) == len(table) else ""
        raise PruneError(
            f"{path}: the id {ids[repeated[0]][:40]!r} occurs again{place} "
            f"({plural(len(repeated), 'such row')}); give every row a unique id."
        )
    return pd.Series(texts, index=index, dtype=object)


def parse_smart(lines: pd.Series, path: str) -> pd.Series:
    """Return the text (.W) of each record of a SMART file (.I id, .T, .A, .B, .W), by id."""
    ids: list[str] = []
    texts: list[list[str]] = []
    section = ""
    for line in lines:
        if start := re.match(r"\.I\s+(\S+)", line):
            ids.append(start[1])
            texts.append([])
        elif re.fullmatch(r"\.[A-Z]", line):
            section = line
        elif section == ".W":
            texts[-1].append(line)
    return _indexed([" ".join(words) for words in texts], ids, lines.to_frame(), path)


def read_judgements(path: str, form: Dialect = tables.DETECT) -> pd.DataFrame:
    """Return judgements with the columns query, document (text) and grade (float).

    Formats: "query 0 document grade" (TREC), "query document grade" with or without a header, or a
    table (.csv, .jsonl, .parquet). Without a grade, every listed document has grade 1.
    """
    if tables.suffix(path) in TABLES:
        table = tables.read(path, form).rows
    else:
        table = _fields(path, form, names=_judgement_names)
    return judgements_of(table, path)


def judgements_of(table: pd.DataFrame, path: str) -> pd.DataFrame:
    """Return judgements as `read_judgements` does, from a table with usual column names."""
    query = first_usual(table, QUERY_IDS)
    document = first_usual(table, DOCUMENT_IDS, used=(query,))
    if query is None or document is None:
        raise PruneError(
            f"{path} has the columns {', '.join(map(str, table.columns))}; judgements need "
            "query-id, corpus-id and score, or lines such as: 1 0 d42 2."
        )
    grade = first_usual(table, GRADES, used=(query, document))
    grades = numbers(table, grade, path) if grade else np.ones(len(table))
    return pd.DataFrame(
        {
            "query": [to_text(value) for value in table[query]],
            "document": [to_text(value) for value in table[document]],
            "grade": grades,
        },
        index=table.index,
    )


def read_run(path: str, depth: int = 0, form: Dialect = tables.DETECT) -> Candidates:
    """Return the documents of each query in a TREC run, the best first, at most `depth` (0 = all).

    Lines are "query Q0 document rank score tag". As in trec_eval, scores decide the order; equal
    scores are ordered by rank. PruneError for a document that occurs twice for a query.
    """
    names = ("query", "Q0", "document", "rank", "score", "tag")
    table = _fields(path, form, names=lambda cells: names if len(cells) == len(names) else ())
    if list(table.columns) != list(names):
        raise PruneError(
            f"{path} has {plural(len(table.columns), 'column')}; a run file has six: query Q0 "
            "document rank score tag."
        )
    table["rank"], table["score"] = (numbers(table, name, path) for name in ("rank", "score"))
    repeated = table[table.duplicated(["query", "document"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise PruneError(
            f"{path}, line {repeated.index[0]}: document {row['document']!r} occurs twice for "
            f"query {row['query']!r} ({plural(len(repeated), 'such line')}); keep one of them."
        )
    ordered = table.sort_values(["score", "rank"], ascending=[False, True], kind="stable")
    return {
        str(query): tuple(rows["document"][: depth or None])
        for query, rows in ordered.groupby("query", sort=False)
    }


def _lines(path: str, form: Dialect) -> pd.Series:
    """Return the nonempty lines of a text file, stripped, indexed by line number."""
    rows = tables.read(path, replace(LINES, encoding=form.encoding)).rows
    return rows[rows.columns[0]].astype(str)


def _fields(
    path: str, form: Dialect, names: Callable[[Sequence[str]], Sequence[str]]
) -> pd.DataFrame:
    """Return the fields of lines separated by tabs or, without any tab, by spaces.

    `names` maps the first line to column names; () if that line is the header itself. PruneError
    for a line of another length.
    """
    lines = _lines(path, form)
    separator = "\t" if "\t" in lines.iloc[0] else None
    rows = [[cell.strip() for cell in line.split(separator)] for line in lines]
    header = list(names(rows[0]))
    columns, start = (header, 0) if header else (rows[0], 1)
    uneven = [place for place, row in enumerate(rows) if len(row) != len(columns)]
    if uneven:
        raise PruneError(
            f"{path}, {line_number(lines.to_frame(), uneven[0])}, has "
            f"{plural(len(rows[uneven[0]]), 'field')} "
            f"instead of {len(columns)}: {', '.join(columns)} "
            f"({plural(len(uneven), 'such line')}); "
            "correct the file."
        )
    if len({*columns}) < len(columns) or len(rows) == start:
        raise PruneError(f"{path} has no rows below a header of distinct names; correct the file.")
    return pd.DataFrame(rows[start:], columns=columns, index=lines.index[start:])


def _judgement_names(cells: Sequence[str]) -> Sequence[str]:
    """Return the column names of judgements without a header; () if the cells are a header."""
    names = {2: ("query", "document"), 3: ("query", "document", "grade")}
    trec = ("query", "iteration", "document", "grade")
    if first_usual(pd.DataFrame(columns=list(dict.fromkeys(cells))), QUERY_IDS):
        return ()
    return names.get(len(cells), trec)


def _with_header(path: str, form: Dialect, names: Sequence[str]) -> pd.DataFrame:
    """Read a table; a delimited one has a header only if the first row has one of the names."""
    table = tables.read(path, form)
    is_delimited = bool(table.form.header)
    if form.header or not is_delimited or first_usual(table.rows, names):
        return table.rows
    if table.form.header == "yes":
        table = tables.read(path, replace(table.form, header="no"))
    return table.rows


def _run_file(folder: Path, path: str) -> str:
    """Return the only run file of a folder; PruneError if there is none or more than one."""
    found = sorted({str(file) for pattern in RUNS for file in folder.glob(pattern)})
    if not found:
        raise PruneError(
            f"{path} has no run file with candidates to rerank; add run.trec with lines such as: "
            "q1 Q0 d42 1 12.3 bm25."
        )
    if len(found) > 1:
        names = ", ".join(Path(file).name for file in found)
        raise PruneError(f"{path} has {len(found)} run files ({names}); keep one of them.")
    return found[0]


def _named(folder: Path, name: str) -> Path | None:
    """Return the table with this name and any supported suffix, compressed or not."""
    found = [file for file in sorted(folder.glob(f"{name}.*")) if _stem(file) == name]
    return found[0] if found else None


def _stem(file: Path) -> str:
    """Return the name without its suffixes; "" if no table has them."""
    suffix = tables.suffix(file.name)
    return file.name.split(suffix)[0] if suffix in tables.SUFFIXES else ""


def _by_split(folder: Path, noun: str) -> dict[str, Path]:
    """Return the tables of a folder with this noun in their name, by split, in their order.

    "" is noun.tsv, dev.small is noun.dev.small.tsv; other names, such as 2019noun-pass.txt, are
    splits themselves.
    """
    # of several suffixes, the first
    files = {_stem(file): file for file in sorted(folder.glob(f"*{noun}*"), reverse=True)}
    return {
        "" if stem == noun else stem.removeprefix(f"{noun}."): file
        for stem, file in sorted(files.items())
        if stem
    }


def _document_file(folder: Path) -> Path | None:
    """Return the file of the documents; None if there is none."""
    return next(filter(None, (_named(folder, name) for name in DOCUMENTS)), None)


def _query_files(folder: Path) -> dict[str, Path]:
    """Return the files of queries by split; see `_by_split`."""
    return _by_split(folder, "queries") or _by_split(folder, "topics")


def _query_file(folder: Path, split: str, path: str) -> Path:
    """Return the queries of a split of judgements; PruneError if it is not known which they are."""
    files = _query_files(folder)
    usual = (files.get(name) for name in (split, split.split(".")[0], ""))
    file = next(filter(None, usual), None)
    if file is None and len(files) > 1:
        names = ", ".join(each.name for each in files.values())
        raise PruneError(
            f"{path} has several files of queries ({names}); name the one that belongs to the "
            f"judgements queries{split and f'.{split}'}.tsv."
        )
    return file or next(iter(files.values()))


def _judgement_file(folder: Path, split: str, path: str) -> tuple[str, Path]:
    """Return (split, file) of judgements; PruneError with the splits that exist."""
    splits = _by_split(folder, "qrels")
    single = splits.pop("", None)
    splits |= {_stem(file): file for file in sorted((folder / "qrels").glob("*")) if _stem(file)}
    if split and split not in splits:
        exist = f"it has {', '.join(splits)}" if splits else "omit the split"
        raise PruneError(f"{path} has no judgements qrels/{split}.tsv; {exist}.")
    usual = [
        each for name in ("test", *tables.PARTS) for each in splits if each.split(".")[0] == name
    ]
    name = split or next(iter(usual), "")
    if name in splits:
        return name, splits[name]
    if single:
        return "", single
    if not splits:
        raise PruneError(
            f"{path} has no judgements; add qrels/test.tsv with the columns query-id, corpus-id "
            "and score."
        )
    return next(iter(splits.items()))
