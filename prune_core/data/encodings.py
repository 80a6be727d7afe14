"""Decode a text file: UTF-8 if it fits, else a byte order mark's encoding, else a guess."""

from __future__ import annotations

from ..errors import PruneError

BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def decode(content: bytes, encoding: str, path: str) -> tuple[str, str]:
    """(text, encoding): UTF-8 if it fits, else a byte order mark's, else charset-normalizer's guess."""
    if encoding:
        try:
            return content.decode(encoding), encoding
        except (UnicodeError, LookupError) as error:
            reason = str(error)[:80]
            raise PruneError(f"{path} is not {encoding} ({reason}); leave the encoding out to have it detected.") from None
    for mark, name in BOMS:
        if content.startswith(mark):
            return _decoded(content, name, path), name
    if name := _utf16(content):
        return _decoded(content, name, path), name
    try:
        text, name = content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        name = _guessed(content)
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
        raise PruneError(f"{path} is cut short or not {name} ({str(error)[:80]}); copy it again.") from None


def _utf16(content: bytes) -> str:
    """UTF-16 without a byte order mark: in most languages every second byte is often zero."""
    head = content[:10_000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) / 8 or min(even, odd) > max(even, odd) / 10:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _guessed(content: bytes) -> str:
    """From the lines that are not ASCII; among equals Windows-1252, which most such files are."""
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
