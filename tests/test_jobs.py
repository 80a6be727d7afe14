"""The queue with real worker processes: order, cancellation, failures, crashes, resuming."""

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from prune_core import PruneError
from prune_core.paths import ROOT
from prune_core.queue import jobs, worker
from prune_core.store import locks
from prune_core.store.job import Status
from prune_core.store.store import Store


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def store(patch, tmp_path_factory):
    """One store and usually one worker for all tests here: starting a worker takes seconds."""
    folder = tmp_path_factory.mktemp("queue")
    patch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    )
    patch.setenv(fakes.CALLS, str(folder / "calls"))
    patch.setattr(jobs, "COMMAND", [sys.executable, str(Path(fakes.__file__)), "worker"])
    fakes.install(patch.setattr)
    store = Store(folder / "home")
    yield store
    fakes.remove()
    for pid in workers(store):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def calls(store):
    """Names of the stages called during a test."""
    file = Path(os.environ[fakes.CALLS])
    file.write_text("")
    return lambda: [name for name in file.read_text().split() if name != "dense"]


def workers(store):
    """Process IDs of the live workers."""
    paths = (store.home / "workers").glob("*.lock")
    named = [locks.Lock(path) for path in paths if not path.name.startswith("device-")]
    return [int(lock.path.name.split("-")[0]) for lock in named if lock.is_held()]


