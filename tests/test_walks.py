"""Three people do their job in a real browser, without the README: an engineer, a researcher, a teacher.

With $WALK_PICTURES a folder, each screen that matters is kept there; with $WALK_STORE a store, the walks go through a copy of it
(tools/screenshots.py gives both, with the demo study). Otherwise they go through a made-up study.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import sample_rows
from test_browser import opened, problems, pytestmark, server, settle, turn_to, wait_for_charts  # noqa: F401

from prune_core.paths import ROOT
from prune_core.store.store import Store


def furnish(home: Path) -> None:
    """The study that the walks look at."""
    if given := os.environ.get("WALK_STORE"):
        shutil.copytree(given, home, dirs_exist_ok=True)
    else:
        sample_rows.fill(Store(home), 200)


def keep(page, name: str) -> None:
    """A picture of the screen for docs/, where they are asked for."""
    assert problems(page) == 0, page.locator(
        "[data-testid=stException], [data-testid=stAlertContentError]"
    ).all_inner_texts()
    if folder := os.environ.get("WALK_PICTURES"):
        page.wait_for_timeout(1500)  # charts that fit themselves to their places
        page.screenshot(path=Path(folder) / f"{name}.png")


def part(page, name: str) -> None:
    """Open a part of the page."""
    page.locator("[data-testid=stMain]").get_by_text(name, exact=True).first.click()
    page.wait_for_timeout(300)
    settle(page)


def test_an_engineer_decides_whether_a_pruned_model_may_ship(server, home, tmp_path):  # noqa: F811
    furnish(home)
    with opened(server, "Deploy") as page:
        wait_for_charts(page, 1)
        page.locator(".st-key-choice-deploy-model").get_by_text("AKR 50%").click()
        page.get_by_text("AKR 50%.", exact=False).first.wait_for()
        settle(page)
        keep(page, "engineer-1-may-it-ship")
        limit = page.locator(".st-key-limit-accuracy_loss input")
        limit.fill("20")
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        settle(page)
        part(page, "Newly broken, newly fixed")
        page.locator("[data-testid=stDataFrame]").first.wait_for()
        keep(page, "engineer-2-what-breaks")
        part(page, "Policy file and CI")
        with page.expect_download() as file:
            page.locator(".st-key-policy-download button").click()
        policy = tmp_path / "policy.yaml"
        file.value.save_as(policy)
        keep(page, "engineer-3-the-same-check-in-ci")
        said = page.locator(".takeaway").first.inner_text()
        job = (
            page.locator("[data-testid=stCode]").first.inner_text().split("check ")[1].split(" ")[0]
        )
    command = [sys.executable, "-m", "prune_core", "check", job, "--policy", str(policy)]
    answer = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PRUNESCOPE_HOME": str(home)},
    )
    expected = {0: "Ship", 1: "Do not ship", 3: "Inconclusive"}[answer.returncode]
    assert expected.lower() in said.lower(), (said, answer.stdout)
    assert "20" in policy.read_text()


def test_a_researcher_reads_the_trade_off_and_plans_the_next_run(server, home):  # noqa: F811
    furnish(home)
    before = len(Store(home).jobs())
    with opened(server, "Compare") as page:
        wait_for_charts(page, 1)
        page.locator(".st-key-limits").get_by_text("within all limits").or_(
            page.get_by_text("No model keeps")
        ).first.wait_for()
        keep(page, "researcher-1-trade-off")
        turn_to(page, "Layers")
        wait_for_charts(page, 1)
        mark = (
            page.locator(".st-key-chart-depth .scatterlayer .trace")
            .last.locator(".point")
            .last.bounding_box()
        )
        page.mouse.click(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
        page.get_by_text("Where in block").wait_for()
        settle(page)
        keep(page, "researcher-2-one-block")
        part(page, "What if")
        page.get_by_text("Predicted error", exact=True).wait_for()
        page.get_by_role("button", name="Least error").click()
        page.wait_for_timeout(500)
        settle(page)
        keep(page, "researcher-3-what-if")
        page.get_by_role("button", name="Prune like this").click()
        page.get_by_text("Queued as job").wait_for()
    job = Store(home).jobs()[-1]
    assert (
        len(Store(home).jobs()) == before + 1
        and "," in job.experiment["method"]["options"]["allocation"]
    )


def test_a_teacher_gives_the_lesson_with_the_arrow_keys(server, home):  # noqa: F811
    furnish(home)
    with opened(server, "Lesson") as page:
        page.get_by_text(
            "relative error of the output is"
        ).first.wait_for()  # the solvers have answered
        page.locator(".st-key-answer-1 summary").click()
        keep(page, "teacher-1-what-is-a-weight-worth")
        page.get_by_role("button", name="Present").click()
        page.locator("[data-testid=stSidebar]").wait_for(state="hidden")
        page.locator("[data-testid=stStatusWidget]").wait_for(
            state="hidden"
        )  # a busy page loses keys
        page.keyboard.press("ArrowRight")
        page.get_by_role("heading", name="2 ·").wait_for()
        page.get_by_text("relative error of the output is").nth(1).wait_for()
        settle(page)
        keep(page, "teacher-2-presenting")
        for number in range(3, 11):
            page.keyboard.press("ArrowRight")
            page.get_by_role("heading", name=f"{number} ·").wait_for()
            settle(page)
            assert problems(page) == 0 and not page.locator(".st-key-lesson-needs").count(), number
        keep(page, "teacher-3-would-you-ship-it")
        page.keyboard.press("p")
        page.locator("[data-testid=stSidebar]").wait_for()
