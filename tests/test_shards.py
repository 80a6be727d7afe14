"""Studies on other machines: plain files that are run in parts and collected, and a Ray cluster that loses a node."""

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

GRID = "study: Grid\nmethods: [halve]\nsparsities: [0.5, 0.7]\nseeds: [0, 1]\nmeasures: [draw]\ncalibration_size: 8\n"


def rows(store):
    """Every table of every job by its key, without what differs from run to run."""
    found = {}
    for job in store.jobs():
        assert job.key not in found, "a job is there twice"
        tables = {name: store.rows(name, [job.id]) for name in store.tables(job.id)}
        found[job.key] = {
            name: table.drop(columns=["job", "seconds"], errors="ignore")
            for name, table in tables.items()
        }
    return found


def same(one, two):
    assert one.keys() == two.keys()
    for key in one:
        assert list(one[key]) == list(two[key])
        for name in one[key]:
            pd.testing.assert_frame_equal(one[key][name], two[key][name])


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path / "grid.yaml"


@pytest.mark.parametrize("count", [1, 3, 40])
def test_shards_give_the_rows_of_a_sweep_however_often_they_are_collected(
    fake,  # noqa: F811
    grid,
    tmp_path,
    capsys,
    count,
):
    assert run("sweep", grid) == 0
    plain = rows(Store())
    os.environ["PRUNESCOPE_HOME"] = str(tmp_path / "other")
    assert run("sweep", grid, "--shards", count, "--out", tmp_path / "out") == 0
    parts = json.loads((tmp_path / "out" / shards.PLAN).read_text())["shards"]
    assert (
        parts == min(count, 6)
        and sum(len(shards.folders_of(tmp_path / "out", n + 1)) for n in range(parts)) == 6
    )
    for number in reversed(range(1, parts + 1)):
        assert run("run-shard", tmp_path / "out", number) == 0
        assert run("collect", tmp_path / "out") == 0
    there = rows(Store())
    for _ in range(2):
        assert run("run-shard", tmp_path / "out", 1) == 0 and run("collect", tmp_path / "out") == 0
        same(rows(Store()), there)
    same(there, plain)
    pruned = [job for job in Store().jobs() if job.experiment["method"]]
    assert all(
        job.status == Status.DONE and Store().has_weights(job.id) and job.facts["device"] == "cpu"
        for job in pruned
    )
    assert capsys.readouterr().out.strip().endswith("6 done.")
    assert (
        run("sweep", grid, "--shards", 2, "--out", tmp_path / "again") == 2
    )  # nothing is left to do
    assert "every experiment is finished" in capsys.readouterr().err


def test_what_broke_off_is_collected_as_far_as_it_is_and_goes_on(fake, grid, tmp_path, monkeypatch):  # noqa: F811
    assert run("sweep", grid, "--set", "dense=false", "--shards", 1, "--out", tmp_path / "out") == 0
    [first, *rest] = shards.folders_of(tmp_path / "out")
    measure = fakes.Draw.measure
    monkeypatch.setattr(
        fakes.Draw, "measure", lambda *_: (_ for _ in ()).throw(SystemExit)
    )  # as a batch system ends it
    with pytest.raises(SystemExit):
        run("run-shard", tmp_path / "out", 1)
    assert run("collect", tmp_path / "out") == 0
    [job] = Store().jobs()
    assert job.status == Status.FAILED and "1 of its stages" in job.error and job.done == ("prune",)
    jobs.housekeeping(Store())
    assert Store().job(job.id).status == Status.FAILED  # it is another machine's to go on with
    monkeypatch.setattr(fakes.Draw, "measure", measure)
    assert run("run-shard", tmp_path / "out", 1) == 0 and run("collect", tmp_path / "out") == 0
    found = Store().jobs()
    assert (
        [job.status for job in found] == [Status.DONE] * 4
        and found[0].id == job.id
        and found[0].facts["died"] == 1
    )
    assert "died" not in found[1].facts
    assert rest and not list((tmp_path / "out").rglob("*.part"))


