"""The two exceptions that are expected, and the check for optional packages."""

from importlib.util import find_spec

# Packages that an extra cannot list: pip would install flair with TextAttack, and flair requires
# transformers below 5.
WITHOUT_DEPENDENCIES = {"textattack": "textattack==0.3.11"}


def require(package: str, extra: str) -> None:
    """Raise PruneError with an install command if an optional package is not installed."""
    if find_spec(package) is None:
        command = f"pip install 'prunescope[{extra}]'"
        if package in WITHOUT_DEPENDENCIES:
            command += f" && pip install --no-deps {WITHOUT_DEPENDENCIES[package]}"
        raise PruneError(f"{package} is not installed; install it with: {command}.")


class PruneError(Exception):
    """An error that the user can fix; the message is shown unchanged."""


class Cancelled(Exception):
    """Raised by a report callback when the user has requested cancellation."""
