"""From an empty store, check an ONNX file from elsewhere in a browser, up to the verdict."""

import os
import subprocess
import sys

from test_browser import fill, open_page, problems, pytestmark, server, settle, wait_for_charts  # noqa: F401
from test_walks import open_section, screenshot

from prune_core.models.checkpoints import loading
from prune_core.models.export.onnx import to_onnx
from prune_core.paths import ROOT
from prune_core.store.job import Status
from prune_core.store.store import Store


def test_engineer_checks_an_onnx_file(server, home, tmp_path):  # noqa: F811
    model, tokenizer = loading.load("demo-robust")
    loading.save(model, tokenizer, tmp_path / "robust")
    file = tmp_path / "robust" / "from-a-colleague.onnx"
    to_onnx(model, tokenizer, file)
    (tmp_path / "robust" / "model.safetensors").unlink()
    with open_page(server, "Deploy") as page:
        fill(page, "candidate-path", str(file))
        fill(page, "evaluation_size", "60")
        measures = page.locator("[class*=st-key-candidate-measures]")
        measures.get_by_text("Accuracy", exact=True).wait_for()
        measures.locator("input").click()
        page.keyboard.press("Backspace")  # without the attack, the last of the default
        page.keyboard.press("Escape")
        settle(page)
        screenshot(page, "candidate-1-form")
        page.get_by_role("button", name="Measure and check").click()
        page.get_by_role("heading", name="How much of each limit is used?").wait_for()
        wait_for_charts(page, 1)
        page.get_by_text("from-a-colleague.onnx.", exact=False).first.wait_for()
        settle(page)
        screenshot(page, "candidate-2-verdict")
        open_section(page, "The file")
        page.locator("[data-testid=stDataFrame]").first.wait_for()
        screenshot(page, "candidate-3-facts")
        open_section(page, "Policy file and CI")
        command = page.locator("[data-testid=stCode]").first.inner_text().split("#")[0]
        decision = page.locator(".takeaway").first.inner_text()
        assert problems(page) == 0
    assert "--candidate" in command and str(file) in command
    jobs = {job.label: job for job in Store(home).jobs()}
    assert set(jobs) == {"Dense", "from-a-colleague.onnx"}
    assert all(job.status == Status.DONE for job in jobs.values())
    (tmp_path / "policy.yaml").write_text("accuracy_loss: 1.0\nagreement: 97\n")
    arguments = [sys.executable, *command.split()[1:-2], "--policy", str(tmp_path / "policy.yaml")]
    process = subprocess.run(
        [*arguments, "--evaluation-size", "60"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PRUNESCOPE_HOME": str(home)},
    )
    expected = {0: "Ship", 1: "Do not ship", 3: "Inconclusive"}[process.returncode]
    assert expected in process.stdout and decision
