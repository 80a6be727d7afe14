"""Split a text into rows of cells in a given dialect: separator, quotes, escapes.

Knows nothing of headers or of which dialect a file has.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import NamedTuple

csv.field_size_limit(2**31 - 1)


class Row(NamedTuple):
    """Cells of one row and the line on which it begins, from 1."""

    line: int
    cells: list[str]


class ParsedRows(NamedTuple):
    """All rows of a text in one dialect; `broken` is the line whose quotes do not fit the dialect, 0 for none."""

    rows: list[Row]
    broken: int = 0

    @property
    def width(self) -> int:
        """The most common number of cells."""
        return Counter(len(row.cells) for row in self.rows).most_common(1)[0][0] if self.rows else 0

    @property
    def conforming(self) -> int:
        """How many rows have that number of cells."""
        width = self.width
        return sum(len(row.cells) == width for row in self.rows)

    @property
    def is_table(self) -> bool:
        """Whether every row has the same number of cells, and more than one."""
        return not self.broken and self.width > 1 and self.conforming == len(self.rows)


def parse(text: str, separator: str, quotes: str) -> ParsedRows:
    """The rows of a text in one dialect, blank lines left out. Empty cells behind the header's last one are no cells."""
    if quotes == "backslash" and '\\"' in text:
        parsed = parse(_with_doubled_quotes(text, separator), separator, "yes")
        if parsed.is_table:
            return parsed
    escapes = _Escapes(text, separator) if quotes == "backslash" else None
    if escapes is not None and not escapes.found:
        return ParsedRows([], broken=1)  # nothing is escaped: this is another dialect
    lone = (
        next(sign for sign in map(chr, range(0xF000, 0xF100)) if sign not in text)
        if re.search(r"\r(?!\n)", text)
        else ""
    )
    source = escapes.text if escapes else text
    # the csv module takes a carriage return by itself for the end of a row
    lines = io.StringIO(re.sub(r"\r(?!\n)", lone, source) if lone else source)
    if quotes == "no":
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=separator, strict=True)
    rows, start = list[Row](), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                cells = [cell.replace(lone, "\r") for cell in cells] if lone else cells
                rows.append(Row(start, [*map(escapes.restored, cells)] if escapes else cells))
            start = reader.line_num + 1
    except csv.Error:
        return ParsedRows(rows, broken=start)
    return ParsedRows(_without_empty_ends(rows))


def _without_empty_ends(rows: list[Row]) -> list[Row]:
    """A separator behind the last cell makes no column: not where all rows have it, nor where the header has none."""
    width = min((len(row.cells) for row in rows if any(row.cells)), default=0)
    if width < 2 or not all(len(row.cells) == width or not any(row.cells[width:]) for row in rows):
        return rows
    if width > 2 and not any(row.cells[width - 1] for row in rows):
        width -= 1
    return [Row(row.line, row.cells[:width]) for row in rows]


def _with_doubled_quotes(text: str, separator: str) -> str:
    r"""Spark's quoted cells in the usual form: `\"` becomes `""`, and `\\` one backslash, unless a single one stands in a
    quoted cell, as then the writer has not escaped backslashes."""
    quoted = re.compile(rf'(?<![^{re.escape(separator)}\n])"((?:[^"\\]|\\.)*)"', re.DOTALL)
    lone = any(
        re.search(r"\\[^\\\"]", re.sub(r'\\[\\"]', "", cell)) for cell in quoted.findall(text)
    )
    pattern = re.compile(r'\\(")' if lone else r'\\([\\"])')
    usual = lambda found: '""' if found[1] == '"' else "\\"  # noqa: E731
    return quoted.sub(lambda cell: f'"{pattern.sub(usual, cell[1])}"', text)


class _Escapes:
    r"""Backslash escapes of unquoted cells, as MySQL writes them (`\\`, a backslash before a separator or a line's end), hidden
    from the csv module, whose `escapechar` would take every backslash away: `C:\new` keeps its own.

    A doubled backslash is one only if no single one stands in the text, as then the writer has escaped backslashes too.
    """

    def __init__(self, text: str, separator: str):
        signs = '"' + separator + "\n"
        places = [sign for sign in map(chr, range(0xE000, 0xE100)) if sign not in text][
            : len(signs) + 1
        ]
        pattern = re.compile(r"\\(\\|" + "|".join(map(re.escape, signs)) + ")")
        lone = re.search(r"\\[^N]", pattern.sub("", text)) is not None
        self._hidden = dict(zip([*signs, "\\"], places, strict=True))
        self._shown = {
            hidden: "\\\\" if lone and sign == "\\" else sign
            for sign, hidden in self._hidden.items()
        }
        self.text = pattern.sub(lambda found: self._hidden[found[1]], text)
        self.found = any(self._hidden[sign] in self.text for sign in signs)

    def restored(self, cell: str) -> str:
        """The cell as it was meant."""
        return cell.translate({ord(hidden): sign for hidden, sign in self._shown.items()})
