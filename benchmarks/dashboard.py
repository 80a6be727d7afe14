"""Start the dashboard and the system's Chromium, for benchmarks, screenshots and tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from prune_core.access import NO_TOKEN
from prune_core.paths import ROOT

APP = ("-m", "streamlit", "run", "app.py", "--server.port")
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def served(
    home: Path, app: Sequence[str] = APP, log: Path | None = None, **environment: str
) -> Iterator[tuple[str, psutil.Process]]:
    """Start a dashboard without an access token; yield its address and process once it answers.

    `app` holds Python's arguments before the port. On exit the dashboard and the workers it started
    are ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.time()
    with (log or Path(os.devnull)).open("w") as out:
        process = subprocess.Popen(
            [sys.executable, *app, str(port)],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            env={**os.environ, "PRUNESCOPE_HOME": str(home), NO_TOKEN: "1", **environment},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        while not _healthy(address):
            if process.poll() is not None:
                raise RuntimeError("The dashboard exited; see the output of `make app`.")
            time.sleep(0.05)
        yield address, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)
        for lock in (home / "workers").glob(
            "[0-9]*-*.lock"
        ):  # a lock is named by the worker's process ID; workers outlive the page by design
            _end(int(lock.name.split("-")[0]), started)


def _end(worker: int, started: float) -> None:
    """Stop a worker, unless it was running before."""
    try:
        if psutil.Process(worker).create_time() > started:
            os.kill(worker, signal.SIGTERM)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return  # it has already exited


def _healthy(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).status == 200)
    except OSError:
        return False


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a Playwright browser; needs chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
