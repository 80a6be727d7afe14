"""Label values as text, and the pairs of `--labels`: NEG=negative,POS=positive."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..errors import PruneError


def to_text(value: Any) -> str:
    """Convert a label value to text; "" for a missing one (None, NaN, NA). Integers have no
    decimals.
    """
    if (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float) and math.isnan(value))
    ):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return re.sub(r"^([-+]?\d+)\.0*$", r"\1", str(value).strip())


def parse_pairs(text: str) -> dict[str, str]:
    """Parse "NEG=negative,POS=positive" into a dict.

    A name that contains a comma, an equals sign or a quote is enclosed in double quotes, and quotes
    within it are doubled.
    """
    pairs: dict[str, str] = {}
    quoted, plain = r'"(?:[^"]|"")*"', r'[^,="]*'
    while text.strip():
        match = re.match(rf"\s*({quoted}|{plain})\s*=\s*({quoted}|[^,\"]*)\s*(?:,|$)", text)
        if not match:
            raise PruneError(
                f"labels: {text.strip()[:60]!r} cannot be parsed; write value=label pairs, such as "
                "NEG=negative,POS=positive."
            )
        pairs[to_text(_unquote(match[1]))] = _unquote(match[2])
        text = text[match.end() :]
    return pairs


def to_flag(pairs: Mapping[str, str]) -> str:
    """Format pairs as a `--labels` flag, quoted for a shell."""
    return "--labels '" + format_pairs(pairs).replace("'", "'\"'\"'") + "'"


def _unquote(word: str) -> str:
    word = word.strip()
    return word[1:-1].replace('""', '"') if len(word) > 1 and word[0] == word[-1] == '"' else word


def format_pairs(pairs: Mapping[str, str]) -> str:
    """Format pairs such that `parse_pairs` can read them."""
    return ",".join(f"{_quote(value)}={_quote(label)}" for value, label in pairs.items())


def _quote(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"' if re.search(r'[,="]|^\s|\s$', name) else name
