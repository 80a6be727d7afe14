"""Words with tags, one word per line or row: CoNLL files, and tables with a sentence id column."""

import re
from collections.abc import Sequence

import pandas as pd

from ..errors import PruneError
from .label_pairs import to_text

SENTENCES = ("sentence #", "sentence id", "sent id", "sentence idx", "sentence")
WORDS = ("word", "words", "token", "tokens")
TAGS = ("tag", "tags", "label", "labels", "ner", "ner tag", "ner tags")
Line = tuple[int, list[str]]  # line number, cells


def is_conll(content: bytes) -> bool:
    """Whether a text file has one word per line.

    Short lines whose last cell is O, B-… or I-…, with blank lines between sentences. The first line
    may be a header.
    """
    lines = content[:20_000].decode("utf-8", errors="replace").split("\n")[:-1]
    tagged = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    tagged = tagged[_has_header(tagged) :]
    return (
        bool(tagged)
        and any(not line.strip() for line in lines)
        and all(
            len(cells) > 1 and _is_tag(cells[-1]) for cells in tagged if cells[0] != "-DOCSTART-"
        )
    )


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    return (
        bool(rows)
        and len(rows[0]) > 1
        and _normalize(rows[0][0]) in WORDS
        and _normalize(rows[0][-1]) in TAGS
    )


def _is_tag(cell: str) -> bool:
    return cell == "O" or cell[:2] in ("B-", "I-", "E-", "S-", "L-", "U-")


def parse_conll(text: str, path: str) -> tuple[pd.DataFrame, str]:
    """Return (table of sentences with list columns `tokens` and `ner_tags`, description).

    The word is the first cell and its tag the last. If the first cell is a running number, the word
    is the second cell and the tag the first later cell of tags. Cells are separated by tabs if
    there are any, else by spaces. PruneError for a line with another number of cells.
    """
    lines = [line.strip("\r ") for line in text.split("\n")]
    tabs = any("\t" in line for line in lines)
    rows = [line.strip("\t").split("\t") if tabs else re.split(r"[ \t]+", line) for line in lines]
    sentences = _split_sentences(rows, path)
    word, tag = _locate_cells(sentences, path)
    table = {
        "tokens": [[cells[word] for _, cells in sentence] for sentence in sentences],
        "ner_tags": [[cells[tag] for _, cells in sentence] for sentence in sentences],
    }
    cells_note = f", word in cell {word + 1} and tag in cell {tag + 1}" if word else ""
    lines_of_sentences = pd.Index([sentence[0][0] for sentence in sentences], name="line")
    return pd.DataFrame(table, index=lines_of_sentences), f"one word per line{cells_note}"


def _split_sentences(rows: Sequence[list[str]], path: str) -> list[list[Line]]:
    """Group the lines by sentence, without comments and the header."""
    tags = {cells[-1] for cells in rows if not cells[0].startswith("#")} - {""}
    sentences: list[list[Line]] = [[]]
    width, is_first = 0, True
    for number, cells in enumerate(rows, start=1):
        if not any(cell.strip() for cell in cells) or cells[0] == "-DOCSTART-":
            sentences.append([])
            continue
        if cells[0].startswith("#") and _is_comment(cells, width, tags):
            continue
        if is_first and _has_header([cells]):
            is_first = False
            continue
        width, is_first = width or len(cells), False
        if len(cells) != width or width < 2:
            raise PruneError(
                f"{path}, line {number}: {' '.join(cells)[:60]!r} has {len(cells)} cells, the "
                f"first word has {max(2, width)}; write a word and its tag on each line, with the "
                "same number of cells on all lines."
            )
        sentences[-1].append((number, cells))
    return [sentence for sentence in sentences if sentence]


def _is_comment(cells: Sequence[str], width: int, tags: set[str]) -> bool:
    """Whether a line that begins with # is not a word: its last cell is no tag, or its length
    differs.
    """
    return (cells[-1] not in tags and not _is_tag(cells[-1])) or 0 < width != len(cells)


def _locate_cells(sentences: Sequence[Sequence[Line]], path: str) -> tuple[int, int]:
    """Return (cell of the word, cell of its tag)."""
    width = len(sentences[0][0][1]) if sentences else 2
    first_cells = [[cells[0] for _, cells in sentence] for sentence in sentences]
    running_numbers = [
        [str(number) for number in range(start, start + len(first))]
        for first in first_cells
        for start in (0, 1)
    ]
    if (
        not first_cells
        or max(map(len, first_cells)) < 2
        or not all(
            first in running_numbers[2 * i : 2 * i + 2] for i, first in enumerate(first_cells)
        )
    ):
        return 0, width - 1
    tag = next(
        (
            place
            for place in range(2, width)
            if all(_is_tag(cells[place]) for sentence in sentences for _, cells in sentence)
        ),
        0,
    )
    if not tag:
        raise PruneError(
            f"{path}: the first cell of each line is a running number, and no cell after the "
            "second contains tags such as O and B-PER; write the word in the first cell and its "
            "tag in the last."
        )
    return 1, tag


def _normalize(name: object) -> str:
    return re.sub(r"[\s_]+", " ", str(name).strip().lower())


def group_words(rows: pd.DataFrame) -> tuple[pd.DataFrame, str] | None:
    """Group a table with one word per row into sentences.

    Returns (sentences, name of the sentence id column), or None for another table. Columns are
    `tokens` and `ner_tags`, a list each, also under their names in the table. Consecutive rows with
    one id, or without any, form a sentence; its index is that of its first word.
    """
    columns = {_normalize(name): str(name) for name in reversed(list(rows))}
    sentence, word, tag = (
        next((columns[name] for name in names if name in columns), "")
        for names in (SENTENCES, WORDS, TAGS)
    )
    if not (sentence and word and tag) or rows.empty:
        return None
    ids = rows[sentence].map(to_text).astype(object)
    ids = ids.where(ids != "").ffill().fillna("")
    runs = (ids != ids.shift()).cumsum()
    has_spaces = rows[word].map(to_text).str.contains(r"\S\s+\S").any()
    if 2 * runs.iloc[-1] > len(rows) or has_spaces:
        return None  # already one sentence per row
    table = pd.DataFrame(index=pd.Index(rows.index[~runs.duplicated()], name=rows.index.name))
    for name, column in (("tokens", word), ("ner_tags", tag)):
        table[name] = [list(group) for _, group in rows[column].groupby(runs.to_numpy())]
    return table.assign(**{word: table["tokens"], tag: table["ner_tags"]}), sentence