def test_what_is_known_of_a_dense_model_is_found_once_for_all_processes(
    fake,  # noqa: F811
    grid,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setenv(fakes.CALLS, str(tmp_path / "calls"))
    assert run("sweep", grid, "--shards", 6, "--out", tmp_path / "out") == 0
    for number in range(1, 7):
        experiments._shared.cache_clear()  # as in a process of its own
        assert run("run-shard", tmp_path / "out", number) == 0
    called = (tmp_path / "calls").read_text().split()
    assert (
        called.count("draw") == 6 and called.count("dense") == 2
    )  # a seed draws its own sentences


def test_one_that_fails_is_named_and_the_others_are_run(fake, grid, tmp_path, capsys):  # noqa: F811
    fails = ["--set", "measures=[draw: {fails: user}]", "--set", "seeds=[0]"]
    assert run("sweep", grid, *fails, "--shards", 1, "--out", tmp_path / "out") == 0
    assert run("run-shard", tmp_path / "out", 1) == 2
    assert "3 of 3 experiments did not finish: 0001, 0002, 0003" in capsys.readouterr().err
    run("collect", tmp_path / "out")
    assert {job.error for job in Store().jobs()} == {"draw: something you can mend."}


def test_what_this_store_runs_or_has_is_left_as_it_is(fake, grid, tmp_path):  # noqa: F811
    assert run("sweep", grid, "--shards", 2, "--out", tmp_path / "out") == 0
    store, plan = Store(), shards.folders_of(tmp_path / "out")
    known = shards.describe(plan[0])
    mine = store.submit(known["experiment"], known["label"], known["key"], "Grid", "cpu")
    run("run-shard", tmp_path / "out", 1)
    assert collecting.adopt_shard(store, plan[0], shards.Record.of(plan[0])) == mine
    assert store.job(mine).status == Status.QUEUED and store.tables(mine) == []


def test_who_is_ended_while_weights_are_copied_goes_on_with_them(fake, grid, tmp_path, monkeypatch):  # noqa: F811
    run("sweep", grid, "--set", "dense=false", "--shards", 4, "--out", tmp_path / "out")
    run("run-shard", tmp_path / "out", 1)
    with monkeypatch.context() as broken, pytest.raises(SystemExit):
        broken.setattr(collecting.shutil, "copytree", lambda *_: (_ for _ in ()).throw(SystemExit))
        run("collect", tmp_path / "out")
    [job] = Store().jobs()
    assert job.status == Status.FAILED and not Store().has_weights(job.id)
    assert run("collect", tmp_path / "out") == 0
    [job] = Store().jobs()
    assert job.status == Status.DONE and Store().has_weights(job.id) and not job.error


def test_what_was_cancelled_is_not_cancelled_again_when_it_goes_on(fake, grid, tmp_path):  # noqa: F811
    run("sweep", grid, "--shards", 2, "--out", tmp_path / "out")
    store, folder = Store(), shards.folders_of(tmp_path / "out")[0]
    began = shards.Record(status=Status.RUNNING, started=1.0)
    id = collecting.adopt_shard(store, folder, began, worker="me")
    store.cancel(id)
    assert store.job(id).cancel
    collecting.adopt_shard(
        store, folder, shards.Record(status=Status.CANCELLED, started=1.0), worker="me"
    )
    assert collecting.adopt_shard(store, folder, began, worker="me, once more") == id
    assert store.job(id).status == Status.RUNNING and not store.job(id).cancel


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda place: (place / "0001" / shards.EXPERIMENT).write_text("{"), "cannot be read"),
        (
            lambda place: (place / shards.PLAN).write_text('{"version": "0", "shards": 2}'),
            "was planned by PruneScope 0",
        ),
    ],
)
def test_files_that_do_not_fit_are_a_sentence(fake, grid, tmp_path, change, said):  # noqa: F811
    run("sweep", grid, "--shards", 2, "--out", tmp_path / "out")
    run("run-shard", tmp_path / "out", 1)
    change(tmp_path / "out")
    with pytest.raises(PruneError, match=said):
        collecting.collect(Store(), tmp_path / "out")


