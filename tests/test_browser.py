"""The dashboard in a real browser: demo, charts on every page, user data, and attacks."""

import time
from contextlib import contextmanager
from pathlib import Path

import external_checkpoints
import pytest
import sample_rows

from benchmarks.dashboard import CHROMIUM, chromium, served
from prune_core.store.job import Status
from prune_core.store.store import Store

POSITIVE = ("lovely", "superb", "funny")
TIMEOUT = 150_000  # ms; minutes on a busy machine, seconds on an idle one

pytest.importorskip(
    "playwright.sync_api",
    reason="browser tests need playwright: pip install -r requirements-test.txt",
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="browser tests need chromium: apt-get install chromium"
)


@pytest.fixture
def server(home):
    """Serve the dashboard on a free port with an empty store until the test ends."""
    # one thread: more are slower for matrices this small
    with served(home, ["tests/tiny_app.py"], home.parent / "server.log", OMP_NUM_THREADS="1") as (
        address,
        _,
    ):
        yield address


REVIEWS = "\n".join(
    ["review,stars"]
    + [
        f"The {noun} in this film is {word} from the first scene to the very last one,"
        f"{int(word in POSITIVE)}"
        for noun in (
            "acting",
            "plot",
            "music",
            "dialogue",
            "pacing",
            "ending",
            "camera work",
            "cast",
        )
        for word in (*POSITIVE, "dull", "dreadful", "clumsy")
    ]
)


