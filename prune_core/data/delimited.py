r"""Read delimited text tables: detect encoding, separator, quotes and header.

Cells are read exactly as written. Every cell is text: NA, null and None are words; only `\N`, the
NULL of MySQL and Hive, is empty. A dialect is accepted only if every row has as many cells as the
header. What columns mean is decided elsewhere.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd

from ..errors import PruneError
from ..formatting import plural
from .encodings import decode
from .header import has_header, is_name, names_columns, rows_above_header
from .rows import ParsedRows, Row, parse

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
SEPARATOR_NAMES = {name: sign for sign, name in SEPARATORS.items()} | {"\\t": "\t"}
QUOTES = ("yes", "backslash", "no")
BAD_ROWS = ("skip", "merge")
CHOICES = {"header": ("yes", "no"), "quotes": QUOTES, "bad_rows": BAD_ROWS}
SAMPLE = 2_000_000  # characters used to detect the dialect
SHOWN = 3  # examples in a message
NULL = "\\N"  # of MySQL and Hive


@dataclass(frozen=True)
class Dialect:
    """Format of a text table; "" means "detect".

    `separator` is one character, its name, or "none" for one text per line.
    """

    separator: str = ""
    encoding: str = ""
    header: str = ""  # yes or no
    quotes: str = (
        ""  # yes: quotes enclose cells; backslash: same, escaped by \; no: quotes are text
    )
    bad_rows: str = ""  # uneven rows: skip, or merge extra cells into the text column; "": error

    def __post_init__(self) -> None:
        object.__setattr__(self, "separator", SEPARATOR_NAMES.get(self.separator, self.separator))
        if len(self.separator) > 1 and self.separator != "none":
            raise PruneError(
                f"separator is {self.separator!r}; give one character, or one of "
                f"{', '.join(SEPARATOR_NAMES)}, none."
            )
        for name, choices in CHOICES.items():
            if getattr(self, name) not in ("", *choices):
                raise PruneError(
                    f"{name.replace('_', '-')} is {getattr(self, name)!r}; it must be "
                    f"{' or '.join(choices)}."
                )

    @property
    def description(self) -> str:
        """Description in words; defaults (comma, UTF-8, header, quoted cells) are omitted."""
        if self.separator == "none":
            parts = ["one text per line"]
        else:
            name = SEPARATORS.get(self.separator, repr(self.separator))
            parts = [f"{name}-separated"] if self.separator != "," else []
            parts += ["without a header"] if self.header == "no" else []
            parts += ["quotes are text"] if self.quotes == "no" else []
            parts += ["quotes escaped by a backslash"] if self.quotes == "backslash" else []
        if self.encoding not in ("utf-8", "utf-8-sig", "ascii"):
            parts.insert(1, "encoding " + re.sub(r"^cp(125\d)$", r"Windows-\1", self.encoding))
        return ", ".join(parts)


# column names -> name of the text column, "" if unknown
TextColumn = Callable[[Sequence[str]], str]


def read(
    content: bytes,
    path: str,
    form: Dialect,
    tabs: bool = False,
    text_column: TextColumn = lambda names: "",
) -> tuple[pd.DataFrame, Dialect, list[str]]:
    """Parse a delimited table and return (table of text cells, its dialect, notes).

    The index holds each row's line number in the file. `tabs`: the file's suffix implies tab
    separators. `text_column` chooses the column that receives the extra cells with
    `bad_rows="merge"`. PruneError if rows differ from the header in length and `form.bad_rows` is
    empty.
    """
    text, encoding = decode(content, form.encoding, path)
    text = text if "\n" in text else text.replace("\r", "\n")
    if not text.strip():
        raise PruneError(f"{path} is empty.")
    skipped = 0
    if match := re.match(r"sep=(.)\r?\n", text):  # written and read by Excel
        form = replace(form, separator=form.separator or match[1])
        text, skipped = text[match.end() :], 1
    form, parsed = _detect(text, replace(form, encoding=encoding), tabs, path=str(path))
    rows = [Row(row.line + skipped, row.cells) for row in parsed.rows]
    if parsed.broken:
        raise PruneError(
            f"{path}, line {parsed.broken + skipped}: a quote opens or closes inside a cell; "
            "double the quotes within quoted cells, or use --quotes no if quotes are text in this "
            "file."
        )
    if above := rows_above_header([row.cells for row in rows[:20]]):
        raise PruneError(
            f"{path}, line {rows[above].line}: the column names seem to be on this line "
            f"({', '.join(rows[above].cells)[:80]}), below {plural(above, 'other line')}; "
            "delete the lines above the header."
        )
    names, rows = _split_header(rows, form)
    rows, notes = _check_lengths(rows, names, path, form=form, text_column=text_column)
    rows, repeated = _drop_repeated_headers(rows, names) if form.header == "yes" else (rows, [])
    table = pd.DataFrame([row.cells for row in rows], columns=_deduplicate(names), dtype=str)
    table.index = pd.Index([row.line for row in rows], name="line", dtype=int)
    return table.mask(table == NULL, ""), form, notes + repeated


def _detect(text: str, form: Dialect, tabs: bool, path: str) -> tuple[Dialect, ParsedRows]:
    """Return the completed dialect and the parsed rows.

    Uses the first dialect in which all rows have the same length, else the one that fits most rows.
    """
    detected: Dialect | None = None
    parsed: ParsedRows | None = None
    if form.separator != "none":
        sample = text if len(text) <= SAMPLE else text[: text.rfind("\n", 0, SAMPLE) + 1]
        detected, parsed = _even_dialect(text, sample, form, tabs=tabs, path=path) or (
            _uneven_dialect(sample, form, path),
            None,
        )
    if detected is None:
        detected = form
        if not form.separator and _is_quoted(text):
            detected = replace(form, separator=",", quotes="yes")
    if detected.separator in ("", "none"):
        detected = replace(detected, separator="none", quotes="no")
        parsed = parsed or _one_text_per_line(text)
    parsed = parsed or parse(text, detected.separator, detected.quotes)
    header = form.header or ("yes" if has_header([row.cells for row in parsed.rows]) else "no")
    return replace(detected, header=header), parsed


def _dialects(form: Dialect, tabs: bool) -> Iterable[tuple[str, str]]:
    """Candidate (separator, quotes) pairs, the most likely first."""
    separators = sorted(SEPARATORS, key=lambda sign: tabs and sign != "\t")
    return product(
        [form.separator] if form.separator else separators,
        [form.quotes] if form.quotes else QUOTES,
    )


def _even_dialect(
    text: str, sample: str, form: Dialect, tabs: bool, path: str
) -> tuple[Dialect, ParsedRows] | None:
    """Return the first dialect in which every row has the same number of cells, and its rows."""
    is_complete = len(sample) == len(text)
    for separator, quotes in _dialects(form, tabs):
        parsed = parse(sample, separator, quotes)
        if not parsed.is_table and (
            quotes != "backslash" or is_complete or not parse(sample, separator, "yes").is_table
        ):
            continue
        if not form.quotes and quotes == "yes" and separator == "\t" and _quotes_are_text(sample):
            quotes, parsed = "no", parse(text, separator, "no")
        elif not is_complete:
            parsed = parse(text, separator, quotes)
        if not parsed.is_table or (not form.separator and _is_prose(parsed)):
            continue
        if not form.quotes and quotes == "yes" and re.search(r'["\\]', sample):
            for other in ("no", "backslash"):
                _check_quotes(parsed, parse(text, separator, other), other, path=path)
        return replace(form, separator=separator, quotes=quotes), parsed
    return None


def _is_prose(parsed: ParsedRows) -> bool:
    """Whether the "table" is prose with commas: a space follows each separator, no column names."""
    cells = [cell for row in parsed.rows for cell in row.cells[1:]]
    return (
        bool(cells)
        and all(cell.startswith(" ") for cell in cells)
        and not names_columns(parsed.rows[0].cells)
    )


def _check_quotes(parsed: ParsedRows, other: ParsedRows, quotes: str, path: str) -> None:
    """Refuse a text that another quoting rule parses into a different number of rows.

    One quote or backslash can join two rows.
    """
    if other.is_table and len(other.rows) != len(parsed.rows):
        differ = (
            first.line
            for first, second in zip(parsed.rows, other.rows, strict=False)
            if first != second
        )
        raise PruneError(
            f"{path}, line {next(differ, len(parsed.rows))}, can be read in two ways: "
            f"{len(parsed.rows):,} rows with --quotes yes, {len(other.rows):,} with "
            f"--quotes {quotes}; choose one of the two."
        )


def _uneven_dialect(sample: str, form: Dialect, path: str) -> Dialect | None:
    """Return the dialect that fits most rows, for the message about the others.

    None if the text is one example per line.
    """
    candidates = [(dialect, parse(sample, *dialect)) for dialect in _dialects(form, tabs=False)]
    if not form.separator:
        first = sample.split("\n", 1)[0]
        has_table_suffix = path.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".tab"))
        candidates = [
            (dialect, parsed)
            for dialect, parsed in candidates
            if (
                parsed.width > 1
                and 2 * parsed.conforming > len(parsed.rows)
                and not _is_prose(parsed)
            )
            or (has_table_suffix and _names_columns(first, dialect[0]))
        ]
    if not candidates:
        return None
    # max returns the first of equal candidates: quotes enclose cells
    (separator, quotes), _ = max(
        candidates, key=lambda candidate: (candidate[1].width > 1, candidate[1].conforming)
    )
    return replace(form, separator=separator, quotes=quotes)


def _names_columns(line: str, separator: str) -> bool:
    """Whether a first line is several short names.

    The file is then a table, however uneven its rows are.
    """
    cells = [cell.strip(' "\r') for cell in line.split(separator)]
    return len(cells) > 1 and all(
        re.fullmatch(r"[^\W\d][\w .-]{0,30}", cell) and is_name(cell) for cell in cells
    )


def _is_quoted(text: str) -> bool:
    """Whether every line except the first is one quoted cell.

    The quotes then belong to the file format, not to the texts.
    """
    return (
        re.fullmatch(
            r'\ufeff?[^"\n]*\n?(?:[ \t]*"(?:[^"]|"")*"[ \t]*\r?(?:\n|$)|[ \t]*\r?\n)+', text
        )
        is not None
    )


def _quotes_are_text(sample: str) -> bool:
    """Whether quotes in a tab-separated table are text rather than cell delimiters.

    Tabs rarely need quotes: they delimit cells where a cell contains a tab, newline or quote, or
    where a whole column is quoted.
    """
    unquoted = [row.cells for row in parse(sample, "\t", "no").rows]
    openers = [
        (place, cell) for row in unquoted for place, cell in enumerate(row) if cell.startswith('"')
    ]
    enclosed = (cell for row in parse(sample, "\t", "yes").rows for cell in row.cells)
    if any("\t" in cell or "\n" in cell or '"' in cell for cell in enclosed):
        return False
    quoted_columns = {
        place
        for place in range(Counter(map(len, unquoted)).most_common(1)[0][0])
        if all(len(row) > place and row[place].startswith('"') for row in unquoted[1:])
    }
    closed = all(cell.endswith('"') and len(cell) > 1 for _, cell in openers)
    return bool(openers) and not (closed and {place for place, _ in openers} <= quoted_columns)


def _one_text_per_line(text: str) -> ParsedRows:
    """Read one text per line. Only a newline ends a line: U+2028, U+2029 and U+0085 are text."""
    return ParsedRows(
        [
            Row(number, [line.strip()])
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    )


def _split_header(rows: list[Row], form: Dialect) -> tuple[list[str], list[Row]]:
    """Return (column names, data rows); columns without a name are numbered."""
    if form.header == "yes":
        return [
            cell.strip() or f"column {place + 1}" for place, cell in enumerate(rows[0].cells)
        ], rows[1:]
    return [f"column {place + 1}" for place in range(ParsedRows(rows).width)], rows


def _deduplicate(names: Sequence[str]) -> list[str]:
    """Append a number to repeated column names, as pandas does."""
    unique: list[str] = []
    for name in names:
        count = next(
            count
            for count in range(len(names))
            if (f"{name}.{count}" if count else name) not in unique
        )
        unique.append(f"{name}.{count}" if count else name)
    return unique


def _check_lengths(
    rows: list[Row], names: list[str], path: str, form: Dialect, text_column: TextColumn
) -> tuple[list[Row], list[str]]:
    """Return rows as long as the header, and notes.

    PruneError for other rows if `form.bad_rows` is empty.
    """
    width = len(names)
    bad = [row for row in rows if len(row.cells) != width]
    if not bad:
        return rows, []
    name = text_column(names)
    is_known = name in names
    if form.bad_rows == "merge" and is_known and all(len(row.cells) > width for row in bad):
        place = names.index(name)
        merged = [_merge_extra(row, width, place, separator=form.separator) for row in rows]
        return merged, [f"{plural(len(bad), 'row')} with extra cells: merged into column {name!r}."]
    if form.bad_rows == "skip":
        return [row for row in rows if len(row.cells) == width], [
            f"{plural(len(bad), 'row')} left out, with a number of cells other than {width} "
            f"({_preview(bad)})."
        ]
    raise PruneError(
        _uneven_message(bad, rows, names, path=path, form=form, text=name if is_known else "")
    )


def _merge_extra(row: Row, width: int, place: int, separator: str) -> Row:
    """Join the extra cells of a row with at least `width` cells into the cell at `place`."""
    end = place + len(row.cells) - width + 1
    return Row(
        row.line,
        [*row.cells[:place], separator.join(row.cells[place:end]), *row.cells[end:]],
    )


def _uneven_message(
    bad: list[Row], rows: list[Row], names: list[str], path: str, form: Dialect, text: str
) -> str:
    """Error message for uneven rows: the problem, examples, and the options."""
    sign = SEPARATORS.get(form.separator, repr(form.separator))
    longer = all(len(row.cells) > len(names) for row in bad)
    options = [f"quote texts that contain a {sign}" if longer else "complete these rows"]
    if len(bad) == len(rows) and {len(row.cells) for row in bad} == {len(names) + 1}:
        options.append("add the name that the header lacks, if the first cells are row names")
    if longer and text:
        options.append(f"use --bad-rows merge if the extra cells belong to column {text!r}")
    elif longer and form.bad_rows == "merge":
        options.append("set the column that receives extra cells with --text")
    if len(bad) < len(rows):
        options.append("use --bad-rows skip to leave them out")
    options.append("set another --separator (none: one text per line)")
    has_names = form.header == "yes"
    reference = f"the header has ({', '.join(names[:8])})" if has_names else "most rows have"
    return (
        f"{path}: {len(bad):,} of {plural(len(rows), 'row')} "
        f"{'does' if len(bad) == 1 else 'do'} not have "
        f"{plural(len(names), 'cell')}, as {reference}, separated by "
        f"{sign}: {_preview(bad)}. To continue, {'; or '.join(options)}."
    )


def _preview(bad: list[Row]) -> str:
    """First few uneven rows with their line numbers."""
    examples = [
        f"line {row.line} has {len(row.cells)}, {_truncate(row.cells)!r}" for row in bad[:SHOWN]
    ]
    return "; ".join(examples) + (f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else "")


def _truncate(cells: Sequence[str]) -> str:
    text = " | ".join(cells)
    return text if len(text) <= 60 else f"{text[:30]} … {text[-25:]}"


def _drop_repeated_headers(rows: list[Row], names: list[str]) -> tuple[list[Row], list[str]]:
    """Drop header lines in the middle of concatenated files; return (rows, notes)."""
    repeated = [row.line for row in rows if [cell.strip() for cell in row.cells] == names]
    if not repeated or len(names) < 2:
        return rows, []
    lines = ", ".join(map(str, repeated[:SHOWN])) + (" …" if len(repeated) > SHOWN else "")
    noun = "line" if len(repeated) == 1 else "lines"
    return [row for row in rows if row.line not in repeated], [
        f"The header is repeated on {noun} {lines}; left out."
    ]
