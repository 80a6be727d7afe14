"""What figures were made with: packages, this project's own version and commit, the machine. Reads their metadata, imports none."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib import metadata

from . import __version__
from .paths import IS_CLONE, ROOT


@cache
def versions() -> dict[str, str]:
    """What the rows were made with."""
    found = {"python": platform.python_version()}
    for package in ("torch", "transformers", "textattack", "numpy", "umap-learn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found | {
        "prunescope": __version__,
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _commit() -> str:
    """The git commit, with + where files differ from it; empty outside a clone."""
    if not IS_CLONE:
        return ""  # an environment may lie in a repository of another project
    try:
        describe = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(
            describe, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
