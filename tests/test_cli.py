"""The command line: output that scripts rely on, and one-line error messages."""

import json
import os
import re
import subprocess
import sys

import fakes
import pytest
import sample_rows
import tiny

from prune_core.cli.arguments import build_parser, main
from prune_core.data.examples import DataSource
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.settings import RunSettings
from prune_core.experiments.study import Sweep
from prune_core.models import replay
from prune_core.models.checkpoints import loading
from prune_core.paths import ROOT
from prune_core.plugins import option_specs
from prune_core.queue import jobs
from prune_core.store.job import Status
from prune_core.store.store import Store

CSV = "text,label,extra\n" + "".join(
    f'"a film about number {i} that nobody needed to see",{i % 2},x\n' for i in range(40)
)


@pytest.fixture
def fake(monkeypatch):
    fakes.install(monkeypatch.setattr)
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store=None: None)
    yield
    fakes.remove()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny real classifier in a Hugging Face folder."""
    folder = tmp_path_factory.mktemp("tiny")
    loading.save(tiny.model(), tiny.tokenizer(), folder)
    return str(folder)


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_plugins_and_tasks_are_listed(capsys):
    for command, words in (
        ("methods", ["akr", "sparsity", "2:4"]),
        ("measures", ["accuracy", "attack"]),
        ("tasks", ["demo", "sst2"]),
    ):
        assert run(command) == 0
        output = capsys.readouterr().out
        assert all(word in output for word in words)


def test_methods_are_listed_without_transformers():
    code = (
        "import sys; from prune_core.cli.arguments import main; main(['methods']); main(['jobs']); "
        "sys.exit('transformers' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert process.returncode == 0


def test_jobs_are_listed_without_torch():
    code = (
        "import sys; from prune_core.cli.arguments import main; main(['jobs']); "
        "sys.exit('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True)
    assert process.returncode == 0


def test_run_end_to_end_on_a_local_file(checkpoint, tmp_path, capsys):
    (tmp_path / "mine.csv").write_text(CSV)
    arguments = [
        "run",
        *("--checkpoint", checkpoint),
        *("--task", tmp_path / "mine.csv"),
        *("--text", "text"),
        *("--label", "label"),
        *("--method", "akr"),
        *("--sparsity", 0.5),
        *("--calibration-size", 8),
        *("--measure", "accuracy"),
        *("--measure", "reconstruction"),
        *("--seed", 1),
        *("--set", "reconstruction.examples=6"),
        *("--set", "bias=false"),
    ]
    assert run(*arguments, "--json", tmp_path / "one.json", "--out", tmp_path / "pruned") == 0
    output = capsys.readouterr()
    assert "AKR 50%" in output.out and "Accuracy" in output.out and "prune:" in output.err
    assert run(*arguments, "--json", tmp_path / "two.json") == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert set(first) >= {"experiment", "versions", "seconds", "rows"}
    assert set(first["seconds"]) == {"prune", "accuracy", "reconstruction"}
    assert first["experiment"]["method"]["options"]["bias"] is False
    # rows of prune include their duration
    assert {name: rows for name, rows in first["rows"].items() if name != "prune"} == {
        name: rows for name, rows in second["rows"].items() if name != "prune"
    }
    assert Store().records(1) == first["rows"] and Store().job(1).study == "Command line"
    model, _ = loading.load(str(tmp_path / "pruned"))
    assert all(abs(row["sparsity"] - 0.5) < 0.003 for row in replay.sparsity_by_projection(model))
    assert run("export", 1, tmp_path / "again") == 0
    assert (tmp_path / "again" / "model.safetensors").is_file()
    assert run("export", 1, tmp_path / "again") == 2
    assert run("show", 1) == 0 and "AKR 50%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run"], "nothing to do"),
        (["run", "--method", "akrr"], "Did you mean 'akr'?"),
        (["run", "--method", "akr", "--sparsity", "3"], "between 0.0 and 0.99"),
        (["run", "--method", "akr", "--sparsity", "much"], "must be a number"),
        (["run", "--method", "akr", "--pattern", "4:2"], "0 < N < M"),
        (["run", "--measure", "acuracy"], "Did you mean 'accuracy'?"),
        (["run", "--measure", "draw", "--sparsity", "0.5"], "add --method"),
        (["run", "--measure", "draw", "--set", "nap.seconds=1"], "add --measure nap"),
        (["run", "--measure", "draw", "--set", "seconds"], "option=value"),
        (["run", "--measure", "draw", "--set", "draw.fast=1"], "no option 'fast'"),
        (["run", "--measure", "draw", "--task", "mine.csv"], "no such file"),
        (["run", "--measure", "draw", "--task", "ssst2"], "neither a local file nor a known task"),
        (["run", "--measure", "draw", "--device", "tpu"], "no device 'tpu'"),
        (["run", "--measure", "draw", "--set", "draw.fails=user"], "that the user can fix"),
        (["run", "--measure", "draw", "--json", "/nowhere/out.json"], "no folder /nowhere"),
        (["show", "9"], "There is no job 9"),
        (["cancel", "9"], "There is no job 9"),
        (["resume", "9"], "There is no job 9"),
        (["export", "9", "x"], "There is no job 9"),
        (["report", "9", "--out", "x.html"], "There is no job 9"),
        (["sweep", "nothing.yaml"], "no such file"),
        (["run-shard", "nothing", "1"], "contains no plan"),
        (["collect", "nothing"], "contains no plan"),
    ],
)
def test_user_errors_are_one_line_with_status_2(fake, capsys, arguments, message):
    assert run(*arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("prune_core: ")
    assert "Traceback" not in "".join(error)


def test_ctrl_c_cancels_the_job(fake, capsys, monkeypatch):
    monkeypatch.setattr(fakes.Draw, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("run", "--method", "halve", "--measure", "draw") == 130
    assert Store().job(1).status == Status.CANCELLED and Store().job(1).done == ("prune",)


def test_a_running_command_can_be_cancelled_from_another_process(tmp_path):
    options = [*("--measure", "nap"), *("--set", "nap.seconds=60"), *("--set", "nap.reports=no")]
    process = subprocess.Popen(
        [sys.executable, fakes.__file__, "run", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    store = Store()
    while not any(job.stage == "nap" for job in store.jobs()):
        assert process.poll() is None
    assert run("cancel", 1) == 0
    assert process.wait(5) == 130 and store.job(1).status == Status.CANCELLED


def test_a_sweep_is_a_grid_and_finished_runs_are_not_recomputed(fake, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "methods: [halve]\nsparsities: [0.5, 0.7]\nseeds: [0, 1]\nmeasures: [draw]\n"
        "calibration_size: 8\ndevice: cpu\n"
    )
    assert run("sweep", file) == 0
    labels = [job.label for job in Store().jobs("mine")]
    assert labels[:3] == ["Dense", "Halve 50%", "Halve 70%"] and len(labels) == 6
    assert run("sweep", file) == 0 and len(Store().jobs()) == 6
    assert run("sweep", file, "--again") == 0 and len(Store().jobs()) == 12
    file.write_text(
        "measures: [draw]\ncalibration_size: 8\nmethods: [halve]\n"
        "sweeps: [{sparsities: [0.5]}, {sparsities: [0.7]}]\n"
    )
    assert run("sweep", file, "--plan") == 0
    assert capsys.readouterr().out.strip().endswith("3 experiments; none was run.")


@pytest.mark.parametrize(
    "text, message",
    [
        ("- a\n- b\n", "has no keys"),
        ("methods: [halve\n", "is not YAML"),
        ("methods: [halve]\nsparsity: [0.5]\n", "Did you mean 'sparsities'?"),
        ("methods: halve\n", "write a list"),
        ("methods: [{halve: 3}]\n", "is invalid"),
        ("methods: [halve]\noptions: {halved: {}}\n", "neither a method nor a measure"),
        ("dense: false\n", "has no experiments"),
    ],
)
def test_errors_in_a_sweep_file_are_reported(fake, tmp_path, capsys, text, message):
    (tmp_path / "a.yaml").write_text(text)
    assert run("sweep", tmp_path / "a.yaml") == 2
    assert message in capsys.readouterr().err


def test_a_sweep_continues_after_a_failed_experiment(fake, tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(
        "methods: [halve]\nseeds: [0, 1]\nmeasures: [{draw: {fails: user}}]\n"
    )
    assert run("sweep", tmp_path / "a.yaml") == 2
    assert "4 of 4 experiments failed" in capsys.readouterr().err


def test_demo_jobs_can_be_cancelled_and_resumed(fake, capsys):
    assert run("jobs") == 0 and "no jobs yet" in capsys.readouterr().out
    assert run("demo") == 0 and "9 jobs queued" in capsys.readouterr().out
    assert run("demo") == 0 and "0 jobs queued, 9 existed already" in capsys.readouterr().out
    assert run("demo", "--embedding") == 0
    assert "'Embedding demo': 3 jobs queued" in capsys.readouterr().out
    assert run("demo", "--guard") == 0
    assert "'Guard demo': 3 jobs queued" in capsys.readouterr().out
    assert run("cancel", 2) == 0 and run("cancel", 2) == 2 and run("resume", 2) == 0
    capsys.readouterr()
    assert run("jobs") == 0
    output = capsys.readouterr().out
    assert output.count("queued") == 15 and "AKR 70%" in output and "Demo" in output


def test_exporting_a_dense_baseline_is_refused(fake, tmp_path, capsys):
    assert run("run", "--measure", "draw") == 0
    assert run("export", 1, tmp_path / "x") == 2 and "dense baseline" in capsys.readouterr().err


def test_a_report_is_one_file_with_metrics_and_charts(tmp_path, capsys):
    ids = sample_rows.fill(Store())
    assert run("report", *ids, "--out", tmp_path / "report.html") == 0
    text = (tmp_path / "report.html").read_text()
    assert "AKR 70%" in text
    assert "Attack success" in text
    assert "Error by depth" in text
    assert text.count("plotly-graph-div") >= 5
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text), "nothing is downloaded"


def test_a_report_of_a_job_without_rows_is_refused(fake, capsys, tmp_path):
    assert run("demo") == 0
    assert run("report", 1, "--out", tmp_path / "x.html") == 2
    assert "Nothing to report" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [DataSource, RunSettings])
def test_options_declared_once_are_flags_and_keys_of_sweeps(kind):
    flags = vars(build_parser().parse_args(["run"]))
    for spec in option_specs(kind):
        name, default = spec["name"], spec["default"]
        assert flags[name] == (spec["none"] or default), name
        if name != "seed":  # part of the grid
            assert Sweep.from_dict({name: default}).settings == {name: default}
    assert kind.from_keys(flags) == kind()


def test_former_names_of_sample_sizes_are_read(fake):
    plain = fakes.experiment(fakes.Draw(), calibration_size=9, evaluation_size=7).to_dict()
    former = {"calibration": plain.pop("calibration_size"), "evaluation": 7}
    plain.pop("evaluation_size")
    read = Experiment.from_dict(plain | former)
    assert (read.calibration_size, read.evaluation_size) == (9, 7)
