"""Decode a text file: by its byte order mark, as UTF-8, else by a guess that is refused if uncertain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..errors import PruneError

BOMS = (  # that of UTF-32 begins with that of UTF-16
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
LATIN = ("cp1252", "cp1250", "cp1254", "cp1257")  # told apart by the letters of LETTERS
LETTERS = {  # beyond ASCII, of a language in each alphabet
    "cp1252": (
        "äöüß",
        "àâæçéèêëîïôœùûüÿ",
        "áéíñóúüªº",
        "áâãàçéêíóôõúüªº",
        "åäöæøé",
        "áéíóúýðþæö",
        "àèéìíîòóùú",
        "áàâäéèêëïíóòôöúùûü",
        "àçèéíïòóúü",
    ),
    "cp1250": (
        "ąćęłńóśźż",
        "áčďéěíňóřšťúůýž",
        "áäčďéíĺľňóôŕšťúýž",
        "áéíóöőúüű",
        "ăâîşţ",
        "čćđšž",
    ),
    "cp1254": ("çğıi̇öşüâîû",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äöüõšž"),
}
FITTING = 0.95  # fraction of the letters beyond ASCII that a language must have
SYMBOL = r"[¹²³¿£¥¤¦¬±µ¶¼½¾¡¢§©«®°»¸¨¯]"
ODD = re.compile(
    rf"(?<=[^\W\d_]){SYMBOL}(?=[^\W\d_])|[ðþýÐÞÝ]"
)  # what Windows-1252 makes of letters of other encodings
USED = {*(f"cp125{digit}" for digit in range(9)), "latin_1"} | {
    "iso8859_1",
    "iso8859_2",
    "iso8859_5",
    "iso8859_7",
    "iso8859_9",
    "iso8859_15",
    "koi8_r",
    "cp866",
    "mac_roman",
    "shift_jis",
    "cp932",
    "euc_jp",
    "euc_kr",
    "cp949",
    "gb18030",
    "gbk",
    "gb2312",
    "big5",
}
BEYOND = re.compile(r"[^\x00-\x7f]")
JAPANESE = ("cp932", "shift_jis", "euc_jp")
KANA = 0.3  # fraction of a Japanese text's letters beyond ASCII that are kana, at least


def decode(content: bytes, encoding: str, path: str) -> tuple[str, str]:
    """(text, encoding): the one named, else the byte order mark's, else UTF-8 if it fits, else a guess.

    PruneError for a UTF-8 file with a few wrong bytes or cut short, and for an uncertain guess.
    """
    if encoding:
        try:
            return content.decode(encoding), encoding
        except (UnicodeError, LookupError) as error:
            reason = str(error)[:80]
            raise PruneError(
                f"{path} is not {encoding} ({reason}); leave the encoding out to have it detected."
            ) from None
    for mark, name in BOMS:
        if content.startswith(mark):
            return _decoded(content, name, path), name
    if name := _utf16(content):
        return _decoded(content, name, path), name
    try:
        text, name = content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        _check_nearly_utf8(content, error, path)
        name = _guessed(content, path)
        text = content.decode(name) if name else ""
    if not name or "\0" in text:
        raise PruneError(
            f"{path}: its encoding cannot be detected; name it with --encoding, such as cp1252, or save the file as UTF-8."
        )
    return text, name


def _decoded(content: bytes, name: str, path: str) -> str:
    try:
        return content.decode(name)
    except UnicodeError as error:
        raise PruneError(
            f"{path} is cut short or not {name} ({str(error)[:80]}); copy it again."
        ) from None


def _utf16(content: bytes) -> str:
    """UTF-16 without a byte order mark: in most languages every second byte is often zero."""
    head = content[:10_000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) / 8 or min(even, odd) > max(even, odd) / 10:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _check_nearly_utf8(content: bytes, error: UnicodeDecodeError, path: str) -> None:
    """Refuse a UTF-8 file with a few wrong bytes: another encoding would garble all other lines.

    Text in a legacy encoding is hardly ever valid UTF-8: it is enough that most non-ASCII lines are.
    """
    if (
        "unexpected end" in error.reason
        and error.end == len(content)
        and not content[: error.start].isascii()
    ):
        raise PruneError(
            f"{path} is cut short: it ends inside a character; copy it again, or delete its last line."
        )
    lines = [line for line in content.split(b"\n") if not line.isascii()]
    if 2 * sum(_decodes(line, "utf-8") for line in lines) <= len(lines):
        return
    number = content.count(b"\n", 0, error.start) + 1
    start = content.rfind(b"\n", 0, error.start) + 1
    text = content[start:].split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    way = next(name for name in ("cp1252", "latin-1") if _decodes(content, name))
    raise PruneError(
        f"{path}, line {number}: the byte 0x{content[error.start]:02x} is not UTF-8, which the "
        f"other lines are ({text[:60]!r}). "
        f"Correct that line, or name the encoding of the whole file with --encoding, such as {way}."
    )


def _decodes(content: bytes, name: str) -> bool:
    try:
        content.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _guessed(content: bytes, path: str) -> str:
    """The encoding of the non-ASCII lines, "" if unknown.

    Latin ones are told apart by the letters of languages, others by charset-normalizer. PruneError
    if only Windows-1252 is left, which most such files are, and the text then looks wrong.
    """
    from charset_normalizer import from_bytes

    lines = b"\n".join(line for line in content.splitlines() if not line.isascii())[:200_000]
    found = from_bytes(lines)
    best = found.best()
    if best is None:
        return ""
    if name := _japanese(found):
        return name if _decodes(content, name) else ""
    candidates = [best.encoding, *best.could_be_from_charset]
    latin = [match.encoding for match in found if match.encoding in LATIN]
    if latin or "cp1252" in candidates:
        fitting = [
            name
            for name in LATIN
            if _decodes(content, name) and _fits(lines.decode(name, "replace"), LETTERS[name])
        ]
        if fitting and len({lines.decode(name, "replace") for name in fitting}) == 1:
            return fitting[0]
        if "cp1252" in fitting or "cp1252" in candidates:
            candidates.insert(0, "cp1252")
    name = next((each for each in candidates if each in USED and _decodes(content, each)), "")
    western = name in ("cp1252", "latin_1", "iso8859_1")
    if western or latin and name:
        _check_certain(lines.decode(name, "replace"), name, ODD if western else BEYOND, path=path)
    return name


def _japanese(found: Any) -> str:
    """The first Japanese encoding in which the text has as many kana as Japanese has."""
    for match in found:
        if match.encoding in JAPANESE:
            letters = [each for each in str(match) if not each.isascii()]
            if sum("\u3040" <= each <= "\u30ff" for each in letters) > KANA * len(letters):
                return str(match.encoding)
    return ""


def _fits(text: str, alphabets: Sequence[str]) -> bool:
    """Whether nearly all non-ASCII letters, and symbols in the place of letters, are one language's."""
    letters = [each.lower() for each in text if not each.isascii() and each.isalpha()]
    known = max(sum(each in alphabet for each in letters) for alphabet in alphabets)
    odd = len([each for each in ODD.findall(text) if not each.isalpha()])
    return bool(letters) and known >= FITTING * (len(letters) + odd)


def _check_certain(text: str, name: str, doubtful: re.Pattern[str], path: str) -> None:
    if found := doubtful.search(text):
        start = max(text.rfind("\n", 0, found.start()) + 1, found.start() - 20)
        shown = text[start : found.end() + 20].split("\n")[0].strip()
        raise PruneError(
            f"{path}: its encoding is not certain, as {name} it reads {shown!r}; name it with "
            "--encoding, such as cp1252, cp1250 or cp1254, or save the file as UTF-8."
        )
