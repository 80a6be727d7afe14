"""The examples for CI are run as they are written, on a small model and its ONNX file."""

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import yaml

from prune_core.models.checkpoints import loading
from prune_core.models.export.onnx import to_onnx
from prune_core.paths import ROOT

EXAMPLES = ROOT / "examples" / "ci"


@pytest.fixture
def repository(tmp_path, home):
    """A folder with the files that the examples name, and the command on its path."""
    model, tokenizer = tiny.model(), tiny.tokenizer()
    loading.save(model, tokenizer, tmp_path / "models" / "dense")
    to_onnx(model, tokenizer, tmp_path / "models" / "compressed.onnx")
    labels = list(model.config.id2label.values())
    rows = [f"a film with {i} good scenes,{labels[i % len(labels)]}" for i in range(120)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.csv").write_text("\n".join(["text,label", *rows]))
    command = tmp_path / "bin" / "prunescope"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m prune_core "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run(command: str, repository: Path, home: Path, limit: float) -> subprocess.CompletedProcess:
    (repository / "policy.yaml").write_text(f"accuracy_loss: {limit}\nagreement: 90\n")
    path = os.pathsep.join([str(repository / "bin"), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "PRUNESCOPE_HOME": str(home)}
    return subprocess.run(
        command, shell=True, cwd=repository, env=environment, capture_output=True, text=True
    )


def test_workflow_command_has_the_exit_status_of_the_check(repository, home):
    workflow = yaml.safe_load((EXAMPLES / "github-workflow.yml").read_text())
    (step,) = (each for each in workflow["jobs"]["check"]["steps"] if each.get("name") == "check")
    finished = run(step["run"], repository, home, limit=5)
    assert finished.returncode == 0, finished.stderr
    assert (repository / "check.json").is_file()
    assert run(step["run"], repository, home, limit=0.01).returncode == 3


def test_pre_push_lets_an_inconclusive_model_pass_with_a_message(repository, home):
    script = str(EXAMPLES / "pre-push.sh")
    finished = run(script, repository, home, limit=0.01)
    assert finished.returncode == 0, finished.stderr
    assert "inconclusive on 200 examples" in finished.stdout
