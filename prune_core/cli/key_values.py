"""`--set KEY=VALUE` pairs as a dictionary."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PruneError


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """`option=value` words as a dict."""
    for pair in pairs:
        if "=" not in pair:
            raise PruneError(f"--set {pair}: write it as option=value.")
    return dict(pair.split("=", 1) for pair in pairs)
