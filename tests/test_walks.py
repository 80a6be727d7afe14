"""Three user stories in a real browser: an engineer, a researcher and a teacher.

With $WALK_PICTURES, screenshots are saved in that folder; with $WALK_STORE, a copy of that store is
used (tools/screenshots.py sets both, with the demo study). The default is a synthetic study.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import sample_rows
from test_browser import go_to, open_page, problems, pytestmark, server, settle, wait_for_charts  # noqa: F401

from prune_core.paths import ROOT
from prune_core.store.store import Store


def fill_store(home: Path) -> None:
    """Create the study that the tests use."""
    if given := os.environ.get("WALK_STORE"):
        shutil.copytree(given, home, dirs_exist_ok=True)
    else:
        sample_rows.fill(Store(home), 200)


def screenshot(page, name: str) -> None:
    """Save a screenshot for docs/ if $WALK_PICTURES is set."""
    assert problems(page) == 0, page.locator(
        "[data-testid=stException], [data-testid=stAlertContentError]"
    ).all_inner_texts()
    if folder := os.environ.get("WALK_PICTURES"):
        page.wait_for_timeout(1500)  # charts resize to their containers
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_section(page, name: str) -> None:
    """Open a section of the page."""
    page.locator("[data-testid=stMain]").get_by_text(name, exact=True).first.click()
    page.wait_for_timeout(300)
    settle(page)


def test_engineer_checks_a_model_for_deployment(server, home, tmp_path):  # noqa: F811
    fill_store(home)
    with open_page(server, "Deploy") as page:
        wait_for_charts(page, 1)
        page.locator(".st-key-choice-deploy-model").get_by_text("AKR 50%").click()
        page.get_by_text("AKR 50%.", exact=False).first.wait_for()
        settle(page)
        screenshot(page, "engineer-1-may-it-ship")
        limit = page.locator(".st-key-limit-accuracy_loss input")
        limit.fill("20")
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        settle(page)
        open_section(page, "Newly broken, newly fixed")
        page.locator("[data-testid=stDataFrame]").first.wait_for()
        screenshot(page, "engineer-2-what-breaks")
        open_section(page, "Policy file and CI")
        with page.expect_download() as file:
            page.locator(".st-key-policy-download button").click()
        policy = tmp_path / "policy.yaml"
        file.value.save_as(policy)
        screenshot(page, "engineer-3-the-same-check-in-ci")
        decision = page.locator(".takeaway").first.inner_text()
        job = (
            page.locator("[data-testid=stCode]").first.inner_text().split("check ")[1].split(" ")[0]
        )
    command = [sys.executable, "-m", "prune_core", "check", job, "--policy", str(policy)]
    process = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PRUNESCOPE_HOME": str(home)},
    )
    expected = {0: "Ship", 1: "Do not ship", 3: "Inconclusive"}[process.returncode]
    assert expected.lower() in decision.lower(), (decision, process.stdout)
    assert "20" in policy.read_text()


def test_researcher_reads_trade_off_and_plans_next_run(server, home):  # noqa: F811
    fill_store(home)
    before = len(Store(home).jobs())
    with open_page(server, "Compare") as page:
        wait_for_charts(page, 1)
        page.locator(".st-key-limits").get_by_text("within all limits").or_(
            page.get_by_text("No model is within")
        ).first.wait_for()
        screenshot(page, "researcher-1-trade-off")
        go_to(page, "Layers")
        wait_for_charts(page, 1)
        mark = (
            page.locator(".st-key-chart-depth .scatterlayer .trace")
            .last.locator(".point")
            .last.bounding_box()
        )
        page.mouse.click(mark["x"] + mark["width"] / 2, mark["y"] + mark["height"] / 2)
        page.get_by_text("Where in layer").wait_for()
        settle(page)
        screenshot(page, "researcher-2-one-block")
        open_section(page, "What if")
        page.get_by_text("Predicted error", exact=True).wait_for()
        page.get_by_role("button", name="Minimum error").click()
        page.wait_for_timeout(500)
        settle(page)
        screenshot(page, "researcher-3-what-if")
        page.get_by_role("button", name="Prune with these sparsities").click()
        page.get_by_text("Queued as job").wait_for()
    job = Store(home).jobs()[-1]
    assert len(Store(home).jobs()) == before + 1
    assert "," in job.experiment["method"]["options"]["allocation"]


def test_teacher_presents_lesson_with_arrow_keys(server, home):  # noqa: F811
    fill_store(home)
    with open_page(server, "Lesson") as page:
        page.get_by_text(
            "relative error of the output is"
        ).first.wait_for()  # the solvers are loaded
        page.locator(".st-key-answer-1 summary").click()
        screenshot(page, "teacher-1-what-is-a-weight-worth")
        page.get_by_role("button", name="Present").click()
        page.locator("[data-testid=stSidebar]").wait_for(state="hidden")
        page.locator("[data-testid=stStatusWidget]").wait_for(
            state="hidden"
        )  # keys are lost while the page is running
        page.keyboard.press("ArrowRight")
        page.get_by_role("heading", name="2 ·").wait_for()
        page.get_by_text("relative error of the output is").nth(1).wait_for()
        settle(page)
        screenshot(page, "teacher-2-presenting")
        for number in range(3, 12):
            page.keyboard.press("ArrowRight")
            page.get_by_role("heading", name=f"{number} ·").wait_for()
            settle(page)
            missing = page.locator(".st-key-lesson-requirements").count()
            # step 9 shows a search, which needs a study of an embedding model
            assert problems(page) == 0 and missing == (number == 9), number
        screenshot(page, "teacher-3-would-you-ship-it")
        page.keyboard.press("p")
        page.locator("[data-testid=stSidebar]").wait_for()