@contextmanager
def open_page(server, name: str, height: int = 900):
    """Open a page in a browser and fail on requests to other servers."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": height})
        page.set_default_timeout(TIMEOUT)
        external: list[str] = []
        page.on(
            "request",
            lambda request: (
                external.append(request.url) if request.url.startswith("http") else None
            ),
        )
        page.goto(f"{server}/{name.lower()}")
        try:
            page.get_by_role("heading", name=name, exact=True).wait_for()
            yield page
            assert not [url for url in external if not url.startswith(server)], (
                "pages send requests to their own server only"
            )
        except BaseException:
            print(page.locator("body").inner_text())  # the visible text, for the failure report
            raise


def test_overview_url_redirects_to_start_page(server, home):
    for study in ("Newer last", "Asked for", "Newest"):
        sample_rows.fill(Store(home), 40, study, runs=sample_rows.RUNS[:2])
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT)
        page.goto(f"{server}/overview?study=Asked+for&sparsity=50%25")
        page.get_by_role("heading", name="Overview", exact=True).wait_for()
        wait_for_charts(page, 3)
        assert not page.get_by_text("Page not found").count()
        assert "study=Asked+for" in page.url and "/overview" not in page.url
        links = page.locator("[data-testid=stSidebarNav] a", has_text="Overview")
        assert links.count() == 1 and links.get_attribute("aria-current") == "page"


def test_demo_runs_and_every_page_shows_charts(server, home):
    with open_page(
        server, "Layers"
    ) as page:  # the first request is for a page, which must not be started as a separate app
        page.locator("[data-testid=stSidebarNav] a", has_text="Overview").click()
        page.get_by_role("heading", name="What does pruning cost?").wait_for()
        page.get_by_role("button", name="Run the demo study").click()
        page.get_by_text("Running", exact=True).wait_for()
        wait_for_charts(
            page, 2
        )  # accuracy and reconstruction error, while the other runs are queued
        wait_until_done(page, home, 3)
        for name, charts in (("Compare", 5), ("Layers", 1), ("Drift", 1), ("Inspect", 1)):
            go_to(page, name)
            wait_for_charts(page, charts)
            assert problems(page) == 0, name
        assert "study" not in page.url or "Demo" in page.url
        go_to(page, "Studies")
        page.get_by_test_id("stDataFrame").first.hover()
        page.get_by_role("button", name="Search").first.wait_for()
        assert not page.get_by_role(
            "button", name="Download as CSV"
        ).count()  # it would not escape formulas
        prune_with_a_file(page)
        wait_until_done(page, home, 6)
        go_to(page, "Attack")
        page.get_by_text("Examples", exact=True).click()
        wait_for_charts(page, 2)
        page.locator(".sentence ins").first.wait_for()
        assert page.locator(".sentence del").count() and problems(page) == 0


# tests/test_external_checkpoints.py runs all four cases from the command line
@pytest.mark.parametrize("case", ["nli-swapped-labels", "french-ner"])
def test_external_checkpoint_and_file_reach_compare(server, home, tmp_path, case):
    """An external checkpoint folder and an uploaded file work without conversion."""
    external = external_checkpoints.ALL[case](tmp_path)
    with open_page(server, "Prune") as page:
        fill(page, "checkpoint", str(external.folder))
        pick(page, "task", "Your own file")
        upload(page, str(external.file))
        for name in (
            "use-method-sparsegpt",
            "use-method-akr",
            "use-measure-drift",
            "use-measure-cost",
        ):
            page.locator(f".st-key-{name} label").first.click()
        if external.kind == "classification":
            page.locator(".st-key-use-measure-attack label").first.click()
        page.get_by_text(" calibration and ").first.wait_for()
        assert problems(page) == 0, page.locator(
            "[data-testid=stAlertContentError]"
        ).all_inner_texts()
        page.get_by_role("button", name="Queue 3 runs").click()
        page.get_by_role("heading", name="Overview", exact=True).wait_for()
        wait_until_done(page, home, 3)
        go_to(page, "Compare")
        wait_for_charts(page, 2)
        assert problems(page) == 0
        metric = Store(home).rows("accuracy", [1]).iloc[0]["metric"]
        assert metric == ("entity_f1" if external.kind == "token" else "accuracy"), (
            "labels are detected on the page"
        )
        if case == "nli-swapped-labels":
            apply_label_order(page, home)


def test_lasso_selection_is_compared_and_stored_in_url(server, home):
    sample_rows.fill(Store(home), 200)
    with open_page(server, "Drift", 2000) as page:
        wait_for_charts(page, 1)
        settle(page)
        box = page.locator(".st-key-chart-map .nsewdrag").first.bounding_box()

        def position(x: float, y: float) -> tuple[float, float]:
            return box["x"] + x * box["width"], box["y"] + y * box["height"]

        page.mouse.move(*position(0.55, 0.1))
        page.mouse.down()
        for corner in ((0.9, 0.1), (0.9, 0.9), (0.55, 0.9), (0.55, 0.12)):
            page.mouse.move(*position(*corner), steps=6)
        page.mouse.up()
        page.get_by_text("examples compared with the rest, AKR 70%").wait_for()
        assert problems(page) == 0 and "examples=" in page.url
        go_to(page, "Attack")
        page.get_by_text("Examples", exact=True).click()
        page.get_by_text("Selected examples that were attacked").wait_for()
        page.get_by_role("button", name="Clear").click()
        page.get_by_text("Selected examples that were attacked").wait_for(state="detached")
        assert problems(page) == 0 and "examples=" not in page.url


GUARD = "text,label,language\n" + "".join(
    f"Film {i} is {'a quiet delight' if i % 50 == 0 else 'a noisy and clumsy chore'} throughout,"
    f"{('negative', 'positive')[i % 50 == 0]},{('en', 'de')[i % 3 > 0]}\n"
    for i in range(500)
)


def test_a_guard_file_of_2_percent_positives_reaches_thresholds_and_a_decision(server, home):
    with open_page(server, "Prune") as page:
        pick(page, "task", "Your own file")
        upload(page, {"name": "guard.csv", "mimeType": "text/csv", "buffer": GUARD.encode()})
        names = ["method-sparsegpt", "method-akr", "measure-reconstruction", "measure-drift"]
        for name in (*names, "measure-cost", "measure-attack", "measure-threshold"):
            page.locator(f".st-key-use-{name} label").first.click()
        fill(page, "calibration_size", "8")
        page.get_by_role("button", name="Queue 3 runs").click()
        page.get_by_role("heading", name="Overview", exact=True).wait_for()
        wait_until_done(page, home, 3)
        go_to(page, "Compare")
        page.get_by_text("Threshold", exact=True).click()
        page.get_by_text("What does each model detect at this threshold?").wait_for()
        wait_for_charts(page, 2)
        page.get_by_role("slider", name="Threshold").press("End")
        page.get_by_text("threshold 0.999").nth(1).wait_for()  # one in each matrix
        settle(page)
        fill(page, "detection-slices", "column:language")
        settle(page)
        assert problems(page) == 0
        go_to(page, "Deploy")
        page.locator(".st-key-use-limit-recall_loss label").first.click()
        page.get_by_text("Recall loss at the threshold").nth(1).wait_for()  # in the chart, too
        assert problems(page) == 0


def apply_label_order(page, home: Path) -> None:
    """Apply the suggested label mapping, run again, and check that the warning is gone."""
    page.get_by_role("button", name="Use this mapping").click()
    page.get_by_role("heading", name="Prune", exact=True).wait_for()
    page.get_by_text("0 is LABEL_2").wait_for()
    page.get_by_role("button", name="Queue").last.click()
    page.get_by_role("heading", name="Overview", exact=True).wait_for()
    wait_until_done(page, home, len(Store(home).jobs()))
    job = next(job for job in reversed(Store(home).jobs()) if not job.experiment["method"])
    assert job.experiment["source"]["labels"]
    assert Store(home).rows("accuracy", [job.id]).iloc[0]["score"] > 0.7


def settle(page) -> None:
    """Wait until the page's script has finished."""
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
    )


