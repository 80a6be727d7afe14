"""How numbers read, everywhere alike: percent, points, seconds, megabytes, errors, intervals. Plain strings, no markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

MISSING = "–"
NAMES = (
    "Matthews",
    "Spearman",
    "Pearson",
    "DeepWordBug",
    "Kullback–Leibler",
)  # keep their capital inside a sentence


def missing(value: object) -> bool:
    """None (a missing cell of a table) or NaN."""
    return value is None or isinstance(value, float) and math.isnan(value)


def percent(share: float) -> str:
    """0.8804 -> 88.0%."""
    return MISSING if missing(share) else f"{100 * share:.1f}%"


def points(share: float) -> str:
    """A difference of two shares in percentage points, signed: -0.019 -> −1.9 points."""
    if missing(share):
        return MISSING
    value = round(100 * share, 1) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{signed(value)} points"


def signed(value: float) -> str:
    """One decimal with a real minus sign."""
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{abs(value):.1f}"


def error(value: float) -> str:
    """A relative error: three digits, scientific only below 1e-3."""
    if missing(value):
        return MISSING
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3f}"


def seconds(value: float) -> str:
    """A duration: 8.4 s, 45 s, 2 min 10 s, 1 h 5 min."""
    if missing(value):
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    total = round(value)
    if total < 90:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min" + (f" {total % 60} s" if total % 60 and total < 600 else "")
    return f"{total // 3600} h {total % 3600 // 60} min"


def approximate_seconds(value: float) -> str:
    """An estimate: whole seconds."""
    return seconds(max(10.0, value)) if value >= 9.5 else f"{max(1, round(value))} s"


def milliseconds(value: float) -> str:
    """A latency given in seconds."""
    return MISSING if missing(value) else f"{1000 * value:.1f} ms"


def size(value: float) -> str:
    """A size given in bytes: 3.4 MB, of what is smaller than 0.1 MB 87 kB."""
    if missing(value):
        return MISSING
    return f"{value / 1e6:.1f} MB" if value >= 1e5 or not value else f"{value / 1e3:.1f} kB"


def millions(value: float) -> str:
    """A count of weights or operations: 1.3 M, 3.4 G."""
    if missing(value):
        return MISSING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f}"


def count(value: float) -> str:
    """A whole number with thin thousands."""
    return MISSING if missing(value) else f"{value:,.0f}".replace(",", "\u2009")


def mean_count(value: float) -> str:
    """A mean of counts over seeds: one decimal unless it is a whole number, 19 or 19.3."""
    return MISSING if missing(value) else f"{value:.1f}".removesuffix(".0")


def plain(value: float) -> str:
    """A similarity or another bare figure."""
    return MISSING if missing(value) else f"{value:.3f}"


def p_value(value: float) -> str:
    """p = 0.031, or p < 0.001."""
    if missing(value):
        return f"p {MISSING}"
    return (
        "p < 0.001" if value < 1e-3 else f"p = {value:.2g}" if value < 0.1 else f"p = {value:.2f}"
    )


def answer(value: Any, names: Sequence[str]) -> str:
    """What a model said or what is right: a label's name, a score, or texts; any of them may be missing."""
    if isinstance(value, (list, tuple)):
        return " / ".join(dict.fromkeys(map(str, value))) or "no answer"
    if isinstance(value, str):
        return value or "no answer"
    if value is None or missing(value):
        return MISSING
    number = float(value)
    return (
        names[int(number)]
        if len(names) > 1 and number.is_integer() and number < len(names)
        else f"{number:.2f}"
    )


def inline(title: str) -> str:
    """A title as it reads inside a sentence: "accuracy", "F1", "Spearman correlation"."""
    first = title.split(maxsplit=1)[0] if title else ""
    keeps = first in NAMES or any(sign.isupper() or sign.isdigit() for sign in first[1:])
    return title if keeps else title[:1].lower() + title[1:]


def plural(number: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
