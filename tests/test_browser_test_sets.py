"""A reviewer with a policy of three test sets reaches one decision in a browser."""

import os
import subprocess
import sys

import pandas as pd
from test_browser import open_page, problems, pytestmark, server, settle  # noqa: F401
from test_walks import open_section, screenshot

from prune_core.paths import ASSETS, ROOT
from prune_core.store.store import Store


def command(home, *arguments):
    """Run a command of PruneScope; return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "prune_core", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PRUNESCOPE_HOME": str(home)},
    )


def test_reviewer_with_three_test_sets_reaches_a_decision(server, home, tmp_path):  # noqa: F811
    reviews = pd.read_csv(ASSETS / "demo" / "reviews.csv")[["text", "label"]]
    policy = ["accuracy_loss: 30", "combine: at most 1 fails", "test_sets:"]
    for place, name in enumerate(("north", "south", "west")):
        part = reviews.sample(60, random_state=place)
        part.to_csv(tmp_path / f"{name}.csv", index=False)
        policy.append(f"  {name}: {{task: {tmp_path / name}.csv}}")
    (tmp_path / "policy.yaml").write_text("\n".join(policy) + "\n")
    data = ("--calibration-size", 32, "--evaluation-size", 60)
    run = command(home, "run", "--method", "magnitude", *data, "--measure", "accuracy")
    assert run.returncode == 0, run.stderr
    job = Store(home).jobs()[0].id
    with open_page(server, "Deploy") as page:
        page.locator("[data-testid=stFileUploaderDropzoneInput]").first.wait_for(state="attached")
        page.locator(
            "[class*=policy] [data-testid=stFileUploaderDropzoneInput]"
        ).first.set_input_files(str(tmp_path / "policy.yaml"))
        settle(page)
        open_section(page, "Several test sets")
        page.get_by_text("north", exact=False).first.wait_for()
        page.get_by_role("button", name="Measure and decide").click()
        table = page.locator("[class*=combined-verdicts]")
        table.first.wait_for(timeout=300_000)
        settle(page)
        screenshot(page, "test-sets-decision")
        decision = page.locator(".takeaway").all_inner_texts()
        assert problems(page) == 0
    check = command(home, "check", job, "--policy", tmp_path / "policy.yaml")
    assert check.returncode in (0, 1, 3)
    printed = " ".join(check.stdout.split())
    assert any(" ".join(text.split()) in printed for text in decision if text), decision