def wait(
    store, id, until=lambda job: job.status not in (Status.QUEUED, Status.RUNNING), seconds=120.0
):
    """Wait until the job satisfies a condition and return it."""
    deadline = time.monotonic() + seconds
    while not until(job := store.job(id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def is_running(message):
    return lambda job: job.status == Status.RUNNING and message in (job.message or job.stage)


def submit(store, *measures, study, **options):
    return jobs.submit(store, fakes.experiment(*measures, study=study, **options))[0]


def test_jobs_run_in_order_one_at_a_time_with_quick_stages_first(store, calls):
    naps = [fakes.Nap(seconds=0.2)]
    first, second = (
        submit(store, fakes.Draw(), *naps, study="order", seed=seed) for seed in (0, 1)
    )
    first_job, second_job = wait(store, first), wait(store, second)
    assert (first_job.status, second_job.status) == (Status.DONE, Status.DONE), (
        first_job.error,
        second_job.error,
    )
    assert calls() == ["prune", "draw", "prune", "draw", "nap", "nap"]
    assert first_job.done == ("prune", "draw", "nap") and first_job.finished <= second_job.finished
    assert first_job.versions["torch"]
    assert first_job.facts["device"] == "cpu"
    assert set(first_job.seconds) == set(first_job.done)
    assert len(workers(store)) == 1


def test_worker_and_single_process_give_the_same_rows(store, calls):
    id = submit(store, study="rows", seed=7)
    assert wait(store, id).status == Status.DONE
    other = Store(store.home.parent / "other")
    experiment = fakes.experiment(study="rows", seed=7)
    name, _lock = worker.new_worker(other)
    other_id, _ = jobs.add_job(other, experiment, worker=name)
    assert (
        worker.run_job(other, other.job(other_id), lambda: pytest.fail("gave up")).status
        == Status.DONE
    )
    assert other.records(other_id) == store.records(id)


def test_an_experiment_is_not_computed_twice(store, calls):
    experiment = fakes.experiment(study="twice", seed=60)
    id, new = jobs.submit(store, experiment)
    assert new == ["prune", "draw"] and jobs.submit(store, experiment) == (id, [])
    wait(store, id)
    copy, new = jobs.submit(store, fakes.experiment(study="twice elsewhere", seed=60))
    assert not new and copy != id and store.job(copy).status == Status.DONE
    assert store.records(copy) == store.records(id)
    assert calls() == ["prune", "draw"]
    again, new = jobs.submit(store, experiment, again=True)
    assert new and again != id and wait(store, again).status == Status.DONE
    assert calls() == ["prune", "draw"] * 2


def test_only_missing_stages_are_computed(store, calls):
    plan = fakes.experiment(fakes.Draw(), study="grows", seed=70)
    id, _ = jobs.submit(store, plan)
    wait(store, id)
    before = store.records(id)
    larger = replace(plan, measures=(fakes.Draw(), fakes.Nap(seconds=0.1)))
    assert jobs.missing_stages(store, larger) == ["nap"]
    assert jobs.submit(store, larger) == (id, ["nap"])
    job = wait(store, id)
    assert job.status == Status.DONE and job.done == ("prune", "draw", "nap")
    assert calls() == ["prune", "draw", "nap"]
    assert store.records(id)["draw"] == before["draw"]
    elsewhere, new = jobs.submit(store, replace(larger, study="grows elsewhere", device="auto"))
    assert not new and store.records(elsewhere) == store.records(id), "auto is the CPU here"


def test_missing_weights_are_pruned_again_for_a_new_measure(store, calls):
    plan = fakes.experiment(fakes.Draw(), study="no weights", seed=71, keep="none")
    id, _ = jobs.submit(store, plan)
    wait(store, id)
    assert not store.has_weights(id)
    jobs.submit(store, replace(plan, measures=(fakes.Draw(), fakes.Nap(seconds=0.1))))
    assert wait(store, id).status == Status.DONE
    assert calls() == ["prune", "draw", "prune", "nap"]


def test_a_new_version_or_another_option_is_a_new_stage(store, monkeypatch):
    plan = fakes.experiment(fakes.Draw(), study="versions", seed=72)
    wait(store, jobs.submit(store, plan)[0])
    assert jobs.missing_stages(store, plan) == []
    assert jobs.missing_stages(store, replace(plan, measures=(fakes.Draw(fails="user"),))) == [
        "draw"
    ]
    with monkeypatch.context() as changed:
        changed.setattr(fakes.Draw, "version", 2)
        assert jobs.missing_stages(store, plan) == ["draw"]
    monkeypatch.setattr(type(plan.method), "version", 2)
    assert jobs.missing_stages(store, plan) == ["prune", "draw"]


@pytest.mark.parametrize("reports", [True, False])
def test_cancel_takes_less_than_two_seconds_and_the_next_job_runs(store, calls, reports):
    id = submit(store, fakes.Nap(seconds=30, reports=reports), study=f"cancel {reports}")
    wait(store, id, lambda job: job.stage == "nap")
    time.sleep(0.4)  # let it fall asleep
    started = time.monotonic()
    jobs.cancel(store, id)
    job = wait(store, id)
    assert time.monotonic() - started < 2
    assert job.status == Status.CANCELLED and job.done == ("prune",) and not job.error
    assert wait(store, submit(store, study="after", seed=10 + reports)).status == Status.DONE
    assert len(workers(store)) == 1


def test_cancelling_a_queued_job_is_immediate(store, calls):
    first = submit(store, fakes.Nap(seconds=1), study="waiting", seed=63)
    second = submit(store, fakes.Nap(seconds=1), study="waiting", seed=64)
    jobs.cancel(store, second)
    assert store.job(second).status == Status.CANCELLED
    assert wait(store, first).status == Status.DONE and calls().count("prune") == 1


def test_a_failed_job_has_a_message_and_the_queue_continues(store, calls):
    user, bug, good = (
        submit(store, fakes.Draw(fails=fails), study="fails") for fails in ("user", "bug", "")
    )
    assert wait(store, user).error == "draw: an error that the user can fix."
    assert wait(store, bug).error == "ValueError: a bug"
    assert "Traceback" in (store.folder(bug) / "log.txt").read_text()
    assert wait(store, good).status == Status.DONE
    assert store.job(bug).status == Status.FAILED and store.job(bug).done == ("prune",)


def test_resume_continues_after_the_last_finished_stage(store, calls):
    id = submit(store, fakes.Draw(fails="once"), study="resume", seed=20)
    assert wait(store, id).status == Status.FAILED
    jobs.resume(store, id)
    assert wait(store, id).status == Status.DONE
    assert calls() == ["prune", "draw", "draw"]


def test_a_killed_worker_fails_its_job_which_can_be_resumed(store, calls):
    id = submit(store, fakes.Draw(), fakes.Nap(seconds=3), study="killed", seed=62)
    job = wait(store, id, is_running("napping"))
    os.kill(int(job.worker.split("-")[0]), signal.SIGKILL)
    while job.worker.split("-")[0] in map(str, workers(store)):
        time.sleep(0.02)
    assert store.job(id).status == Status.RUNNING
    assert jobs.mark_crashed(store) == [id]
    job = store.job(id)
    assert job.status == Status.FAILED and "during nap" in job.error
    assert job.error.endswith(jobs.last_line(store.folder(id) / "log.txt"))
    saved = store.records(id)
    jobs.resume(store, id)
    assert wait(store, id).status == Status.DONE
    assert calls() == ["prune", "draw", "nap", "nap"]
    assert store.records(id)["draw"] == saved["draw"]


def test_progress_and_remaining_time_are_shown_while_a_job_runs(store, calls):
    id = submit(store, fakes.Nap(seconds=2), study="progress")
    assert jobs.seconds_left([store.job(id)]) > 0
    job = wait(store, id, is_running("step 1"))
    assert 0 < job.progress < 1 and 0 < job.estimate_left < 10 and job.stage == "nap"
    job = wait(store, id)
    assert job.progress == 1 and jobs.seconds_left([job]) == 0


def test_an_idle_worker_exits_and_restarts_for_a_late_job(store, monkeypatch):
    other = Store(store.home.parent / "idle")
    monkeypatch.setenv("PRUNESCOPE_HOME", str(other.home))
    worker.work("cpu", idle=0.2)
    assert workers(other) == [] and not jobs.device_lock(other, "auto").is_held()
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store: None)
    experiment = fakes.experiment(study="late")
    jobs.submit(other, experiment)
    worker.work("cpu", idle=0.2)
    assert other.jobs()[0].status == Status.DONE


def test_a_missing_device_is_refused(store, monkeypatch):
    with pytest.raises(PruneError, match="cuda:9"):
        submit(store, study="device", device="cuda:9")
    other = Store(store.home.parent / "device")
    monkeypatch.setenv("PRUNESCOPE_HOME", str(other.home))
    id = other.submit(
        fakes.experiment(device="cuda:9").to_dict(), "a", "k", "s", "cuda:9"
    )  # from another machine
    worker.work("cuda:9")
    assert other.job(id).status == Status.FAILED and "no device 'cuda:9'" in other.job(id).error


def test_only_one_worker_serves_a_device(store):
    for _ in range(3):
        jobs.ensure_worker("cpu", store)
        jobs.ensure_worker("auto", store)
    deadline = time.monotonic() + 120
    while len(workers(store)) != 1 or jobs.device_lock(store, "cpu").is_held() is False:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_several_gpus_share_the_queue(store, monkeypatch):
    """Two simulated GPUs with one worker thread each.

    Jobs for any GPU are distributed over both; a job for one GPU runs on that one.
    """
    other, local, devices = Store(store.home.parent / "gpus"), threading.local(), {}
    monkeypatch.setenv("PRUNESCOPE_HOME", str(other.home))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: getattr(local, "index", 0))
    monkeypatch.setattr(
        "torch.cuda.set_device", lambda name: setattr(local, "index", int(name.split(":")[1]))
    )
    monkeypatch.setattr(worker, "preload", lambda: None)
    monkeypatch.setattr(worker, "_output_to_log", lambda store, id: nullcontext(lambda: None))
    threads = []

    def start(device, _store):
        threads.append(threading.Thread(target=worker.work, args=(device,), kwargs={"idle": 1.0}))
        threads[-1].start()

    def run_job(store, job, *_, **__):
        time.sleep(0.2)
        devices[job.id] = str(worker.pick_device(job.device))
        store.finish(job.id, Status.DONE, "", job.worker)

    monkeypatch.setattr(worker, "ensure_worker", start)
    monkeypatch.setattr(worker, "run_job", run_job)
    counts = {"auto": 4, "cuda": 2, "cuda:1": 2}
    submitted = [
        (other.submit({}, "a", f"{name} {i}", "s", name), name)
        for name, count in counts.items()
        for i in range(count)
    ]
    start("auto", other)
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    assert all(job.status == Status.DONE for job in other.jobs())
    assert {devices[id] for id, name in submitted if name != "cuda:1"} == {"cuda:0", "cuda:1"}
    assert {devices[id] for id, name in submitted if name == "cuda:1"} == {"cuda:1"}


def test_last_line_of_a_log_with_progress_bars(tmp_path):
    log = tmp_path / "log.txt"
    assert jobs.last_line(log) == "(empty)"
    log.write_text("first\n 50%|##\r100%|####\n\n")
    assert jobs.last_line(log) == "100%|####"
