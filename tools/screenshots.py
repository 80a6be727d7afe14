"""Makes the pictures of the dashboard from the demo study: the README's in assets/, those of the three walks in docs/walks/.

python -m tools.screenshots            # the demo's few minutes in a store of its own, then the pictures; needs chromium
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dashboard import chromium, served
from prune_core.paths import ROOT

PICTURES = {"light": "dashboard.png", "dark": "dashboard-dark.png"}


def main() -> None:
    """Run the demo, serve it, and take a picture in each theme."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"PRUNESCOPE_HOME": os.environ.get("PRUNESCOPE_HOME", home)}
        subprocess.run(
            [sys.executable, "-m", "prune_core", "demo", "--wait"],
            cwd=ROOT,
            env=environment,
            check=True,
        )
        with served(Path(environment["PRUNESCOPE_HOME"])) as (address, _):
            take(address)
        walks = environment | {
            "WALK_STORE": environment["PRUNESCOPE_HOME"],
            "WALK_PICTURES": str(ROOT / "docs" / "walks"),
        }
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/test_walks.py"],
            cwd=ROOT,
            env=walks,
            check=True,
        )


def take(address: str) -> None:
    """The Overview page at 1440x900 once its charts are drawn."""
    with chromium() as browser:
        for theme, name in PICTURES.items():
            page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme=theme)
            page.goto(address)
            page.wait_for_function(
                "document.querySelectorAll('.js-plotly-plot .trace').length > 3", timeout=60_000
            )
            page.wait_for_timeout(2500)  # fonts, and charts that fit themselves to their places
            page.screenshot(path=ROOT / "assets" / name)


if __name__ == "__main__":
    main()
