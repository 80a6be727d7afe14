"""Parsing of `--set KEY=VALUE` pairs."""

from collections.abc import Sequence

from ..errors import PruneError


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """Convert `option=value` arguments to a dictionary."""
    for pair in pairs:
        if "=" not in pair:
            raise PruneError(f"--set {pair}: write it as option=value.")
    return dict(pair.split("=", 1) for pair in pairs)