def upload(page, file) -> None:
    """Choose a file and wait until it is uploaded.

    Streamlit 1.67 drops the upload URL if the next click starts a run before it is sent.
    """
    page.get_by_text("Upload a file or enter its path").wait_for()
    settle(page)
    page.locator(".st-key-upload input[type=file]").set_input_files(file)
    page.get_by_text("is used; a path entered here").wait_for()


def fill(page, key: str, text: str) -> None:
    """Type into a field and leave it."""
    page.locator(f".st-key-{key} input").fill(text)
    page.keyboard.press("Enter")


def prune_with_a_file(page) -> None:
    """Queue a study of an uploaded file with one method and an attack on a few examples."""
    go_to(page, "Prune")
    pick(page, "task", "Your own file")
    upload(page, {"name": "films.csv", "mimeType": "text/csv", "buffer": REVIEWS.encode()})
    page.get_by_text("First five rows of 48.").wait_for()
    for name in (
        "use-method-sparsegpt",
        "use-method-akr",
        "use-measure-reconstruction",
        "use-measure-drift",
        "use-measure-cost",
    ):
        page.locator(f".st-key-{name} label").first.click()
    page.locator(".st-key-fold-measure-attack summary").first.click()
    for key, number in (
        ("calibration_size", 8),
        ("evaluation_size", 12),
        ("option-attack-examples", 4),
        ("option-attack-word_examples", 2),
    ):
        page.locator(f".st-key-{key} input").fill(str(number))
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Queue 3 runs").click()
    page.get_by_role("heading", name="Overview", exact=True).wait_for()


def pick(page, key: str, option: str) -> None:
    """Choose from a selectbox."""
    page.locator(f".st-key-{key}").get_by_role("combobox").click()
    page.get_by_role("option", name=option).click()


def go_to(page, name: str) -> None:
    page.locator("[data-testid=stSidebarNav] a", has_text=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()


def problems(page) -> int:
    return page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count()


def wait_until_done(page, home: Path, count: int) -> None:
    """Wait for the store first, as the sidebar may still show its old state."""
    deadline = time.monotonic() + TIMEOUT / 1000
    while any(job.status in (Status.QUEUED, Status.RUNNING) for job in Store(home).jobs()):
        assert time.monotonic() < deadline, "the jobs do not finish"
        page.wait_for_timeout(200)
    page.get_by_text("Nothing is running.").wait_for()
    states = [(job.label, job.status, job.error) for job in Store(home).jobs()]
    assert [status for _, status, _ in states] == [Status.DONE] * count, states


def wait_for_charts(page, count: int) -> None:
    """Wait until `count` charts have drawn marks."""
    page.wait_for_function(
        "[...document.querySelectorAll('.js-plotly-plot')]"
        f".filter(e => e.querySelector('.trace, canvas')).length >= {count}"
    )
