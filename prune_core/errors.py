"""The two exceptions that are not mistakes of ours, and the check for what a person may not have installed."""

from __future__ import annotations

from importlib.util import find_spec


def require(package: str, extra: str) -> None:
    """Refuse to go on without an optional package; the sentence says how to install it."""
    if find_spec(package) is None:
        raise PruneError(
            f"{package} is not installed, and this needs it: pip install 'prunescope[{extra}]'."
        )


class PruneError(Exception):
    """Something the user can mend; its message is shown to the user as it is."""


class Cancelled(Exception):
    """Raised by a report when the user asked for the work to stop."""
