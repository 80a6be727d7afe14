"""Delimited text tables: detect encoding, separator, quoting and header, and read the cells exactly as written.

Every cell is text: NA, null and None are words; only `\\N`, as MySQL and Hive write NULL, is empty. A dialect is accepted only
if every row has as many cells as the header. Knows nothing of what columns mean.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from .encodings import decode
from .header import has_header, header_below, is_name, names_columns
from .rows import ParsedRows, Row, parse

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
WORDS = {name: sign for sign, name in SEPARATORS.items()} | {"\\t": "\t"}
QUOTES = ("yes", "backslash", "no")
BAD_ROWS = ("skip", "merge")
CHOICES = {"header": ("yes", "no"), "quotes": QUOTES, "bad_rows": BAD_ROWS}
SAMPLE = 2_000_000  # characters that the dialect is chosen from
SHOWN = 3  # examples in a message
NULL = "\\N"


@dataclass(frozen=True)
class Dialect:
    """How a text table is written; "" means that it is detected. `separator` is one character, its name, or "none" for one
    text per line."""

    separator: str = ""
    encoding: str = ""
    header: str = ""  # yes or no
    quotes: str = ""  # yes: quotes enclose cells; backslash: so, and are escaped by a backslash; no: quotes are text
    bad_rows: str = ""  # rows of another length: skip them, or merge extra cells into the text column; "" raises an error

    def __post_init__(self) -> None:
        object.__setattr__(self, "separator", WORDS.get(self.separator, self.separator))
        if len(self.separator) > 1 and self.separator != "none":
            raise PruneError(
                f"separator is {self.separator!r}; give one character, or one of {', '.join(WORDS)}, none."
            )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in ("", *choices):
                flag = name.replace("_", "-")
                raise PruneError(
                    f"{flag} is {getattr(self, name)!r}; it must be {' or '.join(choices)}."
                )

    @property
    def description(self) -> str:
        """In words, without what is usual."""
        if self.separator == "none":
            parts = ["one text per line"]
        else:
            named = f"{SEPARATORS.get(self.separator, repr(self.separator))}-separated"
            parts = [named] if self.separator != "," else []
            parts += ["without a header"] if self.header == "no" else []
            parts += ["quotes are text"] if self.quotes == "no" else []
            parts += ["quotes escaped by a backslash"] if self.quotes == "backslash" else []
        if self.encoding not in ("utf-8", "utf-8-sig", "ascii"):
            parts.insert(1, "encoding " + re.sub(r"^cp(125\d)$", r"Windows-\1", self.encoding))
        return ", ".join(parts)


TextColumn = Callable[
    [Sequence[str]], str
]  # names of columns -> the one that holds texts, "" if that is not known


def read(
    content: bytes,
    path: str,
    form: Dialect,
    tabs: bool = False,
    text_column: TextColumn = lambda names: "",
) -> tuple[pd.DataFrame, Dialect, list[str]]:
    """(table of text cells, its form, notes). The index holds each row's line in the file.

    `tabs`: the file's name says that tabs separate. `text_column` chooses the column into which `bad_rows="merge"` puts the
    extra cells. PruneError if rows have another number of cells than the header and `form.bad_rows` does not say what to do.
    """
    text, encoding = decode(content, form.encoding, path)
    text = text if "\n" in text else text.replace("\r", "\n")
    if not text.strip():
        raise PruneError(f"{path} is empty.")
    skipped = 0
    if found := re.match(r"sep=(.)\r?\n", text):  # as Excel writes and reads it
        form = replace(form, separator=form.separator or found[1])
        text, skipped = text[found.end() :], 1
    form, parsed = _detected(text, replace(form, encoding=encoding), tabs, path=str(path))
    rows = [Row(row.line + skipped, row.cells) for row in parsed.rows]
    if parsed.broken:
        line = parsed.broken + skipped
        raise PruneError(
            f"{path}, line {line}: a quote opens or closes inside of a cell; double quotes within quoted cells, or "
            "use --quotes no if quotes are text in this file."
        )
    if above := header_below([row.cells for row in rows[:20]]):
        raise PruneError(
            f"{path}, line {rows[above].line}: the names of the columns seem to stand there ({', '.join(rows[above].cells)[:80]}), below "
            f"{plural(above, 'other line')}; delete what stands above them."
        )
    names, rows = _named(rows, form)
    rows, notes = _even(rows, names, path, form=form, text_column=text_column)
    rows, repeated = _without_headers(rows, names) if form.header == "yes" else (rows, [])
    table = pd.DataFrame([row.cells for row in rows], columns=_distinct(names), dtype=str)
    table.index = pd.Index([row.line for row in rows], name="line", dtype=int)
    return table.mask(table == NULL, ""), form, notes + repeated


def _detected(text: str, form: Dialect, tabs: bool, path: str) -> tuple[Dialect, ParsedRows]:
    """The form with what was to be detected, and the rows: those of the first dialect in which every row has one width, else
    of the one that fits most rows."""
    found: Dialect | None = None
    parsed: ParsedRows | None = None
    if form.separator != "none":
        sample = text if len(text) <= SAMPLE else text[: text.rfind("\n", 0, SAMPLE) + 1]
        found, parsed = _even_dialect(text, sample, form, tabs=tabs, path=path) or (
            _uneven_dialect(sample, form, path),
            None,
        )
    if found is None:
        found = (
            replace(form, separator=",", quotes="yes")
            if _is_quoted(text) and not form.separator
            else form
        )
    if found.separator == "":
        found = replace(found, separator="none")
    if parsed is None:
        parsed = (
            _lines(text)
            if found.separator == "none"
            else parse(text, found.separator, found.quotes)
        )
    header = form.header or ("yes" if has_header([row.cells for row in parsed.rows]) else "no")
    return replace(
        found, quotes=found.quotes if found.separator != "none" else "no", header=header
    ), parsed


def _dialects(form: Dialect, tabs: bool) -> Iterator[tuple[str, str]]:
    signs = sorted(SEPARATORS, key=lambda sign: sign != "\t") if tabs else list(SEPARATORS)
    for separator in [form.separator] if form.separator else signs:
        for quotes in [form.quotes] if form.quotes else QUOTES:
            yield separator, quotes


def _even_dialect(
    text: str, sample: str, form: Dialect, tabs: bool, path: str
) -> tuple[Dialect, ParsedRows] | None:
    """The first dialect in which every row has the same number of cells, and its rows."""
    is_whole = len(sample) == len(text)
    for separator, quotes in _dialects(form, tabs):
        whole = parse(sample, separator, quotes)
        if not whole.is_table and (
            quotes != "backslash" or is_whole or not parse(sample, separator, "yes").is_table
        ):
            continue
        if not form.quotes and quotes == "yes" and separator == "\t" and _quotes_are_text(sample):
            quotes, whole = "no", parse(text, separator, "no")
        elif not is_whole:
            whole = parse(text, separator, quotes)
        if not whole.is_table or (not form.separator and _is_prose(whole)):
            continue
        if not form.quotes and quotes == "yes" and re.search(r'["\\]', sample):
            for other in ("no", "backslash"):
                _check_quotes(whole, parse(text, separator, other), other, path=path)
        return replace(form, separator=separator, quotes=quotes), whole
    return None


def _is_prose(found: ParsedRows) -> bool:
    """Whether a space follows each separator and nothing names columns: sentences that have a comma each."""
    cells = [cell for row in found.rows for cell in row.cells[1:]]
    return (
        bool(cells)
        and all(cell.startswith(" ") for cell in cells)
        and not names_columns(found.rows[0].cells)
    )


def _check_quotes(found: ParsedRows, other: ParsedRows, quotes: str, path: str) -> None:
    """Refuse a text that is also a table of other rows: a quote or backslash may join what look like two rows."""
    if other.is_table and len(other.rows) != len(found.rows):
        differ = (one.line for one, two in zip(found.rows, other.rows, strict=False) if one != two)
        raise PruneError(
            f"{path}, line {next(differ, len(found.rows))}, can be read in two ways: {len(found.rows):,} rows with --quotes yes, "
            f"{len(other.rows):,} with --quotes {quotes}; name one."
        )


def _uneven_dialect(sample: str, form: Dialect, path: str) -> Dialect | None:
    """The dialect that fits most rows, for a message about the others; None for one text per line."""
    tried = [(each, parse(sample, *each)) for each in _dialects(form, tabs=False)]
    if not form.separator:
        first = sample.split("\n", 1)[0]
        of_table = path.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".tab"))
        tried = [
            (each, parsed)
            for each, parsed in tried
            if (
                parsed.width > 1
                and 2 * parsed.conforming > len(parsed.rows)
                and not _is_prose(parsed)
            )
            or (of_table and _names_columns(first, each[0]))
        ]
    if not tried:
        return None
    # the first among equals: quotes enclose cells
    (separator, quotes), _ = max(tried, key=lambda each: (each[1].width > 1, each[1].conforming))
    return replace(form, separator=separator, quotes=quotes)


def _names_columns(line: str, separator: str) -> bool:
    """Whether a first line is several short names: then the file is a table, however uneven its rows."""
    cells = [cell.strip(' "\r') for cell in line.split(separator)]
    return len(cells) > 1 and all(
        re.fullmatch(r"[^\W\d][\w .-]{0,30}", cell) and is_name(cell) for cell in cells
    )


def _is_quoted(text: str) -> bool:
    """Whether every line but the first is one quoted cell: the quotes belong to the file, not to the texts."""
    return (
        re.fullmatch(
            r'\ufeff?[^"\n]*\n?(?:[ \t]*"(?:[^"]|"")*"[ \t]*\r?(?:\n|$)|[ \t]*\r?\n)+', text
        )
        is not None
    )


def _quotes_are_text(sample: str) -> bool:
    """With tabs quotes are rarely needed: they enclose cells where one is, or where a whole column has them."""
    bare = [row.cells for row in parse(sample, "\t", "no").rows]
    openers = [
        (place, cell) for row in bare for place, cell in enumerate(row) if cell.startswith('"')
    ]
    enclosed = [row.cells for row in parse(sample, "\t", "yes").rows]
    if any("\t" in cell or "\n" in cell or '"' in cell for row in enclosed for cell in row):
        return False
    width = Counter(map(len, bare)).most_common(1)[0][0]
    whole = {
        place
        for place in range(width)
        if all(len(row) > place and row[place].startswith('"') for row in bare[1:])
    }
    closed = all(cell.endswith('"') and len(cell) > 1 for _, cell in openers)
    return bool(openers) and not (closed and {place for place, _ in openers} <= whole)


def _lines(text: str) -> ParsedRows:
    """One text per line. Only a newline ends a line: U+2028, U+2029 and U+0085 are text."""
    lines = enumerate(text.split("\n"), start=1)
    return ParsedRows([Row(number, [line.strip()]) for number, line in lines if line.strip()])


def _named(rows: list[Row], form: Dialect) -> tuple[list[str], list[Row]]:
    """(names of the columns, the other rows). Names that are missing are counted."""
    if form.header == "yes":
        return [
            cell.strip() or f"column {place + 1}" for place, cell in enumerate(rows[0].cells)
        ], rows[1:]
    width = ParsedRows(rows).width
    return [f"column {place + 1}" for place in range(width)], rows


def _distinct(names: Sequence[str]) -> list[str]:
    """Names that stand twice get a number, as in pandas."""
    found: list[str] = []
    for name in names:
        count = next(
            count
            for count in range(len(names))
            if (f"{name}.{count}" if count else name) not in found
        )
        found.append(f"{name}.{count}" if count else name)
    return found


def _even(
    rows: list[Row], names: list[str], path: str, form: Dialect, text_column: TextColumn
) -> tuple[list[Row], list[str]]:
    """Rows with as many cells as there are names; PruneError for others if `form.bad_rows` does not say what to do."""
    width = len(names)
    bad = [row for row in rows if len(row.cells) != width]
    if not bad:
        return rows, []
    place = names.index(name) if (name := text_column(names)) in names else None
    if (
        form.bad_rows == "merge"
        and place is not None
        and all(len(row.cells) > width for row in bad)
    ):
        merged = [_merged(row, width, place, separator=form.separator) for row in rows]
        return merged, [
            f"{plural(len(bad), 'row')} with extra cells: they were merged into column {name!r}."
        ]
    if form.bad_rows == "skip":
        even = [row for row in rows if len(row.cells) == width]
        return even, [
            f"{plural(len(bad), 'row')} left out, with another number of cells than {width} ({_shown(bad)})."
        ]
    raise PruneError(
        _uneven(bad, rows, names, path=path, form=form, text=name if place is not None else "")
    )


def _merged(row: Row, width: int, place: int, separator: str) -> Row:
    extra = len(row.cells) - width
    if extra <= 0:
        return row
    cells = row.cells
    return Row(
        row.line,
        [
            *cells[:place],
            separator.join(cells[place : place + extra + 1]),
            *cells[place + extra + 1 :],
        ],
    )


def _uneven(
    bad: list[Row], rows: list[Row], names: list[str], path: str, form: Dialect, text: str
) -> str:
    """What is wrong with the rows, which they are, and what to do."""
    sign = SEPARATORS.get(form.separator, repr(form.separator))
    longer = all(len(row.cells) > len(names) for row in bad)
    ways = [f"quote texts that contain a {sign}" if longer else "complete these rows"]
    if len(bad) == len(rows) and {len(row.cells) for row in bad} == {len(names) + 1}:
        ways.append("add the name that the header lacks, if the first cells are row names")
    if longer and text:
        ways.append(f"use --bad-rows merge if the extra cells belong to column {text!r}")
    elif longer and form.bad_rows == "merge":
        ways.append("name the column to merge extra cells into with --text")
    if len(bad) < len(rows):
        ways.append("use --bad-rows skip to leave them out")
    ways.append("name another --separator (none: one text per line)")
    has = f"the header has ({', '.join(names[:8])})" if form.header == "yes" else "most rows have"
    return (
        f"{path}: {len(bad):,} of {plural(len(rows), 'row')} {'does' if len(bad) == 1 else 'do'} not have "
        f"{plural(len(names), 'cell')}, as {has}, separated by "
        f"{sign}: {_shown(bad)}. To go on, {'; or '.join(ways)}."
    )


def _shown(bad: list[Row]) -> str:
    """The first few, with their lines."""
    some = [f"line {row.line} has {len(row.cells)}, {_short(row.cells)!r}" for row in bad[:SHOWN]]
    return "; ".join(some) + (f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else "")


def _short(cells: Sequence[str]) -> str:
    text = " | ".join(cells)
    return text if len(text) <= 60 else f"{text[:30]} … {text[-25:]}"


def _without_headers(rows: list[Row], names: list[str]) -> tuple[list[Row], list[str]]:
    """Header lines in the middle of files that were joined."""
    repeated = [row.line for row in rows if [cell.strip() for cell in row.cells] == names]
    if not repeated or len(names) < 2:
        return rows, []
    kept = [row for row in rows if row.line not in set(repeated)]
    where = ", ".join(map(str, repeated[:SHOWN])) + (" …" if len(repeated) > SHOWN else "")
    return kept, [
        f"The header is repeated on {'line' if len(repeated) == 1 else 'lines'} {where}; left out."
    ]
