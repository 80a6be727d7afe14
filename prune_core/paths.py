"""Where the project's own files are, beside the package in a clone and inside it in a wheel, and which files of others may be opened."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import PruneError

PACKAGE = Path(__file__).resolve().parent
_CLONE = PACKAGE.parent
IS_CLONE = (_CLONE / "assets").is_dir() and (_CLONE / "app.py").is_file()
ROOT = (
    _CLONE if IS_CLONE else PACKAGE / "bundle"
)  # holds app.py, pages and assets; what runs as a process starts here
ASSETS = ROOT / "assets"

ROOTS = "PRUNESCOPE_ROOTS"  # folders below which pages may open files, set by `serve --root`; empty: any
SYSTEM = (
    "/proc",
    "/sys",
    "/dev",
    "/etc",
)  # hold no data: reading them may never end, or tell what is nobody's business


def allowed(path: str | Path) -> Path:
    """The real place of a file or folder that a reader named; PruneError outside of the configured roots, links followed, and for
    what is no file. One that does not exist passes, for whoever opens it says so."""
    try:
        real = Path(path).expanduser().resolve()
        real.exists()
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # too long, with a NUL, in a circle of links, of a user that is not there
        raise PruneError(
            f"{str(path)[:80]!r} cannot be a path ({error}); name another."[:400]
        ) from None
    if (
        real.exists()
        and not (real.is_file() or real.is_dir())
        or any(real.is_relative_to(each) for each in SYSTEM)
    ):
        raise PruneError(
            f"{path} is no file or folder of data (it is a device, a pipe or of the system); name another."
        )
    roots = [Path(root) for root in os.environ.get(ROOTS, "").split(os.pathsep) if root]
    own = [ASSETS, Path(os.environ.get("PRUNESCOPE_HOME") or PACKAGE)]
    if roots and not any(real.is_relative_to(root.resolve()) for root in (*roots, *own)):
        raise PruneError(
            f"{path} is not below {', '.join(map(str, roots))}, where this server opens files; put it there, or upload it."
        )
    return real
