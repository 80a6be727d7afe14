"""Page times in Chromium and memory growth of the server, for a store with 20 studies.

    python -m benchmarks.pages [--home STORE] [--studies 20] [--visits 200] [--sessions 12] \\
        [--seconds 900]

The newest study of the store is copied that many times into a new store; if there is none, run
`python -m prune_core demo --wait` first. Painted: heading and takeaway are visible; settled: the
script has finished and every chart is drawn. Goals on two cores, including Chromium: painted within
1.5 s, the first page after a start within 3 s, settled within 0.7 s of a change of sparsity, memory
after all visits within 10% of that after each session has seen half of the pages.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from prune_core.store.store import Store, default_home

from .dashboard import chromium, served

PAGES = ("", "compare", "layers", "drift", "attack", "deploy", "studies", "prune", "lesson", "soup")
SETTLED = """() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState
        === 'notRunning'
    && document.querySelector('[data-testid=stMain] h1')
    && !document.querySelector('[data-testid=stSkeleton]')
    && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(
        chart => chart.querySelector('.main-svg'))"""
GOALS = {"first": 3.0, "painted": 1.5, "changed": 0.7}  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, default=default_home())
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--visits", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=900.0, help="time limit of the visits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = copy_store(options.home, Path(folder) / "store", options.studies)
        print(
            f"{len(Store(home).jobs())} runs in {len(Store(home).studies())} studies, "
            f"{os.cpu_count()} cores for server and browser"
        )
        with chromium() as browser:
            first = [first_page(browser, home) for _ in range(options.repeats)]
            print(
                f"first page after a start: painted {median(first):.2f} s (goal {GOALS['first']})"
            )
            with served(home) as (address, process):
                times(browser, address, options.repeats)
                memory(
                    browser,
                    address,
                    process,
                    visits=options.visits,
                    sessions=options.sessions,
                    until=time.monotonic() + options.seconds,
                )


def copy_store(source: Path, home: Path, studies: int) -> Path:
    """Copy the store and duplicate its newest study that many times."""
    if not Store(source).studies():
        sys.exit(
            f"{source} has no study to copy; run `python -m prune_core demo --wait` first, or give "
            "--home."
        )
    shutil.copytree(
        source, home, ignore=shutil.ignore_patterns("workers")
    )  # without the locks of its workers
    store = Store(home)
    first = store.studies()[0]
    for number in range(2, studies + 1):
        for job in store.jobs(first):
            store.copy(job.id, f"{first} {number}")
    return home


def first_page(browser: Any, home: Path) -> float:
    """Return the seconds until a newly started server has painted the Overview."""
    with served(home) as (address, _):
        return visit(browser, address, "")[0]


@contextmanager
def tab(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield page
    context.close()


def visit(browser: Any, address: str, name: str) -> tuple[float, float]:
    """Return the seconds until a page is painted and until it has settled, in a new session."""
    with tab(browser) as page:
        return load_page(page, address, name)


def load_page(page: Any, address: str, name: str) -> tuple[float, float]:
    started = time.perf_counter()
    page.goto(f"{address}/{name}", wait_until="commit")
    page.wait_for_selector("[data-testid=stMain] h1")
    painted = time.perf_counter() - started
    page.wait_for_function(SETTLED)
    return painted, time.perf_counter() - started


def change_sparsity(browser: Any, address: str, name: str) -> float | None:
    """Return the seconds from a click on another sparsity until the page has settled.

    None if the page has no such choice.
    """
    with tab(browser) as page:
        load_page(page, address, name)
        choice = page.locator(".st-key-choice-sparsity").get_by_text("70%", exact=True)
        if not choice.count():
            return None
        page.wait_for_timeout(500)
        started = time.perf_counter()
        choice.click()
        page.wait_for_function(
            "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === "
            "'running'"
        )
        page.wait_for_function(SETTLED)
        return time.perf_counter() - started


def times(browser: Any, address: str, repeats: int) -> None:
    """Print one line per page."""
    print(
        f"{'page':12}{'painted s':>12}{'settled s':>12}{'changed s':>12}   (medians of {repeats}; "
        f"goals {GOALS})"
    )
    for name in PAGES:
        visit(browser, address, name)  # the first visit fills caches that all sessions share
        painted, settled = zip(
            *(visit(browser, address, name) for _ in range(repeats)), strict=True
        )
        clicks = [
            click
            for click in (change_sparsity(browser, address, name) for _ in range(repeats))
            if click is not None
        ]
        change_time = f"{median(clicks):12.2f}" if clicks else f"{'–':>12}"
        print(
            f"{name or 'overview':12}{median(painted):12.2f}{median(settled):12.2f}{change_time}",
            flush=True,
        )


def memory(
    browser: Any, address: str, process: psutil.Process, visits: int, sessions: int, until: float
) -> None:
    """Print the resident memory of the server while sessions visit pages in turn."""
    resident: Callable[[], float] = lambda: process.memory_info().rss / 1e6  # noqa: E731
    contexts = [
        browser.new_context(viewport={"width": 1440, "height": 900}) for _ in range(sessions)
    ]
    tabs = [context.new_page() for context in contexts]
    warm, done = 0.0, 0
    for done in range(1, visits + 1):
        load_page(tabs[done % sessions], address, PAGES[(done // sessions + done) % len(PAGES)])
        if done == min(visits, sessions * len(PAGES)) // 2:
            warm = resident()
        if done % 20 == 0:
            print(f"{done:4} visits: {resident():.0f} MB", flush=True)
        if time.monotonic() > until:
            break
    for context in contexts:
        context.close()
    growth = (
        f"{resident() / warm - 1:+.0%} of {warm:.0f} MB after the warm-up"
        if warm
        else "ended during the warm-up"
    )
    print(f"{done} visits of {sessions} sessions: {resident():.0f} MB, {growth}")


if __name__ == "__main__":
    main()
