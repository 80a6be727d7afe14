"""Take screenshots of the dashboard with the demo study: README's in assets/, the walks' in
docs/walks/.

python -m tools.screenshots # runs the demo in a new store (a few minutes); needs chromium
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
    """Screenshot of the Overview page at 1440x900, after its charts are drawn."""
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
