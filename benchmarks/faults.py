"""A night in which everything breaks: workers killed, the server restarted, the disk filled, the
clock moved; and what became of the jobs.

    python -m benchmarks.faults

The same jobs run once without faults. Then every job must be finished with the same rows, failed
with a reason, or cancelled; none lost, none there twice. The disk is a small one in memory, which
needs a system that lets a user mount it (unshare); without, that fault is left out, and the table
says so.
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
from prune_core.measures import MEASURES
from prune_core.methods import METHODS
from prune_core.paths import ROOT
from prune_core.plugins import build
from prune_core.queue import jobs
from prune_core.store import locks
from prune_core.store.job import Job, Status
from prune_core.store.store import Store

DISK = 400  # MB
# a clock set back by a day, for a process that finds this
SHIFT = "import time\n_now = time.time\ntime.time = lambda: _now() - 86400.0\n"
WAIT = 900.0  # seconds without any change after which a run is given up


def experiments(count: int) -> list[Experiment]:
    """Quick ones, all different: three methods, and as many sparsities as it takes."""
    measures = (
        build(MEASURES, "accuracy", {}),
        build(MEASURES, "reconstruction", {"examples": 8}),
    )
    names = ("magnitude", "wanda", "akr")
    methods = [
        build(METHODS, names[i % 3], {"sparsity": round(0.3 + 0.01 * i, 2)}) for i in range(count)
    ]
    same = {
        "measures": measures,
        "calibration": 32,
        "evaluation": 64,
        "device": "cpu",
        "study": "A night",
    }
    return [
        Experiment(method=method, keep="none" if i % 2 else "difference", **same)
        for i, method in enumerate(methods)
    ]


class Server:
    """`serve`, and what can happen to it."""

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
            ):  # of a killed server, the dashboard stays until its machine or a person ends it
                if child.is_running() and "streamlit" in child.cmdline():
                    child.kill()


def worker(store: Store) -> int | None:
    """The process of the job at work."""
    at_work = [job for job in store.jobs() if job.status == Status.RUNNING and job.worker]
    alive = [job for job in at_work if jobs.process_lock(store, job.worker).is_held()]
    return int(alive[0].worker.split("-")[0]) if alive else None


def over(store: Store) -> bool:
    return all(job.status not in (Status.QUEUED, Status.RUNNING) for job in store.jobs())


def wait(store: Store, until: float | None = None) -> None:
    """To the end, or for that many seconds."""
    started, changed, before = time.monotonic(), time.monotonic(), None
    while not over(store):
        now = [(job.status, job.done, job.message) for job in store.jobs()]
        if now != before:
            changed, before = time.monotonic(), now
        if until is not None and time.monotonic() - started > until:
            return
        if time.monotonic() - changed > WAIT:
            raise PruneError(f"Nothing has happened for {WAIT:.0f} s.")
        time.sleep(0.3)


def without_faults(home: Path, plan: list[Experiment]) -> Store:
    """The rows to compare with."""
    store = Store(home)
    for experiment in plan:
        jobs.submit(store, experiment)
    wait(store)
    return store


def with_faults(
    home: Path, plan: list[Experiment], kills: int, restarts: int, disk: bool, dice: random.Random
) -> tuple[Store, Counter[str]]:
    """The night; how often what happened."""
    store, server, happened = Store(home), Server(home), Counter[str]()
    server.start()
    ids = [jobs.submit(store, experiment)[0] for experiment in plan]
    for id in dice.sample(ids[len(ids) // 2 :], max(1, len(ids) // 10)):
        jobs.cancel(store, id)
        happened["jobs cancelled"] += 1
    faults = ["kill"] * kills + ["restart"] * restarts + ["disk"] * disk
    dice.shuffle(faults)
    clock = Path(tempfile.mkdtemp())
    (clock / "sitecustomize.py").write_text(SHIFT)
    for fault in faults:
        wait(store, dice.uniform(1.0, 9.0))
        if fault == "kill":
            while (found := worker(store)) is None and not over(store):
                time.sleep(0.1)
            if found is not None:
                os.kill(found, signal.SIGKILL)
                happened["workers killed"] += 1
        elif fault == "restart":
            kindly = happened["server restarts"] % 2 == 0
            server.stop(kindly)
            happened["server restarts"] += 1
            shifted = happened["server restarts"] == 1
            server.start(clock if shifted else None)
            if shifted and (found := worker(store)) is not None:
                os.kill(
                    found, signal.SIGKILL
                )  # so that the next one has the new clock, as the server has
                happened["workers killed"] += 1
                happened["clock set back by a day"] += 1
        else:
            _fill(home)
            happened["disk filled for 10 s"] += 1
            time.sleep(10.0)
            (home.parent / "filler").unlink()
    wait(store)
    server.stop(True)
    shutil.rmtree(clock)
    return store, happened


def _fill(home: Path) -> None:
    with (home.parent / "filler").open("wb") as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
                filler.flush()
        except OSError:  # that is the aim
            return


def judged(store: Store, clean: Store, plan: list[Experiment]) -> tuple[Counter[str], list[str]]:
    """What became of the jobs, and what should not have."""
    found, wrong = store.jobs(), list[str]()
    same = {job.key: job for job in clean.jobs()}
    if sorted(job.key for job in found) != sorted(each.key() for each in plan):
        wrong.append(
            f"{len(plan)} jobs were asked for and {len(found)} are there, or one is there twice"
        )
    for job in found:
        if job.status == Status.FAILED and not job.error:
            wrong.append(f"job {job.id} failed without a reason")
        if job.status == Status.DONE and not _equal(store, job, clean, other=same[job.key]):
            wrong.append(f"job {job.id} has other rows than without faults")
    return Counter(job.status for job in found), wrong


def _equal(store: Store, job: Job, clean: Store, other: Job) -> bool:
    if store.tables(job.id) != clean.tables(other.id):
        return False
    for table in store.tables(job.id):
        pair = ((store, job.id), (clean, other.id))
        one, two = (
            each.rows(table, [id]).drop(columns=["job", "seconds"], errors="ignore")
            for each, id in pair
        )
        try:
            pd.testing.assert_frame_equal(one, two)
        except AssertionError:
            return False
    return True


def run(place: Path, count: int, kills: int, restarts: int, disk: bool, seed: int = 0) -> list[str]:
    """Both runs and the table; what went wrong."""
    plan = experiments(count)
    clean = without_faults(place / "clean", plan)
    started = time.monotonic()
    faulty = place / "small" / "home"
    store, happened = with_faults(
        faulty, plan, kills, restarts=restarts, disk=disk, dice=random.Random(seed)
    )
    statuses, wrong = judged(store, clean, plan)
    again = [job for job in store.jobs() if job.status == Status.FAILED]
    for job in again:
        print(f"job {job.id} failed: {job.error}")
    for job in again:  # as a person does in the morning
        jobs.resume(store, job.id)
    wait(store)
    after, wrong_after = judged(store, clean, plan)
    print(
        f"\n{count} jobs; {', '.join(f'{name}: {n}' for name, n in sorted(happened.items()))}; "
        f"{time.monotonic() - started:.0f} s"
    )
    if not disk:
        print("The disk was not filled.")
    print(
        f"in the morning: {dict(statuses)}; {sum('again' in job.facts for job in store.jobs())} "
        "were tried once more by themselves"
    )
    print(f"after resuming what failed: {dict(after)}")
    print(
        "\n".join(wrong + wrong_after)
        or "None lost, none twice, and all finished rows are those of the run without faults."
    )
    for home in (clean.home, store.home):
        for lock in (home / "workers").glob("[0-9]*-*.lock"):
            if locks.Lock(lock).is_held():
                os.kill(int(lock.name.split("-")[0]), signal.SIGTERM)
    return wrong + wrong_after


def main() -> int:
    """With a small disk where the system lets us have one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--place", type=Path, help=argparse.SUPPRESS
    )  # of the second start, in which the disk is mounted
    options = parser.parse_args()
    if options.place is None:
        place = Path(tempfile.mkdtemp(prefix="faults-"))
        (place / "small").mkdir()
        mount = f"mount -t tmpfs -o size={DISK}m tmpfs {place / 'small'}"
        if (
            subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
            == 0
        ):
            again = f'{mount} && exec "$@"'
            return subprocess.run(
                [
                    "unshare",
                    "-rm",
                    "sh",
                    "-c",
                    again,
                    "sh",
                    sys.executable,
                    "-m",
                    "benchmarks.faults",
                    *sys.argv[1:],
                    "--place",
                    str(place),
                ]
            ).returncode
    wrong = run(
        options.place or place,
        options.jobs,
        options.kills,
        restarts=options.restarts,
        disk=options.place is not None,
        seed=options.seed,
    )
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
