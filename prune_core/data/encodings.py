"""Decode text files by byte order mark, as UTF-8, or by a guess that is refused if uncertain."""

import re
from collections.abc import Sequence
from typing import Any

from ..errors import PruneError

BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
LATIN = ("cp1252", "cp1250", "cp1254", "cp1257")  # distinguished by the alphabets in LETTERS
LETTERS = {  # encoding -> non-ASCII letters of each of its languages
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
MIN_FIT = 0.95  # fraction of the non-ASCII letters that must belong to one language
SYMBOL = r"[¹²³¿£¥¤¦¬±µ¶¼½¾¡¢§©«®°»¸¨¯]"
# letters of other encodings decoded as Windows-1252
MOJIBAKE = re.compile(rf"(?<=[^\W\d_]){SYMBOL}(?=[^\W\d_])|[ðþýÐÞÝ]")
SUPPORTED = {*(f"cp125{digit}" for digit in range(9)), "latin_1"} | {
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
NON_ASCII = re.compile(r"[^\x00-\x7f]")
JAPANESE = ("cp932", "shift_jis", "euc_jp")
MIN_KANA = 0.3  # minimum fraction of kana among the non-ASCII letters of Japanese text


def decode(content: bytes, encoding: str, path: str) -> tuple[str, str]:
    """Return (text, encoding): the requested one, the byte order mark's, UTF-8, or a guess.

    PruneError for a truncated UTF-8 file or one with a few wrong bytes, and for an uncertain guess.
    """
    if encoding:
        try:
            return content.decode(encoding), encoding
        except (UnicodeError, LookupError) as error:
            raise PruneError(
                f"{path} is not {encoding} ({str(error)[:80]}); omit the encoding to detect it."
            ) from None
    marked = next((name for mark, name in BOMS if content.startswith(mark)), "")
    if name := marked or _utf16(content):
        try:
            return content.decode(name), name
        except UnicodeError as error:
            raise PruneError(
                f"{path} is truncated or not {name} ({str(error)[:80]}); copy it again."
            ) from None
    try:
        text, name = content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        _check_nearly_utf8(content, error, path)
        name = _guess(content, path)
        text = content.decode(name) if name else ""
    if not name or "\0" in text:
        raise PruneError(
            f"{path}: its encoding cannot be detected; set it with --encoding, such as cp1252, "
            "or save the file as UTF-8."
        )
    return text, name


def _utf16(content: bytes) -> str:
    """Detect UTF-16 without a byte order mark.

    In most languages many bytes at even or at odd positions are zero.
    """
    head = content[:10_000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) / 8 or min(even, odd) > max(even, odd) / 10:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _check_nearly_utf8(content: bytes, error: UnicodeDecodeError, path: str) -> None:
    """Refuse a UTF-8 file with a few wrong bytes; another encoding would garble all other lines.

    Text in a legacy encoding is hardly ever valid UTF-8, so most non-ASCII lines being valid is
    sufficient evidence.
    """
    if (
        "unexpected end" in error.reason
        and error.end == len(content)
        and not content[: error.start].isascii()
    ):
        raise PruneError(
            f"{path} is truncated: it ends inside a character; copy it again, or delete its last "
            "line."
        )
    lines = [line for line in content.split(b"\n") if not line.isascii()]
    if 2 * sum(_can_decode(line, "utf-8") for line in lines) <= len(lines):
        return
    number = content.count(b"\n", 0, error.start) + 1
    text = content.split(b"\n")[number - 1].decode("utf-8", "replace").strip()
    fallback = next(name for name in ("cp1252", "latin-1") if _can_decode(content, name))
    raise PruneError(
        f"{path}, line {number}: the byte 0x{content[error.start]:02x} is not UTF-8, unlike the "
        f"other lines ({text[:60]!r}). Correct that line, or set the encoding of the whole file "
        f"with --encoding, such as {fallback}."
    )


def _can_decode(content: bytes, name: str) -> bool:
    try:
        content.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _guess(content: bytes, path: str) -> str:
    """Guess the encoding from the non-ASCII lines; "" if unknown.

    Latin encodings are distinguished by the letters of languages, others by charset-normalizer.
    PruneError if only Windows-1252 is left, the most common one, and the text then looks wrong.
    """
    from charset_normalizer import from_bytes

    lines = b"\n".join(line for line in content.splitlines() if not line.isascii())[:200_000]
    matches = from_bytes(lines)
    best = matches.best()
    if best is None:
        return ""
    if name := _japanese_encoding(matches):
        return name if _can_decode(content, name) else ""
    candidates = [best.encoding, *best.could_be_from_charset]
    latin = [match.encoding for match in matches if match.encoding in LATIN]
    if latin or "cp1252" in candidates:
        fitting = [
            name
            for name in LATIN
            if _can_decode(content, name)
            and _fits_language(lines.decode(name, "replace"), LETTERS[name])
        ]
        if fitting and len({lines.decode(name, "replace") for name in fitting}) == 1:
            return fitting[0]
        if "cp1252" in fitting or "cp1252" in candidates:
            candidates.insert(0, "cp1252")
    name = next(
        (
            candidate
            for candidate in candidates
            if candidate in SUPPORTED and _can_decode(content, candidate)
        ),
        "",
    )
    western = name in ("cp1252", "latin_1", "iso8859_1")
    if western or latin and name:
        _check_certain(
            lines.decode(name, "replace"), name, MOJIBAKE if western else NON_ASCII, path=path
        )
    return name


def _japanese_encoding(matches: Any) -> str:
    """Return the first Japanese encoding whose decoded text has a plausible fraction of kana."""
    for match in matches:
        if match.encoding in JAPANESE:
            letters = [letter for letter in str(match) if not letter.isascii()]
            if sum("\u3040" <= letter <= "\u30ff" for letter in letters) > MIN_KANA * len(letters):
                return str(match.encoding)
    return ""


def _fits_language(text: str, alphabets: Sequence[str]) -> bool:
    """Whether nearly all non-ASCII letters, and symbols in place of letters, belong to one
    language.
    """
    letters = [letter.lower() for letter in text if not letter.isascii() and letter.isalpha()]
    known = max(sum(letter in alphabet for letter in letters) for alphabet in alphabets)
    odd = len([letter for letter in MOJIBAKE.findall(text) if not letter.isalpha()])
    return bool(letters) and known >= MIN_FIT * (len(letters) + odd)


def _check_certain(text: str, name: str, doubtful: re.Pattern[str], path: str) -> None:
    if match := doubtful.search(text):
        start = max(text.rfind("\n", 0, match.start()) + 1, match.start() - 20)
        shown = text[start : match.end() + 20].split("\n")[0].strip()
        raise PruneError(
            f"{path}: its encoding is not certain; decoded as {name} it contains {shown!r}; set it "
            "with --encoding, such as cp1252, cp1250 or cp1254, or save the file as UTF-8."
        )
