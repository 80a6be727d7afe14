"""Versions of packages, of this project (with commit) and of the platform, stored with results.

Reads package metadata without importing the packages.
"""

import platform
import subprocess
from functools import cache
from importlib import metadata

from . import __version__
from .paths import IS_CLONE, ROOT


@cache
def versions() -> dict[str, str]:
    """Return the versions to store with the results of a run."""
    by_package = {"python": platform.python_version()}
    for package in ("torch", "transformers", "textattack", "numpy", "umap-learn"):
        try:
            by_package[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            by_package[package] = ""
    return by_package | {
        "prunescope": __version__,
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _commit() -> str:
    """Return the git commit, with + if files differ from it; empty outside a clone."""
    if not IS_CLONE:
        return ""  # the environment may be inside the repository of another project
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
