"""Makes the pictures of the dashboard from the demo study: the README's in assets/, those of the three walks in docs/walks/.

    python docs/picture.py            # the demo's few minutes in a store of its own, then the pictures; needs chromium
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = {"light": "dashboard.png", "dark": "dashboard-dark.png"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def main() -> None:
    """Run the demo, serve it, and take a picture in each theme."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"PRUNESCOPE_HOME": os.environ.get("PRUNESCOPE_HOME", home)}
        subprocess.run([sys.executable, "-m", "prune_core", "demo", "--wait"], cwd=ROOT, env=environment, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{free.getsockname()[1]}"
        serve = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", address.rsplit(":", 1)[1]]
        server = subprocess.Popen(serve, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            wait_for(address)
            take(address)
        finally:
            server.terminate()
            server.wait()
        walks = environment | {"WALK_STORE": environment["PRUNESCOPE_HOME"], "WALK_PICTURES": str(ROOT / "docs" / "walks")}
        subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/test_walks.py"], cwd=ROOT, env=walks, check=True)


def wait_for(address: str) -> None:
    """Until the server answers."""
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=2)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise SystemExit("The dashboard does not answer.")


def take(address: str) -> None:
    """The Overview page at 1440x900 once its charts are drawn."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for theme, name in PICTURES.items():
            page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme=theme)
            page.goto(address)
            page.wait_for_function("document.querySelectorAll('.js-plotly-plot .trace').length > 3", timeout=60_000)
            page.wait_for_timeout(2500)  # fonts, and charts that fit themselves to their places
            page.screenshot(path=ROOT / "assets" / name)
        browser.close()


if __name__ == "__main__":
    main()
