"""Take screenshots of the demo study for README.md (assets/) and the guide (docs/walks/).

    python -m tools.screenshots  # needs Chromium

Runs the demo in a new store or in $PRUNESCOPE_HOME, which takes a few minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.dashboard import chromium, served
from prune_core.paths import ROOT

SCREENSHOTS = {"light": "dashboard.png", "dark": "dashboard-dark.png"}


def main() -> None:
    """Run the demo, serve it, and take a screenshot in each theme."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"PRUNESCOPE_HOME": os.environ.get("PRUNESCOPE_HOME", home)}
        subprocess.run(
            [sys.executable, "-m", "prune_core", "demo", "--wait"],
            cwd=ROOT,
            env=environment,
            check=True,
        )
        with served(Path(environment["PRUNESCOPE_HOME"])) as (address, _):
            take_screenshots(address)
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


def take_screenshots(address: str) -> None:
    """Save the Overview page of a server at 1440 x 900 pixels in both themes, fully drawn."""
    with chromium() as browser:
        for theme, name in SCREENSHOTS.items():
            page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme=theme)
            page.goto(address)
            page.wait_for_function(
                "document.querySelectorAll('.js-plotly-plot .trace').length > 3", timeout=60_000
            )
            page.wait_for_timeout(2500)  # fonts, and charts that resize
            page.screenshot(path=ROOT / "assets" / name)


if __name__ == "__main__":
    main()
