"""Fault injection: kill workers, restart the server, fill the disk, set the clock back.

    python -m benchmarks.faults

The same jobs run once without faults for reference. With faults during the jobs, every job must be
finished with the same rows, failed with an error message, or cancelled; no job may be lost or
duplicated. The disk is a small tmpfs, which requires a system on which users may mount it
(unshare); elsewhere, this fault is skipped, and the output says so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import psutil

from prune_core import PruneError
from prune_core.experiments.experiment import Experiment
from prune_core.experiments.stage_keys import experiment_key
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
from prune_core.paths import ROOT
from prune_core.plugins import build
from prune_core.queue import jobs
from prune_core.store import locks
from prune_core.store.job import Job, Status
from prune_core.store.store import Store

DISK = 400  # MB
# sitecustomize.py that sets the clock of a process back by a day
SHIFT = "import time\n_now = time.time\ntime.time = lambda: _now() - 86400.0\n"
WAIT = 900.0  # seconds without any change after which the run is aborted


def experiments(count: int) -> list[Experiment]:
    """Return that many quick, distinct experiments with three methods."""
    measures = (
        build(MEASURES, "accuracy", {}),
        build(MEASURES, "reconstruction", {"examples": 8}),
    )
    method_names = ("magnitude", "wanda", "akr")
    methods = [
        build(METHODS, method_names[i % 3], {"sparsity": round(0.3 + 0.01 * i, 2)})
        for i in range(count)
    ]
    common = {
        "measures": measures,
        "calibration_size": 32,
        "evaluation_size": 64,
        "device": "cpu",
        "study": "A night",
    }
    return [
        Experiment(method=method, keep="none" if i % 2 else "difference", **common)
        for i, method in enumerate(methods)
    ]


class Server:
    """A `serve` process that can be started and stopped."""

    def __init__(self, home: Path):
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, clock: Path | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        path = os.pathsep.join(
            filter(None, (str(clock) if clock else "", str(ROOT), os.environ.get("PYTHONPATH", "")))
        )
        with (self.home.parent / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prune_core", "serve", "--port", str(port)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PRUNESCOPE_HOME": str(self.home), "PYTHONPATH": path},
            )

    def stop(self, kindly: bool) -> None:
        if self.process is not None:
            children = psutil.Process(self.process.pid).children()
            self.process.send_signal(signal.SIGTERM if kindly else signal.SIGKILL)
            self.process.wait(60)
            for child in (
                children if not kindly else ()
            ):  # the dashboard of a killed server would keep running
                if child.is_running() and "streamlit" in child.cmdline():
                    child.kill()


def worker(store: Store) -> int | None:
    """Return the process ID of the worker of the running job."""
    running = [job for job in store.jobs() if job.status == Status.RUNNING and job.worker]
    alive = [job for job in running if jobs.process_lock(store, job.worker).is_held()]
    return int(alive[0].worker.split("-")[0]) if alive else None


def is_over(store: Store) -> bool:
    return all(job.status not in (Status.QUEUED, Status.RUNNING) for job in store.jobs())


def wait(store: Store, until: float | None = None) -> None:
    """Wait until all jobs are over, or for that many seconds."""
    started, changed, previous = time.monotonic(), time.monotonic(), None
    while not is_over(store):
        current = [(job.status, job.done, job.message) for job in store.jobs()]
        if current != previous:
            changed, previous = time.monotonic(), current
        if until is not None and time.monotonic() - started > until:
            return
        if time.monotonic() - changed > WAIT:
            raise PruneError(f"Nothing has happened for {WAIT:.0f} s.")
        time.sleep(0.3)


def without_faults(home: Path, plan: list[Experiment]) -> Store:
    """Run all jobs without faults, for the reference rows."""
    store = Store(home)
    for experiment in plan:
        jobs.submit(store, experiment)
    wait(store)
    return store


def with_faults(
    home: Path, plan: list[Experiment], kills: int, restarts: int, disk: bool, rng: random.Random
) -> tuple[Store, Counter[str]]:
    """Run all jobs with faults; return the store and how often each fault occurred."""
    store, server, occurred = Store(home), Server(home), Counter[str]()
    server.start()
    ids = [jobs.submit(store, experiment)[0] for experiment in plan]
    for id in rng.sample(ids[len(ids) // 2 :], max(1, len(ids) // 10)):
        jobs.cancel(store, id)
        occurred["jobs cancelled"] += 1
    faults = ["kill"] * kills + ["restart"] * restarts + ["disk"] * disk
    rng.shuffle(faults)
    clock = Path(tempfile.mkdtemp())
    (clock / "sitecustomize.py").write_text(SHIFT)
    for fault in faults:
        wait(store, rng.uniform(1.0, 9.0))
        if fault == "kill":
            while (pid := worker(store)) is None and not is_over(store):
                time.sleep(0.1)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                occurred["workers killed"] += 1
        elif fault == "restart":
            kindly = occurred["server restarts"] % 2 == 0
            server.stop(kindly)
            occurred["server restarts"] += 1
            shifted = occurred["server restarts"] == 1
            server.start(clock if shifted else None)
            if shifted and (pid := worker(store)) is not None:
                os.kill(pid, signal.SIGKILL)  # so that the next worker has the server's clock
                occurred["workers killed"] += 1
                occurred["clock set back by a day"] += 1
        else:
            _fill(home)
            occurred["disk filled for 10 s"] += 1
            time.sleep(10.0)
            (home.parent / "filler").unlink()
    wait(store)
    server.stop(True)
    shutil.rmtree(clock)
    return store, occurred


def _fill(home: Path) -> None:
    with (home.parent / "filler").open("wb") as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        except OSError:  # the disk is full
            return


def check(store: Store, clean: Store, plan: list[Experiment]) -> tuple[Counter[str], list[str]]:
    """Return the number of jobs by status, and the problems found."""
    jobs_with_faults, problems = store.jobs(), list[str]()
    reference = {job.key: job for job in clean.jobs()}
    if sorted(job.key for job in jobs_with_faults) != sorted(
        experiment_key(experiment) for experiment in plan
    ):
        problems.append(
            f"{len(plan)} jobs were submitted, but the store has "
            f"{len(jobs_with_faults)}, or a duplicate"
        )
    for job in jobs_with_faults:
        if job.status == Status.FAILED and not job.error:
            problems.append(f"job {job.id} failed without an error message")
        if job.status == Status.DONE:
            problems += _differences(store, job, clean, other=reference[job.key])
    return Counter(job.status for job in jobs_with_faults), problems


def _differences(store: Store, job: Job, clean: Store, other: Job) -> list[str]:
    """Return a sentence for each table that differs from that of the job without faults."""
    tables, expected = store.tables(job.id), clean.tables(other.id)
    if tables != expected:
        return [f"job {job.id} has the tables {tables}, without faults {expected}"]
    problems = []
    for table in tables:
        pair = ((store, job.id), (clean, other.id))
        one, two = (
            each.rows(table, [id]).drop(columns=["job", "seconds"], errors="ignore")
            for each, id in pair
        )
        try:
            pd.testing.assert_frame_equal(one, two)
        except AssertionError as error:
            problems.append(
                f"job {job.id} has different rows in {table} than without faults: {error}"
            )
    return problems


def run(
    folder: Path, count: int, kills: int, restarts: int, disk: bool, seed: int = 0
) -> list[str]:
    """Run with and without faults, print the result and return the problems found."""
    plan = experiments(count)
    clean = without_faults(folder / "clean", plan)
    started = time.monotonic()
    faulty_home = folder / "small" / "home"
    store, occurred = with_faults(
        faulty_home, plan, kills, restarts=restarts, disk=disk, rng=random.Random(seed)
    )
    statuses, problems = check(store, clean, plan)
    failed = [job for job in store.jobs() if job.status == Status.FAILED]
    for job in failed:
        print(f"job {job.id} failed: {job.error}")
    for job in failed:  # as a user would
        jobs.resume(store, job.id)
    wait(store)
    after, problems_after = check(store, clean, plan)
    print(
        f"\n{count} jobs; {', '.join(f'{name}: {n}' for name, n in sorted(occurred.items()))}; "
        f"{time.monotonic() - started:.0f} s"
    )
    if not disk:
        print("The disk was not filled.")
    print(
        f"after the faults: {dict(statuses)}; {sum('again' in job.facts for job in store.jobs())} "
        "were retried automatically"
    )
    print(f"after resuming failed jobs: {dict(after)}")
    print(
        "\n".join(problems + problems_after)
        or "No job was lost or duplicated, and all finished rows equal those without faults."
    )
    for home in (clean.home, store.home):
        for lock in (home / "workers").glob("[0-9]*-*.lock"):
            if locks.Lock(lock).is_held():
                os.kill(int(lock.name.split("-")[0]), signal.SIGTERM)
    return problems + problems_after


def main() -> int:
    """Run in a namespace with a small disk if the system allows it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--place", type=Path, help=argparse.SUPPRESS
    )  # set in the child process in which the disk is mounted
    options = parser.parse_args()
    if options.place is None:
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        (folder / "small").mkdir()
        mount = f"mount -t tmpfs -o size={DISK}m tmpfs {folder / 'small'}"
        if (
            subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
            == 0
        ):
            remount = f'{mount} && exec "$@"'
            return subprocess.run(
                [
                    "unshare",
                    "-rm",
                    "sh",
                    "-c",
                    remount,
                    "sh",
                    sys.executable,
                    "-m",
                    "benchmarks.faults",
                    *sys.argv[1:],
                    "--place",
                    str(folder),
                ]
            ).returncode
    problems = run(
        options.place or folder,
        options.jobs,
        options.kills,
        restarts=options.restarts,
        disk=options.place is not None,
        seed=options.seed,
    )
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
