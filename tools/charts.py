"""Draw charts that compare a study of the store with a paper, as SVG files for README.md.

    python -m tools.charts "AKR mini" akr-table-1 assets/charts --task sst2
    python -m tools.charts "K-prune mini" kprune-curves assets/charts --task sst2 --model BERT-base

The charts are those of the Compare page. Plotly renders them in the system's Chromium via
playwright (requirements-test.txt), because exporting files otherwise needs another dependency.
"""

from __future__ import annotations

import argparse
import json
import shutil
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import plotly.graph_objects as go
from playwright.sync_api import sync_playwright
from plotly.offline import get_plotlyjs

from prune_core import plots
from prune_core.analysis import published, published_comparison
from prune_core.analysis.compared_models import models_of
from prune_core.plots.palette import PAPER
from prune_core.store.store import Store

TABLES = ("accuracy", "attack", "cost", "drift", "drift_adversarial")
WIDTH = 560  # pixels
DRAW = """([figure, width, color]) => Plotly.toImage(
    {...figure, layout: {...figure.layout, width, paper_bgcolor: color}}, {format: 'svg'}
)"""


def study_of(store: Store, name: str) -> published_comparison.ComparedStudy:
    """Load the newest finished runs of a study."""
    jobs = list({job.key: job for job in store.jobs(name) if job.done}.values())
    return published_comparison.ComparedStudy(
        jobs,
        models_of(jobs),
        {table: store.rows(table, [job.id for job in jobs]) for table in TABLES},
    )


def main() -> None:
    """Write a light and a dark chart for each metric of the exhibit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("exhibit", choices=published.exhibits())
    parser.add_argument("folder", type=Path)
    for name in ("task", "model", "attack"):
        parser.add_argument(f"--{name}", help="if the exhibit has values of several")
    options = parser.parse_args()
    exhibit, study = published.exhibits()[options.exhibit], study_of(Store(), options.study)
    values = exhibit.figures
    for name in ("task", "model", "attack"):
        if getattr(options, name):
            values = values[values[name] == getattr(options, name)]
    options.folder.mkdir(parents=True, exist_ok=True)
    for metric, dark in product(dict.fromkeys(values["metric"]), (False, True)):
        points = published_comparison.points(exhibit, values, metric, study=study)
        chart = plots.published_comparison(points, published.AXES[metric], exhibit.against, dark)
        theme = "-dark" if dark else ""
        name = f"{exhibit.key}-{metric.replace('_', '-')}{theme}.svg"
        print(write_svg(chart, options.folder / name, dark))


def write_svg(figure: go.Figure, file: Path, dark: bool, width: int = WIDTH) -> Path:
    """Render a figure in a new browser and write it as SVG."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.add_script_tag(content=get_plotlyjs())
        address = page.evaluate(DRAW, [json.loads(figure.to_json()), width, PAPER[dark]])
        browser.close()
    file.write_text(unquote(address.split(",", 1)[1]), encoding="utf-8")
    return file


if __name__ == "__main__":
    main()
