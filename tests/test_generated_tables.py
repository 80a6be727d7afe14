"""Generated text tables are read exactly as written, or refused with a remedy; never changed."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from prune_core import PruneError
from prune_core.data import tables
from prune_core.data.delimited import Dialect

SETTINGS = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SEPARATORS = [",", "\t", ";", "|"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]
LETTERS = st.characters(
    exclude_categories=("Cs", "Cc", "Co"),
    exclude_characters="\ufeff\ufffe\uffff",
    min_codepoint=32,
    max_codepoint=0x2FFF,
)
WORDS = st.text(LETTERS, min_size=1, max_size=12)
SPECIAL = st.sampled_from(
    [
        '"',
        '""',
        "'",
        ",",
        ";",
        "\t",
        "|",
        "\\",
        "\\n",
        "NA",
        "null",
        "\u2028",
        "\u0085",
        " ",
        "C:\\new",
    ]
)
TEXTS = st.lists(st.one_of(WORDS, SPECIAL, st.just("\n")), min_size=1, max_size=6).map(" ".join)
ROWS = st.lists(
    st.tuples(TEXTS, st.sampled_from(["positive", "negative"])), min_size=5, max_size=12
)


def format_table(rows, separator, style):
    """Return a file's text; `style` selects how cells are quoted and escaped."""
    out = io.StringIO()
    if style == "standard":
        writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    elif style == "all":
        writer = csv.writer(out, delimiter=separator, lineterminator="\r\n", quoting=csv.QUOTE_ALL)
    else:
        for row in rows:
            out.write(separator.join(escape(cell, separator, style) for cell in row) + "\n")
        return out.getvalue()
    writer.writerows(rows)
    return out.getvalue()


def escape(cell, separator, style):
    if (
        style == "spark"
    ):  # quoted if it holds a quote or separator; backslash before quotes and backslashes
        special = any(char in cell for char in ('"', separator, "\n", "\r"))
        return '"' + cell.replace("\\", "\\\\").replace('"', '\\"') + '"' if special else cell
    if style == "mysql":  # no quotes; a backslash before separators, line ends and backslashes
        for char in ("\\", separator, "\n"):
            cell = cell.replace(char, "\\" + char)
        return cell
    return cell  # careless: no quoting and no escaping


@SETTINGS
@given(
    rows=ROWS,
    separator=st.sampled_from(SEPARATORS),
    encoding=st.sampled_from(ENCODINGS),
    style=st.sampled_from(["standard", "all", "spark", "mysql", "careless"]),
    null=st.booleans(),
)
def test_tables_are_read_as_written_or_refused(rows, separator, encoding, style, null, tmp_path):
    header = ("text", "label")
    lines = [header, *rows, *([("nothing is known of this one", "\\N")] if null else [])]
    content = format_table(lines, separator, "standard" if style == "mysql" and null else style)
    # escaped backslashes are detected only next to an escaped quote or separator
    escaped_char = '"' if style == "spark" else rf"[\n{separator}]"
    is_detectable = re.search(rf"\\{escaped_char}", content.replace("\\\\", ""))
    assume(style != "careless" or not any("\n" in text for text, _ in rows))
    assume(style not in ("mysql", "careless") or not any(text.startswith('"') for text, _ in rows))
    assume(style not in ("spark", "mysql") or "\\\\" not in content or is_detectable)
    file = tmp_path / "rows.csv"
    file.write_bytes(content.encode(encoding))
    try:
        table = tables.read(str(file))
    except PruneError as error:
        assert len(str(error)) > 30 and "\n" not in str(error)
        ambiguous = "encoding" in str(error) or "can be read in two ways" in str(error)
        assert style in ("careless", "spark", "mysql") or ambiguous, (
            "a well-formed file must be read"
        )
        return
    actual = [*map(tuple, table.rows.itertuples(index=False, name=None))]
    expected = [tuple("" if cell == "\\N" else cell for cell in row) for row in lines[1:]]
    without_headers = [row for row in expected if row != header]
    if style == "careless" and actual != without_headers:
        # a stray separator may change the table; then its columns must differ, or no row may be
        # lost
        assert list(table.rows.columns) != list(header) or len(actual) == len(without_headers)
    else:
        assert actual == without_headers and list(table.rows.columns) == list(header)


RAGGED = {
    "first row longer": (
        "text,label\nWell, this one has a comma,1\nthis one has none at all,0\nnor has this last "
        "one,1\n"
    ),
    "every row longer": "text,label\nWell, this is one,1\nWell, this is two,0\n"
    "Well, this is three,1\n",
    "one row shorter": "text,label\nthis one is whole,1\nthis one is not\nbut this one is,0\n",
    "no header": (
        "a text with, one comma,1\nanother text without any,0\nand a third of that kind,1\nand a "
        "fourth one,0\n"
    ),
}


