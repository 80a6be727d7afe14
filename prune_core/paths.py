"""Where the project's own files are: beside the package in a clone, inside it where a wheel was installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
_CLONE = PACKAGE.parent
IS_CLONE = (_CLONE / "assets").is_dir() and (_CLONE / "app.py").is_file()
ROOT = _CLONE if IS_CLONE else PACKAGE / "bundle"  # holds app.py, pages and assets; what runs as a process starts here
ASSETS = ROOT / "assets"