def test_a_plan_is_never_laid_over_other_files(fake, grid, tmp_path, capsys):  # noqa: F811
    run("sweep", grid, "--shards", 2, "--out", tmp_path / "out")
    assert run("sweep", grid, "--shards", 2, "--out", tmp_path / "out") == 0  # the same once more
    assert run("sweep", grid, "--set", "seeds=[5]", "--shards", 2, "--out", tmp_path / "out") == 2
    assert (
        run("sweep", grid, "--shards", 2) == 2
        and run("sweep", grid, "--shards", 0, "--out", tmp_path / "none") == 2
    )
    assert run("run-shard", tmp_path / "out", 3) == 2
    said = capsys.readouterr().err
    assert (
        "holds another study" in said
        and "--out FOLDER" in said
        and "at least 1" in said
        and "has 1 to 2" in said
    )


def test_a_cluster_that_loses_a_node_still_gives_every_row_once(tmp_path, monkeypatch):
    """Two nodes, three experiments with attacks in two chunks; the node on which one of them is at work is taken away."""
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    labels = loading.label_names(tiny.model().config)
    lines = [f'"{text}",{labels[index % 2]}' for index, text in enumerate(tiny.SENTENCES)]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(lines))
    (tmp_path / "study.yaml").write_text(
        f"study: Cluster\ncheckpoint: {tmp_path / 'model'}\ntask: {tmp_path / 'data.csv'}\nmethods: [magnitude]\n"
        "sparsities: [0.3, 0.6]\nmeasures: [accuracy, attack]\noptions: {attack: {recipes: DeepWordBug, examples: 4}}\n"
        "calibration_size: 4\ndevice: cpu\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "prune_core", "sweep", str(tmp_path / "study.yaml")]
    plain = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    expected = rows(Store())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv(
        "RAY_worker_niceness", "0"
    )  # 15 otherwise: beside other work they would wait for minutes
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        environment["PRUNESCOPE_HOME"] = str(tmp_path / "cluster")
        with (tmp_path / "log").open("w") as log:
            on_ray = [
                "--ray",
                cluster.address,
                "--out",
                str(tmp_path / "out"),
                "--cpus",
                "1",
                "--chunk",
                "2",
            ]
            sweep = subprocess.Popen(
                [*command, *on_ray], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

        def at_work():
            with suppress(PruneError):
                return [
                    each
                    for each in shards.folders_of(tmp_path / "out")
                    if shards.Record.of(each).status == Status.RUNNING
                ]
            return []

        while len(at_work()) < 2:
            assert sweep.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        assert sweep.wait(900) == 0, (tmp_path / "log").read_text()
    finally:
        cluster.shutdown()
    store = Store(tmp_path / "cluster")
    same(rows(store), expected)
    assert {job.status for job in store.jobs()} == {Status.DONE} and sum(
        job.facts.get("died", 0) for job in store.jobs()
    ) >= 1
    assert (
        len(list((tmp_path / "out" / shards.DENSE).rglob("*.pt"))) == 1
    )  # its predictions, for all of them
    assert all(
        len(list(Path(each).glob("attack.*.jsonl"))) == 2
        for each in shards.folders_of(tmp_path / "out")
    )


def test_a_cluster_that_is_not_there_is_a_sentence(fake, grid, capsys, tmp_path):  # noqa: F811
    assert run("sweep", grid, "--ray", "127.0.0.1:1", "--out", tmp_path / "out") == 2
    assert "There is no Ray cluster to be had at 127.0.0.1:1" in capsys.readouterr().err
