"""`serve`: the queue continues unattended, the dashboard restarts, unknown users are refused."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import fakes
import psutil
import pytest
from streamlit.testing.v1 import AppTest
from test_jobs import calls, is_running, patch, store, submit, wait, workers  # noqa: F401

from benchmarks import faults
from pages.server import admission
from prune_core import PruneError, access
from prune_core.cli.arguments import main
from prune_core.paths import ROOT
from prune_core.queue import jobs, supervisor
from prune_core.store.job import Status


@pytest.fixture
def supervised(store):  # noqa: F811
    """Run the supervisor as `serve` does; return its log messages."""
    stop, messages = threading.Event(), []
    thread = threading.Thread(
        target=supervisor.supervise, args=(store, stop.is_set, messages.append, 0.1)
    )
    thread.start()
    yield messages
    stop.set()
    thread.join()


def test_a_crashed_job_is_retried_once_and_the_queue_continues(store, calls, supervised):  # noqa: F811
    slow, other = (
        submit(store, fakes.Nap(seconds=4.0), study="night"),
        submit(store, fakes.Draw(), study="night", seed=1),
    )
    for attempt in range(2):
        job = wait(store, slow, is_running("napping"))
        assert job.facts.get("died", 0) == attempt
        os.kill(int(job.worker.split("-")[0]), signal.SIGKILL)
        wait(store, slow, lambda job, attempt=attempt: job.facts.get("died") == attempt + 1)
    job = wait(store, slow, lambda job: job.status == Status.FAILED)
    assert "process that ran this job ended during nap" in job.error
    assert job.facts["again"]
    assert job.done == ("prune",)
    assert wait(store, other).status == Status.DONE
    assert calls().count("prune") == 2  # once per job: the finished stage was not repeated
    time.sleep(0.5)
    assert store.job(slow).status == Status.FAILED  # no third attempt


def test_out_of_memory_is_retried_with_half_the_batch_size(store, calls, supervised, monkeypatch):  # noqa: F811
    # the machine has killed processes for lack of memory since the job started
    monkeypatch.setattr(jobs, "oom_kills", lambda: 10**9)
    id = submit(store, fakes.Nap(seconds=3.0), study="memory")
    job = wait(store, id, is_running("napping"))
    os.kill(int(job.worker.split("-")[0]), signal.SIGKILL)
    job = wait(store, id, lambda job: job.status == Status.DONE)
    assert job.facts["batch_size"] == job.experiment["batch_size"] // 2
    assert "ran out of memory" in job.facts["again"]


def test_an_unavailable_store_is_reported_once(store, supervised, monkeypatch):  # noqa: F811
    def fail(store):
        raise PruneError("The disk is full.")

    monkeypatch.setattr(supervisor, "housekeeping", fail)
    time.sleep(0.5)
    assert supervised == ["The disk is full."]


def is_healthy(port, timeout=60.0):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/_stcore/health", timeout=2
            ) as response:
                return response.status == 200
        except OSError:
            time.sleep(0.1)
    return False


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_serve_restarts_the_dashboard_and_leaves_no_process_behind(tmp_path):
    port = free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prune_core", "serve", "--port", str(port)],
            cwd=ROOT,
            stderr=log,
            stdout=log,
            env={**os.environ, "PRUNESCOPE_HOME": str(tmp_path / "home")},
        )
    try:
        assert is_healthy(port), (tmp_path / "log").read_text()
        [dashboard] = [
            child
            for child in psutil.Process(process.pid).children()
            if "streamlit" in child.cmdline()
        ]
        dashboard.kill()
        dashboard.wait(10)
        assert is_healthy(port), (tmp_path / "log").read_text()
        started = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert not [
            child for child in started if child.is_running() and "streamlit" in child.cmdline()
        ]
        assert "exited with status -9; it is restarted" in (tmp_path / "log").read_text()
    finally:
        process.kill()


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.4", "lab.example.org"])
def test_non_loopback_address_requires_a_login(address, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["serve", "--address", address]) == 2
    assert "can be reached from other machines" in capsys.readouterr().err


def test_serve_refuses_a_missing_root(capsys, tmp_path):
    assert main(["serve", "--root", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_user_actions_are_recorded(store, calls, monkeypatch):  # noqa: F811
    monkeypatch.setattr(type(store), "current_user", staticmethod(lambda: "maria@example.org"))
    id = submit(store, fakes.Draw(), study="recorded")
    wait(store, id)
    event = store.events(1).iloc[0]
    assert (event["who"], event["what"], event["study"], event["job"]) == (
        "maria@example.org",
        "submitted",
        "recorded",
        id,
    )


def test_no_partial_checkpoint_remains(store, calls, monkeypatch):  # noqa: F811
    id = submit(store, fakes.Draw(), study="whole")
    wait(store, id)
    assert not list(Path(store.folder(id)).glob("*.part"))


@pytest.mark.parametrize("how", ["no login", "no user in the header", "a user"])
def test_an_unidentified_user_sees_no_page(how, monkeypatch):
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    if how == "no login":
        real = admission.st.get_option
        monkeypatch.setattr(
            admission.st,
            "get_option",
            lambda name: "0.0.0.0" if name == "server.address" else real(name),
        )
    else:
        monkeypatch.setenv(access.USER_HEADER, "X-Forwarded-User")
    if how == "a user":
        monkeypatch.setattr(admission, "current_user", lambda: "maria@example.org")
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert not at.exception
    if how == "a user":
        assert not at.error and at.sidebar.children
    else:
        assert "does not identify its users" in at.error[0].value
        assert not at.sidebar.children and len(at.main.children) == 1


def test_faults_benchmark_on_two_jobs(tmp_path):
    """Run benchmarks/faults.py: restart the server with another clock and kill the worker."""
    (tmp_path / "small").mkdir()
    assert faults.run(tmp_path, 2, kills=0, restarts=1, disk=False) == []
