"""Number formatting shared by all outputs: percent, points, seconds, megabytes, errors, intervals.

Plain strings, no markup.
"""

import math
from collections.abc import Sequence
from typing import Any

MISSING = "–"
# keep their capital inside a sentence
NAMES = ("Matthews", "Spearman", "Pearson", "DeepWordBug", "Kullback–Leibler")


def missing(value: object) -> bool:
    """Whether a value is None (a missing cell of a table) or NaN."""
    return value is None or isinstance(value, float) and math.isnan(value)


def percent(fraction: float) -> str:
    """Format a fraction: 0.8804 -> 88.0%."""
    return MISSING if missing(fraction) else f"{100 * fraction:.1f}%"


def points(fraction: float) -> str:
    """Format a difference of two fractions in percentage points: -0.019 -> −1.9 points."""
    return MISSING if missing(fraction) else f"{signed(round(100 * fraction, 1))} points"


def signed(value: float) -> str:
    """Format with sign and one decimal, with a true minus sign (U+2212)."""
    sign = "+" if value > 0 else ""
    return f"{value + 0.0:{sign}.1f}".replace("-", "−")  # + 0.0 turns -0.0 into 0.0


def error(value: float) -> str:
    """Format a relative error: three decimals, scientific notation below 1e-3."""
    if missing(value):
        return MISSING
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.3f}"


def seconds(value: float) -> str:
    """Format a duration: 8.4 s, 45 s, 2 min 10 s, 1 h 5 min."""
    if missing(value):
        return MISSING
    if value < 9.95:
        return f"{value:.1f} s"
    total = round(value)
    if total < 90:
        return f"{total} s"
    if total < 3600:
        rest = f" {total % 60} s" if total % 60 and total < 600 else ""
        return f"{total // 60} min{rest}"
    return f"{total // 3600} h {total % 3600 // 60} min"


def approximate_seconds(value: float) -> str:
    """Format an estimated duration in whole seconds."""
    return seconds(max(10.0, value)) if value >= 9.5 else f"{max(1, round(value))} s"


def milliseconds(value: float) -> str:
    """Format a latency given in seconds."""
    return MISSING if missing(value) else f"{1000 * value:.1f} ms"


def size(value: float) -> str:
    """Format a size given in bytes: 3.4 MB, or 87 kB below 0.1 MB."""
    if missing(value):
        return MISSING
    return f"{value / 1e6:.1f} MB" if value >= 1e5 or not value else f"{value / 1e3:.1f} kB"


def millions(value: float) -> str:
    """Format a count of weights or operations: 1.3 M, 3.4 G."""
    if missing(value):
        return MISSING
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f}"


def count(value: float) -> str:
    """Format a whole number with thin spaces between thousands."""
    return MISSING if missing(value) else f"{value:,.0f}".replace(",", "\u2009")


def mean_count(value: float) -> str:
    """Format a mean of counts over seeds: one decimal unless whole, 19 or 19.3."""
    return MISSING if missing(value) else f"{value:.1f}".removesuffix(".0")


def plain(value: float) -> str:
    """Format a similarity or another value without unit."""
    return MISSING if missing(value) else f"{value:.3f}"


def p_value(value: float) -> str:
    """Format a p-value: p = 0.031, or p < 0.001."""
    if missing(value):
        return f"p {MISSING}"
    if value < 1e-3:
        return "p < 0.001"
    return f"p = {value:.2g}" if value < 0.1 else f"p = {value:.2f}"


def prediction_text(value: Any, names: Sequence[str]) -> str:
    """Format a prediction or a label: a label name, a score, or texts; any may be missing."""
    if isinstance(value, (list, tuple)):
        return " / ".join(dict.fromkeys(map(str, value))) or "no answer"
    if isinstance(value, str):
        return value or "no answer"
    if missing(value):
        return MISSING
    number = float(value)
    is_label = len(names) > 1 and number.is_integer() and number < len(names)
    return names[int(number)] if is_label else f"{number:.2f}"


def inline(title: str) -> str:
    """Lowercase a title for use inside a sentence: "accuracy", "F1", "Spearman correlation"."""
    first = title.split(maxsplit=1)[0] if title else ""
    keeps = first in NAMES or any(sign.isupper() or sign.isdigit() for sign in first[1:])
    return title if keeps else title[:1].lower() + title[1:]


def plural(number: int, noun: str) -> str:
    """Format a count with its noun: 1 run, 2 runs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
