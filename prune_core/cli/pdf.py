"""An HTML file as PDF, printed by the machine's Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import PruneError

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
)
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--no-pdf-header-footer",
    "--virtual-time-budget=10000",
)  # ms, for the charts to draw
PATIENCE = 120.0  # seconds


def browser() -> str:
    """The program, "" where there is none; $CHROMIUM names another."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *NAMES))), "")


def write_pdf(page: Path, out: Path) -> None:
    """Print a file that needs nothing else."""
    if not (program := browser()):
        raise PruneError(
            "A PDF needs Chromium or Chrome, and there is none here: install it, set CHROMIUM to it, or write .html."
        )
    # as root, in a container, Chromium runs only without its sandbox; what it opens is our own file
    flags = [*FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program,
            *flags,
            f"--user-data-dir={profile}",
            f"--print-to-pdf={out.absolute()}",
            page.absolute().as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise PruneError(
                f"{program} did not print {page.name} within {PATIENCE:.0f} s; print it from your browser."
            ) from None
    if done.returncode or not out.is_file():
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[
            -1
        ]
        raise PruneError(f"{program} could not print {page.name}: {said[:200]}")
