"""One walk in a real browser: run the demo at a tiny size, see a chart on every page, prune with a file of one's own, read an attack."""

import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import sample_rows
import strangers

from benchmarks.dashboard import CHROMIUM, chromium, served
from prune_core.store.job import Status
from prune_core.store.store import Store

GOOD = ("lovely", "superb", "funny")
PATIENCE = 150_000  # ms; minutes on a busy machine, seconds on an idle one

pytest.importorskip(
    "playwright.sync_api",
    reason="the browser walk needs playwright: pip install -r requirements-test.txt",
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="the browser walk needs chromium: apt-get install chromium"
)


@pytest.fixture
def server(home):
    """The dashboard on a free port with a store of its own; it and its workers end with the test."""
    # one thread: on matrices this small more of them only wait for each other
    with served(home, ["tests/tiny_app.py"], home.parent / "server.log", OMP_NUM_THREADS="1") as (
        address,
        _,
    ):
        yield address


REVIEWS = "\n".join(
    ["review,stars"]
    + [
        f"The {noun} in this film is {word} from the first scene to the very last one,{int(word in GOOD)}"
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
        for word in (*GOOD, "dull", "dreadful", "clumsy")
    ]
)


@contextmanager
def opened(server, name: str, height: int = 900):
    """A browser on the page of that name."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": height})
        page.set_default_timeout(PATIENCE)
        abroad: list[str] = []
        page.on(
            "request",
            lambda request: abroad.append(request.url) if request.url.startswith("http") else None,
        )
        page.goto(f"{server}/{name.lower()}")
        try:
            page.get_by_role("heading", name=name, exact=True).wait_for()
            yield page
            assert not [url for url in abroad if not url.startswith(server)], (
                "pages ask nobody but their own server"
            )
        except BaseException:
            print(
                page.locator("body").inner_text()
            )  # what a person would have seen, for the report of the failure
            raise


def test_the_first_page_has_an_address_by_its_name(server, home):
    for study in ("Newer last", "Asked for", "Newest"):
        sample_rows.fill(Store(home), 40, study, runs=sample_rows.RUNS[:2])
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{server}/overview?study=Asked+for&sparsity=50%25")
        page.get_by_role("heading", name="Overview", exact=True).wait_for()
        wait_for_charts(page, 3)
        assert not page.get_by_text("Page not found").count()
        assert "study=Asked+for" in page.url and "/overview" not in page.url
        links = page.locator("[data-testid=stSidebarNav] a", has_text="Overview")
        assert links.count() == 1 and links.get_attribute("aria-current") == "page"


def test_the_demo_runs_and_every_page_shows_its_charts(server, home):
    with opened(
        server, "Layers"
    ) as page:  # a link is the first request: Streamlit must not take pages/ for an app of its own
        page.locator("[data-testid=stSidebarNav] a", has_text="Overview").click()
        page.get_by_role("heading", name="What does pruning cost?").wait_for()
        page.get_by_role("button", name="Run the demo study").click()
        page.get_by_text("Running", exact=True).wait_for()
        wait_for_charts(
            page, 2
        )  # accuracy and reconstruction error, while the rest is still at work
        wait_until_done(page, home, 3)
        for name, charts in (("Compare", 5), ("Layers", 1), ("Drift", 1), ("Inspect", 1)):
            turn_to(page, name)
            wait_for_charts(page, charts)
            assert problems(page) == 0, name
        assert "study" not in page.url or "Demo" in page.url
        turn_to(page, "Studies")
        page.get_by_test_id("stDataFrame").first.hover()
        page.get_by_role("button", name="Search").first.wait_for()
        assert not page.get_by_role(
            "button", name="Download as CSV"
        ).count()  # it would write formulas as they are
        prune_with_a_file(page)
        wait_until_done(page, home, 6)
        turn_to(page, "Attack")
        page.get_by_text("The sentences", exact=True).click()
        wait_for_charts(page, 2)
        page.locator(".sentence ins").first.wait_for()
        assert page.locator(".sentence del").count() and problems(page) == 0


# tests/test_strangers.py runs all four from the command line
@pytest.mark.parametrize("who", ["an NLI model with swapped labels", "a French tagger"])
def test_a_strangers_folder_and_file_reach_compare(server, home, tmp_path, who):
    """With what lies about: a folder named, a file uploaded, what is asked answered; nothing converted."""
    stranger = strangers.ALL[who](tmp_path)
    with opened(server, "Prune") as page:
        fill(page, "checkpoint", str(stranger.folder))
        pick(page, "task", "A file of your own")
        upload(page, str(stranger.file))
        for name in (
            "use-method-sparsegpt",
            "use-method-akr",
            "use-measure-drift",
            "use-measure-cost",
        ):
            page.locator(f".st-key-{name} label").first.click()
        if stranger.kind == "classification":
            page.locator(".st-key-use-measure-attack label").first.click()
        page.get_by_text("examples calibrate").wait_for()
        assert problems(page) == 0, page.locator(
            "[data-testid=stAlertContentError]"
        ).all_inner_texts()
        page.get_by_role("button", name="Queue 3 runs").click()
        page.get_by_role("heading", name="Overview", exact=True).wait_for()
        wait_until_done(page, home, 3)
        turn_to(page, "Compare")
        wait_for_charts(page, 2)
        assert problems(page) == 0
        metric = Store(home).rows("accuracy", [1]).iloc[0]["metric"]
        assert metric == ("entity_f1" if stranger.kind == "token" else "accuracy"), (
            "labels are found on the page too"
        )
        if who == "an NLI model with swapped labels":
            take_the_order(page, home)


def test_a_group_drawn_on_the_map_is_set_against_the_rest_and_lives_in_the_address(server, home):
    sample_rows.fill(Store(home), 200)
    with opened(server, "Drift", 2000) as page:
        wait_for_charts(page, 1)
        settle(page)
        box = page.locator(".st-key-chart-map .nsewdrag").first.bounding_box()
        place = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
        page.mouse.move(*place(0.55, 0.1))
        page.mouse.down()
        for corner in ((0.9, 0.1), (0.9, 0.9), (0.55, 0.9), (0.55, 0.12)):
            page.mouse.move(*place(*corner), steps=6)
        page.mouse.up()
        page.get_by_text("examples against the rest, on AKR 70%").wait_for()
        assert problems(page) == 0 and "examples=" in page.url
        turn_to(page, "Attack")
        page.get_by_text("The sentences", exact=True).click()
        page.get_by_text("Only the chosen examples that were attacked").wait_for()
        page.get_by_role("button", name="let go").click()
        page.get_by_text("Only the chosen examples that were attacked").wait_for(state="detached")
        assert problems(page) == 0 and "examples=" not in page.url


def take_the_order(page, home: Path) -> None:
    """The warning's one click: the same data in the order that the model's answers speak for, and no warning any more."""
    page.get_by_role("button", name="Use this mapping").click()
    page.get_by_role("heading", name="Prune", exact=True).wait_for()
    page.get_by_text("0 is LABEL_2").wait_for()
    page.get_by_role("button", name="Queue").last.click()
    page.get_by_role("heading", name="Overview", exact=True).wait_for()
    wait_until_done(page, home, len(Store(home).jobs()))
    job = next(job for job in reversed(Store(home).jobs()) if not job.experiment["method"])
    assert (
        job.experiment["source"]["labels"]
        and Store(home).rows("accuracy", [job.id]).iloc[0]["score"] > 0.7
    )


def settle(page) -> None:
    """Until the page's script is over."""
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
    )