@pytest.mark.parametrize("name", RAGGED)
def test_ragged_rows_are_refused_and_each_remedy_works(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(RAGGED[name])
    with pytest.raises(PruneError, match=r"rows do(es)? not have .*line \d+ has \d") as raised:
        tables.read(str(file))
    count = len(RAGGED[name].splitlines()) - (name != "no header")
    if "--bad-rows merge" in str(raised.value):
        merged = tables.read(str(file), Dialect(bad_rows="merge"))
        assert len(merged.rows) == count and set(merged.rows["label"]) == {"0", "1"}
        assert any("Well, this" in text for text in merged.rows["text"])
        assert "merged" in merged.notes[0]
    if "--bad-rows skip" in str(raised.value):
        skipped = tables.read(str(file), Dialect(bad_rows="skip"))
        assert len(skipped.rows) == count - 1 and "1 row left out" in skipped.notes[0]
    assert ("--bad-rows skip" in str(raised.value)) == (name != "every row longer")
    assert len(tables.read(str(file), Dialect("none")).rows) >= count


def test_backslashes_escape_only_where_the_writer_escaped(tmp_path: Path) -> None:
    file = tmp_path / "spark.csv"
    file.write_text(
        'text,label\n"he said \\"great\\", then left",1\n"C:\\new \\"folder\\"",0\nplain '
        "C:\\temp,1\n"
    )
    table = tables.read(str(file))
    assert list(table.rows["text"]) == [
        'he said "great", then left',
        'C:\\new "folder"',
        "plain C:\\temp",
    ]
    assert table.form.quotes == "backslash" and "escaped by a backslash" in table.description


def test_repeated_header_is_dropped_with_a_note(tmp_path: Path) -> None:
    file = tmp_path / "joined.csv"
    file.write_text("text,label\na fine film,1\na dull film,0\ntext,label\nanother fine film,1\n")
    table = tables.read(str(file))
    assert len(table.rows) == 3 and table.notes == ["The header is repeated on line 4; left out."]
    assert list(table.rows.index) == [2, 3, 5]


def test_excel_separator_line_and_carriage_return_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"sep=;\r\ntext;label\r\na fine, film;1\r\na dull film;0\r\n")
    assert list(tables.read(str(tmp_path / "a.csv")).rows["text"]) == [
        "a fine, film",
        "a dull film",
    ]
    (tmp_path / "mac.csv").write_bytes(b"text,label\ra fine film,1\ra dull film,0\r")
    assert len(tables.read(str(tmp_path / "mac.csv")).rows) == 2


def test_null_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\na\0b,1\n\0,0\n" * 4)
    with pytest.raises(PruneError, match="encoding cannot be detected"):
        tables.read(str(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    "header",
    [
        "Timestamp,Please describe your experience with us,Label",
        "Текст отзыва,Оценка",
        "用户对电影的评论内容,情感标签",
        "text,label,label",
        ",text,label",
        "review,stars",
    ],
)
def test_headers_in_any_language_are_detected(header: str, tmp_path: Path) -> None:
    latin = "a long text that goes on and on until everybody has understood it"
    texts = (
        latin,
        "фильм был скучный и слишком длинный для всех",
        "电影非常好看演员表演出色令人难忘这是今年最好的电影",
    )
    text = texts[0 if header.isascii() else 1 + (header[0] > "一")]
    width = header.count(",") + 1
    rows = "".join(
        ",".join([f"12:0{i}" if width > 2 else ""][: width - 2] + [f"{text} {i}", str(i % 2)])
        + "\n"
        for i in range(9)
    )
    (tmp_path / "rows.csv").write_text(f"{header}\n{rows}")
    table = tables.read(str(tmp_path / "rows.csv"))
    assert len(table.rows) == 9 and table.form.header == "yes" and table.rows.index[0] == 2


@pytest.mark.parametrize("title", ["Quarterly report,", "# exported 2024, by me", "My reviews"])
def test_lines_above_the_header_are_an_error_with_a_line_number(title: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"{title}\ntext,label\na fine film,1\na dull film,0\n")
    with pytest.raises(
        PruneError,
        match=r"line 2: the column names .*\(text, label\), below 1 other line; delete",
    ):
        tables.read(str(tmp_path / "rows.csv"))


def test_carriage_return_inside_a_cell_and_prose_with_commas(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\na fine\rfilm,1\na dull film,0\n")
    assert list(tables.read(str(tmp_path / "a.csv")).rows["text"]) == [
        "a fine\rfilm",
        "a dull film",
    ]
    (tmp_path / "a.txt").write_text(
        "I liked it, truly I did\nIt was fine, all in all\nNot bad, but too long\n"
    )
    table = tables.read(str(tmp_path / "a.txt"))
    assert list(table.rows["column 1"])[0] == "I liked it, truly I did"
    assert table.description == "one text per line"
