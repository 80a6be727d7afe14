"""Paths of the project's own files, in a clone or in a wheel, and validation of users' paths."""

import os
from pathlib import Path

from .errors import PruneError

PACKAGE = Path(__file__).resolve().parent
_CLONE = PACKAGE.parent
IS_CLONE = (_CLONE / "assets").is_dir() and (_CLONE / "app.py").is_file()
# holds app.py, pages and assets; child processes start here
ROOT = _CLONE if IS_CLONE else PACKAGE / "bundle"
ASSETS = ROOT / "assets"

# bundled tables of data, by the name that stands for their path
TABLES = {"demo-guard": ASSETS / "demo" / "guard" / "texts.csv"}

# folders below which pages may open files, set by `serve --root`; empty: any
ROOTS = "PRUNESCOPE_ROOTS"
# hold no data: reading them may never end, or reveal what a user should not see
SYSTEM = ("/proc", "/sys", "/dev", "/etc")


def table_path(name: str | Path) -> Path:
    """Return the path of a bundled table, or the given path with ~ expanded."""
    return TABLES.get(str(name)) or Path(name).expanduser()


def resolve_allowed(path: str | Path) -> Path:
    """Resolve the path of a file or folder that a user has given, following symbolic links.

    Raise PruneError if it is outside the configured roots or is not a regular file or folder. A
    path that does not exist passes: whoever opens it reports that.
    """
    try:
        real = table_path(path).resolve()
        real.exists()
    except (OSError, ValueError, RuntimeError) as error:
        # too long, with a NUL, a loop of symbolic links, or the home of an unknown user
        raise PruneError(
            f"{str(path)[:80]!r} cannot be a path ({error}); name another."[:400]
        ) from None
    is_special = real.exists() and not (real.is_file() or real.is_dir())
    if is_special or any(real.is_relative_to(folder) for folder in SYSTEM):
        raise PruneError(
            f"{path} is not a data file or folder (it is a device, a pipe or part of the system); "
            "name another."
        )
    roots = [Path(root) for root in os.environ.get(ROOTS, "").split(os.pathsep) if root]
    internal = [ASSETS, Path(os.environ.get("PRUNESCOPE_HOME") or PACKAGE)]
    if roots and not any(real.is_relative_to(root.resolve()) for root in (*roots, *internal)):
        raise PruneError(
            f"{path} is not below {', '.join(map(str, roots))}, the folders from which this server "
            "opens files; move it there, or upload it."
        )
    return real