def upload(page, file) -> None:
    """Choose a file and wait, as a person does, until it is there: Streamlit 1.67 drops its answer to the browser, where the file
    should go, when the next click starts a run before that answer is sent (its queue keeps other messages, not this one)."""
    page.get_by_text("Upload a file, or give its path").wait_for()
    settle(page)
    page.locator(".st-key-upload input[type=file]").set_input_files(file)
    page.get_by_text("as uploaded, is read").wait_for()


def fill(page, key: str, text: str) -> None:
    """Type into a field and leave it."""
    page.locator(f".st-key-{key} input").fill(text)
    page.keyboard.press("Enter")


def prune_with_a_file(page) -> None:
    """Fill the form with a file of one's own, one method, and an attack on a few sentences; queue it."""
    turn_to(page, "Prune")
    pick(page, "task", "A file of your own")
    upload(page, {"name": "films.csv", "mimeType": "text/csv", "buffer": REVIEWS.encode()})
    page.get_by_text("The first five of 48 rows.").wait_for()
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
        ("calibration", 8),
        ("evaluation", 12),
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


def turn_to(page, name: str) -> None:
    page.locator("[data-testid=stSidebarNav] a", has_text=name).click()
    page.get_by_role("heading", name=name, exact=True).wait_for()


def problems(page) -> int:
    return page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count()


def wait_until_done(page, home: Path, count: int) -> None:
    """By the store first: the sidebar may still show what it said before the jobs were queued."""
    deadline = time.monotonic() + PATIENCE / 1000
    while any(job.status in (Status.QUEUED, Status.RUNNING) for job in Store(home).jobs()):
        assert time.monotonic() < deadline, "the jobs do not end"
        page.wait_for_timeout(200)
    page.get_by_text("Nothing is running.").wait_for()
    found = [(job.label, job.status, job.error) for job in Store(home).jobs()]
    assert [status for _, status, _ in found] == [Status.DONE] * count, found


def wait_for_charts(page, least: int) -> None:
    """Until so many charts have drawn marks."""
    page.wait_for_function(
        f"[...document.querySelectorAll('.js-plotly-plot')].filter(e => e.querySelector('.trace, canvas')).length >= {least}"
    )
