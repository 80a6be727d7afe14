"""The queue with real worker processes: order, cancelling, failing, dying, resuming."""

import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
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
    """One store and, most of the time, one worker for all tests here: starting one costs seconds."""
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
    """Names of the stages called in this test."""
    file = Path(os.environ[fakes.CALLS])
    file.write_text("")
    return lambda: [name for name in file.read_text().split() if name != "dense"]


def workers(store):
    """Process ids of the living workers."""
    locks = [
        locks.Lock(path)
        for path in (store.home / "workers").glob("*.lock")
        if not path.name.startswith("device-")
    ]
    return [int(lock.path.name.split("-")[0]) for lock in locks if lock.is_held()]


def wait(
    store, id, until=lambda job: job.status not in (Status.QUEUED, Status.RUNNING), seconds=120.0
):
    """The job once that holds."""
    deadline = time.monotonic() + seconds
    while not until(job := store.job(id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def busy(message):
    return lambda job: job.status == Status.RUNNING and message in (job.message or job.stage)


def submit(store, *measures, study, **options):
    return jobs.submit(store, fakes.experiment(*measures, study=study, **options))[0]


def test_runs_in_order_one_at_a_time_quick_stages_first(store, calls):
    naps = [fakes.Nap(seconds=0.2)]
    first, second = (
        submit(store, fakes.Draw(), *naps, study="order", seed=seed) for seed in (0, 1)
    )
    one, two = wait(store, first), wait(store, second)
    assert (one.status, two.status) == (Status.DONE, Status.DONE), (one.error, two.error)
    assert calls() == ["prune", "draw", "prune", "draw", "nap", "nap"]
    assert one.done == ("prune", "draw", "nap") and one.finished <= two.finished
    assert (
        one.versions["torch"] and one.facts["device"] == "cpu" and set(one.seconds) == set(one.done)
    )
    assert len(workers(store)) == 1


def test_same_rows_as_in_a_process_of_its_own(store, calls):
    id = submit(store, study="rows", seed=7)
    assert wait(store, id).status == Status.DONE
    mine = Store(store.home.parent / "other")
    asked = fakes.experiment(study="rows", seed=7)
    name, _life = worker.new_worker(mine)
    own = mine.submit(
        asked.to_dict(), asked.label, asked.key(), asked.study, asked.device, worker=name
    )
    assert worker.perform(mine, mine.job(own), lambda: pytest.fail("gave up")).status == Status.DONE
    assert mine.records(own) == store.records(id)


def test_the_same_experiment_is_not_computed_twice(store, calls):
    asked = fakes.experiment(study="twice")
    id, reused = jobs.submit(store, asked)
    assert not reused and jobs.submit(store, asked) == (id, True)
    wait(store, id)
    elsewhere, reused = jobs.submit(store, fakes.experiment(study="twice elsewhere"))
    assert reused and elsewhere != id and store.job(elsewhere).status == Status.DONE
    assert store.records(elsewhere) == store.records(id)
    assert calls() == ["prune", "draw"]
    again, reused = jobs.submit(store, asked, again=True)
    assert not reused and wait(store, again).status == Status.DONE
    assert calls() == ["prune", "draw"] * 2


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


def test_cancel_of_a_waiting_job_is_immediate(store, calls):
    first = submit(store, fakes.Nap(seconds=1), study="waiting")
    second = submit(store, fakes.Nap(seconds=1), study="waiting", seed=1)
    jobs.cancel(store, second)
    assert store.job(second).status == Status.CANCELLED
    assert wait(store, first).status == Status.DONE and calls().count("prune") == 1


def test_a_failure_says_what_to_do_or_what_broke_and_the_queue_goes_on(store, calls):
    user, bug, good = (
        submit(store, fakes.Draw(fails=fails), study="fails") for fails in ("user", "bug", "")
    )
    assert wait(store, user).error == "draw: something you can mend."
    assert wait(store, bug).error == "ValueError: a bug"
    assert "Traceback" in (store.folder(bug) / "log.txt").read_text()
    assert wait(store, good).status == Status.DONE
    assert store.job(bug).status == Status.FAILED and store.job(bug).done == ("prune",)


def test_resume_goes_on_behind_the_last_finished_stage(store, calls):
    id = submit(store, fakes.Draw(fails="once"), study="resume", seed=20)
    assert wait(store, id).status == Status.FAILED
    jobs.resume(store, id)
    assert wait(store, id).status == Status.DONE
    assert calls() == ["prune", "draw", "draw"]


def test_a_killed_worker_fails_its_job_and_resume_finishes_it(store, calls):
    id = submit(store, fakes.Draw(), fakes.Nap(seconds=3), study="killed")
    job = wait(store, id, busy("napping"))
    os.kill(int(job.worker.split("-")[0]), signal.SIGKILL)
    while job.worker.split("-")[0] in map(str, workers(store)):
        time.sleep(0.02)
    assert store.job(id).status == Status.RUNNING
    assert jobs.mark_crashed(store) == [id]
    job = store.job(id)
    assert job.status == Status.FAILED and "during nap" in job.error
    assert job.error.endswith(jobs.last_line(store.folder(id) / "log.txt"))
    kept = store.records(id)
    jobs.resume(store, id)
    assert wait(store, id).status == Status.DONE
    assert calls() == ["prune", "draw", "nap", "nap"]
    assert store.records(id)["draw"] == kept["draw"]


def test_progress_and_time_left_show_while_it_runs(store, calls):
    id = submit(store, fakes.Nap(seconds=2), study="progress")
    assert jobs.seconds_left([store.job(id)]) > 0
    job = wait(store, id, busy("step 1"))
    assert 0 < job.progress < 1 and 0 < job.estimate_left < 10 and job.stage == "nap"
    job = wait(store, id)
    assert job.progress == 1 and jobs.seconds_left([job]) == 0


def test_a_worker_ends_when_idle_and_starts_what_came_last(store, monkeypatch):
    alone = Store(store.home.parent / "idle")
    monkeypatch.setenv("PRUNESCOPE_HOME", str(alone.home))
    worker.work("cpu", idle=0.2)
    assert workers(alone) == [] and not jobs.device_lock(alone, "auto").is_held()
    monkeypatch.setattr(jobs, "ensure_worker", lambda device, store: None)
    asked = fakes.experiment(study="late")
    jobs.submit(alone, asked)
    worker.work("cpu", idle=0.2)
    assert alone.jobs()[0].status == Status.DONE


def test_a_device_that_is_not_there(store, monkeypatch):
    with pytest.raises(PruneError, match="cuda:9"):
        submit(store, study="device", device="cuda:9")
    alone = Store(store.home.parent / "device")
    monkeypatch.setenv("PRUNESCOPE_HOME", str(alone.home))
    id = alone.submit(
        fakes.experiment(device="cuda:9").to_dict(), "a", "k", "s", "cuda:9"
    )  # from another machine
    worker.work("cuda:9")
    assert alone.job(id).status == Status.FAILED and "no device 'cuda:9'" in alone.job(id).error


def test_only_one_worker_serves_a_device(store):
    for _ in range(3):
        jobs.ensure_worker("cpu", store)
        jobs.ensure_worker("auto", store)
    deadline = time.monotonic() + 120
    while len(workers(store)) != 1 or jobs.device_lock(store, "cpu").is_held() is False:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_several_gpus_share_the_queue(store, monkeypatch):
    """Two pretended GPUs, a worker each in a thread: jobs for whichever go to both, a job for one goes to that one."""
    alone, own, ran = Store(store.home.parent / "gpus"), threading.local(), {}
    monkeypatch.setenv("PRUNESCOPE_HOME", str(alone.home))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: getattr(own, "index", 0))
    monkeypatch.setattr(
        "torch.cuda.set_device", lambda name: setattr(own, "index", int(name.split(":")[1]))
    )
    monkeypatch.setattr(worker, "preload", lambda: None)
    monkeypatch.setattr(worker, "_output_to_log", lambda store, id: nullcontext(lambda: None))
    threads = []

    def start(device, _store):
        threads.append(threading.Thread(target=worker.work, args=(device,), kwargs={"idle": 1.0}))
        threads[-1].start()

    def perform(store, job, *_, **__):
        time.sleep(0.2)
        ran[job.id] = str(worker.pick_device(job.device))
        store.finish(job.id, Status.DONE, "", job.worker)

    monkeypatch.setattr(worker, "ensure_worker", start)
    monkeypatch.setattr(worker, "perform", perform)
    jobs_for = [("auto", 4), ("cuda", 2), ("cuda:1", 2)]
    asked = [
        (alone.submit({}, "a", f"{name} {i}", "s", name), name)
        for name, count in jobs_for
        for i in range(count)
    ]
    start("auto", alone)
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
    assert all(job.status == Status.DONE for job in alone.jobs())
    assert {ran[id] for id, name in asked if name != "cuda:1"} == {"cuda:0", "cuda:1"}
    assert {ran[id] for id, name in asked if name == "cuda:1"} == {"cuda:1"}


def test_last_line(tmp_path):
    log = tmp_path / "log.txt"
    assert jobs.last_line(log) == "(empty)"
    log.write_text("first\n 50%|##\r100%|####\n\n")
    assert jobs.last_line(log) == "100%|####"
