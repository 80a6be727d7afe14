"""The two exceptions that are not mistakes of ours, and the check for what a person may not have installed."""

from __future__ import annotations

from importlib.util import find_spec

# Packages that an extra cannot list: pip would install flair with TextAttack, and flair requires transformers below 5.
WITHOUT_DEPENDENCIES = {"textattack": "textattack==0.3.11"}


def require(package: str, extra: str) -> None:
    """Raise PruneError if an optional package is not installed; the message says how to install it."""
    if find_spec(package) is None:
        command = f"pip install 'prunescope[{extra}]'"
        if package in WITHOUT_DEPENDENCIES:
            command += f" && pip install --no-deps {WITHOUT_DEPENDENCIES[package]}"
        raise PruneError(f"{package} is not installed, and this needs it: {command}.")


class PruneError(Exception):
    """Something the user can mend; its message is shown to the user as it is."""


class Cancelled(Exception):
    """Raised by a report when the user asked for the work to stop."""
