"""Tables in plain text as they lie about: which encoding, separator, quotes and header a file has, and its cells as they are written.

Whatever is found can be told instead. Every cell stays text: NA, null and None are words here. Knows nothing of what columns mean.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from ..errors import PruneError

SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
WORDS = {name: sign for sign, name in SEPARATORS.items()} | {"\\t": "\t"}
SAMPLE = 2_000_000  # characters that are looked at
ROWS = 2000  # of them
BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Form:
    """How a text table is written; "" is to be found out. `separator` is one sign or its name, none for a text a line."""

    separator: str = ""
    encoding: str = ""
    header: str = ""  # yes or no
    quotes: str = ""  # yes: they enclose cells; no: they are text

    def __post_init__(self) -> None:
        object.__setattr__(self, "separator", WORDS.get(self.separator, self.separator))
        if len(self.separator) > 1 and self.separator != "none":
            raise PruneError(f"The separator {self.separator!r} is none; give one sign, or one of {', '.join(WORDS)}, none.")
        for name in ("header", "quotes"):
            if getattr(self, name) not in ("", "yes", "no"):
                raise PruneError(f"{name} is {getattr(self, name)!r}; it must be yes or no.")

    @property
    def said(self) -> str:
        """In words, without what is usual."""
        parts = [] if self.separator in (",", "none") else [f"{SEPARATORS.get(self.separator, repr(self.separator))}-separated"]
        parts += [] if self.encoding in ("utf-8", "utf-8-sig", "ascii") else [f"encoding {_title(self.encoding)}"]
        parts += ["without a header"] if self.header == "no" and self.separator != "none" else []
        parts += ["quotes are text"] if self.quotes == "no" and self.separator != "none" else []
        return ", ".join(parts)


def _title(encoding: str) -> str:
    return re.sub(r"^cp(125\d)$", r"Windows-\1", encoding)


def decode(content: bytes, encoding: str, path: str) -> tuple[str, str]:
    """(text, encoding); UTF-8 where it fits, else what a byte order mark or charset-normalizer says."""
    if encoding:
        try:
            return content.decode(encoding), encoding
        except (UnicodeDecodeError, LookupError) as error:
            raise PruneError(f"{path} is not {encoding} ({str(error)[:80]}); leave the encoding out to have it found.") from None
    for mark, name in BOMS:
        if content.startswith(mark):
            return content.decode(name), name
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        name = _guessed(content)
    if not name:
        raise PruneError(f"{path}: its encoding cannot be told; name it with --encoding, such as cp1252, or save the file as UTF-8.")
    return content.decode(name), name


def _guessed(content: bytes) -> str:
    """From the lines that say something about it; the first of equals is Windows-1252, which most such files are."""
    from charset_normalizer import from_bytes

    telling = b"\n".join(line for line in content.splitlines() if not line.isascii())[:200_000]
    best = from_bytes(telling).best()
    if best is None:
        return ""
    usual = "cp1252" if "cp1252" in [best.encoding, *best.could_be_from_charset] else best.encoding
    try:
        content.decode(usual)
    except UnicodeDecodeError:
        return "" if usual == best.encoding else best.encoding
    return usual


def read(content: bytes, path: str, form: Form, tabs: bool = False) -> tuple[pd.DataFrame, Form]:
    """(table of text cells, how it was written). `tabs`: the file's name says that tabs separate."""
    text, encoding = decode(content, form.encoding, path)
    if not text.strip():
        raise PruneError(f"{path} is empty.")
    form = _found(text, replace(form, encoding=encoding), tabs)
    if form.separator == "none":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        head, lines = (lines[0], lines[1:]) if form.header == "yes" else ("column 1", lines)
        return pd.DataFrame({head: lines}), form
    rows = _rows(text, form)[:ROWS]
    width = _width(rows)
    first = len(rows[0]) if rows else 0
    try:
        table = pd.read_csv(
            io.StringIO(text), sep=form.separator, dtype=str, keep_default_na=False, na_filter=False,
            quoting=csv.QUOTE_NONE if form.quotes == "no" else csv.QUOTE_MINIMAL, header=0 if form.header == "yes" else None,
            # a separator behind the last cell makes no column; a first column without a name (row numbers) is no data
            index_col=False if form.header == "no" or all(not row[-1] for row in rows[1:] if row) else None,
            names=None if form.header == "yes" else [f"column {i + 1}" for i in range(max(first, width))],
        )  # fmt: skip
    except (ValueError, csv.Error) as error:
        reason = re.sub(r"^Error tokenizing data\. C error: ", "", str(error).splitlines()[0])
        raise PruneError(
            f"{path} cannot be read with the separator {SEPARATORS.get(form.separator, form.separator)}: {reason[:120]}. "
            "Quote cells that hold it, or name another with --separator."
        ) from None
    return table.reset_index(drop=True), form


