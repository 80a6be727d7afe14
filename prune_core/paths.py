"""Where the project's own files are, beside the package in a clone and inside it in a wheel, and which files of others may be opened."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from pathlib import Path

from .errors import PruneError

PACKAGE = Path(__file__).resolve().parent
_CLONE = PACKAGE.parent
IS_CLONE = (_CLONE / "assets").is_dir() and (_CLONE / "app.py").is_file()
ROOT = _CLONE if IS_CLONE else PACKAGE / "bundle"  # holds app.py, pages and assets; what runs as a process starts here
ASSETS = ROOT / "assets"

# What a server that others can reach is told, for itself and for every process that it starts: see cli/serve.py.
ROOTS = "PRUNESCOPE_ROOTS"  # folders below which a reader may name files; empty: any
USER_HEADER = "PRUNESCOPE_USER_HEADER"  # of a reverse proxy: who asks
SYSTEM = ("/proc", "/sys", "/dev", "/etc")  # hold no data: reading them may never end, or tell what is nobody's business


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def has_login() -> bool:
    """Whether Streamlit is told by whom people log in."""
    for folder in (ROOT, Path.home()):
        file = folder / ".streamlit" / "secrets.toml"
        try:
            if file.is_file() and "auth" in tomllib.loads(file.read_text(encoding="utf-8")):
                return True
        except tomllib.TOMLDecodeError as error:
            raise PruneError(f"{file} cannot be read ({error}); docs/serving.md has an example of it.") from None
    return False


def allowed(path: str | Path) -> Path:
    """The real place of a file or folder that a reader named; PruneError outside of the configured roots, links followed, and for
    what is no file. One that does not exist passes, for whoever opens it says so."""
    try:
        real = Path(path).expanduser().resolve()
        real.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, in a circle of links, of a user that is not there
        raise PruneError(f"{str(path)[:80]!r} cannot be a path ({error}); name another."[:400]) from None
    if real.exists() and not (real.is_file() or real.is_dir()) or any(real.is_relative_to(each) for each in SYSTEM):
        raise PruneError(f"{path} is no file or folder of data (it is a device, a pipe or of the system); name another.")
    roots = [Path(root) for root in os.environ.get(ROOTS, "").split(os.pathsep) if root]
    own = [ASSETS, Path(os.environ.get("PRUNESCOPE_HOME") or PACKAGE)]
    if roots and not any(real.is_relative_to(root.resolve()) for root in (*roots, *own)):
        raise PruneError(f"{path} is not below {', '.join(map(str, roots))}, where this server opens files; put it there, or upload it.")
    return real
