"""Split text into rows of cells in a given dialect: separator, quotes, escapes."""

import csv
import io
import re
from collections import Counter
from typing import NamedTuple

csv.field_size_limit(2**31 - 1)


class Row(NamedTuple):
    """Cells of one row and the 1-based line on which it begins."""

    line: int
    cells: list[str]


class ParsedRows(NamedTuple):
    """All rows of a text in one dialect.

    `broken` is the line on which the quotes do not fit the dialect, 0 for none.
    """

    rows: list[Row]
    broken: int = 0

    @property
    def width(self) -> int:
        """Most common number of cells."""
        return Counter(len(row.cells) for row in self.rows).most_common(1)[0][0] if self.rows else 0

    @property
    def conforming(self) -> int:
        """Number of rows with `width` cells."""
        width = self.width
        return sum(len(row.cells) == width for row in self.rows)

    @property
    def is_table(self) -> bool:
        """Whether every row has the same number of cells, at least two."""
        return not self.broken and self.width > 1 and self.conforming == len(self.rows)


def parse(text: str, separator: str, quotes: str) -> ParsedRows:
    """Parse a text in one dialect, without blank lines.

    Empty cells after the header's last one are dropped.
    """
    if quotes == "backslash" and '\\"' in text:
        parsed = parse(_double_quotes(text, separator), separator, "yes")
        if parsed.is_table:
            return parsed
    escapes = _Escapes(text, separator) if quotes == "backslash" else None
    if escapes is not None and not escapes.has_escapes:
        return ParsedRows([], broken=1)  # nothing is escaped: this is another dialect
    source = escapes.text if escapes else text
    placeholder = ""
    if re.search(r"\r(?!\n)", text):
        # the csv module ends a row at a lone carriage return: hide it behind an unused character
        placeholder = next(sign for sign in map(chr, range(0xF000, 0xF100)) if sign not in text)
        source = re.sub(r"\r(?!\n)", placeholder, source)
    reader = csv.reader(
        io.StringIO(source),
        delimiter=separator,
        quoting=csv.QUOTE_NONE if quotes == "no" else csv.QUOTE_MINIMAL,
        strict=quotes != "no",
    )
    rows, start = list[Row](), 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) or len(cells) > 1:
                if placeholder:
                    cells = [cell.replace(placeholder, "\r") for cell in cells]
                rows.append(Row(start, [*map(escapes.restore, cells)] if escapes else cells))
            start = reader.line_num + 1
    except csv.Error:
        return ParsedRows(rows, broken=start)
    return ParsedRows(_drop_trailing_column(rows))


def _drop_trailing_column(rows: list[Row]) -> list[Row]:
    """Drop the empty column of a trailing separator.

    Either all rows have it, or all except the header.
    """
    width = min((len(row.cells) for row in rows if any(row.cells)), default=0)
    if width < 2 or not all(len(row.cells) == width or not any(row.cells[width:]) for row in rows):
        return rows
    if width > 2 and not any(row.cells[width - 1] for row in rows):
        width -= 1
    return [Row(row.line, row.cells[:width]) for row in rows]


def _double_quotes(text: str, separator: str) -> str:
    r"""Convert Spark's quoted cells to doubled quotes: `\"` becomes `""`, and `\\` one backslash.

    Unless a quoted cell contains a single backslash: then the writer did not escape backslashes.
    """
    quoted = re.compile(rf'(?<![^{re.escape(separator)}\n])"((?:[^"\\]|\\.)*)"', re.DOTALL)
    lone = any(
        re.search(r"\\[^\\\"]", re.sub(r'\\[\\"]', "", cell)) for cell in quoted.findall(text)
    )
    pattern = re.compile(r'\\(")' if lone else r'\\([\\"])')

    def unescape(match: re.Match[str]) -> str:
        return '""' if match[1] == '"' else "\\"

    return quoted.sub(lambda cell: f'"{pattern.sub(unescape, cell[1])}"', text)


class _Escapes:
    r"""Backslash escapes of unquoted cells, as MySQL writes them, hidden from the csv module.

    Escaped are a backslash, a separator and a line end. `escapechar` of the csv module would remove
    every backslash, also the one of `C:\new`. A doubled backslash counts as an escape only if the
    text has no single one: only then did the writer escape backslashes.
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
        self.text = pattern.sub(lambda match: self._hidden[match[1]], text)
        self.has_escapes = any(self._hidden[sign] in self.text for sign in signs)

    def restore(self, cell: str) -> str:
        """Return the cell with its escapes resolved."""
        return cell.translate({ord(hidden): sign for hidden, sign in self._shown.items()})