def _found(text: str, form: Form, tabs: bool) -> Form:
    """The form with what was to be found out."""
    separators = [form.separator] if form.separator else sorted(SEPARATORS, key=lambda sign: sign != "\t") if tabs else list(SEPARATORS)
    sample = text[:SAMPLE] if len(text) <= SAMPLE else text[: text.rindex("\n", 0, SAMPLE) + 1] if "\n" in text[:SAMPLE] else text
    best, most = Form("none", quotes="no"), 0.5  # of the rows must have as many cells as most have
    for separator in separators if form.separator != "none" else ():
        quotes = form.quotes or _quotes(sample, separator)
        rows = _rows(sample, Form(separator, quotes=quotes))
        width = _width(rows)
        share = sum(len(row) == width for row in rows) / max(1, len(rows))
        if width > 1 and share > most or form.separator:
            best, most = Form(separator, quotes=quotes), share
    if best.separator == "none" and not form.separator:  # a text a line; quotes around whole lines belong to the file, not to the texts
        quoted = [line for line in sample.splitlines() if line.strip()]
        if all(re.fullmatch(r'\s*"(?:[^"]|"")*"\s*', line) for line in quoted[1:] or quoted):
            best = Form(",", quotes="yes")
    rows = _rows(sample, best) if best.separator != "none" else [[line.strip()] for line in sample.splitlines() if line.strip()]
    return replace(best, encoding=form.encoding, header=form.header or ("yes" if has_header(rows) else "no"))


def _rows(text: str, form: Form, strict: bool = False) -> list[list[str]]:
    """Cells of every row that is not blank."""
    try:
        reader = csv.reader(
            io.StringIO(text), delimiter=form.separator, quoting=csv.QUOTE_NONE if form.quotes == "no" else csv.QUOTE_MINIMAL, strict=strict
        )
        return [row for row in reader if row]
    except csv.Error:
        if strict:
            raise
        return []


def _width(rows: Sequence[Sequence[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0] if rows else 0


def _quotes(sample: str, separator: str) -> str:
    """Whether quotes enclose cells ("yes") or are text ("no"), as in GLUE's own files."""
    bare = _rows(sample, Form(separator, quotes="no"))
    openers = [(place, cell) for row in bare for place, cell in enumerate(row) if cell.startswith('"')]
    if not openers:
        return "yes"
    try:
        enclosed = _rows(sample, Form(separator, quotes="yes"), strict=True)
    except csv.Error:  # a quote that opens is not one that closes before a separator
        loose = _rows(sample, Form(separator, quotes="yes"))
        even = lambda rows: sum(len(row) == _width(rows) for row in rows) * (_width(rows) > 1)  # noqa: E731
        return "yes" if even(loose) > even(bare) else "no"
    if separator != "\t":
        return "yes"
    # with tabs quotes are rarely needed: they enclose where one is, or where a whole column has them
    needed = any(separator in cell or "\n" in cell or '"' in cell for row in enclosed for cell in row)
    whole = {place for place in range(_width(bare)) if all(len(row) > place and row[place].startswith('"') for row in bare[1:])}
    closed = all(cell.endswith('"') and len(cell) > 1 for _, cell in openers)
    return "yes" if needed or (closed and {place for place, _ in openers} <= whole) else "no"


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the others: not where it goes on with their pattern."""
    if len(rows) < 2:
        return bool(rows) and all(_is_name(cell) for cell in rows[0])
    first, rest = rows[0], [row for row in rows[1:ROWS] if len(row) == len(rows[0])]
    if not rest or len({cell.strip().lower() for cell in first}) < len(first):
        return bool(not rest)
    return not any(_goes_on(cell, [row[place] for row in rest]) for place, cell in enumerate(first))


def _goes_on(cell: str, others: Sequence[str]) -> bool:
    """Whether a cell is one of the others below it: a number above numbers, one of a few values, a sentence above sentences."""
    if not cell.strip():
        return False
    if all(_is_number(other) for other in others):
        return _is_number(cell)
    counts = Counter(others)
    if len(counts) <= max(2, len(others) // 3) and counts[cell] > 0:
        return True
    words = sorted(len(other.split()) for other in others)
    if words[len(words) // 2] >= 4 or all(not other.isascii() for other in others):
        return len(cell.split()) >= 4 or (not cell.isascii() and len(cell) > 8)
    return False


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", cell))


def _is_name(cell: str) -> bool:
    return len(cell.split()) <= 3 and not _is_number(cell)
