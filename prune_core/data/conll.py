"""Files with one word per line and its tag, as CoNLL's shared tasks have them."""

from __future__ import annotations

import re

import pandas as pd

from ..errors import PruneError


def looks_conll(content: bytes) -> bool:
    """A text file of short lines whose last cell is O, B-… or I-…, parted by blank ones."""
    lines = content[:20_000].decode("utf-8", errors="replace").split("\n")[:-1]
    tagged = [line.split() for line in lines if line.strip()]
    return bool(tagged) and any(not line.strip() for line in lines) and all(
        len(cells) > 1 and _is_tag(cells[-1]) for cells in tagged if cells[0] != "-DOCSTART-"
    )  # fmt: skip


def _is_tag(cell: str) -> bool:
    return cell == "O" or cell[:2] in ("B-", "I-", "E-", "S-", "L-", "U-")


def conll(text: str, path: str) -> pd.DataFrame:
    """Sentences of a file with one word per line, its tag in the last cell: columns `tokens` and `ner_tags`, a list each.

    Cells are separated by tabs where there are any, else by spaces. PruneError for a line with another number of cells.
    """
    lines = [line.strip("\r ") for line in text.split("\n")]
    lines = [line if line.strip() else "" for line in lines]
    tabs = any("\t" in line for line in lines)
    starts: list[int] = []
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    width, is_open = 0, False
    for number, line in enumerate(lines, start=1):
        cells = line.strip("\t").split("\t") if tabs else re.split(r"[ \t]+", line)
        if not line or cells[0] == "-DOCSTART-":
            is_open = False
            continue
        if line.startswith("#") and len(cells) != width and (width or not _is_tag(cells[-1])):
            continue  # a comment
        width = width or len(cells)
        if len(cells) != width or width < 2:
            raise PruneError(f"{path}, line {number}: {line[:60]!r} has {len(cells)} cells, the first word has {max(2, width)}; "
                             "write a word and its tag on each line, in as many cells as on the others.")  # fmt: skip
        if not is_open:
            starts.append(number)
            tokens.append([])
            tags.append([])
            is_open = True
        tokens[-1].append(cells[0])
        tags[-1].append(cells[-1])
    return pd.DataFrame({"tokens": tokens, "ner_tags": tags}, index=pd.Index(starts, name="line"))
