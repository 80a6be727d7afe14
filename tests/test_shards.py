"""Studies on other machines: shards that are run and collected, a Ray cluster that loses a node."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import fakes
import pandas as pd
import pytest
import tiny
from ray.cluster_utils import Cluster
from test_cli import fake, run  # noqa: F401  a fixture

from prune_core import PruneError
from prune_core.distributed import collect as collecting
from prune_core.distributed import shards
from prune_core.experiments import run as experiments
from prune_core.models.checkpoints import loading
from prune_core.paths import ROOT
from prune_core.queue import jobs
from prune_core.store.job import Status
from prune_core.store.store import Store

GRID = (
    "study: Grid\nmethods: [halve]\nsparsities: [0.5, 0.7]\nseeds: [0, 1]\nmeasures: [draw]\n"
    "calibration_size: 8\n"
)


def rows(store):
    """Return every table of every job by its key, without the columns that differ between runs."""
    by_key = {}
    for job in store.jobs():
        assert job.key not in by_key, "duplicate job"
        tables = {name: store.rows(name, [job.id]) for name in store.tables(job.id)}
        by_key[job.key] = {
            name: table.drop(columns=["job", "seconds"], errors="ignore")
            for name, table in tables.items()
        }
    return by_key


def assert_same_rows(actual, expected):
    assert actual.keys() == expected.keys()
    for key in actual:
        assert list(actual[key]) == list(expected[key])
        for name in actual[key]:
            pd.testing.assert_frame_equal(actual[key][name], expected[key][name])


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path / "grid.yaml"


@pytest.mark.parametrize("count", [1, 3, 40])
def test_collecting_shards_repeatedly_gives_the_same_rows_as_a_sweep(
    fake,  # noqa: F811
    grid,
    tmp_path,
    capsys,
    count,
):
    assert run("sweep", grid) == 0
    expected = rows(Store())
    os.environ["PRUNESCOPE_HOME"] = str(tmp_path / "other")
    assert run("sweep", grid, "--shards", count, "--out", tmp_path / "out") == 0
    shard_count = json.loads((tmp_path / "out" / shards.PLAN).read_text())["shards"]
    assert shard_count == min(count, 6)
    assert (
        sum(len(shards.experiment_folders(tmp_path / "out", n + 1)) for n in range(shard_count))
        == 6
    )
    for number in reversed(range(1, shard_count + 1)):
        assert run("run-shard", tmp_path / "out", number) == 0
        assert run("collect", tmp_path / "out") == 0
    collected = rows(Store())
    for _ in range(2):
        assert run("run-shard", tmp_path / "out", 1) == 0 and run("collect", tmp_path / "out") == 0
        assert_same_rows(rows(Store()), collected)
    assert_same_rows(collected, expected)
    pruned = [job for job in Store().jobs() if job.experiment["method"]]
    assert all(
        job.status == Status.DONE and Store().has_weights(job.id) and job.facts["device"] == "cpu"
        for job in pruned
    )
    assert capsys.readouterr().out.strip().endswith("6 done.")
    # everything is finished
    assert run("sweep", grid, "--shards", 2, "--out", tmp_path / "again") == 2
    assert "every experiment is finished" in capsys.readouterr().err


def test_an_interrupted_shard_is_collected_and_continues(fake, grid, tmp_path, monkeypatch):  # noqa: F811
    assert run("sweep", grid, "--set", "dense=false", "--shards", 1, "--out", tmp_path / "out") == 0
    [first, *rest] = shards.experiment_folders(tmp_path / "out")
    measure = fakes.Draw.measure
    # as a batch system ends it
    monkeypatch.setattr(fakes.Draw, "measure", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        run("run-shard", tmp_path / "out", 1)
    assert run("collect", tmp_path / "out") == 0
    [job] = Store().jobs()
    assert job.status == Status.FAILED and "1 of its stages" in job.error and job.done == ("prune",)
    jobs.housekeeping(Store())
    assert Store().job(job.id).status == Status.FAILED  # another machine will continue it
    monkeypatch.setattr(fakes.Draw, "measure", measure)
    assert run("run-shard", tmp_path / "out", 1) == 0 and run("collect", tmp_path / "out") == 0
    collected = Store().jobs()
    assert [job.status for job in collected] == [Status.DONE] * 4
    assert collected[0].id == job.id
    assert collected[0].facts["died"] == 1
    assert "died" not in collected[1].facts
    assert rest and not list((tmp_path / "out").rglob("*.part"))


def test_results_of_a_dense_model_are_computed_once_for_all_processes(
    fake,  # noqa: F811
    grid,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setenv(fakes.CALLS, str(tmp_path / "calls"))
    assert run("sweep", grid, "--shards", 6, "--out", tmp_path / "out") == 0
    for number in range(1, 7):
        experiments._shared.cache_clear()  # as in a separate process
        assert run("run-shard", tmp_path / "out", number) == 0
    called = (tmp_path / "calls").read_text().split()
    # one dense model per seed, because the calibration sample depends on it
    assert called.count("draw") == 6 and called.count("dense") == 2


def test_a_failed_experiment_is_named_and_the_others_run(fake, grid, tmp_path, capsys):  # noqa: F811
    fails = ["--set", "measures=[draw: {fails: user}]", "--set", "seeds=[0]"]
    assert run("sweep", grid, *fails, "--shards", 1, "--out", tmp_path / "out") == 0
    assert run("run-shard", tmp_path / "out", 1) == 2
    assert "3 of 3 experiments did not finish: 0001, 0002, 0003" in capsys.readouterr().err
    run("collect", tmp_path / "out")
    assert {job.error for job in Store().jobs()} == {"draw: an error that the user can fix."}


def test_a_job_queued_in_this_store_is_left_unchanged(fake, grid, tmp_path):  # noqa: F811
    assert run("sweep", grid, "--shards", 2, "--out", tmp_path / "out") == 0
    store, plan = Store(), shards.experiment_folders(tmp_path / "out")
    description = shards.read_description(plan[0])
    queued = store.submit(
        description["experiment"], description["label"], description["key"], "Grid", "cpu"
    )
    run("run-shard", tmp_path / "out", 1)
    assert collecting.adopt_shard(store, plan[0], shards.Record.read(plan[0])) == queued
    assert store.job(queued).status == Status.QUEUED and store.tables(queued) == []


def test_an_interrupted_copy_of_weights_is_repeated(fake, grid, tmp_path, monkeypatch):  # noqa: F811
    run("sweep", grid, "--set", "dense=false", "--shards", 4, "--out", tmp_path / "out")
    run("run-shard", tmp_path / "out", 1)
    with monkeypatch.context() as broken, pytest.raises(SystemExit):
        broken.setattr(collecting.shutil, "copytree", lambda *_: (_ for _ in ()).throw(SystemExit))
        run("collect", tmp_path / "out")
    assert Store().jobs() == []
    assert run("collect", tmp_path / "out") == 0
    [job] = Store().jobs()
    assert job.status == Status.DONE and Store().has_weights(job.id) and not job.error


def test_a_cancelled_experiment_that_continues_is_not_cancelled_again(fake, grid, tmp_path):  # noqa: F811
    run("sweep", grid, "--shards", 2, "--out", tmp_path / "out")
    store, folder = Store(), shards.experiment_folders(tmp_path / "out")[0]
    running = shards.Record(status=Status.RUNNING, started=1.0)
    id = collecting.adopt_shard(store, folder, running, worker="me")
    store.cancel(id)
    assert store.job(id).cancel
    collecting.adopt_shard(
        store, folder, shards.Record(status=Status.CANCELLED, started=1.0), worker="me"
    )
    assert collecting.adopt_shard(store, folder, running, worker="me again") == id
    assert store.job(id).status == Status.RUNNING and not store.job(id).cancel


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda out: (out / "0001" / shards.EXPERIMENT).write_text("{"), "cannot be read"),
        (
            lambda out: (out / shards.PLAN).write_text('{"version": "0", "shards": 2}'),
            "was planned by PruneScope 0",
        ),
    ],
)
def test_invalid_plan_files_are_error_messages(fake, grid, tmp_path, change, message):  # noqa: F811
    run("sweep", grid, "--shards", 2, "--out", tmp_path / "out")
    run("run-shard", tmp_path / "out", 1)
    change(tmp_path / "out")
    with pytest.raises(PruneError, match=message):
        collecting.collect(Store(), tmp_path / "out")


def test_a_plan_never_overwrites_other_files(fake, grid, tmp_path, capsys):  # noqa: F811
    run("sweep", grid, "--shards", 2, "--out", tmp_path / "out")
    assert run("sweep", grid, "--shards", 2, "--out", tmp_path / "out") == 0  # the same plan again
    assert run("sweep", grid, "--set", "seeds=[5]", "--shards", 2, "--out", tmp_path / "out") == 2
    assert run("sweep", grid, "--shards", 2) == 2
    assert run("sweep", grid, "--shards", 0, "--out", tmp_path / "none") == 2
    assert run("run-shard", tmp_path / "out", 3) == 2
    message = capsys.readouterr().err
    assert "contains another study" in message and "--out FOLDER" in message
    assert "at least 1" in message and "has 1 to 2" in message


def test_cluster_that_loses_a_node_returns_each_row_exactly_once(tmp_path, monkeypatch):
    """Three experiments with attacks in two chunks on two nodes; a node in use is removed."""
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    labels = loading.label_names(tiny.model().config)
    lines = [f'"{text}",{labels[index % 2]}' for index, text in enumerate(tiny.SENTENCES)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines))
    (tmp_path / "study.yaml").write_text(
        f"study: Cluster\ncheckpoint: {tmp_path / 'model'}\ntask: {tmp_path / 'data.csv'}\n"
        "methods: [magnitude]\nsparsities: [0.3, 0.6]\nmeasures: [accuracy, attack]\n"
        "options: {attack: {recipes: DeepWordBug, examples: 4}}\n"
        "calibration_size: 4\ndevice: cpu\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "prune_core", "sweep", str(tmp_path / "study.yaml")]
    plain = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    expected = rows(Store())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # 15 by default: next to other work the tasks would wait for minutes
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        environment["PRUNESCOPE_HOME"] = str(tmp_path / "cluster")
        with (tmp_path / "log").open("w") as log:
            flags = [
                *("--ray", cluster.address),
                *("--out", str(tmp_path / "out")),
                *("--cpus", "1"),
                *("--chunk", "2"),
            ]
            sweep = subprocess.Popen(
                [*command, *flags], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

        def running():
            with suppress(PruneError):
                return [
                    folder
                    for folder in shards.experiment_folders(tmp_path / "out")
                    if shards.Record.read(folder).status == Status.RUNNING
                ]
            return []

        while len(running()) < 2:
            assert sweep.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        assert sweep.wait(900) == 0, (tmp_path / "log").read_text()
    finally:
        cluster.shutdown()
    store = Store(tmp_path / "cluster")
    assert_same_rows(rows(store), expected)
    assert {job.status for job in store.jobs()} == {Status.DONE}
    assert sum(job.facts.get("died", 0) for job in store.jobs()) >= 1
    # the predictions of the dense model, shared by all experiments
    assert len(list((tmp_path / "out" / shards.DENSE).rglob("*.pt"))) == 1
    assert all(
        len(list(Path(folder).glob("attack.*.jsonl"))) == 2
        for folder in shards.experiment_folders(tmp_path / "out")
    )


def test_a_missing_cluster_is_an_error_message(fake, grid, capsys, tmp_path):  # noqa: F811
    assert run("sweep", grid, "--ray", "127.0.0.1:1", "--out", tmp_path / "out") == 2
    assert "There is no Ray cluster at 127.0.0.1:1" in capsys.readouterr().err
