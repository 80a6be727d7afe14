"""Parsing of `--set KEY=VALUE` pairs."""

from collections.abc import Sequence

from ..errors import PruneError


def settings(pairs: Sequence[str], flag: str = "--set") -> dict[str, str]:
    """Convert `option=value` arguments of a flag to a dictionary."""
    for pair in pairs:
        if "=" not in pair:
            raise PruneError(f"{flag} {pair}: write it as option=value.")
    return dict(pair.split("=", 1) for pair in pairs)
