"""Label values as text, and pairs of value and label as `--labels` takes them: NEG=negative,POS=positive."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..errors import PruneError


def to_text(value: Any) -> str:
    """A label value as text; "" for a missing one (None, NaN, NA). Whole numbers have no decimals."""
    if (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float) and math.isnan(value))
    ):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    text = str(value).strip()
    return re.sub(r"^([-+]?\d+)\.0*$", r"\1", text)


def parse_pairs(text: str) -> dict[str, str]:
    """ "NEG=negative,POS=positive" as pairs. A name with a comma, an equals sign or a quote stands in double quotes, and
    quotes within it are doubled."""
    pairs: dict[str, str] = {}
    quoted, plain = r'"(?:[^"]|"")*"', r'[^,="]*'
    rest = text
    while rest.strip():
        found = re.match(rf"\s*({quoted}|{plain})\s*=\s*({quoted}|[^,\"]*)\s*(?:,|$)", rest)
        if not found:
            raise PruneError(
                f"labels: {rest.strip()[:60]!r} is not understood; write value=label, such as NEG=negative,POS=positive."
            )
        pairs[to_text(_unquoted(found[1]))] = _unquoted(found[2])
        rest = rest[found.end() :]
    return pairs


def to_flag(pairs: Mapping[str, str]) -> str:
    """`--labels` with these pairs, as a shell takes it."""
    return "--labels '" + format_pairs(pairs).replace("'", "'\"'\"'") + "'"


def _unquoted(word: str) -> str:
    word = word.strip()
    return word[1:-1].replace('""', '"') if len(word) > 1 and word[0] == word[-1] == '"' else word


def format_pairs(pairs: Mapping[str, str]) -> str:
    """Pairs as `parse_pairs` reads them."""
    return ",".join(f"{_quoted(value)}={_quoted(label)}" for value, label in pairs.items())


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"' if re.search(r'[,="]|^\s|\s$', name) else name
